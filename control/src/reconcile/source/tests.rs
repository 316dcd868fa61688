//! What is said of source addresses, and when.

use std::sync::Arc;

use podline_api::Name;

use super::*;
use crate::build::Source;
use crate::cluster::Family;
use crate::cluster::service::OwnCondition;
use crate::cluster::testing::{key, service};
use crate::observed::Path;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn plan(mode: Mode, wished: SourceAddress, nodes: &[(&str, Family)]) -> Plan {
    Plan {
        uid: "u".into(),
        mode,
        source: Source {
            wished,
            is_said: false,
            nodes: nodes.iter().map(|(node, f)| (name(node), *f)).collect(),
        },
        addresses: Vec::new(),
        listeners: Vec::new(),
        sets: Vec::new(),
        ports: Vec::new(),
        notes: Vec::new(),
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

/// A proxy that serves; `+node`, `-node why` and `?node why` are its ways over IPv4.
fn proxy(ways: &[&str]) -> ProxyView {
    let way = |text: &&str| {
        let (node, reason) = text[1..].split_once(' ').unwrap_or((&text[1..], ""));
        let path = Path {
            is_proven: text.starts_with('+'),
            has_failed: text.starts_with('-'),
            reason: reason.to_owned(),
        };
        ((name(node), Family::V4), path)
    };
    ProxyView {
        serving: true,
        features: Arc::new([FEATURE.to_owned()].into()),
        paths: Arc::new(ways.iter().map(way).collect()),
        ..ProxyView::default()
    }
}

fn observed(proxies: &[ProxyView]) -> Observed {
    let proxies = (1..).zip(proxies);
    Observed {
        proxies: proxies
            .map(|(n, proxy)| (format!("p{n}"), Arc::new(proxy.clone())))
            .collect(),
        ..Observed::default()
    }
}

const PREFER: SourceAddress = SourceAddress::PreferTransparent;
const NODES: &[(&str, Family)] = &[("n1", Family::V4), ("n2", Family::V4)];

#[track_caller]
fn check(plan: &Plan, proxies: &[ProxyView], expected: &str) {
    let found = match verdict(plan, &observed(proxies)) {
        Verdict::Seen(said) | Verdict::Fixed(said) => {
            format!("{} {} {}", said.is_true, said.reason, said.message)
        }
        other => format!("{other:?}"),
    };
    assert_eq!(found, expected);
}

#[test]
fn every_proxy_that_serves_has_to_have_proven_every_node() {
    let wants = plan(Mode::Direct, PREFER, NODES);
    let well = proxy(&["+n1", "+n2"]);
    check(&wants, &[], "Unknown");
    check(&wants, &[well.clone(), well.clone()], "true Transparent ");
    let one = proxy(&["+n1", "-n2 masqueraded by 10.88.0.11\n"]);
    let told = "false SourceNat n2 over IPv4 from proxy p2: masqueraded by 10.88.0.11 ";
    check(&wants, &[well.clone(), one.clone()], told);
    let away = ProxyView {
        serving: false,
        ..one
    };
    check(&wants, &[well.clone(), away], "true Transparent ");
    check(
        &wants,
        &[proxy(&["+n1"])],
        "false SourceNat n2 over IPv4 from proxy p1: not proven",
    );
    let v6 = plan(Mode::Direct, PREFER, &[("n1", Family::V6)]);
    check(
        &v6,
        std::slice::from_ref(&well),
        "false SourceNat n1 over IPv6 from proxy p1: not proven",
    );
    let unable = ProxyView {
        transparency_problem: "no NET_ADMIN".to_owned(),
        ..well.clone()
    };
    check(
        &wants,
        &[unable],
        "false SourceNat proxy p1 cannot imitate clients: no NET_ADMIN",
    );
    let old = ProxyView {
        features: Arc::default(),
        ..well
    };
    check(
        &wants,
        &[old],
        "false SourceNat proxy p1 cannot imitate clients: update it",
    );
    check(
        &plan(Mode::Direct, PREFER, &[]),
        &[proxy(&[])],
        "true Transparent ",
    );
}

#[test]
fn a_wish_without_alternative_needs_no_proof_but_nothing_may_have_failed() {
    let wants = plan(Mode::Direct, SourceAddress::Transparent, NODES);
    check(&wants, &[proxy(&["?n1"])], "true Transparent ");
    let failed = "false SourceAddressImpossible n1 over IPv4 from proxy p1: no answer";
    check(&wants, &[proxy(&["-n1 no answer"])], failed);
}

#[test]
fn what_cannot_be_or_is_not_wanted_needs_no_proxy() {
    check(
        &plan(Mode::Direct, SourceAddress::Snat, NODES),
        &[],
        "Nothing",
    );
    let through = |wished| plan(Mode::NodePort, wished, &[]);
    check(&through(SourceAddress::Snat), &[], "Nothing");
    check(
        &through(PREFER),
        &[],
        &format!("false SourceNat {NODE_PORT_SOURCE}"),
    );
    let impossible = format!("false SourceAddressImpossible {NODE_PORT_SOURCE}");
    check(&through(SourceAddress::Transparent), &[], &impossible);
}

#[test]
fn a_thousand_nodes_fit_a_condition() {
    let nodes: Vec<String> = (0..1_000).map(|n| format!("node-{n:04}")).collect();
    let nodes: Vec<_> = nodes.iter().map(|n| (n.as_str(), Family::V4)).collect();
    let long = format!("-node-0003 {}", "é".repeat(50_000));
    let proxies = [proxy(&[&long]), proxy(&[])];
    let wants = plan(Mode::Direct, PREFER, &nodes);
    let Verdict::Seen(said) = verdict(&wants, &observed(&proxies)) else {
        panic!("it is seen");
    };
    assert!(said.message.len() < 1_000, "{}", said.message.len());
    assert!(
        said.message.ends_with("; there are more"),
        "{}",
        said.message
    );
}

fn condition(is_true: bool, reason: &str, message: &str) -> Condition {
    Condition {
        is_true,
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

/// default/web, which says this already.
fn saying(said: Option<&Condition>) -> Service {
    let mut service = service("default/web");
    service.conditions = said
        .map(|said| {
            let own = OwnCondition {
                is_true: said.is_true,
                reason: said.reason.clone(),
                message: said.message.clone(),
                since: String::new(),
            };
            (SOURCE_ADDRESS.to_owned(), own)
        })
        .into_iter()
        .collect();
    service
}

#[tokio::test]
async fn a_verdict_is_told_once_it_has_held() {
    let (good, bad) = (
        condition(true, TRANSPARENT, ""),
        condition(false, "SourceNat", "n1"),
    );
    let begun = Instant::now();
    let at = |seconds: u64| begun + Duration::from_secs(seconds);
    let mut settling = Settling::default();
    let (fresh, well) = (saying(None), saying(Some(&good)));
    let seen = |condition: &Condition| Verdict::Seen(condition.clone());
    assert_eq!(settling.settle(&fresh, seen(&good), at(0)), None);
    assert_eq!(settling.settle(&fresh, seen(&bad), at(5)), None, "anew");
    assert_eq!(settling.settle(&fresh, seen(&bad), at(14)), None);
    assert_eq!(settling.ripe(at(14)).count(), 0);
    assert_eq!(settling.settle(&fresh, Verdict::Unknown, at(14)), None);
    assert_eq!(
        settling.ripe(at(15)).collect::<Vec<_>>(),
        [&key("default/web")]
    );
    let ripe = Some(bad.clone());
    assert_eq!(settling.settle(&fresh, seen(&bad), at(15)), ripe);
    assert_eq!(
        settling.settle(&fresh, seen(&bad), at(16)),
        ripe,
        "not written yet"
    );
    assert_eq!(
        settling.settle(&saying(Some(&bad)), seen(&bad), at(17)),
        ripe
    );
    assert_eq!(settling.ripe(at(100)).count(), 0, "it is written");
    // A failure that passes is told nowhere.
    assert_eq!(
        settling.settle(&well, seen(&bad), at(20)),
        Some(good.clone())
    );
    assert_eq!(
        settling.settle(&well, seen(&good), at(25)),
        Some(good.clone())
    );
    assert_eq!(
        settling.settle(&well, seen(&bad), at(31)),
        Some(good.clone())
    );
    assert_eq!(
        settling.settle(&well, Verdict::Fixed(bad.clone()), at(31)),
        ripe
    );
    assert_eq!(settling.settle(&well, Verdict::Nothing, at(32)), None);
    assert_eq!(settling.ripe(at(100)).count(), 0);
}

#[test]
fn an_event_tells_a_loss_and_what_was_asked_for_in_vain() {
    let (good, bad) = (
        condition(true, TRANSPARENT, ""),
        condition(false, "SourceNat", "n1"),
    );
    let by_default = plan(Mode::Direct, PREFER, NODES);
    let mut asked = by_default.clone();
    asked.source.is_said = true;
    let told = |before: Option<&Condition>, plan: &Plan, said: &Condition| {
        news(&saying(before), plan, said).map(|note| note.to_string())
    };
    let event = Some("SourceNat: n1".to_owned());
    assert_eq!(told(Some(&good), &by_default, &bad), event);
    assert_eq!(
        told(None, &by_default, &bad),
        None,
        "nobody asked, nothing was lost"
    );
    assert_eq!(told(None, &asked, &bad), event);
    let other = condition(false, "SourceNat", "n2");
    assert_eq!(told(Some(&other), &asked, &bad), None, "told when it began");
    assert_eq!(told(Some(&bad), &asked, &good), None);
}
