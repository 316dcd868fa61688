//! HTTP listeners: routes lead to sets, and sets stay while routes lead to them.

use super::bench::{Bench, at, by, listener, name, set};
use crate::lb::ListenerId;
use crate::lb::table::ListenerRoute;
use podline_api::{
    Apply, Http, HttpRoute, Listener, Name, PathMatch, Protocol, Rejected, RouteAction, v1,
};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::sleep;
use v1::explanation::Reason;
use v1::listener_status::State as ListenerState;

fn route(path: &str, set: &str) -> HttpRoute {
    HttpRoute {
        hosts: vec!["www.example.com".to_owned()],
        path: PathMatch::Prefix(path.to_owned()),
        action: RouteAction::Forward(name(set)),
    }
}

/// Listener `site` at port 80 with these routes, and perhaps a set for all other requests.
fn site(routes: &[(&str, &str)], default: Option<&str>) -> Listener {
    let http = Http {
        routes: routes.iter().map(|(path, set)| route(path, set)).collect(),
        ..Http::default()
    };
    Listener {
        protocol: Protocol::Http,
        backend_set: default.map(name),
        http: Some(http),
        ..listener("site", 80, "web")
    }
}

/// The listener over sets a, b and c.
fn routed(site: Listener) -> Apply {
    Apply {
        listeners: vec![site],
        backend_sets: vec![set("a", [1]), set("b", [2]), set("c", [3])],
        ..by("me")
    }
}

fn in_table(bench: &Bench) -> Arc<ListenerRoute> {
    let id = bench.state.engine().listeners[&name("site")].id;
    Arc::clone(bench.fake.table().listener(id).unwrap())
}

/// Why the backend of a set gets traffic or not, and who leads to it.
fn explained(bench: &Bench, set: &str) -> (Reason, Vec<String>) {
    let request = v1::ExplainRequest {
        set: set.to_owned(),
        backend: None,
    };
    let answer = bench.state.explain(&request).unwrap();
    (answer.backends[0].reason(), answer.reached_by)
}

fn paths(rejected: Rejected) -> Vec<String> {
    match rejected {
        Rejected::Invalid(invalid) => invalid.violations.into_iter().map(|v| v.path).collect(),
        Rejected::Conflict { path, .. } => vec![format!("conflict {path}")],
        other => panic!("{other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn every_set_that_a_route_names_is_led_to() {
    let bench = Bench::start();
    let wanted = site(&[("/a", "a"), ("/b", "b"), ("/b/c", "b")], Some("a"));
    bench.apply(&routed(wanted.clone())).await;
    let found = in_table(&bench);
    assert_eq!(
        found.set,
        Some(bench.state.engine().sets[&name("a")].id),
        "what no route takes"
    );
    let http = found.http.as_ref().unwrap();
    assert_eq!(http.request_timeout_ms, 60_000);
    assert_eq!(explained(&bench, "c"), (Reason::NoListener, Vec::new()));
    let ways = ["site", "site by www.example.com/a"].map(str::to_owned);
    assert_eq!(explained(&bench, "a"), (Reason::NotChecked, ways.to_vec()));
    let ways = ["site by www.example.com/b", "site by www.example.com/b/c"];
    let ways = ways.map(str::to_owned).to_vec();
    assert_eq!(explained(&bench, "b"), (Reason::NotChecked, ways));
    let told = bench.get().listeners[0].listener.clone().unwrap();
    assert_eq!(Listener::try_from(told), Ok(wanted));
}

#[tokio::test(start_paused = true)]
async fn a_listener_may_have_routes_alone() {
    let bench = Bench::start();
    bench.apply(&routed(site(&[("/a", "a")], None))).await;
    let found = in_table(&bench);
    assert!(found.set.is_none() && found.http.is_some());
    assert_eq!(bench.get().listeners[0].state(), ListenerState::Listening);
}

#[tokio::test(start_paused = true)]
async fn routes_and_settings_change_in_place() {
    let bench = Bench::start();
    bench.apply(&routed(site(&[("/a", "a")], None))).await;
    let before = bench.fake.bound.lock().unwrap().clone();
    let mut wanted = site(&[("/a", "a"), ("/c", "c")], Some("b"));
    wanted.http.as_mut().unwrap().max_head_bytes = 1_024;
    let change = Apply {
        listeners: vec![wanted],
        ..by("me")
    };
    let answer = bench.apply(&change).await;
    assert_eq!(answer.changes.len(), 1);
    assert_eq!(*bench.fake.bound.lock().unwrap(), before);
    let found = in_table(&bench);
    assert_eq!(found.http.as_ref().unwrap().max_head_bytes, 1_024);
    assert_eq!(found.set, Some(bench.state.engine().sets[&name("b")].id));
    assert_eq!(explained(&bench, "c").0, Reason::NotChecked);
    let published = bench.fake.publishes();
    assert!(bench.apply(&change).await.changes.is_empty());
    assert_eq!(bench.fake.publishes(), published, "nothing changed");
    bench
        .apply(&Apply {
            listeners: vec![site(&[("/a", "a")], Some("b"))],
            ..by("me")
        })
        .await;
    assert_eq!(explained(&bench, "c").0, Reason::NoListener);
}

#[tokio::test(start_paused = true)]
async fn a_set_stays_while_a_route_leads_to_it() {
    let bench = Bench::start();
    let twice = site(&[("/a", "a"), ("/x", "b"), ("/y", "b")], None);
    bench.apply(&routed(twice)).await;
    let remove = |set: &str| Apply {
        remove_backend_sets: vec![name(set)],
        ..by("me")
    };
    let gone: &[(&str, &str)] = &[("/a", "a"), ("/g", "gone")];
    let names_it = Apply {
        listeners: vec![site(gone, Some("nowhere"))],
        ..by("me")
    };
    let expected = [
        "listeners[0].backendSet",
        "listeners[0].routes[1].backendSet",
    ];
    assert_eq!(paths(bench.refused(names_it).await), expected);
    assert_eq!(
        paths(bench.refused(remove("b")).await),
        ["removeBackendSets[0]"]
    );
    let all = Apply {
        replace_owned: true,
        listeners: vec![site(&[("/a", "a")], None)],
        ..by("me")
    };
    assert_eq!(
        paths(bench.refused(all).await),
        ["listeners[0].routes[0].backendSet"]
    );
    let both = Apply {
        listeners: vec![site(&[("/a", "a")], None)],
        ..remove("b")
    };
    bench.apply(&both).await;
    assert!(!bench.state.engine().sets.contains_key(&name("b")));
    // Whoever comes back under the name has another number, and the route knows it.
    let back = Apply {
        listeners: vec![site(&[("/a", "a"), ("/x", "b")], Some("b"))],
        backend_sets: vec![set("b", [2])],
        ..by("me")
    };
    bench.apply(&back).await;
    let id = bench.state.engine().sets[&name("b")].id;
    assert_eq!(in_table(&bench).set, Some(id));
}

#[tokio::test(start_paused = true)]
async fn a_set_of_a_route_that_is_replaced_keeps_its_number() {
    let bench = Bench::start();
    bench.apply(&routed(site(&[("/a", "a")], Some("b")))).await;
    let number = |set: &str| bench.state.engine().sets[&name(set)].id;
    let before = (number("a"), number("b"));
    let sets = Apply {
        backend_sets: vec![set("a", [7, 8]), set("b", [])],
        ..by("me")
    };
    bench.apply(&sets).await;
    assert_eq!((number("a"), number("b")), before);
    assert_eq!(in_table(&bench).set, Some(before.1));
}

#[tokio::test(start_paused = true)]
async fn an_address_is_unique_for_its_transport() {
    let bench = Bench::start();
    bench.apply(&routed(site(&[("/a", "a")], None))).await;
    let other = |protocol, owner: &str| {
        let wanted = Listener::new(name("other"), at(80), protocol, name("mine"));
        Apply {
            listeners: vec![wanted],
            backend_sets: vec![set("mine", [9])],
            ..by(owner)
        }
    };
    for protocol in [Protocol::Tcp, Protocol::Http] {
        assert_eq!(
            paths(bench.refused(other(protocol, "you")).await),
            ["conflict listeners[0].address"]
        );
    }
    let answer = bench.apply(&other(Protocol::Udp, "you")).await;
    assert!(answer.listeners.iter().all(|l| l.reason.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn another_protocol_at_the_same_address_takes_over() {
    let bench = Bench::start();
    let of = |wanted: &Listener| Apply {
        listeners: vec![wanted.clone()],
        ..routed(wanted.clone())
    };
    let plain = listener("site", 80, "a");
    let http = site(&[("/b", "b")], Some("a"));
    bench.apply(&of(&plain)).await;
    let bound = |bench: &Bench| -> Vec<ListenerId> {
        bench.fake.bound.lock().unwrap().keys().copied().collect()
    };
    let mut last = bound(&bench);
    for wanted in [&http, &plain, &http] {
        let old = Arc::clone(&bench.state.engine().listeners[&name("site")].counters);
        old.active.store(1, Relaxed);
        bench.apply(&of(wanted)).await;
        let now = bound(&bench);
        assert_eq!(now.len(), 1);
        assert_ne!(now, last, "a listener of its own");
        assert!(bench.fake.table().listener(last[0]).is_none());
        assert_eq!(in_table(&bench).http.is_some(), wanted.http.is_some());
        let states: Vec<_> = bench
            .get()
            .listeners
            .iter()
            .map(v1::ListenerStatus::state)
            .collect();
        assert_eq!(states, [ListenerState::Listening, ListenerState::Draining]);
        old.active.store(0, Relaxed);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(bench.get().listeners.len(), 1);
        last = now;
    }
}

#[tokio::test(start_paused = true)]
async fn routes_of_a_listener_that_failed_lead_nowhere() {
    let bench = Bench::start();
    bench.fake.taken.lock().unwrap().insert(at(80));
    bench.apply(&routed(site(&[("/a", "a")], None))).await;
    assert_eq!(explained(&bench, "a").0, Reason::ListenerFailed);
    bench.fake.taken.lock().unwrap().clear();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(explained(&bench, "a").0, Reason::NotChecked);
}

#[test]
fn sets_are_told_once() {
    let site = site(&[("/x", "b"), ("/y", "b")], Some("b"));
    let sets: Vec<_> = site.sets().into_iter().map(Name::as_str).collect();
    assert_eq!(sets, ["b"]);
}
