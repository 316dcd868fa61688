//! Who may be picked at all: the tiers' order of precedence, and what was tried before.

use super::{LATER_MS, anyone, member, number, set, weighing};
use crate::lb::backend::BackendRuntime;
use crate::lb::pick::Cursor;
use crate::lb::set::{Pick, Set};
use crate::lb::trie::Tier;
use Tier::{Detecting, Eligible, Fallback, Out};
use podline_api::Policy::{self, LeastConnections, RoundRobin};
use std::collections::HashSet;
use std::sync::Arc;

/// What a pick came to.
#[derive(Debug, PartialEq)]
enum Outcome {
    Of(Tier),
    Wait,
    Empty,
}

fn outcome(set: &Set, pick: &Pick) -> Outcome {
    match pick {
        Pick::Backend(backend) => Outcome::Of(set.member(&backend.key).unwrap().tier),
        Pick::Wait => Outcome::Wait,
        Pick::Empty => Outcome::Empty,
    }
}

fn of(tiers: &[Tier], was_healthy: bool, policy: Policy) -> Set {
    let members: Vec<_> = (0..)
        .zip(tiers)
        .map(|(n, tier)| member(n, if *tier == Out { 0 } else { 10 }, *tier))
        .collect();
    let mut set = set(policy, &members);
    set.was_healthy = was_healthy;
    set
}

#[test]
fn tiers_come_in_their_order() {
    use Outcome::{Empty, Of, Wait};
    // Members; whether one was healthy once; a pick; the pick of who has waited; failing open.
    let cases: [(&[Tier], bool, Outcome, Outcome, bool); 14] = [
        (&[], false, Empty, Empty, false),
        (&[Out], true, Empty, Empty, false),
        (&[Eligible], false, Of(Eligible), Of(Eligible), false),
        (
            &[Eligible, Fallback, Detecting, Out],
            true,
            Of(Eligible),
            Of(Eligible),
            false,
        ),
        (
            &[Eligible, Detecting],
            false,
            Of(Eligible),
            Of(Eligible),
            false,
        ),
        (&[Detecting], false, Wait, Of(Detecting), false),
        (&[Detecting], true, Wait, Of(Detecting), false),
        (&[Detecting, Out], true, Wait, Of(Detecting), false),
        (&[Fallback], false, Of(Fallback), Of(Fallback), true),
        (&[Fallback], true, Of(Fallback), Of(Fallback), true),
        (&[Fallback, Out], true, Of(Fallback), Of(Fallback), true),
        // One that joins a set whose others all fail must not hold up what fails open already ...
        (
            &[Fallback, Detecting],
            true,
            Of(Fallback),
            Of(Fallback),
            true,
        ),
        // ... but at a cold start the first verdict decides.
        (&[Fallback, Detecting], false, Wait, Of(Detecting), false),
        (
            &[Fallback, Detecting, Out],
            false,
            Wait,
            Of(Detecting),
            false,
        ),
    ];
    for (tiers, was_healthy, picked, waited, fail_open) in cases {
        for policy in [RoundRobin, LeastConnections] {
            let set = of(tiers, was_healthy, policy);
            let mut cursor = Cursor::seeded(1);
            for _ in 0..10 {
                let pick = set.pick(&mut cursor, &anyone(&[], LATER_MS));
                assert_eq!(outcome(&set, &pick), picked, "{tiers:?} {was_healthy}");
                let pick = set.pick_detecting(&mut cursor, &anyone(&[], LATER_MS));
                assert_eq!(outcome(&set, &pick), waited, "{tiers:?} {was_healthy}");
            }
            assert_eq!(set.is_fail_open(), fail_open, "{tiers:?} {was_healthy}");
        }
    }
}

#[test]
fn failing_open_spreads_over_all_that_fail() {
    let set = of(&[Fallback, Fallback, Out, Fallback], true, RoundRobin);
    let mut cursor = Cursor::seeded(1);
    let picked: HashSet<usize> = (0..3)
        .map(|_| match set.pick(&mut cursor, &anyone(&[], LATER_MS)) {
            Pick::Backend(backend) => number(&backend),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(picked, HashSet::from([0, 1, 3]));
}

#[test]
fn what_was_tried_is_avoided_while_another_is_left() {
    let shapes = [
        vec![10; 2],
        vec![10; 5],
        vec![10; 64],
        vec![10; 200],
        vec![100, 1, 1],
        (1..=100).collect(),
    ];
    for (weights, policy) in shapes
        .iter()
        .flat_map(|weights| [(weights, RoundRobin), (weights, LeastConnections)])
    {
        let members = weighing(weights);
        let set = set(policy, &members);
        let mut cursor = Cursor::seeded(3);
        let mut tried: Vec<Arc<BackendRuntime>> = Vec::new();
        for _ in 0..members.len() {
            let Pick::Backend(backend) = set.pick(&mut cursor, &anyone(&tried, LATER_MS)) else {
                panic!("{} of {} were tried", tried.len(), members.len())
            };
            assert!(!tried.iter().any(|t| Arc::ptr_eq(t, &backend)));
            tried.push(backend);
        }
        let pick = set.pick(&mut cursor, &anyone(&tried, LATER_MS));
        assert!(matches!(pick, Pick::Empty), "{pick:?}");
    }
}

#[test]
fn a_second_try_is_spread_over_those_that_are_left() {
    // The heavy one is dead: both light ones get a part of what it cannot take.
    let members = weighing(&[100, 1, 1]);
    let set = set(RoundRobin, &members);
    let tried = [Arc::clone(&members[0].runtime)];
    let mut cursor = Cursor::seeded(3);
    let mut got = [0, 0, 0];
    for _ in 0..1_000 {
        if let Pick::Backend(backend) = set.pick(&mut cursor, &anyone(&tried, LATER_MS)) {
            got[number(&backend)] += 1;
        }
    }
    assert!(got[0] == 0 && got[1] > 400 && got[2] > 400, "{got:?}");
}

#[test]
fn a_new_identity_at_an_address_is_another_backend() {
    let members = weighing(&[10, 10]);
    let mut set = set(RoundRobin, &members);
    let old = Arc::clone(&members[0].runtime);
    assert!(set.remove(&old.key));
    assert!(!set.remove(&old.key));
    let new = member(0, 10, Eligible);
    set.put(new.clone());
    let tried = [old, Arc::clone(&members[1].runtime)];
    let pick = set.pick(&mut Cursor::seeded(1), &anyone(&tried, LATER_MS));
    assert!(matches!(pick, Pick::Backend(backend) if Arc::ptr_eq(&backend, &new.runtime)));
}

#[test]
fn a_change_leaves_the_version_before_it_alone() {
    let before = of(&[Eligible; 40], true, RoundRobin);
    let mut after = before.clone();
    let keys: Vec<_> = before.members().map(|m| m.runtime.key.clone()).collect();
    for key in &keys[..30] {
        after.remove(key);
    }
    (40..45).for_each(|n| after.put(member(n, 20, Fallback)));
    assert_eq!((before.len(), before.tally(Eligible).count), (40, 40));
    assert_eq!((after.len(), after.tally(Eligible).count), (15, 10));
    assert_eq!(after.tally(Fallback).weight, 100);
    assert_eq!(after.members().count(), 15);
    assert!(after.member(&keys[0]).is_none() && before.member(&keys[0]).is_some());
}
