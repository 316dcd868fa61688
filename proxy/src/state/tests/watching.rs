//! What a watcher gets: hello, the state, then everything after that state, once and in order.

use super::bench::{Bench, by, change, drain, key, set, web, weighing};
use podline_api::{Apply, v1};
use std::collections::HashMap;
use v1::watch_response::Event;

#[tokio::test(start_paused = true)]
async fn hello_then_the_state_then_what_happens() {
    let bench = Bench::start();
    let version = bench.apply(&web()).await.version;
    let (hello, state, mut events) = bench.state.watch();
    let Some(Event::Hello(hello)) = hello.event else {
        panic!("{hello:?}")
    };
    assert_eq!((hello.version, hello.level), (version, 5));
    assert!(hello.features.contains(&"override".to_owned()));
    let Some(Event::State(state)) = state.event else {
        panic!("{state:?}")
    };
    assert_eq!(
        (
            state.version,
            state.listeners.len(),
            state.backend_sets[0].total
        ),
        (version, 1, 3)
    );
    bench
        .apply(&Apply {
            backend_sets: vec![set("web", 1..=2)],
            ..by("me")
        })
        .await;
    let said = drain(&mut events);
    let Event::Applied(applied) = &said[0] else {
        panic!("{said:?}")
    };
    assert_eq!(
        (applied.version, applied.owner.as_str()),
        (version + 1, "me")
    );
    assert_eq!(applied.changes[0].backends_removed, 1);
    assert!(matches!(said[1..], [Event::Drained(_), Event::Drained(_)]));
    // What changes nothing, or only asks, is no event.
    bench
        .apply(&Apply {
            backend_sets: vec![set("web", 1..=2)],
            ..by("me")
        })
        .await;
    bench
        .apply(&Apply {
            validate_only: true,
            ..web()
        })
        .await;
    assert!(drain(&mut events).is_empty());
}

/// Watchers that start in the middle of changes made from several threads follow them without gap or repetition.
#[test]
fn no_change_is_missed_or_seen_twice() {
    const ROUNDS: u32 = 150;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let _guard = runtime.enter();
    let bench = Bench::still();
    let start = Apply {
        backend_sets: (0..3).map(|n| set(&format!("s{n}"), [])).collect(),
        ..by("me")
    };
    runtime.block_on(bench.apply(&start));
    let state = &bench.state;
    std::thread::scope(|scope| {
        for writer in 0..3 {
            scope.spawn(move || {
                for n in 0..ROUNDS {
                    let upsert = change(&format!("s{writer}"), &[weighing(key(n), 10)], &[]);
                    let apply = Apply {
                        backend_changes: vec![upsert],
                        ..by("me")
                    };
                    // The clock of the fake and of `apply` is tokio's, which needs no runtime to be read.
                    state.take(&apply, &[]).unwrap();
                }
            });
        }
        for _ in 0..20 {
            follow(state.watch(), 3 * u64::from(ROUNDS) + 1);
        }
    });
}

fn follow((_, start, mut events): super::super::Watch, last: u64) {
    let Some(Event::State(start)) = start.event else {
        panic!("{start:?}")
    };
    let mut version = start.version;
    let mut totals: HashMap<String, u32> = start
        .backend_sets
        .iter()
        .map(|s| (format!("set/{}", s.set.as_ref().unwrap().name), s.total))
        .collect();
    while version < last {
        let response = events.blocking_recv().unwrap();
        let Some(Event::Applied(applied)) = &response.event else {
            panic!("{response:?}")
        };
        assert_eq!(applied.version, version + 1);
        version = applied.version;
        for change in &applied.changes {
            *totals.get_mut(&change.what).unwrap() += change.backends_added;
        }
    }
    assert_eq!(
        totals.values().sum::<u32>(),
        u32::try_from(last).unwrap() - 1
    );
}

#[tokio::test(start_paused = true)]
async fn one_can_ask_for_less() {
    let bench = Bench::start();
    bench.apply(&web()).await;
    bench
        .apply(&Apply {
            backend_sets: vec![set("other", 1..=9)],
            ..by("them")
        })
        .await;
    let some = v1::GetRequest {
        backend_sets: vec!["other".to_owned(), "nowhere".to_owned()],
        summary: true,
        ..v1::GetRequest::default()
    };
    let answer = bench.state.get(&some);
    assert!(answer.listeners.is_empty());
    let [other] = &answer.backend_sets[..] else {
        panic!("{answer:?}")
    };
    assert_eq!(
        (
            other.owner.as_str(),
            other.total,
            other.eligible,
            other.backends.len()
        ),
        ("them", 9, 9, 0)
    );
}
