//! Every reason, reached as it is reached in life.

use super::bench::{Bench, at, batch, by, change, checked, key, listener, probe, set, web};
use super::overrides::{DRAIN, request};
use crate::lb::health::ProbeOutcome::{self, Failed, Passed};
use podline_api::{
    Apply, BackendSet, Override, OverrideAction, PassiveCheck, Rejected, Weight, v1,
};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::time::sleep;
use v1::explanation::Reason;

/// What is said of backend `n`, and that `status` says the same.
fn explained(bench: &Bench, n: u32) -> (Reason, bool, String) {
    let request = v1::ExplainRequest {
        set: "web".to_owned(),
        backend: Some((&key(n)).into()),
    };
    let answer = bench.state.explain(&request).unwrap();
    assert_eq!(answer.backends.len(), 1);
    let found = &answer.backends[0];
    let status = bench.status("web", &key(n));
    assert_eq!(
        (status.reason(), status.gets_traffic),
        (found.reason(), found.gets_traffic)
    );
    assert!(found.since.is_some());
    (found.reason(), found.gets_traffic, found.message.clone())
}

fn check(bench: &Bench, n: u32, reason: Reason, gets_traffic: bool, words: &str) {
    let (found, gets, message) = explained(bench, n);
    assert_eq!((found, gets), (reason, gets_traffic), "{message}");
    assert!(
        message.contains(words),
        "{message:?} says nothing of {words:?}"
    );
}

fn with(set: BackendSet) -> Apply {
    Apply {
        backend_sets: vec![set],
        ..web()
    }
}

async fn judged(set: BackendSet, of: impl Fn(u32) -> ProbeOutcome) -> Bench {
    let bench = Bench::start();
    bench.apply(&with(set)).await;
    for _ in 0..4 {
        probe(&bench, &of);
        sleep(Duration::from_secs(6)).await;
    }
    batch().await;
    bench
}

#[tokio::test(start_paused = true)]
async fn who_gets_traffic_and_why() {
    let bench = Bench::start();
    bench.apply(&web()).await;
    check(&bench, 1, Reason::NotChecked, true, "no health check");
    let bench = judged(checked("web", 1..=3), |_| Passed).await;
    check(&bench, 1, Reason::ProbesPass, true, "connected");
    let weight = OverrideAction::Weight(Weight::try_from(1).unwrap());
    bench
        .state
        .override_backend(request(key(1), weight), "bob")
        .await
        .unwrap();
    check(
        &bench,
        1,
        Reason::WeightOverridden,
        true,
        "weight 1 instead of 10 by override of bob, until undone",
    );
    let bench = judged(checked("web", 1..=2), |_| Failed).await;
    check(&bench, 2, Reason::FailOpen, true, "so are all others");
    let mut keeping = checked("web", 1..=2);
    keeping.settings.max_ejection_percent = 0;
    let bench = judged(keeping, |n| if n == 1 { Failed } else { Passed }).await;
    check(&bench, 1, Reason::KeptIn, true, "maxEjectionPercent");
}

#[tokio::test(start_paused = true)]
async fn whom_probes_keep_out() {
    let bench = Bench::start();
    bench.apply(&with(checked("web", 1..=2))).await;
    check(&bench, 1, Reason::AwaitingFirstVerdict, false, "wait");
    probe(&bench, |n| if n == 1 { Passed } else { Failed });
    batch().await;
    check(&bench, 2, Reason::Detecting, false, "connected");
    let bench = judged(
        checked("web", 1..=2),
        |n| if n == 1 { Passed } else { Failed },
    )
    .await;
    check(&bench, 2, Reason::ProbesFail, false, "unhealthy: connected");
    let mut closed = checked("web", 1..=2);
    closed.settings.fail_closed = true;
    let bench = judged(closed, |_| Failed).await;
    check(&bench, 2, Reason::FailClosed, false, "fails closed");
    let mut passive = set("web", 1..=2);
    passive.settings.passive_check = Some(PassiveCheck {
        failures: 7,
        ejection_time: Duration::from_secs(10),
    });
    let bench = Bench::start();
    bench.apply(&with(passive)).await;
    bench.fake.failing.tell(bench.runtime("web", &key(1)));
    batch().await;
    check(
        &bench,
        1,
        Reason::Ejected,
        false,
        "7 connects in a row failed",
    );
}

#[tokio::test(start_paused = true)]
async fn whom_people_keep_out() {
    let bench = Bench::start();
    let mut light = set("web", 1..=3);
    light.backends[0].weight = Weight::try_from(0).unwrap();
    bench.apply(&with(light)).await;
    check(&bench, 1, Reason::WeightZero, false, "owner");
    let zero = OverrideAction::Weight(Weight::try_from(0).unwrap());
    bench
        .state
        .override_backend(request(key(2), zero), "bob")
        .await
        .unwrap();
    check(
        &bench,
        2,
        Reason::WeightZero,
        false,
        "weight 0 by override of bob",
    );
    let drain = Override {
        note: "noisy disk".to_owned(),
        lasts: Some(Duration::from_mins(1)),
        ..request(key(3), DRAIN)
    };
    bench.state.override_backend(drain, "alice").await.unwrap();
    let words = "drained by override of alice: noisy disk, until 20";
    check(&bench, 3, Reason::DrainedByOverride, false, words);
    bench.runtime("web", &key(1)).active.store(2, SeqCst);
    let removal = change("web", &[], &[key(1)]);
    bench
        .apply(&Apply {
            backend_changes: vec![removal],
            ..by("me")
        })
        .await;
    check(
        &bench,
        1,
        Reason::Removed,
        false,
        "2 connections may live until 20",
    );
}

#[tokio::test(start_paused = true)]
async fn sets_that_no_connection_reaches() {
    let bench = Bench::start();
    let alone = Apply {
        backend_sets: vec![set("web", 1..=1)],
        ..by("me")
    };
    bench.apply(&alone).await;
    check(&bench, 1, Reason::NoListener, false, "no listener");
    bench.fake.taken.lock().unwrap().insert(at(80));
    bench.apply(&web()).await;
    check(
        &bench,
        1,
        Reason::ListenerFailed,
        false,
        "in use by another process",
    );
    // Another listener that works is enough.
    let second = Apply {
        listeners: vec![listener("second", 81, "web")],
        ..by("me")
    };
    bench.apply(&second).await;
    check(&bench, 1, Reason::NotChecked, true, "");
    let gone = Apply {
        remove_listeners: vec!["second".parse().unwrap()],
        ..by("me")
    };
    bench.apply(&gone).await;
    check(&bench, 1, Reason::ListenerFailed, false, "in use");
    bench.fake.taken.lock().unwrap().clear();
    sleep(Duration::from_secs(2)).await;
    check(&bench, 1, Reason::NotChecked, true, "");
    bench.state.unbind_all();
    check(&bench, 1, Reason::ShuttingDown, false, "shutting down");
}

#[tokio::test(start_paused = true)]
async fn since_is_when_the_fact_began() {
    let bench = Bench::start();
    bench.apply(&web()).await;
    let answer = bench
        .state
        .override_backend(request(key(1), DRAIN), "alice")
        .await;
    let since = answer.unwrap().status.unwrap().since;
    bench.apply(&with(set("web", 1..=2))).await;
    let all = v1::ExplainRequest {
        set: "web".to_owned(),
        backend: None,
    };
    let answer = bench.state.explain(&all).unwrap();
    let drained = answer
        .backends
        .iter()
        .find(|b| b.reason() == Reason::DrainedByOverride);
    assert_eq!(drained.unwrap().since, since);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_not_explained() {
    let bench = Bench::start();
    bench.apply(&web()).await;
    let path = |set: &str, backend: Option<v1::Backend>| {
        let set = set.to_owned();
        match bench.state.explain(&v1::ExplainRequest { set, backend }) {
            Err(Rejected::NotFound { path, .. }) => path,
            Err(Rejected::Invalid(invalid)) => format!("invalid {}", invalid.violations[0].path),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(path("db", None), "set");
    assert_eq!(path("web", Some((&key(9)).into())), "backend");
    assert_eq!(path("a b", None), "invalid set");
    let nowhere = v1::Backend {
        address: "nowhere".to_owned(),
        ..Default::default()
    };
    assert_eq!(path("web", Some(nowhere)), "invalid backend.address");
}
