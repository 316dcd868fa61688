//! Which Pods are bound, and with what weight.

use super::*;
use crate::cluster::testing::{self, ip};

/// A Pod in a state, made at some time.
fn candidate(n: u8, created: i64, state: State) -> Candidate {
    Candidate {
        address: ip(&format!("10.0.0.{n}")),
        port: 80,
        pod: Some(testing::key(&format!("default/{n}"))),
        uid: Some(format!("uid-{n}").into()),
        created,
        node: None,
        state,
        weight: Weight::DEFAULT,
        gate: Some(Gate::Open),
    }
}

/// `n=weight`, and `n!` for those that are closed now. `healthy` and `closed` name Pods.
fn check(
    given: &[Candidate],
    quota: usize,
    healthy: &[u8],
    closed: &[u8],
    expected: &str,
) -> Bound {
    let is_in = |list: &[u8], key: &BackendKey| {
        list.iter()
            .any(|n| key.address.ip() == ip(&format!("10.0.0.{n}")))
    };
    let bound = |given: Vec<Candidate>| {
        bind(
            given,
            quota,
            Before::default(),
            |key| is_in(closed, key),
            |key| is_in(healthy, key),
        )
    };
    let found = bound(given.to_vec());
    let mut turned = given.to_vec();
    turned.reverse();
    assert_eq!(bound(turned), found, "the order given means nothing");
    let show = |backend: &Backend| {
        let address = backend.key.address.ip().to_string();
        let n = address.strip_prefix("10.0.0.").unwrap();
        let closed = if found.closed.contains(&backend.key) {
            "!"
        } else {
            ""
        };
        format!("{n}{closed}={}", backend.weight)
    };
    let shown: Vec<_> = found.backends.iter().map(show).collect();
    assert_eq!(shown.join(" "), expected, "{given:?}");
    found
}

#[test]
fn states_become_weights() {
    use State::{Active, Finished, Serving, Unready};
    let pods = |states: &[State]| -> Vec<Candidate> {
        let pods = (1..).zip(states);
        pods.map(|(n, state)| candidate(n, 1_000, *state)).collect()
    };
    let waits = |states: &[State], healthy: &[u8], closed: &[u8], expected: &str| {
        check(&pods(states), 200, healthy, closed, expected).waits_for_health
    };
    assert!(!waits(&[], &[], &[], ""));
    assert!(!waits(&[Active, Unready], &[], &[], "1=10 2=0"));
    // Terminating while another one takes traffic: closed at once.
    assert!(!waits(&[Active, Serving], &[1], &[], "1=10 2!=0"));
    assert!(!waits(&[Active, Finished], &[], &[], "1=10 2!=0"));
    // Others are there, but not healthy yet: it goes on, until they are.
    assert!(waits(&[Active, Serving], &[], &[], "1=10 2=10"));
    assert!(waits(&[Active, Serving], &[2], &[], "1=10 2=10"));
    // Everybody terminates: those that can still serve go on, and no verdict changes that.
    assert!(!waits(&[Serving, Serving], &[1, 2], &[], "1=10 2=10"));
    assert!(!waits(&[Serving, Finished], &[], &[], "1=10 2!=0"));
    assert!(!waits(&[Serving, Unready], &[2], &[], "1=10 2=0"));
    // Closed is closed, though nobody is left.
    assert!(!waits(&[Serving, Serving], &[], &[1], "1!=0 2=10"));
    assert!(!waits(&[Active, Serving], &[], &[2], "1=10 2!=0"));
    assert!(!waits(&[Serving], &[], &[1], "1!=0"));
    // Back from the dead (its slice was wrong): live is live.
    assert!(!waits(&[Active], &[], &[1], "1=10"));
}

#[test]
fn the_oldest_have_the_slots() {
    use State::{Active, Serving, Unready};
    let beyond = |given: &[Candidate], expected: &str| {
        check(given, 2, &[1, 2, 3, 4], &[], expected).is_beyond_quota
    };
    let [a, b, c] = [
        candidate(3, 1_000, Active),
        candidate(1, 2_000, Active),
        candidate(2, 3_000, Active),
    ];
    assert!(!beyond(&[a.clone(), b.clone()], "1=10 3=10"));
    assert!(beyond(&[a.clone(), b.clone(), c.clone()], "1=10 3=10"));
    // A newcomer of the same second: the uid decides, for good.
    assert!(beyond(
        &[a.clone(), candidate(5, 3_000, Active), c.clone()],
        "2=10 3=10"
    ));
    // Who is not ready holds no slot that somebody needs who is.
    let unready = Candidate {
        state: Unready,
        ..a.clone()
    };
    assert!(beyond(
        &[unready.clone(), b.clone(), c.clone()],
        "1=10 2=10"
    ));
    assert!(!beyond(&[unready, b.clone()], "1=10 3=0"));
    // Terminating Pods hold no slot: the next one has it at once.
    let ends = Candidate {
        state: Serving,
        ..a.clone()
    };
    assert!(!beyond(
        &[ends.clone(), b.clone(), c.clone()],
        "1=10 2=10 3!=0"
    ));
    let d = candidate(4, 4_000, Active);
    assert!(beyond(&[ends, b.clone(), c.clone(), d], "1=10 2=10 3!=0"));
    // One that never had a slot does not get one by terminating.
    let never = candidate(4, 4_000, Serving);
    assert!(!beyond(&[a, b, never], "1=10 3=10"));
}

/// Binds Pods to two slots: says who is bound, and `!n` for those who have none. `before` names who was bound and who had
/// none, `waiting` Pods whose gate waits.
fn slots(given: &[Candidate], before: Option<(&[u8], &[u8])>, waiting: &[u8]) -> String {
    let key_of = |n: &u8| key(&candidate(*n, 0, State::Active));
    let show = |key: &BackendKey| {
        let address = key.address.ip().to_string();
        address.strip_prefix("10.0.0.").unwrap().to_owned()
    };
    let mut given = given.to_vec();
    for candidate in &mut given {
        let is_it = |n: &u8| candidate.address == ip(&format!("10.0.0.{n}"));
        if waiting.iter().any(is_it) {
            candidate.gate = Some(Gate::Waiting);
        }
    }
    let backend = |n| Backend {
        key: key_of(n),
        weight: Weight::DEFAULT,
        node: None,
    };
    let was: Option<Vec<_>> = before.map(|(bound, _)| bound.iter().map(backend).collect());
    let left_out = before.map(|(_, left_out)| left_out.iter().map(key_of).collect());
    let bind = |backends: Option<&[Backend]>, left_out: Option<&LeftOut>| {
        let before = Before { backends, left_out };
        super::bind(given.clone(), 2, before, |_| false, |_| true)
    };
    let bound = bind(was.as_deref(), left_out.as_ref());
    let again = bind(Some(&bound.backends), Some(&bound.left_out));
    assert_eq!(again, bound, "what is remembered decides the same");
    let is_in = bound.backends.iter().map(|backend| show(&backend.key));
    let out = bound.left_out.iter().map(|key| format!("!{}", show(key)));
    is_in.chain(out).collect::<Vec<_>>().join(" ")
}

#[test]
fn who_is_bound_stays_so_and_a_gate_that_waits_comes_before_age() {
    use State::{Active, Unready};
    let [a, b, c, d] = [1, 2, 3, 4].map(|n| candidate(n, i64::from(n), Active));
    let all = [a.clone(), b, c.clone(), d.clone()];
    // Nobody is known to have been bound: the older.
    assert_eq!(slots(&all, None, &[4]), "1 2 !3 !4");
    // The younger ones were.
    assert_eq!(slots(&all, Some((&[3, 4], &[1, 2])), &[1]), "3 4 !1 !2");
    // There was room for more, and now there are too many at once: nobody is put out for a newcomer.
    assert_eq!(slots(&all, Some((&[4], &[])), &[]), "1 4 !2 !3");
    // One is free: for the one whose gate waits, then for the older.
    assert_eq!(slots(&all, Some((&[3], &[])), &[4]), "3 4 !1 !2");
    assert_eq!(slots(&all, Some((&[], &[])), &[3, 4]), "3 4 !1 !2");
    // Who is not ready gives its slot to one that is.
    let unready = Candidate {
        state: Unready,
        ..d
    };
    let given = [a, unready.clone(), c.clone()];
    assert_eq!(slots(&given, Some((&[3, 4], &[1])), &[]), "1 3 !4");
    let given = [unready, c];
    assert_eq!(slots(&given, Some((&[3, 4], &[])), &[]), "3 4");
}

#[test]
fn who_ends_takes_no_slot_and_gets_none() {
    use State::{Active, Serving};
    let [a, b, c, d] = [1, 2, 3, 4].map(|n| candidate(n, i64::from(n), Active));
    let ends = |candidate: &Candidate| Candidate {
        state: Serving,
        ..candidate.clone()
    };
    // It still has its connections.
    let given = [a.clone(), b, ends(&c), d];
    assert_eq!(slots(&given, Some((&[3, 4], &[1, 2])), &[2]), "2 3 4 !1");
    // It had none, and slots are free now.
    let given = [ends(&a), c.clone()];
    assert_eq!(slots(&given, Some((&[3], &[1])), &[]), "3 !1");
    // Nobody saw it before, and there is room: the Service may just have come to select it.
    assert_eq!(slots(&given, Some((&[3], &[])), &[]), "1 3");
    assert_eq!(slots(&given, Some((&[], &[])), &[]), "1 3");
    assert_eq!(slots(&given, None, &[]), "1 3");
}

#[test]
fn a_quota_of_nothing_binds_nobody() {
    let pods = [
        candidate(1, 1, State::Active),
        candidate(2, 2, State::Serving),
    ];
    assert!(check(&pods, 0, &[], &[], "").is_beyond_quota);
}

#[test]
fn what_is_no_id_is_left_out() {
    for (uid, expected) in [
        (None, None),
        (Some(""), None),
        (Some("é"), None),
        (Some("uid-1"), Some("uid-1")),
    ] {
        let candidate = Candidate {
            uid: uid.map(Into::into),
            ..candidate(1, 1, State::Active)
        };
        let bound = bind(vec![candidate], 1, Before::default(), |_| false, |_| false);
        let id = bound.backends[0].key.id.as_ref().map(BackendId::as_str);
        assert_eq!(id, expected);
    }
}
