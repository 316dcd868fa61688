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
