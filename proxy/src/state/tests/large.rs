//! A change of one backend costs what is named, whatever the set's size.

use super::{Bench, by, change, key, set, web, weighing};
use podline_api::Apply;
use std::time::{Duration, Instant};

#[tokio::test(start_paused = true)]
async fn one_backend_of_100_000_changes_at_once() {
    const SIZE: u32 = 100_000;
    let bench = Bench::still();
    bench
        .apply(&Apply {
            backend_sets: vec![set("web", 0..SIZE)],
            ..web()
        })
        .await;
    let mut times: Vec<Duration> = Vec::new();
    for n in 0..50 {
        let upsert = [weighing(key(SIZE + n), 10), weighing(key(n), 20)];
        let apply = Apply {
            backend_changes: vec![change("web", &upsert, &[key(1_000 + n)])],
            ..by("me")
        };
        let started = Instant::now();
        bench.apply(&apply).await;
        times.push(started.elapsed());
    }
    assert_eq!(bench.get().backend_sets[0].total, SIZE);
    // Without optimisation this takes a fraction of a millisecond; a walk over all of them takes many.
    times.sort();
    assert!(times[25] < Duration::from_millis(5), "{:?} each", times[25]);
}
