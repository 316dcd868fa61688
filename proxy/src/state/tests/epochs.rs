//! Leaders that were deposed change nothing.

use super::bench::{Bench, by, set, web};
use podline_api::{Apply, Rejected};

fn at(epoch: Option<u64>) -> Apply {
    Apply { epoch, ..web() }
}

#[tokio::test(start_paused = true)]
async fn a_lower_epoch_or_none_is_refused_and_changes_nothing() {
    let bench = Bench::start();
    bench.apply(&at(None)).await;
    bench.apply(&at(Some(3))).await;
    for epoch in [None, Some(0), Some(2)] {
        let before = bench.seen();
        let stale = Apply {
            backend_sets: vec![set("web", 1..=1)],
            ..at(epoch)
        };
        let Rejected::StaleEpoch {
            owner,
            epoch: sent,
            current,
        } = bench.refused(stale).await
        else {
            panic!("another refusal");
        };
        assert_eq!((owner.as_str(), sent, current), ("me", epoch, 3));
        assert_eq!(bench.seen(), before);
    }
    bench.apply(&at(Some(3))).await;
    bench.apply(&at(Some(4))).await;
    assert!(matches!(
        bench.refused(at(Some(3))).await,
        Rejected::StaleEpoch { current: 4, .. }
    ));
    bench.apply(&by("another")).await;
}

/// What a controller asks that sent a change to workers which did not act on it in time.
#[tokio::test(start_paused = true)]
async fn a_request_without_changes_tells_who_does_not_act_on_earlier_ones() {
    let bench = Bench::start();
    let nothing = Apply {
        epoch: Some(1),
        ..by("me")
    };
    let answer = bench.apply(&nothing).await;
    assert_eq!((answer.version, answer.silent_workers), (0, vec![]));
    bench.hold_acknowledgements();
    let late = bench.apply(&at(Some(1))).await;
    assert_eq!(late.silent_workers, [1]);
    assert_eq!(bench.apply(&nothing).await.silent_workers, [1]);
    bench.acknowledge(late.version);
    let answer = bench.apply(&nothing).await;
    assert_eq!(
        (answer.version, answer.silent_workers),
        (late.version, vec![])
    );
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_raises_no_epoch_and_one_that_changes_nothing_does() {
    let bench = Bench::start();
    let dry = Apply {
        validate_only: true,
        ..at(Some(9))
    };
    bench.apply(&dry).await;
    bench.apply(&at(Some(1))).await;
    let empty = Apply {
        epoch: Some(5),
        ..by("me")
    };
    bench.apply(&empty).await;
    let owners = bench.get().owners;
    assert_eq!(owners.len(), 1);
    let me = &owners[0];
    assert_eq!((me.owner.as_str(), me.epoch), ("me", Some(5)));
    assert_eq!((me.listeners, me.backend_sets), (1, 1));
    assert!(me.applied.is_some());
}
