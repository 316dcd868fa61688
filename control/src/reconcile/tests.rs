//! What a Service is made to say, from how it stands and what the proxies say; and that nothing is written twice.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use podline_api::{Listener, Name, Protocol};

use super::difference::{Writes, difference};
use super::wish::{ACCEPTED, Condition, PROGRAMMED, Proxies, SOURCE_ADDRESS, Wish, wish};
use crate::build::note::{Note, Reason};
use crate::build::{Mode, Plan, PortOutcome, Source, Standing};
use crate::cluster::service::{FINALIZER, Ingress, OwnCondition};
use crate::cluster::testing::{ip, service};
use crate::cluster::{Service, Transport};
use crate::observed::{Observed, ProxyView};

fn name(text: &str) -> Name {
    Name::try_from(text).unwrap()
}

fn plan(notes: &[Note]) -> Plan {
    let (listener, set) = (name("default/web/tcp/80"), name("default/web/tcp/80"));
    let address = SocketAddr::from(([0, 0, 0, 0], 80));
    Plan {
        uid: "uid-default/web".into(),
        mode: Mode::Direct,
        source: Source::default(),
        addresses: Vec::new(),
        listeners: vec![Arc::new(Listener::new(
            listener.clone(),
            address,
            Protocol::Tcp,
            set,
        ))],
        sets: Vec::new(),
        ports: vec![PortOutcome {
            port: 80,
            protocol: Transport::Tcp,
            error: None,
            listeners: vec![listener],
        }],
        notes: notes.to_vec(),
        last_good: None,
        config: crate::build::config::Config::default(),
        waits_for_health: false,
        is_early: false,
        becomes_direct: false,
        is_skipped: false,
        without_gate: [].into(),
        behind: Vec::new(),
        modes: <_>::default(),
    }
}

/// Proxies by name and address; all serve and have acknowledged version 5.
fn observed(proxies: &[(&str, &str)]) -> Observed {
    let view = |address: &str| ProxyView {
        addresses: vec![ip(address)],
        serving: true,
        acked: 5,
        ..ProxyView::default()
    };
    Observed {
        proxies: proxies
            .iter()
            .map(|(name, address)| ((*name).to_owned(), Arc::new(view(address))))
            .collect(),
        ..Observed::default()
    }
}

fn change(observed: &mut Observed, proxy: &str, change: impl FnOnce(&mut ProxyView)) {
    change(Arc::make_mut(observed.proxies.get_mut(proxy).unwrap()));
}

fn wished(service: &Service, standing: &Standing, observed: &Observed, is_early: bool) -> Wish {
    wished_saying(service, standing, observed, is_early, None)
}

fn wished_saying(
    service: &Service,
    standing: &Standing,
    observed: &Observed,
    is_early: bool,
    source: Option<&Condition>,
) -> Wish {
    let listed: BTreeSet<_> = observed
        .serving()
        .map(|(name, _)| name.to_owned())
        .collect();
    let proxies = Proxies {
        observed,
        listed: &listed,
        is_early,
        since: 5,
        source,
    };
    wish(service, Some(standing), &proxies).unwrap()
}

fn ours(notes: &[Note]) -> Standing {
    Standing::Ours(Arc::new(plan(notes)))
}

fn ips(wish: &Wish) -> Option<Vec<String>> {
    let ingress = wish.ingress.as_ref()?;
    Some(
        ingress
            .iter()
            .filter_map(|entry| entry.ip)
            .map(|ip| ip.to_string())
            .collect(),
    )
}

/// The service as the API server has it once `wish` was written.
fn written(service: &Service, wish: &Wish) -> Service {
    let mut service = service.clone();
    service.finalizers = wish
        .is_held
        .then(|| FINALIZER.to_owned())
        .into_iter()
        .collect();
    service.annotations.extend(
        wish.annotations
            .iter()
            .map(|(k, v)| ((*k).to_owned(), v.clone())),
    );
    service.ingress = wish.ingress.clone().unwrap_or(service.ingress);
    if let Some(conditions) = &wish.conditions {
        let own = |c: &Condition| OwnCondition {
            is_true: c.is_true,
            reason: c.reason.clone(),
            message: c.message.clone(),
            since: "2026-01-01T00:00:00Z".to_owned(),
        };
        service.conditions = conditions
            .iter()
            .map(|(kind, c)| ((*kind).to_owned(), own(c)))
            .collect();
    }
    service
}

#[test]
fn what_is_accepted_says_how_it_goes_or_what_is_wrong() {
    let proxies = observed(&[("a", "10.0.0.1")]);
    let said = |mode: Mode, notes: &[Note]| {
        let standing = Standing::Ours(Arc::new(Plan {
            mode,
            ..plan(notes)
        }));
        let wish = wished(&service("default/web"), &standing, &proxies, false);
        let conditions = wish.conditions.unwrap();
        let accepted = &conditions[ACCEPTED];
        (accepted.is_true, accepted.reason.clone())
    };
    let told = |is_true: bool, reason: &str| (is_true, reason.to_owned());
    assert_eq!(said(Mode::Direct, &[]), told(true, "Direct"));
    assert_eq!(said(Mode::NodePort, &[]), told(true, "NodePort"));
    let fine = Note::new(Reason::NodePortMode, "a");
    assert_eq!(
        said(Mode::NodePort, std::slice::from_ref(&fine)),
        told(true, "NodePort")
    );
    let wrong = Note::new(Reason::HostNetwork, "b");
    let notes = [fine, wrong];
    assert_eq!(said(Mode::NodePort, &notes), told(false, "HostNetwork"));
}

#[test]
fn what_was_written_is_not_written_again() {
    let service = service("default/web");
    let note = Note::new(Reason::HostNetwork, "a Pod uses its node's network");
    let proxies = observed(&[("a", "10.0.0.1"), ("b", "10.0.0.2")]);
    let wish = wished(&service, &ours(&[note]), &proxies, false);
    let first = difference(&service, &wish);
    assert!(
        first.metadata.is_some() && first.status.is_some() && first.news.len() == 1,
        "{first:?}"
    );
    let service = written(&service, &wish);
    assert!(
        difference(&service, &wish).is_none(),
        "{:?}",
        difference(&service, &wish)
    );
    // A condition that says the same goes on since when it did; one that turns begins anew.
    let mut turned = wish.clone();
    turned
        .conditions
        .as_mut()
        .unwrap()
        .get_mut(PROGRAMMED)
        .unwrap()
        .is_true = false;
    let status = difference(&service, &turned).status.unwrap();
    assert_eq!(
        status.conditions[ACCEPTED].1.as_deref(),
        Some("2026-01-01T00:00:00Z")
    );
    assert_eq!(status.conditions[PROGRAMMED].1, None);
}

#[test]
fn clients_are_told_of_every_proxy_that_serves_in_the_service_s_families() {
    let service = service("default/web");
    let mut proxies = observed(&[("b", "10.0.0.2"), ("a", "10.0.0.1"), ("c", "fd00::1")]);
    let wish = wished(&service, &ours(&[]), &proxies, false);
    assert_eq!(ips(&wish).unwrap(), ["10.0.0.1", "10.0.0.2"]);
    assert!(
        wish.ingress
            .as_ref()
            .unwrap()
            .iter()
            .all(|entry| entry.ip_mode.as_deref() == Some("Proxy"))
    );
    // A listener that one of them cannot bind is told where it is.
    let listener = name("default/web/tcp/80");
    change(&mut proxies, "b", |b| {
        b.failed_listeners
            .insert(listener, "address in use".to_owned());
    });
    let wish = wished(&service, &ours(&[]), &proxies, false);
    let errors: Vec<_> = wish
        .ingress
        .unwrap()
        .iter()
        .map(|entry| entry.ports[0].2.clone())
        .collect();
    assert_eq!(errors, [None, Some("podline.io/ListenerFailed".to_owned())]);
    let programmed = &wish.conditions.unwrap()[PROGRAMMED];
    assert_eq!(
        (programmed.is_true, programmed.reason.as_str()),
        (false, "ListenerFailed")
    );
    assert!(
        programmed.message.contains("proxy b") && programmed.message.contains("address in use")
    );
}

#[test]
fn silence_changes_no_status() {
    let mut service = service("default/web");
    service.ingress = vec![Ingress {
        ip: Some(ip("10.0.0.1")),
        ip_mode: Some("Proxy".to_owned()),
        ports: Vec::new(),
    }];
    // Nobody is known, nobody serves, or one that serves has not acted on the listeners yet.
    let mut silent = observed(&[("a", "10.0.0.1")]);
    change(&mut silent, "a", |a| a.serving = false);
    let mut behind = observed(&[("a", "10.0.0.1"), ("b", "10.0.0.2")]);
    change(&mut behind, "b", |b| b.acked = 4);
    for proxies in [Observed::default(), silent, behind] {
        let wish = wished(&service, &ours(&[]), &proxies, false);
        assert!(
            wish.ingress.is_none() && wish.conditions.is_none(),
            "{wish:?}"
        );
        assert!(difference(&service, &wish).status.is_none());
    }
}

#[test]
fn a_new_leader_takes_no_address_away() {
    let mut service = service("default/web");
    let both = observed(&[("a", "10.0.0.1"), ("b", "10.0.0.2")]);
    service = written(&service, &wished(&service, &ours(&[]), &both, false));
    let one = observed(&[("a", "10.0.0.1")]);
    let early = wished(&service, &ours(&[]), &one, true);
    assert!(difference(&service, &early).is_none());
    let late = wished(&service, &ours(&[]), &one, false);
    assert_eq!(ips(&late).unwrap(), ["10.0.0.1"]);
}

#[test]
fn a_service_is_let_go_when_every_proxy_that_serves_has_let_go() {
    let mut service = service("default/web");
    service.finalizers = vec![FINALIZER.to_owned()];
    let mut proxies = observed(&[("a", "10.0.0.1"), ("b", "10.0.0.2")]);
    change(&mut proxies, "b", |b| b.acked = 4);
    let held = |proxies: &Observed| wished(&service, &Standing::Leaving, proxies, false).is_held;
    assert!(held(&proxies), "b may still serve it");
    change(&mut proxies, "b", |b| b.serving = false);
    assert!(!held(&proxies), "a proxy that hangs holds nothing up");
    change(&mut proxies, "b", |b| (b.serving, b.acked) = (true, 5));
    assert!(!held(&proxies));
    assert!(!held(&Observed::default()), "nobody serves it");
}

#[test]
fn a_service_of_somebody_else_is_only_told_so() {
    let mut service = service("default/web");
    service.class = None;
    let note = Note::new(Reason::ClaimedByOther, "manager metallb was here first");
    let wish = wished(
        &service,
        &Standing::Other(note.clone()),
        &observed(&[]),
        false,
    );
    let writes = difference(&service, &wish);
    assert_eq!(writes.news, [note]);
    assert!(writes.metadata.is_none() && writes.status.is_none() && !writes.make_direct);
}

#[test]
fn the_worst_note_is_the_reason_and_all_are_the_message() {
    let service = service("default/web");
    let notes = [
        Note::new(Reason::NodePortMode, "through NodePorts"),
        Note::new(
            Reason::PortConflict,
            "port 80/TCP belongs to Service default/old",
        ),
    ];
    let wish = wished(
        &service,
        &ours(&notes),
        &observed(&[("a", "10.0.0.1")]),
        false,
    );
    let accepted: &BTreeMap<_, _> = wish.conditions.as_ref().unwrap();
    let accepted = &accepted[ACCEPTED];
    assert_eq!(
        (accepted.is_true, accepted.reason.as_str()),
        (false, "PortConflict")
    );
    assert!(
        notes
            .iter()
            .all(|note| accepted.message.contains(&note.to_string()))
    );
}

#[test]
fn what_pods_see_of_their_clients_is_told_once_and_goes_when_nobody_wants_it() {
    let mut asked = plan(&[]);
    asked.source.is_said = true;
    let standing = Standing::Ours(Arc::new(asked));
    let proxies = observed(&[("a", "10.0.0.1")]);
    let said = |reason: &str, message: &str| Condition {
        is_true: reason == "Transparent",
        reason: reason.to_owned(),
        message: message.to_owned(),
    };
    let mut web = service("default/web");
    let mut check = |said: Option<&Condition>, writes: bool, events: &[&str]| {
        let wish = wished_saying(&web, &standing, &proxies, false, said);
        let found = difference(&web, &wish);
        assert_eq!(found.status.is_some(), writes, "{said:?}: {found:?}");
        let news: Vec<_> = found.news.iter().map(ToString::to_string).collect();
        assert_eq!(news, events, "{said:?}");
        web = written(&web, &wish);
        assert_eq!(web.conditions.contains_key(SOURCE_ADDRESS), said.is_some());
        assert!(
            web.conditions[ACCEPTED].is_true,
            "it is served all the same"
        );
    };
    check(Some(&said("Transparent", "")), true, &[]);
    check(Some(&said("Transparent", "")), false, &[]);
    check(Some(&said("SourceNat", "n1")), true, &["SourceNat: n1"]);
    check(Some(&said("SourceNat", "n1")), false, &[]);
    check(Some(&said("SourceNat", "n1; n2")), true, &[]);
    check(None, true, &[]);
    check(None, false, &[]);
}

#[test]
fn a_load_balancers_id_is_written_where_there_is_one() {
    const ID: &str = "service.kubernetes.io/loadbalance-id";
    let observed = observed(&[("a", "192.0.2.1")]);
    let mut with_address = plan(&[]);
    with_address.addresses = vec![ip("203.0.113.1")];
    let standing = Standing::Ours(Arc::new(with_address));
    let web = service("default/web");
    let wish = wished(&web, &standing, &observed, false);
    let id = crate::build::balancer::id(&[ip("203.0.113.1")]).unwrap();
    assert_eq!(wish.annotations.get(ID), Some(&id));
    assert_eq!(difference(&written(&web, &wish), &wish), Writes::default());
    // What a manifest says is replaced; without an address of its own it is left alone.
    let mut copied = written(&web, &wish);
    copied
        .annotations
        .insert(ID.to_owned(), "lb-6swtxxxx".to_owned());
    let metadata = difference(&copied, &wish).metadata.unwrap();
    assert_eq!(metadata.annotations.get(ID), Some(&id));
    let alone = wished(&copied, &ours(&[]), &observed, false);
    assert_eq!(difference(&copied, &alone).metadata, None);
}

#[test]
fn nothing_is_written_to_a_service_that_is_skipped() {
    let observed = observed(&[("a", "192.0.2.1")]);
    let note = Note::new(Reason::Skipped, "it says so");
    let mut skipped = plan(std::slice::from_ref(&note));
    skipped.is_skipped = true;
    let standing = Standing::Ours(Arc::new(skipped));
    let web = service("default/web");
    let wish = wished(&web, &standing, &observed, false);
    let expected = Writes {
        news: vec![note],
        ..Writes::default()
    };
    assert_eq!(difference(&web, &wish), expected);
}

#[test]
fn an_address_that_no_proxy_can_hold_is_told_of() {
    use crate::observed::AddressState::{self, Conflict, Failed, Holding, Standby};
    use crate::observed::AddressView;
    let of = ip("192.0.2.10");
    let standing = Standing::Ours(Arc::new(Plan {
        addresses: vec![of],
        ..plan(&[])
    }));
    let service = service("default/web");
    let told = |states: [AddressState; 2]| -> Vec<String> {
        let mut proxies = observed(&[("a", "10.0.0.1"), ("b", "10.0.0.2")]);
        for (name, state) in ["a", "b"].into_iter().zip(states) {
            let view = AddressView {
                state,
                reason: "no such link".to_owned(),
                other_mac: "02:00:00:00:00:01".to_owned(),
                ..AddressView::default()
            };
            change(&mut proxies, name, |proxy| {
                Arc::make_mut(&mut proxy.virtual_addresses).insert(of, view);
            });
        }
        let wish = wished(&service, &standing, &proxies, false);
        wish.notes.iter().map(ToString::to_string).collect()
    };
    let nothing: [&str; 0] = [];
    assert_eq!(told([Holding, Standby]), nothing);
    assert_eq!(told([Standby, Standby]), nothing, "it goes elsewhere");
    assert_eq!(told([Failed, Holding]), nothing);
    let failed = "AddressNotHeld: proxy a cannot hold 192.0.2.10: no such link";
    assert_eq!(told([Failed, Standby]), [failed]);
    let mut none = observed(&[]);
    none.addresses = [(of, crate::observed::Holding::Nowhere)].into();
    let wish = wished(&service, &standing, &none, false);
    let notes: Vec<_> = wish.notes.iter().map(ToString::to_string).collect();
    let nobody = "AddressNotHeld: no proxy holds 192.0.2.10: there is none that serves and can";
    assert_eq!(notes, [nobody]);
    let taken = "AddressConflict: the host at 02:00:00:00:00:01 answers for 192.0.2.10: take the address from it, or \
                 out of the pool";
    assert_eq!(told([Failed, Conflict]), [taken]);
}
