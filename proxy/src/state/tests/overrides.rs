//! What operators say about single backends, and how it ends.

use super::bench::{Bench, by, change, drain, key, key_of, name, set, web, weighing};
use crate::lb::trie::Tier;
use podline_api::{Apply, BackendKey, Override, OverrideAction, Rejected, Weight, v1};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::time::sleep;
use v1::drained::Stage;
use v1::explanation::Reason;
use v1::watch_response::Event;

pub(super) fn request(key: BackendKey, action: OverrideAction) -> Override {
    Override {
        set: name("web"),
        backend: key,
        action,
        lasts: None,
        note: String::new(),
    }
}

pub(super) const DRAIN: OverrideAction = OverrideAction::Drain { timeout: None };

fn weight(weight: u32) -> OverrideAction {
    OverrideAction::Weight(Weight::try_from(weight).unwrap())
}

async fn over(bench: &Bench, request: Override) -> v1::OverrideResponse {
    bench
        .state
        .override_backend(request, "alice")
        .await
        .unwrap()
}

fn standing(bench: &Bench, n: u32) -> (Tier, u8) {
    let member = bench.member("web", &key(n)).unwrap();
    (member.tier, member.weight)
}

#[tokio::test(start_paused = true)]
async fn an_override_survives_publishes_and_ends_on_time() {
    let bench = Bench::start();
    bench.apply(&web()).await;
    let lasting = Override {
        lasts: Some(Duration::from_mins(1)),
        note: "noisy disk".to_owned(),
        ..request(key(1), DRAIN)
    };
    let answer = over(&bench, lasting).await;
    assert!(answer.changed);
    let status = answer.status.unwrap();
    assert_eq!(
        (status.by.as_str(), status.note.as_str()),
        ("alice", "noisy disk")
    );
    assert!(status.present && status.until.is_some());
    over(&bench, request(key(2), weight(90))).await;
    let mut events = bench.events();
    for _ in 0..3 {
        let heavier = change("web", &[weighing(key(1), 50), weighing(key(2), 50)], &[]);
        let lighter = change("web", &[weighing(key(1), 10), weighing(key(2), 10)], &[]);
        for backend_changes in [vec![heavier], vec![lighter]] {
            bench
                .apply(&Apply {
                    backend_changes,
                    ..by("me")
                })
                .await;
            assert_eq!(standing(&bench, 1).0, Tier::Out);
            assert_eq!(standing(&bench, 2), (Tier::Eligible, 90));
        }
    }
    assert_eq!(bench.get().overrides.len(), 2);
    sleep(Duration::from_secs(59)).await;
    assert_eq!(standing(&bench, 1).0, Tier::Out);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(standing(&bench, 1), (Tier::Eligible, 10));
    assert_eq!(standing(&bench, 2), (Tier::Eligible, 90));
    let ended = drain(&mut events)
        .into_iter()
        .filter_map(|event| match event {
            Event::Override(change) if change.ended => change.status,
            _ => None,
        });
    let ended: Vec<_> = ended
        .map(|status| status.backend.unwrap().address)
        .collect();
    assert_eq!(ended, [key(1).address.to_string()]);
}

#[tokio::test(start_paused = true)]
async fn undrain_gives_the_owner_the_word_again() {
    let bench = Bench::start();
    bench.apply(&web()).await;
    let undrain = || request(key(1), OverrideAction::Undrain);
    assert!(!over(&bench, undrain()).await.changed);
    over(&bench, request(key(1), weight(0))).await;
    assert_eq!(standing(&bench, 1).0, Tier::Out);
    over(&bench, request(key(1), DRAIN)).await;
    assert_eq!(bench.get().overrides.len(), 1);
    let runtime = bench.runtime("web", &key(1));
    assert!(runtime.closed.load(SeqCst));
    let answer = over(&bench, undrain()).await;
    assert!(answer.changed && answer.status.is_none());
    assert_eq!(standing(&bench, 1), (Tier::Eligible, 10));
    assert!(!runtime.closed.load(SeqCst));
    assert!(bench.get().overrides.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_drain_stops_waits_and_forces() {
    let bench = Bench::start();
    bench.apply(&web()).await;
    let runtime = bench.runtime("web", &key(1));
    runtime.active.store(5, SeqCst);
    let mut events = bench.events();
    let timeout = Some(Duration::from_secs(3));
    over(&bench, request(key(1), OverrideAction::Drain { timeout })).await;
    let stages = |events: Vec<Event>| -> Vec<Stage> {
        let drained = events.into_iter().filter_map(|event| match event {
            Event::Drained(drained) => Some(drained.stage()),
            _ => None,
        });
        drained.collect()
    };
    assert_eq!(stages(drain(&mut events)), [Stage::Closed]);
    sleep(Duration::from_millis(2_900)).await;
    assert!(bench.fake.forced.lock().unwrap().is_empty());
    sleep(Duration::from_millis(200)).await;
    assert_eq!(*bench.fake.forced.lock().unwrap(), [key(1).to_string()]);
    runtime.active.store(0, SeqCst);
    sleep(Duration::from_millis(100)).await;
    assert_eq!(stages(drain(&mut events)), [Stage::Empty]);
    // It stays drained, and nothing is cut twice.
    sleep(Duration::from_mins(1)).await;
    assert_eq!(standing(&bench, 1).0, Tier::Out);
    assert_eq!(bench.fake.forced.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn undrained_in_time_nothing_is_cut() {
    let bench = Bench::start();
    bench.apply(&web()).await;
    bench.runtime("web", &key(1)).active.store(5, SeqCst);
    over(&bench, request(key(1), DRAIN)).await;
    sleep(Duration::from_secs(29)).await;
    over(&bench, request(key(1), OverrideAction::Undrain)).await;
    sleep(Duration::from_mins(1)).await;
    assert!(bench.fake.forced.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_goes_and_comes_back_is_still_drained() {
    let bench = Bench::start();
    bench.apply(&web()).await;
    over(&bench, request(key(1), DRAIN)).await;
    let removal = change("web", &[], &[key(1)]);
    let present = || bench.get().overrides[0].present;
    bench
        .apply(&Apply {
            backend_changes: vec![removal],
            ..by("me")
        })
        .await;
    assert!(!present());
    sleep(Duration::from_secs(1)).await;
    bench.apply(&web()).await;
    assert!(present());
    assert_eq!(standing(&bench, 1).0, Tier::Out);
    assert_eq!(
        bench.status("web", &key(1)).reason(),
        Reason::DrainedByOverride
    );
    // Another one at the same address is another backend.
    let other = Apply {
        backend_changes: vec![change("web", &[weighing(key_of(1, "new"), 10)], &[])],
        ..by("me")
    };
    bench.apply(&other).await;
    assert_eq!(
        bench.member("web", &key_of(1, "new")).unwrap().tier,
        Tier::Eligible
    );
    assert!(!present());
    // It can be undone though its backend is gone.
    assert!(
        over(&bench, request(key(1), OverrideAction::Undrain))
            .await
            .changed
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_told_by_its_field() {
    let bench = Bench::start();
    let refused = async |request: Override| match bench
        .state
        .override_backend(request, "alice")
        .await
        .unwrap_err()
    {
        Rejected::NotFound { path, .. } => path,
        other => panic!("{other}"),
    };
    assert_eq!(refused(request(key(1), DRAIN)).await, "set");
    bench.apply(&web()).await;
    assert_eq!(refused(request(key(9), DRAIN)).await, "backend");
    assert_eq!(refused(request(key_of(1, "other"), DRAIN)).await, "backend");
    assert!(bench.get().overrides.is_empty());
}

#[tokio::test(start_paused = true)]
async fn overrides_have_a_bound() {
    let bench = Bench::start();
    let many = Apply {
        backend_sets: vec![set("web", 1..=4_097)],
        ..by("me")
    };
    bench.apply(&many).await;
    for n in 1..=4_096 {
        over(&bench, request(key(n), weight(1))).await;
    }
    let one_more = request(key(4_097), weight(1));
    let refusal = bench.state.override_backend(one_more, "alice").await;
    assert!(matches!(refusal, Err(Rejected::Invalid(_))));
    over(&bench, request(key(1), weight(2))).await;
}
