//! A removed backend: closed once every worker has said so, empty when its last connection is gone, cut when its time
//! is over.

use super::bench::{Bench, by, change, drain, key, key_of, name, web, weighing};
use crate::lb::backend::BackendRuntime;
use podline_api::{Apply, BackendChange, v1};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::Duration;
use tokio::time::sleep;
use v1::drained::Stage::{self, Closed, Empty};
use v1::watch_response::Event;

fn without(n: u32) -> Apply {
    Apply {
        backend_changes: vec![change("web", &[], &[key(n)])],
        ..by("me")
    }
}

fn with(n: u32) -> Apply {
    Apply {
        backend_changes: vec![change("web", &[weighing(key(n), 10)], &[])],
        ..by("me")
    }
}

fn stages(events: Vec<Event>) -> Vec<(String, Stage, u64)> {
    events
        .into_iter()
        .filter_map(|event| match event {
            Event::Drained(d) => Some((d.backend.as_ref()?.address.clone(), d.stage(), d.forced)),
            _ => None,
        })
        .collect()
}

fn of(n: u32, stage: Stage) -> (String, Stage, u64) {
    (key(n).address.to_string(), stage, 0)
}

fn cut(bench: &Bench, runtime: &BackendRuntime) -> usize {
    let cut = bench.fake.forced.lock().unwrap();
    let key = runtime.key.to_string();
    cut.iter().filter(|what| **what == key).count()
}

#[tokio::test(start_paused = true)]
async fn closed_waits_for_every_worker_and_empty_for_the_last_connection() {
    let bench = Bench::start();
    bench.apply(&web()).await;
    let runtime = bench.runtime("web", &key(1));
    runtime.active.store(2, Relaxed);
    let mut events = bench.events();
    bench.hold_acknowledgements();
    let applying = tokio::spawn({
        let state = bench.state.clone();
        async move { state.apply(without(1)).await.unwrap() }
    });
    sleep(Duration::from_millis(500)).await;
    // Marked before it was published: whoever has picked it from the old table can see it.
    assert!(runtime.closed.load(Acquire));
    assert!(bench.member("web", &key(1)).is_none());
    assert!(!applying.is_finished());
    assert_eq!(stages(drain(&mut events)), []);
    bench.acknowledge(bench.get().version);
    assert_eq!(applying.await.unwrap().silent_workers, [0; 0]);
    assert_eq!(stages(drain(&mut events)), [of(1, Closed)]);
    assert!(bench.status("web", &key(1)).draining);
    runtime.active.store(1, Relaxed);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(stages(drain(&mut events)), []);
    runtime.active.store(0, Relaxed);
    sleep(Duration::from_millis(100)).await;
    assert_eq!(stages(drain(&mut events)), [of(1, Empty)]);
    assert_eq!(bench.get().backend_sets[0].backends.len(), 2);
    assert_eq!(cut(&bench, &runtime), 0);
}

#[tokio::test(start_paused = true)]
async fn a_change_says_how_long_connections_live_on_of_what_it_removes() {
    let bench = Bench::start();
    bench.apply(&web()).await;
    let runtimes = [1, 2, 3].map(|n| bench.runtime("web", &key(n)));
    for runtime in &runtimes {
        runtime.active.store(1, Relaxed);
    }
    let with_timeout = |change: BackendChange, timeout| Apply {
        backend_changes: vec![BackendChange {
            drain_timeout: Some(timeout),
            ..change
        }],
        ..by("me")
    };
    // One that is removed, and one that another takes the place of.
    let replaced = [weighing(key_of(2, "new"), 10)];
    let ended = change("web", &replaced, &[key(1)]);
    bench.apply(&with_timeout(ended, Duration::ZERO)).await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(cut(&bench, &runtimes[0]), 1);
    assert_eq!(cut(&bench, &runtimes[1]), 1);
    // Longer than the set's.
    let slow = change("web", &[], &[key(3)]);
    bench
        .apply(&with_timeout(slow, Duration::from_mins(1)))
        .await;
    sleep(Duration::from_secs(59)).await;
    assert_eq!(cut(&bench, &runtimes[2]), 0);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(cut(&bench, &runtimes[2]), 1);
}

#[tokio::test(start_paused = true)]
async fn the_same_backend_again_cancels_its_drain_and_keeps_what_it_has() {
    let bench = Bench::start();
    bench.apply(&web()).await;
    let runtime = bench.runtime("web", &key(1));
    runtime.active.store(3, Relaxed);
    runtime.connections.store(7, Relaxed);
    bench.apply(&without(1)).await;
    sleep(Duration::from_secs(20)).await;
    let mut events = bench.events();
    bench.apply(&with(1)).await;
    assert!(Arc::ptr_eq(&bench.runtime("web", &key(1)), &runtime));
    assert!(!runtime.closed.load(Acquire));
    let status = bench.status("web", &key(1));
    assert!(!status.draining);
    assert_eq!((status.active_connections, status.connections), (3, 7));
    sleep(Duration::from_mins(2)).await;
    assert_eq!(cut(&bench, &runtime), 0);
    assert_eq!(stages(drain(&mut events)), []);
    // A drain that comes after has all of its time.
    bench.apply(&without(1)).await;
    sleep(Duration::from_secs(29)).await;
    assert_eq!(cut(&bench, &runtime), 0);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(cut(&bench, &runtime), 1);
}

#[tokio::test(start_paused = true)]
async fn once_empty_the_same_backend_starts_from_nothing() {
    let bench = Bench::start();
    bench.apply(&web()).await;
    let runtime = bench.runtime("web", &key(1));
    runtime.connections.store(7, Relaxed);
    bench.apply(&without(1)).await;
    bench.apply(&with(1)).await;
    assert!(!Arc::ptr_eq(&bench.runtime("web", &key(1)), &runtime));
    assert_eq!(bench.status("web", &key(1)).connections, 0);
}

#[tokio::test(start_paused = true)]
async fn a_removed_set_drains_all_its_backends() {
    let bench = Bench::start();
    bench.apply(&web()).await;
    let runtimes = [1, 2, 3].map(|n| bench.runtime("web", &key(n)));
    runtimes[0].active.store(1, Relaxed);
    let mut events = bench.events();
    bench
        .apply(&Apply {
            remove_listeners: vec![name("web")],
            remove_backend_sets: vec![name("web")],
            ..by("me")
        })
        .await;
    assert!(runtimes.iter().all(|runtime| runtime.closed.load(Acquire)));
    let said = stages(drain(&mut events));
    assert_eq!(
        said.iter().filter(|(_, stage, _)| *stage == Closed).count(),
        3
    );
    assert_eq!(
        said.iter().filter(|(_, stage, _)| *stage == Empty).count(),
        2
    );
    // The name is free, and a new set of that name has nothing of the old one.
    bench.apply(&web()).await;
    assert!(!Arc::ptr_eq(&bench.runtime("web", &key(1)), &runtimes[0]));
    sleep(Duration::from_secs(31)).await;
    assert_eq!(cut(&bench, &runtimes[0]), 1);
}

#[tokio::test(start_paused = true)]
async fn drains_of_one_version_do_not_close_those_of_the_next() {
    let bench = Bench::start();
    bench.apply(&web()).await;
    bench.hold_acknowledgements();
    let mut events = bench.events();
    let first = bench.apply(&without(1)).await.version;
    let state = bench.state.clone();
    let second = tokio::spawn(async move { state.apply(without(2)).await.unwrap() });
    sleep(Duration::from_millis(10)).await;
    bench.state.change(|engine| engine.move_drains(first));
    assert_eq!(stages(drain(&mut events)), [of(1, Closed), of(1, Empty)]);
    bench.acknowledge(first + 1);
    assert_eq!(second.await.unwrap().version, first + 1);
    assert_eq!(stages(drain(&mut events)), [of(2, Closed), of(2, Empty)]);
}
