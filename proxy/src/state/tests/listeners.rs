//! Listeners that move and that go.

use super::bench::{Bench, at, by, listener, name, web};
use crate::lb::ListenerId;
use podline_api::{Apply, v1};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::sleep;
use v1::listener_status::State as ListenerState;

fn states(bench: &Bench) -> Vec<(String, ListenerState)> {
    let listeners = bench.get().listeners;
    listeners
        .iter()
        .map(|l| (l.listener.as_ref().unwrap().name.clone(), l.state()))
        .collect()
}

/// The listener that accepts at this port.
fn bound_at(bench: &Bench, port: u16) -> Option<ListenerId> {
    let bound = bench.fake.bound.lock().unwrap();
    let mut there = bound.iter().filter(|(_, address)| **address == at(port));
    there.next().map(|(id, _)| *id)
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_failed_can_go() {
    let bench = Bench::start();
    bench.fake.taken.lock().unwrap().insert(at(80));
    bench.apply(&web()).await;
    bench
        .apply(&Apply {
            remove_listeners: vec![name("web")],
            ..by("me")
        })
        .await;
    bench.fake.taken.lock().unwrap().clear();
    sleep(Duration::from_secs(3)).await;
    assert!(bench.fake.bound.lock().unwrap().is_empty());
    assert!(states(&bench).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_moves_leaves_its_connections_behind() {
    let bench = Bench::start();
    bench.apply(&web()).await;
    let first = bound_at(&bench, 80).unwrap();
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
    let second = bound_at(&bench, 81).unwrap();
    assert_eq!(bound_at(&bench, 80), None);
    assert_ne!(first, second);
    assert!(bench.fake.table().listener(first).is_none());
    assert!(bench.fake.table().listener(second).is_some());
    assert_eq!(counters(&bench).active.load(Relaxed), 0);
    sleep(Duration::from_secs(29)).await;
    assert_eq!(states(&bench).len(), 2);
    assert!(bench.fake.forced.lock().unwrap().is_empty());
    sleep(Duration::from_secs(2)).await;
    assert_eq!(*bench.fake.forced.lock().unwrap(), ["listener"]);
    old.active.store(0, Relaxed);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(
        states(&bench),
        [("web".to_owned(), ListenerState::Listening)]
    );
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_failed_is_not_bound_while_the_process_ends() {
    let bench = Bench::start();
    bench.fake.taken.lock().unwrap().insert(at(80));
    bench.apply(&web()).await;
    bench.state.unbind_all();
    bench.fake.taken.lock().unwrap().clear();
    sleep(Duration::from_secs(3)).await;
    assert!(bench.fake.bound.lock().unwrap().is_empty());
}
