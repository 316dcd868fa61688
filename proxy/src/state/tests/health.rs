//! What probes do: who is admitted when, what is published together, and when the proxy is ready.

use super::bench::{Bench, batch, by, change, checked, drain, key, key_of, probe, set, weighing};
use crate::lb::health::ProbeOutcome::{Failed, Passed};
use crate::lb::trie::Tier;
use crate::probe::finding::Finding;
use podline_api::{Apply, BackendKey, BackendSet, v1};
use std::time::Duration;
use tokio::time::sleep;
use v1::Health::{Detecting, Disabled, Healthy, Unhealthy};
use v1::watch_response::Event;

fn sets(sets: Vec<BackendSet>) -> Apply {
    Apply {
        backend_sets: sets,
        ..by("me")
    }
}

fn healths(bench: &Bench, set: &str, count: u32) -> Vec<v1::Health> {
    (1..=count)
        .map(|n| bench.status(set, &key(n)).health())
        .collect()
}

fn tiers(bench: &Bench, set: &str, count: u32) -> Vec<Tier> {
    (1..=count)
        .map(|n| bench.member(set, &key(n)).unwrap().tier)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn one_passed_probe_admits_the_first_and_thresholds_the_rest() {
    let bench = Bench::start();
    bench.apply(&sets(vec![checked("web", 1..=3)])).await;
    assert_eq!(healths(&bench, "web", 3), [Detecting; 3]);
    assert_eq!(tiers(&bench, "web", 3), [Tier::Detecting; 3]);
    // All are probed at once.
    assert_eq!(probe(&bench, |n| if n == 3 { Failed } else { Passed }), 3);
    batch().await;
    let healthy = healths(&bench, "web", 3)
        .iter()
        .filter(|h| **h == Healthy)
        .count();
    assert_eq!(healthy, 1);
    // The others have their verdicts after two more probes, a quarter of a second apart.
    for _ in 0..2 {
        sleep(Duration::from_millis(276)).await;
        probe(&bench, |n| if n == 3 { Failed } else { Passed });
    }
    batch().await;
    assert_eq!(healths(&bench, "web", 3), [Healthy, Healthy, Unhealthy]);
    assert_eq!(
        tiers(&bench, "web", 3),
        [Tier::Eligible, Tier::Eligible, Tier::Fallback]
    );
}

#[tokio::test(start_paused = true)]
async fn a_set_that_was_healthy_admits_newcomers_by_threshold_only() {
    let bench = Bench::start();
    bench.apply(&sets(vec![checked("web", 1..=1)])).await;
    probe(&bench, |_| Passed);
    batch().await;
    bench
        .apply(&Apply {
            backend_changes: vec![change("web", &[weighing(key(2), 10)], &[key(1)])],
            ..by("me")
        })
        .await;
    for expected in [Detecting, Detecting, Healthy] {
        assert_eq!(probe(&bench, |_| Passed), 1);
        assert_eq!(bench.status("web", &key(2)).health(), expected);
        sleep(Duration::from_millis(276)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_transaction_takes_waiting_health_changes_along() {
    let bench = Bench::start();
    bench.apply(&sets(vec![checked("web", 1..=1)])).await;
    let mut events = bench.events();
    probe(&bench, |_| Passed);
    let version = bench.apply(&sets(vec![set("other", 1..=1)])).await.version;
    batch().await;
    let said = drain(&mut events);
    assert!(matches!(&said[0], Event::Applied(applied) if applied.version == version));
    assert!(matches!(&said[1], Event::Health(changed) if changed.version == version));
    assert_eq!((said.len(), bench.get().version), (2, version));
}

#[tokio::test(start_paused = true)]
async fn an_outcome_for_who_is_gone_is_nothing() {
    let bench = Bench::start();
    bench.apply(&sets(vec![checked("web", 1..=1)])).await;
    let (due, _) = bench.state.due_probes(10);
    let replaced = Apply {
        backend_changes: vec![change("web", &[weighing(key_of(1, "new"), 10)], &[])],
        ..by("me")
    };
    bench.apply(&replaced).await;
    bench.state.on_probe(due[0].0, Passed, Finding::Connected);
    batch().await;
    let status = bench.status("web", &key_of(1, "new"));
    assert_eq!(
        (status.health(), status.last_probe.as_str()),
        (Detecting, "")
    );
}

#[tokio::test(start_paused = true)]
async fn the_first_probe_that_says_anything_is_told_and_belongs_to_one_identity() {
    let bench = Bench::start();
    let wanted = checked("web", 1..=1);
    bench.apply(&sets(vec![wanted.clone()])).await;
    let first = |key: BackendKey| bench.status("web", &key).first_probe;
    bench.state.due_probes(10).0.iter().for_each(|(id, _)| {
        bench.state.postpone_probe(*id, Finding::NoPermission);
    });
    assert_eq!(first(key(1)), None, "it says nothing of the backend");
    sleep(Duration::from_secs(2)).await;
    probe(&bench, |_| Failed);
    let probed = first(key(1));
    assert!(probed.is_some());
    sleep(Duration::from_secs(6)).await;
    probe(&bench, |_| Passed);
    // Gone and back while it drains: the same one.
    let gone = BackendSet {
        backends: Vec::new(),
        ..wanted.clone()
    };
    bench.hold_acknowledgements();
    for wanted in [gone, wanted] {
        let state = bench.state.clone();
        tokio::spawn(async move { state.apply(sets(vec![wanted])).await });
        batch().await;
    }
    assert_eq!(first(key(1)), probed);
    let replaced = Apply {
        backend_changes: vec![change("web", &[weighing(key_of(1, "new"), 10)], &[])],
        ..by("me")
    };
    let state = bench.state.clone();
    tokio::spawn(async move { state.apply(replaced).await });
    batch().await;
    assert_eq!(first(key_of(1, "new")), None);
}

#[tokio::test(start_paused = true)]
async fn weightless_backends_are_probed_too() {
    let bench = Bench::start();
    let mut wanted = checked("web", 1..=2);
    wanted.backends[1].weight = podline_api::Weight::try_from(0).unwrap();
    bench.apply(&sets(vec![wanted])).await;
    assert_eq!(tiers(&bench, "web", 2), [Tier::Detecting, Tier::Out]);
    for _ in 0..3 {
        assert_eq!(probe(&bench, |_| Passed), 2);
        sleep(Duration::from_millis(276)).await;
        if healths(&bench, "web", 2) == [Healthy; 2] {
            break;
        }
        sleep(Duration::from_secs(6)).await;
    }
    assert_eq!(healths(&bench, "web", 2), [Healthy; 2]);
    assert_eq!(tiers(&bench, "web", 2), [Tier::Eligible, Tier::Out]);
}

#[tokio::test(start_paused = true)]
async fn verdicts_outlive_changes_of_the_check_and_switching_it_on_takes_nobody_out() {
    let bench = Bench::start();
    bench.apply(&sets(vec![set("web", 1..=1)])).await;
    assert_eq!(healths(&bench, "web", 1), [Disabled]);
    assert_eq!(probe(&bench, |_| Passed), 0);
    bench.apply(&sets(vec![checked("web", 1..=1)])).await;
    assert_eq!(healths(&bench, "web", 1), [Healthy]);
    assert_eq!(tiers(&bench, "web", 1), [Tier::Eligible]);
    probe(&bench, |_| Passed);
    assert_eq!(healths(&bench, "web", 1), [Healthy]);
    let mut slower = checked("web", 1..=1);
    let check = slower.settings.health_check.as_mut().unwrap();
    check.interval = Duration::from_mins(1);
    check.unhealthy_threshold = 2;
    bench.apply(&sets(vec![slower])).await;
    assert_eq!(healths(&bench, "web", 1), [Healthy]);
    assert_eq!(tiers(&bench, "web", 1), [Tier::Eligible]);
    assert_eq!(probe(&bench, |_| Failed), 1);
    sleep(Duration::from_secs(67)).await;
    assert_eq!(probe(&bench, |_| Failed), 1);
    batch().await;
    assert_eq!(tiers(&bench, "web", 1), [Tier::Fallback]);
    bench.apply(&sets(vec![set("web", 1..=1)])).await;
    assert_eq!(tiers(&bench, "web", 1), [Tier::Eligible]);
    sleep(Duration::from_mins(3)).await;
    assert_eq!(probe(&bench, |_| Failed), 0);
}

#[tokio::test(start_paused = true)]
async fn ready_means_every_first_set_has_a_verdict_or_waited_long_enough() {
    let bench = Bench::start();
    bench.state.hold("the file was not read yet");
    assert_eq!(
        bench.state.ready().unwrap_err(),
        "the file was not read yet"
    );
    bench.state.hold("an owner has to send its state");
    let both = bench.get().not_ready_reason;
    assert!(
        both.contains("an owner") && both.contains("the file"),
        "{both}"
    );
    bench.state.release("an owner has to send its state");
    bench.state.release("the file was not read yet");
    bench.state.ready().unwrap();
    // Nobody to ask for so far.
    bench.apply(&sets(vec![checked("web", 1..=2)])).await;
    assert!(bench.state.ready().unwrap_err().contains("\"web\""));
    assert!(!bench.get().ready && bench.get().not_ready_reason.contains("\"web\""));
    // A bad verdict is one, too.
    for _ in 0..3 {
        probe(&bench, |_| Failed);
        sleep(Duration::from_millis(276)).await;
    }
    bench.state.ready().unwrap();
    // A set that joins concerns nobody else's traffic.
    bench.apply(&sets(vec![checked("new", 7..=7)])).await;
    bench.state.ready().unwrap();
    bench.state.hold("shutting down");
    bench.state.ready().unwrap_err();
}

/// Verdicts that came between two questions count, too.
#[tokio::test(start_paused = true)]
async fn a_proxy_was_ready_though_nobody_asked() {
    let bench = Bench::start();
    bench.apply(&sets(vec![checked("web", 1..=1)])).await;
    probe(&bench, |_| Passed);
    bench.apply(&sets(vec![checked("new", 7..=7)])).await;
    bench.state.ready().unwrap();
}

#[tokio::test(start_paused = true)]
async fn sets_with_nobody_to_ask_do_not_hold_a_proxy_back() {
    let bench = Bench::start();
    let mut idle = checked("idle", 1..=1);
    idle.backends[0].weight = podline_api::Weight::try_from(0).unwrap();
    bench
        .apply(&sets(vec![set("plain", 1..=2), checked("empty", []), idle]))
        .await;
    bench.state.ready().unwrap();
}

/// Probes that never end must not keep a proxy out for ever.
#[tokio::test(start_paused = true)]
async fn a_starting_proxy_waits_20_seconds_for_a_verdict() {
    let bench = Bench::start();
    bench.apply(&sets(vec![checked("mute", 8..=8)])).await;
    sleep(Duration::from_secs(19)).await;
    bench.state.ready().unwrap_err();
    sleep(Duration::from_secs(2)).await;
    bench.state.ready().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_could_not_be_sent_is_told_and_changes_nothing() {
    let bench = Bench::start();
    bench.apply(&sets(vec![checked("web", 1..=1)])).await;
    probe(&bench, |_| Passed);
    batch().await;
    sleep(Duration::from_secs(5)).await;
    for _ in 0..5 {
        let (due, _) = bench.state.due_probes(10);
        assert_eq!(due.len(), 1, "it is tried again soon");
        bench.state.postpone_probe(due[0].0, Finding::NoPermission);
        sleep(Duration::from_secs(1)).await;
    }
    let status = bench.status("web", &key(1));
    assert_eq!(status.health(), Healthy);
    assert_eq!(status.last_probe, Finding::NoPermission.to_string());
}
