//! Listeners that cannot be bound, that move, and that go.

use super::super::ports::ForceClose;
use super::{Bench, at, by, drain, listener, name, set, web};
use podline_api::{Apply, v1};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::sleep;
use v1::listener_status::State as ListenerState;
use v1::watch_response::Event;

fn states(bench: &Bench) -> Vec<(String, ListenerState)> {
    let listeners = bench.get().listeners;
    listeners
        .iter()
        .map(|l| (l.listener.as_ref().unwrap().name.clone(), l.state()))
        .collect()
}

fn changed(events: Vec<Event>) -> Vec<v1::ListenerChanged> {
    events
        .into_iter()
        .filter_map(|event| match event {
            Event::Listener(changed) => Some(changed),
            _ => None,
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_taken_port_fails_alone_and_is_tried_again() {
    let bench = Bench::start();
    let mut events = bench.events();
    bench.fake.asked().taken.insert(at(81));
    let both = Apply {
        listeners: vec![listener("a", 81, "web"), listener("web", 80, "web")],
        ..web()
    };
    let answer = bench.apply(&both).await;
    assert_eq!(answer.listeners[0].state(), ListenerState::Failed);
    assert!(
        answer.listeners[0].reason.contains("in use"),
        "{}",
        answer.listeners[0].reason
    );
    assert_eq!(answer.listeners[1].state(), ListenerState::Listening);
    let said = changed(drain(&mut events));
    assert_eq!(
        (said[0].name.as_str(), said[0].state()),
        ("a", ListenerState::Failed)
    );
    assert_eq!(
        (said[1].name.as_str(), said[1].state()),
        ("web", ListenerState::Listening)
    );
    // As long as it fails in the same way there is nothing to say.
    sleep(Duration::from_millis(3_500)).await;
    assert!(drain(&mut events).is_empty());
    bench.fake.asked().taken.clear();
    sleep(Duration::from_millis(1_100)).await;
    let said = changed(drain(&mut events));
    assert_eq!(said.len(), 1);
    assert_eq!(
        (said[0].name.as_str(), said[0].state()),
        ("a", ListenerState::Listening)
    );
    assert_eq!(said[0].reason, "");
    assert!(
        states(&bench)
            .iter()
            .all(|(_, state)| *state == ListenerState::Listening)
    );
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_failed_can_go() {
    let bench = Bench::start();
    bench.fake.asked().taken.insert(at(80));
    bench.apply(&web()).await;
    bench
        .apply(&Apply {
            remove_listeners: vec![name("web")],
            ..by("me")
        })
        .await;
    bench.fake.asked().taken.clear();
    sleep(Duration::from_secs(3)).await;
    assert!(bench.fake.asked().bound.is_empty());
    assert!(states(&bench).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_moves_leaves_its_connections_behind() {
    let bench = Bench::start();
    bench.apply(&web()).await;
    let counters = |bench: &Bench| {
        let engine = bench.state.engine();
        std::sync::Arc::clone(&engine.listeners[&name("web")].counters)
    };
    let old = counters(&bench);
    old.active.store(2, Relaxed);
    bench
        .apply(&Apply {
            listeners: vec![listener("web", 81, "web")],
            ..by("me")
        })
        .await;
    let (first, second) = {
        let asked = bench.fake.asked();
        assert_eq!(asked.bound[1].1, at(81));
        assert_eq!(asked.unbound, [asked.bound[0].0]);
        (asked.bound[0].0, asked.bound[1].0)
    };
    assert_ne!(first, second);
    assert!(bench.fake.table().listener(first).is_none());
    assert!(bench.fake.table().listener(second).is_some());
    assert_eq!(counters(&bench).active.load(Relaxed), 0);
    sleep(Duration::from_secs(29)).await;
    assert_eq!(states(&bench).len(), 2);
    assert!(bench.fake.asked().cut.is_empty());
    sleep(Duration::from_secs(2)).await;
    assert!(matches!(bench.fake.asked().cut[..], [ForceClose::Listener(id)] if id == first));
    old.active.store(0, Relaxed);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(
        states(&bench),
        [("web".to_owned(), ListenerState::Listening)]
    );
}

#[tokio::test(start_paused = true)]
async fn timeouts_change_without_binding_again() {
    let bench = Bench::start();
    bench.apply(&web()).await;
    let mut wanted = listener("web", 80, "other");
    wanted.idle_timeout = Duration::from_secs(7);
    bench
        .apply(&Apply {
            listeners: vec![wanted],
            backend_sets: vec![set("other", 1..=1)],
            ..by("me")
        })
        .await;
    let asked = bench.fake.asked();
    assert_eq!((asked.bound.len(), asked.unbound.len()), (1, 0));
    let table = asked.tables.last().unwrap();
    let route = table.listener(asked.bound[0].0).unwrap();
    assert_eq!(route.idle_timeout, Duration::from_secs(7));
    assert_eq!(table.set(route.set).unwrap().name, name("other"));
}
