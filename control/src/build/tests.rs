//! Whole builds, as one reads them in the proxies.

pub(super) mod checked;
mod measure;
mod random;
mod recorded;
pub(super) mod world;

use std::net::SocketAddr;

use super::*;
use crate::cluster::testing::{endpoint, key, node, pod, service, slice};
use crate::cluster::{Change, Pod, Service, Transport};
use checked::Checked;

/// A cluster of one Service with two Pods, built.
#[test]
fn a_direct_service_becomes_a_listener_and_its_pods() {
    let mut cluster = Cluster::default();
    let pods = [
        pod("default/a", "10.244.1.2"),
        pod("default/b", "10.244.2.2"),
    ];
    let endpoints = pods.iter().map(endpoint).collect();
    cluster.apply(Change::Node(
        "node-1".into(),
        Some(node("node-1", "10.89.0.11")),
    ));
    for pod in pods {
        cluster.apply(Change::Pod(pod.key.clone(), Some(pod)));
    }
    let slice = slice("web-abc", "default/web", endpoints);
    cluster.apply(Change::Slice(slice.key.clone(), Some(slice)));
    let web = key("default/web");
    cluster.apply(Change::Service(
        web.clone(),
        Some(Box::new(service("default/web"))),
    ));
    let mut builder = Builder::new(Options::default());
    let changed = builder.build(&cluster, &Touched::all());
    assert_eq!(changed, BTreeSet::from([Front::Service(web)]));
    let snapshot = builder.snapshot();
    let listener = &snapshot.listeners["default/web/tcp/80"];
    assert_eq!(listener.address.to_string(), "0.0.0.0:80");
    let set = &snapshot.sets[listener.backend_set.as_ref().unwrap().as_str()];
    let backends: Vec<_> = set
        .backends
        .iter()
        .map(|b| format!("{} {}", b.key, b.weight))
        .collect();
    assert_eq!(
        backends,
        [
            "10.244.1.2:8080 (default-a-10.244.1.2) 10",
            "10.244.2.2:8080 (default-b-10.244.2.2) 10"
        ]
    );
}

/// default/web with Pods on one port, and everything passing.
fn web(pods: &[Pod]) -> Checked {
    let mut checked = Checked::new(Options::default());
    for pod in pods {
        put_pod(&mut checked, pod);
    }
    put_slice(&mut checked, pods);
    put_service(&mut checked, "true");
    passing(&mut checked);
    checked
}

fn put_pod(checked: &mut Checked, pod: &Pod) {
    checked.change(Change::Pod(pod.key.clone(), Some(pod.clone())));
}

fn put_slice(checked: &mut Checked, pods: &[Pod]) {
    let slice = slice("web-1", "default/web", pods.iter().map(endpoint).collect());
    checked.change(Change::Slice(slice.key.clone(), Some(slice)));
}

fn put_service(checked: &mut Checked, direct: &str) {
    let mut web = service("default/web");
    for value in web.annotations.values_mut() {
        direct.clone_into(value);
    }
    checked.change(Change::Service(web.key.clone(), Some(Box::new(web))));
}

fn passing(checked: &mut Checked) {
    let observed = checked.all_pass();
    checked.change(Change::Observed(observed));
}

fn deleting(pod: &Pod) -> Pod {
    Pod {
        is_deleting: true,
        ..pod.clone()
    }
}

#[test]
fn a_verdict_closes_the_pod_that_waited_for_it() {
    let (a, b) = (pod("default/a", "10.0.0.1"), pod("default/b", "10.0.0.2"));
    let mut checked = web(std::slice::from_ref(&a));
    put_pod(&mut checked, &b);
    put_slice(&mut checked, &[a.clone(), b]);
    put_pod(&mut checked, &deleting(&a));
    let weights = |checked: &Checked| -> Vec<u8> {
        let set = &checked.builder.snapshot().sets["default/web/tcp/80"];
        set.backends.iter().map(|it| it.weight.get()).collect()
    };
    assert_eq!(
        weights(&checked),
        [10, 10],
        "nobody has seen the new one healthy"
    );
    passing(&mut checked);
    assert_eq!(weights(&checked), [0, 10]);
    checked.change(Change::Observed(Arc::default()));
    assert_eq!(weights(&checked), [0, 10], "closed is closed");
}

#[test]
fn a_closed_pod_stays_closed_while_its_slice_forgets_it_and_the_mode_changes() {
    let (a, b) = (pod("default/a", "10.0.0.1"), pod("default/b", "10.0.0.2"));
    let mut checked = web(&[a.clone(), b.clone()]);
    put_pod(&mut checked, &deleting(&a));
    put_slice(&mut checked, std::slice::from_ref(&b));
    put_slice(&mut checked, std::slice::from_ref(&a));
    assert_eq!(
        checked.backends("default/web/tcp/80"),
        ["10.0.0.1:8080 defa 0"]
    );
    put_service(&mut checked, "false");
    put_service(&mut checked, "true");
    assert_eq!(
        checked.backends("default/web/tcp/80"),
        ["10.0.0.1:8080 defa 0"]
    );
    // Another Service of the same Pods starts for itself.
    let other = Service {
        ports: vec![crate::cluster::testing::port("", 81)],
        ..service("default/other")
    };
    checked.change(Change::Service(other.key.clone(), Some(Box::new(other))));
    let of_other = slice("other-1", "default/other", vec![endpoint(&a)]);
    checked.change(Change::Slice(of_other.key.clone(), Some(of_other)));
    assert_eq!(
        checked.backends("default/other/tcp/81"),
        ["10.0.0.1:8080 defa 10"]
    );
}

/// Flows have no end, so a Pod that ends has to lose them; connections end with the Pod.
#[test]
fn a_closed_pod_leaves_the_flows_and_keeps_its_connections() {
    let (a, b) = (pod("default/a", "10.0.0.1"), pod("default/b", "10.0.0.2"));
    let mut checked = web(&[a.clone(), b.clone()]);
    let mut both = service("default/web");
    let mut udp = both.ports[0].clone();
    udp.protocol = Transport::Udp;
    both.ports.push(udp);
    checked.change(Change::Service(both.key.clone(), Some(Box::new(both))));
    let mut slice = slice("web-1", "default/web", vec![endpoint(&a), endpoint(&b)]);
    let mut udp = slice.ports[0].clone();
    udp.protocol = Transport::Udp;
    slice.ports.push(udp);
    checked.change(Change::Slice(slice.key.clone(), Some(slice)));
    passing(&mut checked);
    put_pod(&mut checked, &deleting(&a));
    assert_eq!(
        checked.backends("default/web/tcp/80"),
        ["10.0.0.1:8080 defa 0", "10.0.0.2:8080 defa 10"]
    );
    assert_eq!(
        checked.backends("default/web/udp/80"),
        ["10.0.0.2:8080 defa 10"]
    );
    assert!(checked.builder.snapshot().ended.is_empty(), "it serves on");
}

#[test]
fn only_what_has_ended_is_cut() {
    let (a, b) = (pod("default/a", "10.0.0.1"), pod("default/b", "10.0.0.2"));
    let ended = |checked: &Checked| -> Vec<String> {
        let snapshot = checked.builder.snapshot();
        snapshot.ended.iter().map(ToString::to_string).collect()
    };
    let (of_a, none) = ([a.uid.to_string()], [""; 0]);
    let mut checked = web(&[a.clone(), b.clone()]);
    put_slice(&mut checked, std::slice::from_ref(&b));
    assert_eq!(ended(&checked), none, "it lives on: its label changed");
    put_slice(&mut checked, &[a.clone(), b.clone()]);
    put_pod(&mut checked, &deleting(&a));
    put_service(&mut checked, "false");
    assert_eq!(ended(&checked), none, "it serves what it has until it ends");
    put_service(&mut checked, "true");
    put_slice(&mut checked, std::slice::from_ref(&b));
    assert_eq!(
        ended(&checked),
        of_a,
        "out of its slice while it is being deleted"
    );
    // Seen again after all: whatever it leaves next it need not have ended.
    checked.change(Change::Pod(a.key.clone(), None));
    put_pod(&mut checked, &a);
    put_slice(&mut checked, &[a.clone(), b.clone()]);
    assert_eq!(ended(&checked), none);
    checked.change(Change::Pod(a.key.clone(), None));
    assert_eq!(ended(&checked), of_a);
    checked.change(Change::Service(key("default/web"), None));
    assert_eq!(ended(&checked), of_a, "the others live on");
}

#[test]
fn what_did_not_change_is_shared_with_the_snapshot_before() {
    let (a, b) = (pod("default/a", "10.0.0.1"), pod("default/b", "10.0.0.2"));
    let mut checked = web(&[a.clone(), b.clone()]);
    let before = checked.builder.snapshot().clone();
    put_slice(&mut checked, &[b]);
    let now = checked.builder.snapshot();
    let listener = "default/web/tcp/80";
    assert!(Arc::ptr_eq(
        &before.listeners[listener],
        &now.listeners[listener]
    ));
    assert!(!Arc::ptr_eq(&before.sets[listener], &now.sets[listener]));
}

#[test]
fn pods_without_a_gate_are_told_of_where_they_are_given_one() {
    use crate::cluster::Gate;
    let a = pod("default/a", "10.0.0.1");
    let b = Pod {
        gate: Gate::Open,
        ..pod("default/b", "10.0.0.2")
    };
    for gives_gates in [false, true] {
        let mut checked = Checked::new(Options {
            gives_gates,
            ..Options::default()
        });
        for pod in [&a, &b] {
            put_pod(&mut checked, pod);
        }
        put_slice(&mut checked, &[a.clone(), b.clone()]);
        put_service(&mut checked, "true");
        let is_told = |checked: &Checked| {
            let Some(Standing::Ours(plan)) = checked.builder.standings().get(&key("default/web"))
            else {
                panic!("it is ours");
            };
            let mut reasons = plan.notes.iter().map(|note| note.reason);
            reasons.any(|reason| reason == note::Reason::PodsWithoutGate)
        };
        assert_eq!(is_told(&checked), gives_gates);
        assert_eq!(checked.builder.pods_without_gate(), [&a.key].into());
        put_pod(&mut checked, &deleting(&a));
        assert!(!is_told(&checked), "it ends");
        assert!(checked.builder.pods_without_gate().is_empty());
        put_pod(&mut checked, &a);
        put_service(&mut checked, "false");
        assert!(!is_told(&checked), "through node ports");
    }
}

#[test]
fn with_a_pool_a_service_has_an_address_of_its_own() {
    let mut cluster = Cluster::default();
    let mut builder = Builder::new(Options {
        pool: Some("203.0.113.1-203.0.113.2".parse().unwrap()),
        ..Options::default()
    });
    let names = ["default/a", "default/b", "default/c"];
    for (age, name) in (0..).zip(names) {
        let mut service = service(name);
        service.created = age;
        let touched = cluster.apply(Change::Service(key(name), Some(Box::new(service))));
        builder.build(&cluster, &touched);
    }
    let listeners = &builder.snapshot().listeners;
    let address = |name: &str| {
        listeners
            .get(format!("{name}/tcp/80").as_str())
            .map(|l| l.address.to_string())
    };
    let found = names.map(address);
    assert_eq!(
        found,
        [
            Some("203.0.113.1:80".to_owned()),
            Some("203.0.113.2:80".to_owned()),
            None
        ]
    );
    let Some(Standing::Ours(plan)) = builder.standings().get(&key("default/c")) else {
        panic!("it is ours");
    };
    assert_eq!(plan.ports[0].error, Some(note::Reason::NoAddress));
    // What one gives back the next one has, without being touched.
    let touched = cluster.apply(Change::Service(key("default/a"), None));
    let changed = builder.build(&cluster, &touched);
    let other = Front::Service(key("default/c"));
    assert!(changed.contains(&other), "{changed:?}");
    assert!(
        builder
            .snapshot()
            .listeners
            .contains_key("default/c/tcp/80")
    );
}
