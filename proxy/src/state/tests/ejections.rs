//! Who is out because probes or connects speak against it, and who stays in nevertheless.

use super::bench::{Bench, batch, by, change, checked, drain, key, listener, probe, set};
use crate::lb::health::ProbeOutcome::{Failed, Passed};
use crate::lb::trie::Tier;
use podline_api::{Apply, BackendSet, PassiveCheck, v1};
use std::time::Duration;
use tokio::time::sleep;
use v1::explanation::Reason;
use v1::watch_response::Event;

fn with(set: BackendSet) -> Apply {
    Apply {
        listeners: vec![listener("web", 80, "web")],
        backend_sets: vec![set],
        ..by("me")
    }
}

fn passive(mut set: BackendSet) -> BackendSet {
    set.settings.passive_check = Some(PassiveCheck {
        failures: 3,
        ejection_time: Duration::from_secs(10),
    });
    set
}

fn tiers(bench: &Bench, count: u32) -> Vec<Tier> {
    (1..=count)
        .map(|n| bench.member("web", &key(n)).unwrap().tier)
        .collect()
}

/// Probes for so long that every verdict is given.
async fn judge(bench: &Bench, bad: &[u32]) {
    for _ in 0..5 {
        probe(bench, |n| if bad.contains(&n) { Failed } else { Passed });
        sleep(Duration::from_secs(6)).await;
    }
    batch().await;
}

fn fail(bench: &Bench, n: u32) {
    bench.fake.failing.tell(bench.runtime("web", &key(n)));
}

#[tokio::test(start_paused = true)]
async fn no_more_are_out_than_the_share_allows_and_the_longest_unhealthy_go_first() {
    use Tier::{Eligible, Fallback};
    let bench = Bench::start();
    let mut half = checked("web", 1..=4);
    half.settings.max_ejection_percent = 50;
    bench.apply(&with(half.clone())).await;
    judge(&bench, &[]).await;
    judge(&bench, &[2]).await;
    judge(&bench, &[2, 1]).await;
    assert_eq!(tiers(&bench, 4), [Fallback, Fallback, Eligible, Eligible]);
    judge(&bench, &[1, 2, 4]).await;
    assert_eq!(tiers(&bench, 4), [Fallback, Fallback, Eligible, Eligible]);
    assert_eq!(bench.status("web", &key(4)).reason(), Reason::KeptIn);
    assert!(bench.status("web", &key(4)).gets_traffic);
    // One recovers: the next in line goes out.
    judge(&bench, &[1, 4]).await;
    assert_eq!(tiers(&bench, 4), [Fallback, Eligible, Eligible, Fallback]);
    // A smaller share lets the last one in again; a removal counts, too.
    half.settings.max_ejection_percent = 25;
    bench.apply(&with(half.clone())).await;
    assert_eq!(tiers(&bench, 4), [Fallback, Eligible, Eligible, Eligible]);
    half.settings.max_ejection_percent = 50;
    bench.apply(&with(half)).await;
    let removal = change("web", &[], &[key(2), key(3)]);
    bench
        .apply(&Apply {
            backend_changes: vec![removal],
            ..by("me")
        })
        .await;
    let member = |n| bench.member("web", &key(n)).unwrap().tier;
    assert_eq!([member(1), member(4)], [Fallback, Eligible]);
}

#[tokio::test(start_paused = true)]
async fn failed_connects_take_a_backend_out_for_a_time() {
    let bench = Bench::start();
    bench.apply(&with(passive(set("web", 1..=3)))).await;
    let mut events = bench.events();
    fail(&bench, 1);
    batch().await;
    assert_eq!(
        tiers(&bench, 3),
        [Tier::Fallback, Tier::Eligible, Tier::Eligible]
    );
    let status = bench.status("web", &key(1));
    assert_eq!(
        (status.reason(), status.gets_traffic),
        (Reason::Ejected, false)
    );
    sleep(Duration::from_secs(9)).await;
    assert_eq!(tiers(&bench, 3)[0], Tier::Fallback);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(tiers(&bench, 3), [Tier::Eligible; 3]);
    let seen = drain(&mut events)
        .into_iter()
        .filter_map(|event| match event {
            Event::Ejection(change) => Some((change.ejected, change.reason)),
            _ => None,
        });
    assert_eq!(
        seen.collect::<Vec<_>>(),
        [
            (true, "3 connects in a row failed".to_owned()),
            (false, "its time is over".to_owned()),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_passed_probe_lets_an_ejected_backend_in() {
    let bench = Bench::start();
    bench.apply(&with(passive(checked("web", 1..=2)))).await;
    judge(&bench, &[]).await;
    fail(&bench, 1);
    batch().await;
    assert_eq!(tiers(&bench, 2), [Tier::Fallback, Tier::Eligible]);
    // It is probed at once, not at the next interval.
    assert!(probe(&bench, |n| if n == 1 { Failed } else { Passed }) >= 1);
    sleep(Duration::from_mins(1)).await;
    assert_eq!(tiers(&bench, 2)[0], Tier::Fallback);
    probe(&bench, |_| Passed);
    batch().await;
    assert_eq!(tiers(&bench, 2), [Tier::Eligible; 2]);
}

#[tokio::test(start_paused = true)]
async fn without_the_check_nobody_is_ejected_and_switching_it_off_lets_all_in() {
    let bench = Bench::start();
    bench.apply(&with(set("web", 1..=2))).await;
    fail(&bench, 1);
    batch().await;
    assert_eq!(tiers(&bench, 2), [Tier::Eligible; 2]);
    bench.apply(&with(passive(set("web", 1..=2)))).await;
    fail(&bench, 1);
    batch().await;
    assert_eq!(tiers(&bench, 2)[0], Tier::Fallback);
    bench.apply(&with(set("web", 1..=2))).await;
    assert_eq!(tiers(&bench, 2), [Tier::Eligible; 2]);
}

/// Probes have spoken already, or not yet: connects have nothing to add.
#[tokio::test(start_paused = true)]
async fn a_backend_that_is_not_in_service_is_not_ejected() {
    let bench = Bench::start();
    bench.apply(&with(passive(checked("web", 1..=2)))).await;
    fail(&bench, 1);
    batch().await;
    assert_eq!(tiers(&bench, 2), [Tier::Detecting; 2]);
    judge(&bench, &[1]).await;
    fail(&bench, 1);
    batch().await;
    assert_eq!(bench.status("web", &key(1)).reason(), Reason::ProbesFail);
}

#[tokio::test(start_paused = true)]
async fn a_set_that_is_all_out_is_told_once_each_way() {
    let bench = Bench::start();
    bench.apply(&with(passive(set("web", 1..=2)))).await;
    let mut events = bench.events();
    for n in 1..=2 {
        fail(&bench, n);
        batch().await;
    }
    assert_eq!(bench.status("web", &key(1)).reason(), Reason::FailOpen);
    sleep(Duration::from_secs(11)).await;
    let seen = drain(&mut events)
        .into_iter()
        .filter_map(|event| match event {
            Event::FailOpen(change) => Some((change.set, change.fail_open)),
            _ => None,
        });
    let expected = [("web".to_owned(), true), ("web".to_owned(), false)];
    assert_eq!(seen.collect::<Vec<_>>(), expected);
}
