//! Health, drains, acknowledgements and the retry of listeners, over time.

use super::*;
use crate::lb::health::Health;
use ProbeOutcome::{Failed, Passed};
use std::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};

async fn after(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

#[tokio::test(start_paused = true)]
async fn health_changes_of_two_milliseconds_are_one_publish() {
    let (fake, state) = running();
    let all: Vec<Backend> = (1..=50).map(|n| backend(n, 10)).collect();
    with_web(&state, checked("web", &all)).await;
    let mut events = state.watch().2;
    assert!(state.ready().is_err());
    assert_eq!(probe(&state, |_| Passed), 50);
    assert_eq!(fake.publishes(), 1);
    after(3).await;
    // The first passed probe admits; the set has been healthy then, so the others need their threshold.
    assert_eq!(fake.publishes(), 2);
    assert_eq!(said(&mut events).len(), 1);
    assert!(state.ready().is_ok());
    for _ in 0..2 {
        after(300).await;
        assert!(probe(&state, |_| Passed) >= 49);
    }
    after(3).await;
    assert_eq!(fake.publishes(), 3);
    let events = said(&mut events);
    assert_eq!(events.len(), 49);
    assert!(
        events.iter().all(|e| e.ends_with("HEALTHY in 3")),
        "{events:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn configuration_leaves_health_alone_and_probes_leave_configuration_alone() {
    let (fake, state) = running();
    with_web(&state, checked("web", &[backend(1, 10), backend(2, 10)])).await;
    for _ in 0..3 {
        probe(&state, |a| if a == address(1) { Passed } else { Failed });
        after(6_000).await;
    }
    let before = Fake::runtime(&state, 2);
    edit(&state, &[backend(1, 20), backend(2, 20)], &[]).await;
    assert!(Arc::ptr_eq(&before, &Fake::runtime(&state, 2)));
    let engine = state.engine();
    let set = &engine.sets[&name("web")];
    let healths = [1, 2].map(|n| set.backends[&address(n)].health.health());
    assert_eq!(healths, [Health::Healthy, Health::Unhealthy]);
    // Probes moved the proxy's version, but not the set's.
    assert!(fake.table().version > 2);
    assert_eq!(set.version, fake.table().version);
}

#[tokio::test(start_paused = true)]
async fn one_check_of_one_address_serves_every_set() {
    let (_, state) = running();
    let mut apply = owned("file");
    apply.backend_sets = ["a", "b", "c"]
        .map(|s| checked(s, &[backend(1, 10)]))
        .into();
    state.apply(apply).await.unwrap();
    assert_eq!(probe(&state, |_| Passed), 1);
    let eligible = |state: &State| -> Vec<u32> {
        let sets = state.get(&v1::GetRequest::default()).backend_sets;
        sets.iter().map(|s| s.eligible).collect()
    };
    after(3).await;
    assert_eq!(eligible(&state), [1, 1, 1]);
    let mut apply = owned("file");
    apply.remove_backend_sets = vec![name("b")];
    state.apply(apply).await.unwrap();
    for _ in 0..3 {
        after(6_000).await;
        assert_eq!(probe(&state, |_| Failed), 1);
    }
    after(3).await;
    assert_eq!(eligible(&state), [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_removed_backend_is_closed_then_empty() {
    let (fake, state) = running();
    with_web(&state, set("web", &[backend(1, 10), backend(2, 10)])).await;
    let runtime = Fake::runtime(&state, 1);
    runtime.active.store(3, Relaxed);
    let mut events = state.watch().2;
    edit(&state, &[], &[1]).await;
    assert!(runtime.closed.load(Acquire));
    assert_eq!(said(&mut events), ["applied 2", "10.0.0.1:1 CLOSED"]);
    after(10_000).await;
    assert_eq!(said(&mut events), [""; 0]);
    runtime.active.store(0, Relaxed);
    after(50).await;
    assert_eq!(said(&mut events), ["10.0.0.1:1 EMPTY"]);
    assert!(lock(&fake.forced).is_empty());
}

#[tokio::test(start_paused = true)]
async fn connections_are_cut_at_the_deadline_once_or_at_once_where_wanted() {
    for (reset, at_most) in [(false, 30_100), (true, 100)] {
        let (fake, state) = running();
        let mut web = set("web", &[backend(1, 10)]);
        web.settings.deregister_target_rst = reset;
        with_web(&state, web).await;
        let runtime = Fake::runtime(&state, 1);
        runtime.active.store(3, Relaxed);
        edit(&state, &[], &[1]).await;
        if !reset {
            after(29_900).await;
            assert!(lock(&fake.forced).is_empty());
        }
        after(at_most - if reset { 0 } else { 29_900 }).await;
        after(1_000).await;
        assert_eq!(*lock(&fake.forced), ["10.0.0.1:1"]);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_closed_while_a_worker_is_silent() {
    let (fake, state) = running();
    with_web(&state, set("web", &[backend(1, 10)])).await;
    let mut events = state.watch().2;
    fake.is_silent.store(true, SeqCst);
    let asked = Instant::now();
    let answer = edit(&state, &[], &[1]).await;
    assert_eq!(answer.silent_workers, [1]);
    assert_eq!(asked.elapsed(), ACKNOWLEDGE);
    // The deadline passes too: what may still get work is not cut and not called empty.
    after(60_000).await;
    assert_eq!(said(&mut events), ["applied 2"]);
    assert!(lock(&fake.forced).is_empty());
    fake.is_silent.store(false, SeqCst);
    after(2_000).await;
    assert_eq!(said(&mut events), ["10.0.0.1:1 CLOSED", "10.0.0.1:1 EMPTY"]);
}

#[tokio::test(start_paused = true)]
async fn listeners_count_once_every_worker_has_heard_of_them() {
    let (fake, state) = running();
    fake.is_deaf.store(true, SeqCst);
    let asked = Instant::now();
    let mut apply = owned("file");
    apply.backend_sets = vec![set("web", &[backend(1, 10)])];
    apply.listeners = vec![listener("web", 80, "web")];
    let answer = state.apply(apply).await.unwrap();
    assert_eq!(answer.silent_workers, [2]);
    assert_eq!(asked.elapsed(), ACKNOWLEDGE);
    // Both are waited for at once.
    fake.is_silent.store(true, SeqCst);
    let mut apply = owned("file");
    apply.listeners = vec![listener("other", 81, "web")];
    let asked = Instant::now();
    let answer = state.apply(apply).await.unwrap();
    assert_eq!(answer.silent_workers, [1, 2]);
    assert_eq!(asked.elapsed(), ACKNOWLEDGE);
    fake.is_silent.store(false, SeqCst);
    // Nothing is bound, so there is nothing to hear of.
    let answer = edit(&state, &[backend(2, 10)], &[]).await;
    assert_eq!(answer.silent_workers, [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_comes_back_goes_on_where_it_was() {
    let (fake, state) = running();
    with_web(&state, checked("web", &[backend(1, 10)])).await;
    probe(&state, |_| Passed);
    after(3).await;
    let runtime = Fake::runtime(&state, 1);
    runtime.active.store(5, Relaxed);
    edit(&state, &[], &[1]).await;
    let mut events = state.watch().2;
    edit(&state, &[backend(1, 30)], &[]).await;
    assert!(Arc::ptr_eq(&runtime, &Fake::runtime(&state, 1)));
    assert!(!runtime.closed.load(Acquire));
    let sets = state.get(&v1::GetRequest::default()).backend_sets;
    assert_eq!((sets[0].eligible, sets[0].backends.len()), (1, 1));
    after(60_000).await;
    assert_eq!(said(&mut events), ["applied 4"]);
    assert!(lock(&fake.forced).is_empty());
}

#[tokio::test(start_paused = true)]
async fn another_identity_at_the_same_address_starts_from_nothing() {
    let (_, state) = running();
    with_web(&state, checked("web", &[backend(1, 10)])).await;
    probe(&state, |_| Passed);
    after(3).await;
    let old = Fake::runtime(&state, 1);
    let mut successor = backend(1, 10);
    successor.key.id = Some("pod-2".try_into().unwrap());
    let answer = edit(&state, &[successor], &[]).await;
    let change = &answer.changes[0];
    assert_eq!((change.backends_added, change.backends_removed), (1, 1));
    let new = Fake::runtime(&state, 1);
    assert!(!Arc::ptr_eq(&old, &new));
    assert!(old.closed.load(Acquire) && !new.closed.load(Acquire));
    let sets = state.get(&v1::GetRequest::default()).backend_sets;
    assert_eq!(sets[0].eligible, 0);
}

#[tokio::test(start_paused = true)]
async fn a_listener_whose_port_is_taken_fails_alone_and_is_tried_again() {
    let (fake, state) = running();
    lock(&fake.taken).insert(([127, 0, 0, 1], 80).into());
    let mut events = state.watch().2;
    let mut apply = owned("file");
    apply.backend_sets = vec![set("web", &[backend(1, 10)])];
    apply.listeners = vec![listener("a", 80, "web"), listener("b", 81, "web")];
    let answer = state.apply(apply).await.unwrap();
    assert!(answer.listeners[0].reason.contains("in use"), "{answer:?}");
    assert_eq!(said(&mut events), ["applied 1", "a FAILED", "b LISTENING"]);
    assert_eq!(lock(&fake.bound).len(), 1);
    assert!(state.ready().is_ok());
    after(10_000).await;
    assert_eq!(said(&mut events), [""; 0]);
    lock(&fake.taken).clear();
    after(1_100).await;
    assert_eq!(said(&mut events), ["a LISTENING"]);
    assert_eq!(lock(&fake.bound).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_removed_listener_is_cut_at_its_deadline() {
    let (fake, state) = running();
    let mut apply = owned("file");
    apply.backend_sets = vec![set("web", &[backend(1, 10)])];
    apply.listeners = vec![listener("a", 80, "web")];
    state.apply(apply).await.unwrap();
    let counters = Arc::clone(&state.engine().listeners[&name("a")].counters);
    counters.active.store(2, Relaxed);
    let mut apply = owned("file");
    apply.remove_listeners = vec![name("a")];
    state.apply(apply).await.unwrap();
    assert!(lock(&fake.bound).is_empty());
    after(29_900).await;
    assert!(lock(&fake.forced).is_empty());
    after(300).await;
    assert_eq!(*lock(&fake.forced), ["listener"]);
    assert_eq!(state.get(&v1::GetRequest::default()).listeners.len(), 1);
    counters.active.store(0, Relaxed);
    after(100).await;
    assert_eq!(state.get(&v1::GetRequest::default()).listeners.len(), 0);
}
