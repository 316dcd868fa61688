//! Configuration never resets what a backend that stays has earned; a new identity inherits nothing.

use super::{Bench, by, change, checked, key, key_of, name, weighing};
use crate::lb::health::ProbeOutcome::Passed;
use crate::lb::trie::Tier;
use podline_api::{Apply, Policy, v1};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

async fn healthy_web() -> Bench {
    let bench = Bench::start();
    bench
        .apply(&Apply {
            backend_sets: vec![checked("web", 1..=2)],
            ..by("me")
        })
        .await;
    for _ in 0..3 {
        let (due, _) = bench.state.due_probes(10);
        for (id, _) in &due {
            bench.state.on_probe(*id, Passed, "connected");
        }
        tokio::time::sleep(Duration::from_millis(276)).await;
    }
    for n in [1, 2] {
        assert_eq!(bench.status("web", &key(n)).health(), v1::Health::Healthy);
        let runtime = bench.runtime("web", &key(n));
        runtime.active.store(n, Relaxed);
        runtime.connections.store(u64::from(10 * n), Relaxed);
    }
    bench
}

#[tokio::test(start_paused = true)]
async fn whatever_changes_around_a_backend_it_keeps_its_health_and_counters() {
    let bench = healthy_web().await;
    let runtime = bench.runtime("web", &key(1));
    let since = bench.status("web", &key(1)).since;
    let mut wanted = checked("web", 1..=3);
    wanted.backends[0] = weighing(key(1), 70);
    wanted.settings.policy = Policy::LeastConnections;
    wanted.settings.drain_timeout = Duration::ZERO;
    let check = wanted.settings.health_check.as_mut().unwrap();
    check.interval = Duration::from_secs(1);
    check.healthy_threshold = 9;
    let whole = Apply {
        backend_sets: vec![wanted],
        ..by("me")
    };
    let single = Apply {
        backend_changes: vec![change("web", &[weighing(key(1), 0)], &[key(2)])],
        ..by("me")
    };
    for (apply, weight, tier) in [(whole, 70, Tier::Eligible), (single, 0, Tier::Out)] {
        bench.apply(&apply).await;
        let member = bench.member("web", &key(1)).unwrap();
        assert!(Arc::ptr_eq(&member.runtime, &runtime));
        assert_eq!((member.weight, member.tier), (weight, tier));
        let status = bench.status("web", &key(1));
        assert_eq!(
            (status.health(), status.since),
            (v1::Health::Healthy, since)
        );
        assert_eq!((status.active_connections, status.connections), (1, 10));
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_identity_at_an_old_address_is_another_backend() {
    let bench = healthy_web().await;
    let old = bench.runtime("web", &key(1));
    let replace = |id: &str| Apply {
        backend_changes: vec![change("web", &[weighing(key_of(1, id), 10)], &[])],
        ..by("me")
    };
    let answer = bench.apply(&replace("second")).await;
    let counts = &answer.changes[0];
    assert_eq!(
        (
            counts.backends_added,
            counts.backends_changed,
            counts.backends_removed
        ),
        (1, 0, 1)
    );
    assert!(bench.member("web", &key(1)).is_none());
    let member = bench.member("web", &key_of(1, "second")).unwrap();
    assert!(!Arc::ptr_eq(&member.runtime, &old));
    assert_eq!(member.tier, Tier::Detecting);
    assert_eq!(bench.status("web", &key_of(1, "second")).connections, 0);
    let draining = bench.status("web", &key(1));
    assert!(draining.draining && old.closed.load(Relaxed));
    assert_eq!(draining.connections, 10);
    // Both it and its successor's successor are kept apart.
    bench
        .runtime("web", &key_of(1, "second"))
        .active
        .store(1, Relaxed);
    bench.apply(&replace("third")).await;
    let all = bench.get().backend_sets.remove(0).backends;
    assert_eq!(
        (all.len(), all.iter().filter(|b| b.draining).count()),
        (4, 2)
    );
    assert_eq!(bench.state.engine().sets[&name("web")].backends.len(), 2);
    // The first one comes back while it drains: it is who it was.
    let back = Apply {
        backend_changes: vec![change("web", &[weighing(key(1), 10)], &[])],
        ..by("me")
    };
    bench.apply(&back).await;
    assert!(Arc::ptr_eq(&bench.runtime("web", &key(1)), &old));
    assert_eq!(bench.status("web", &key(1)).health(), v1::Health::Healthy);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_returns_while_it_drains_keeps_its_health() {
    let bench = healthy_web().await;
    let gone = Apply {
        backend_changes: vec![change("web", &[], &[key(1)])],
        ..by("me")
    };
    bench.apply(&gone).await;
    let back = Apply {
        backend_changes: vec![change("web", &[weighing(key(1), 20)], &[])],
        ..by("me")
    };
    bench.apply(&back).await;
    let member = bench.member("web", &key(1)).unwrap();
    assert_eq!((member.tier, member.weight), (Tier::Eligible, 20));
    // It is probed again, too.
    assert_eq!(bench.state.engine().probes.len(), 2);
}
