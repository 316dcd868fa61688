//! What is refused and with which path; what a dry run foretells and how an answer counts.

use super::bench::{Bench, by, change, key, key_of, listener, name, set, web, weighing};
use podline_api::{Apply, Rejected, v1};
use v1::change::Action::{Added, Changed, Removed};

fn paths(rejected: &Rejected) -> Vec<String> {
    match rejected {
        Rejected::Invalid(invalid) => invalid.violations.iter().map(|v| v.path.clone()).collect(),
        Rejected::Conflict { path, .. } => vec![path.clone()],
        _ => Vec::new(),
    }
}

/// A state with what is mine and what is theirs.
async fn shared() -> Bench {
    let bench = Bench::start();
    bench.apply(&web()).await;
    let theirs = Apply {
        listeners: vec![listener("theirs", 90, "theirs")],
        backend_sets: vec![set("theirs", 1..=2)],
        ..by("them")
    };
    bench.apply(&theirs).await;
    bench
}

/// Each is refused with its path and leaves no trace, whether it was only to be checked or not.
async fn all_refused(refused: Vec<(&str, Apply)>, reason: fn(&Rejected) -> bool) {
    let bench = shared().await;
    let before = bench.seen();
    for (path, apply) in refused {
        for validate_only in [true, false] {
            let apply = Apply {
                validate_only,
                ..apply.clone()
            };
            let rejected = bench.refused(apply).await;
            assert!(reason(&rejected), "{rejected:?}");
            assert_eq!(paths(&rejected), [path]);
        }
    }
    assert_eq!(bench.seen(), before);
}

#[tokio::test(start_paused = true)]
async fn what_another_owner_has_is_not_taken() {
    let conflicts = vec![
        (
            "listeners[1].name",
            Apply {
                listeners: vec![listener("web", 80, "web"), listener("theirs", 91, "web")],
                ..by("me")
            },
        ),
        (
            "listeners[0].address",
            Apply {
                listeners: vec![listener("mine", 90, "web")],
                ..by("me")
            },
        ),
        (
            "listeners[0].address",
            Apply {
                listeners: vec![listener("other", 80, "web")],
                ..by("me")
            },
        ),
        (
            "backendSets[0].name",
            Apply {
                backend_sets: vec![set("theirs", 1..=2)],
                ..by("me")
            },
        ),
        (
            "removeListeners[0]",
            Apply {
                remove_listeners: vec![name("theirs")],
                ..by("me")
            },
        ),
        (
            "removeBackendSets[0]",
            Apply {
                remove_backend_sets: vec![name("theirs")],
                ..by("me")
            },
        ),
        (
            "backendChanges[0].set",
            Apply {
                backend_changes: vec![change("theirs", &[weighing(key(9), 1)], &[])],
                ..by("me")
            },
        ),
    ];
    all_refused(conflicts, |r| matches!(r, Rejected::Conflict { .. })).await;
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_names_its_field() {
    let invalid = vec![
        (
            "listeners[0].backendSet",
            Apply {
                listeners: vec![listener("web", 80, "nowhere")],
                ..by("me")
            },
        ),
        (
            "removeBackendSets[0]",
            Apply {
                remove_backend_sets: vec![name("web")],
                ..by("me")
            },
        ),
        (
            "removeBackendSets[0]",
            Apply {
                remove_backend_sets: vec![name("nowhere")],
                ..by("me")
            },
        ),
        (
            "removeListeners[0]",
            Apply {
                remove_listeners: vec![name("nowhere")],
                ..by("me")
            },
        ),
        (
            "backendChanges[0].set",
            Apply {
                backend_changes: vec![change("nowhere", &[], &[])],
                ..by("me")
            },
        ),
        (
            "backendChanges[0].remove[1]",
            Apply {
                backend_changes: vec![change("web", &[], &[key(1), key(77)])],
                ..by("me")
            },
        ),
        (
            "backendChanges[0].remove[0]",
            Apply {
                backend_changes: vec![change("web", &[], &[key_of(1, "another")])],
                ..by("me")
            },
        ),
        // The owner's full state has a listener, but not the set that it needs.
        (
            "listeners[0].backendSet",
            Apply {
                listeners: vec![listener("web", 80, "web")],
                replace_owned: true,
                ..by("me")
            },
        ),
    ];
    all_refused(invalid, |r| matches!(r, Rejected::Invalid(_))).await;
}

/// Transactions in a row, of all kinds.
fn history() -> Vec<Apply> {
    let id = |n, id: &str| weighing(key_of(n, id), 10);
    let mut policy = set("web", 1..=3);
    policy.settings.connect_retries = 7;
    let mut timeouts = listener("web", 80, "web");
    timeouts.idle_timeout *= 2;
    vec![
        web(),
        Apply {
            backend_sets: vec![policy],
            ..by("me")
        },
        Apply {
            backend_sets: vec![set("web", 2..=6), set("b", 1..=9), set("c", [])],
            ..by("me")
        },
        Apply {
            listeners: vec![timeouts, listener("b", 81, "b"), listener("c", 82, "c")],
            ..by("me")
        },
        Apply {
            listeners: vec![listener("web", 85, "c")],
            ..by("me")
        },
        Apply {
            backend_changes: vec![
                change(
                    "b",
                    &[weighing(key(1), 20), weighing(key(11), 0)],
                    &[key(2), key(3)],
                ),
                change("c", &[id(1, "x")], &[]),
            ],
            ..by("me")
        },
        // Another identity in the same place: sent plainly, and with the old one named, and by address alone.
        Apply {
            backend_changes: vec![change("c", &[id(1, "y")], &[])],
            ..by("me")
        },
        Apply {
            backend_changes: vec![change("c", &[id(1, "z")], &[key_of(1, "y")])],
            ..by("me")
        },
        Apply {
            backend_changes: vec![change("c", &[id(1, "z")], &[key(1)])],
            ..by("me")
        },
        Apply {
            backend_changes: vec![change("c", &[id(1, "w"), id(2, "w")], &[key(1)])],
            ..by("me")
        },
        Apply {
            remove_listeners: vec![name("c"), name("b")],
            remove_backend_sets: vec![name("b")],
            ..by("me")
        },
        Apply {
            backend_sets: vec![set("d", 1..=2), set("e", 1..=2)],
            listeners: vec![listener("d", 86, "d"), listener("e", 87, "e")],
            ..by("me")
        },
        Apply {
            replace_owned: true,
            backend_sets: vec![set("d", 1..=4)],
            ..by("me")
        },
        Apply {
            replace_owned: true,
            ..by("me")
        },
    ]
}

#[tokio::test(start_paused = true)]
async fn what_validation_foretells_happens() {
    let bench = Bench::start();
    for (step, apply) in history().into_iter().enumerate() {
        let before = bench.seen();
        let foretold = bench
            .apply(&Apply {
                validate_only: true,
                ..apply.clone()
            })
            .await;
        assert_eq!(foretold.version, before.0.version);
        assert_eq!(bench.seen(), before, "step {step}");
        let done = bench.apply(&apply).await;
        assert_eq!(done.changes, foretold.changes, "step {step}");
        let published = !done.changes.is_empty();
        assert_eq!(
            done.version,
            before.0.version + u64::from(published),
            "step {step}"
        );
    }
    assert!(bench.get().listeners.is_empty() && bench.get().backend_sets.is_empty());
}

#[tokio::test(start_paused = true)]
async fn changes_are_counted() {
    let bench = Bench::start();
    let mut answers = Vec::new();
    for apply in history() {
        let lines = bench.apply(&apply).await.changes.into_iter().map(|c| {
            let counts = (c.backends_added, c.backends_changed, c.backends_removed);
            (c.what.clone(), c.action(), counts)
        });
        answers.push(lines.collect::<Vec<_>>());
    }
    let line = |what: &str, action, counts| (what.to_owned(), action, counts);
    assert_eq!(
        answers[0],
        [
            line("set/web", Added, (3, 0, 0)),
            line("listener/web", Added, (0, 0, 0))
        ]
    );
    assert_eq!(answers[1], [line("set/web", Changed, (0, 0, 0))]);
    assert_eq!(answers[2][0], line("set/web", Changed, (3, 0, 1)));
    assert_eq!(answers[4], [line("listener/web", Changed, (0, 0, 0))]);
    assert_eq!(
        answers[5],
        [
            line("set/b", Changed, (1, 1, 2)),
            line("set/c", Changed, (1, 0, 0))
        ]
    );
    for replaced in &answers[6..8] {
        assert_eq!(*replaced, [line("set/c", Changed, (1, 0, 1))]);
    }
    // Who is sent stays, even if the address is also said to be emptied.
    assert_eq!(answers[8], []);
    assert_eq!(answers[9], [line("set/c", Changed, (2, 0, 1))]);
    assert_eq!(
        answers[10],
        [
            line("listener/b", Removed, (0, 0, 0)),
            line("listener/c", Removed, (0, 0, 0)),
            line("set/b", Removed, (0, 0, 8))
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn replacing_all_of_an_owner_leaves_the_others_alone() {
    let bench = Bench::start();
    bench.apply(&web()).await;
    let theirs = Apply {
        listeners: vec![listener("theirs", 90, "theirs")],
        backend_sets: vec![set("theirs", 1..=2)],
        ..by("them")
    };
    bench.apply(&theirs).await;
    // What a change of single backends names stays too.
    bench
        .apply(&Apply {
            backend_sets: vec![set("kept", 1..=2)],
            ..by("me")
        })
        .await;
    bench
        .apply(&Apply {
            replace_owned: true,
            listeners: vec![listener("new", 91, "kept")],
            backend_changes: vec![change("kept", &[weighing(key(3), 10)], &[])],
            ..by("me")
        })
        .await;
    let now = bench.get();
    let listeners: Vec<_> = now
        .listeners
        .iter()
        .map(|l| l.listener.as_ref().unwrap().name.as_str())
        .collect();
    assert_eq!(listeners, ["new", "theirs"]);
    let sets: Vec<_> = now
        .backend_sets
        .iter()
        .map(|s| (s.set.as_ref().unwrap().name.as_str(), s.total))
        .collect();
    assert_eq!(sets, [("kept", 3), ("theirs", 2)]);
}
