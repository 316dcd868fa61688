//! Who is picked how often: shares, rotation, loads, and what membership changes do to them.

use super::{LATER_MS, anyone, joined, member, number, picked, picks, set, weighing};
use crate::lb::pick::{Cursor, SplitMix};
use crate::lb::set::{Pick, Set};
use crate::lb::trie::{Member, Tier};
use podline_api::Policy::{LeastConnections, RoundRobin};
use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;

/// How often each was picked, and how often it should have been by its weight among those that were there.
#[derive(Default)]
struct Shares {
    actual: Vec<f64>,
    due: Vec<f64>,
}

impl Shares {
    fn new(members: usize) -> Self {
        Self {
            actual: vec![0.0; members],
            due: vec![0.0; members],
        }
    }

    fn take(&mut self, set: &Set, cursor: &mut Cursor, picks: u64) {
        let line = f64::from(set.tally(Tier::Eligible).weight);
        for member in set.members() {
            let share = f64::from(member.weight) / line;
            self.due[number(&member.runtime)] += share * picks as f64;
        }
        for _ in 0..picks {
            self.actual[number(&picked(set, cursor))] += 1.0;
        }
    }

    fn assert_within(&self, tolerance: f64, members: std::ops::Range<usize>, case: &str) {
        for n in members {
            let ratio = self.actual[n] / self.due[n];
            assert!(
                (ratio - 1.0).abs() < tolerance,
                "{case}: member {n} got {} picks where {:.0} were due",
                self.actual[n],
                self.due[n]
            );
        }
    }
}

fn toggle(set: &mut Set, member: &Member) {
    if !set.remove(&member.runtime.key) {
        set.put(member.clone());
    }
}

#[test]
fn equal_weights_are_a_strict_rotation() {
    for count in [1, 2, 7, 33, 100] {
        let set = set(RoundRobin, &weighing(&vec![10; count]));
        let order = picks(&set, &mut Cursor::seeded(3), count * 5);
        for lap in order.windows(count) {
            assert_eq!(lap.iter().collect::<HashSet<_>>().len(), count);
        }
        assert_eq!(order[..count], order[count..2 * count]);
    }
}

#[test]
fn unequal_weights_get_their_shares_in_every_window() {
    let weights = [1, 10, 25, 50, 100];
    let set = set(RoundRobin, &weighing(&weights));
    let mut cursor = Cursor::seeded(11);
    for window in 0..50 {
        let mut shares = Shares::new(weights.len());
        shares.take(&set, &mut cursor, 5_000);
        shares.assert_within(0.05, 1..5, &format!("window {window}"));
        assert!((shares.actual[0] - shares.due[0]).abs() < 4.0);
    }
}

/// A publish every few picks, always of the same member, is the rhythm that a rotation could fall in with.
#[test]
fn a_member_that_comes_and_goes_in_rhythm_leaves_the_others_their_shares() {
    let unequal = [10, 12, 15, 20, 25, 50, 100, 10, 20, 30, 40, 50];
    for weights in [[10; 12], unequal] {
        for between in 1..=40 {
            let members = weighing(&weights);
            let mut set = set(RoundRobin, &members);
            let mut cursor = Cursor::seeded(between);
            let mut shares = Shares::new(members.len());
            for _ in 0..60_000 / between {
                shares.take(&set, &mut cursor, between);
                toggle(&mut set, &members[11]);
            }
            let case = format!("weights {weights:?}, a publish every {between} picks");
            shares.assert_within(0.05, 0..11, &case);
            if weights[0] == weights[1] {
                let most = shares.actual[..11].iter().fold(0.0, |a: f64, b| a.max(*b));
                assert!(shares.actual[..11].iter().all(|n| most - n <= 1.0));
            }
        }
    }
}

#[test]
fn shares_hold_while_random_members_come_and_go() {
    let mut random = SplitMix(5);
    for weights in [
        vec![10; 20],
        (0..20).map(|n| 20 + 4 * n).collect::<Vec<u8>>(),
    ] {
        let members = weighing(&weights);
        let mut set = set(RoundRobin, &members);
        let mut cursor = Cursor::seeded(1);
        let mut shares = Shares::new(members.len());
        for _ in 0..30_000 {
            shares.take(&set, &mut cursor, 1 + random.next() % 10);
            let member = &members[usize::try_from(random.next() % 20).unwrap()];
            if set.len() > 5 || set.member(&member.runtime.key).is_none() {
                toggle(&mut set, member);
            }
        }
        shares.assert_within(0.05, 0..20, &format!("weights {weights:?}"));
    }
}

#[test]
fn weights_may_change_while_the_rotation_goes_on() {
    let members = weighing(&[10; 8]);
    let mut set = set(RoundRobin, &members);
    let mut cursor = Cursor::seeded(9);
    let mut shares = Shares::new(8);
    for round in 0..20_000u32 {
        shares.take(&set, &mut cursor, 7);
        let weight = if round.is_multiple_of(2) { 30 } else { 10 };
        set.put(Member {
            weight,
            ..members[3].clone()
        });
    }
    shares.assert_within(0.05, 0..8, "weights that change");
}

#[test]
fn workers_do_not_walk_together() {
    for weights in [vec![10; 100], (1..=100).collect::<Vec<u8>>()] {
        let set = set(RoundRobin, &weighing(&weights));
        let mut workers: Vec<Cursor> = (1..=16).map(Cursor::seeded).collect();
        let starts: HashSet<usize> = workers
            .iter_mut()
            .map(|cursor| number(&picked(&set, cursor)))
            .collect();
        assert!(starts.len() >= 10, "16 workers start at {starts:?}");
        let [first, second, ..] = &mut workers[..] else {
            unreachable!("there are 16")
        };
        let together = (0..1_000)
            .filter(|_| number(&picked(&set, first)) == number(&picked(&set, second)))
            .count();
        assert!(together < 100, "{together} of 1000 picks are the same");
    }
}

#[test]
fn least_connections_takes_the_least_loaded_up_to_the_bound() {
    let mut random = SplitMix(21);
    for count in [1, 2, 10, 63, 64] {
        let weights: Vec<u8> = (0..count)
            .map(|_| u8::try_from(1 + random.next() % 100).unwrap())
            .collect();
        let members = weighing(&weights);
        let set = set(LeastConnections, &members);
        let mut cursor = Cursor::seeded(2);
        for _ in 0..300 {
            for member in &members {
                let active = u32::try_from(random.next() % 50).unwrap();
                member.runtime.active.store(active, Relaxed);
            }
            let load = |n: usize| {
                let active = f64::from(members[n].runtime.active.load(Relaxed));
                (active + 1.0) / f64::from(members[n].weight)
            };
            let least = (0..members.len()).map(load).fold(f64::MAX, f64::min);
            let chosen = load(number(&picked(&set, &mut cursor)));
            assert!((chosen - least).abs() < 1e-4, "{chosen} where {least} is");
        }
    }
}

#[test]
fn equals_take_turns_under_least_connections() {
    let members = weighing(&[10; 6]);
    let set = set(LeastConnections, &members);
    let mut cursor = Cursor::seeded(4);
    for lap in picks(&set, &mut cursor, 60).windows(6) {
        assert_eq!(lap.iter().collect::<HashSet<_>>().len(), 6);
    }
    members[0].runtime.active.store(9, Relaxed);
    members[3].runtime.active.store(9, Relaxed);
    for lap in picks(&set, &mut cursor, 40).windows(4) {
        let lap: HashSet<_> = lap.iter().copied().collect();
        assert_eq!(lap, HashSet::from([1, 2, 4, 5]));
    }
}

#[test]
fn held_connections_settle_by_weight() {
    let members = weighing(&[10, 20, 30, 40]);
    let set = set(LeastConnections, &members);
    let mut cursor = Cursor::seeded(1);
    for _ in 0..1_000 {
        picked(&set, &mut cursor).active.fetch_add(1, Relaxed);
    }
    for (member, due) in members.iter().zip([100, 200, 300, 400]) {
        assert!(member.runtime.active.load(Relaxed).abs_diff(due) <= 2);
    }
}

#[test]
fn beyond_the_bound_samples_shun_the_loaded() {
    let members = weighing(&[10; 1_000]);
    for member in members.iter().step_by(2) {
        member.runtime.active.store(100, Relaxed);
    }
    let set = set(LeastConnections, &members);
    let mut cursor = Cursor::seeded(6);
    let order = picks(&set, &mut cursor, 10_000);
    // All four samples are loaded once in sixteen times.
    let loaded = order.iter().filter(|n| n.is_multiple_of(2)).count();
    assert!(loaded < 1_200, "{loaded} of 10000 picks went to the loaded");
    let distinct = order.iter().collect::<HashSet<_>>().len();
    assert!(distinct > 500, "only {distinct} members were picked");
}

#[test]
fn sampled_connections_settle_by_weight() {
    let weights: Vec<u8> = (0..200).map(|n| if n % 2 == 0 { 10 } else { 20 }).collect();
    let members = weighing(&weights);
    let set = set(LeastConnections, &members);
    let mut cursor = Cursor::seeded(1);
    for _ in 0..30_000 {
        picked(&set, &mut cursor).active.fetch_add(1, Relaxed);
    }
    for member in &members {
        let ratio = f64::from(member.runtime.active.load(Relaxed)) / f64::from(member.weight);
        assert!(
            (ratio / 10.0 - 1.0).abs() < 0.05,
            "{ratio} for a weight of 1"
        );
    }
}

#[test]
fn a_new_backend_is_not_flooded() {
    const JOINED_MS: u64 = 500_000;
    for weight in [10, 100] {
        let mut members = weighing(&[10; 3]);
        for member in &members {
            member.runtime.active.store(10, Relaxed);
        }
        members.push(joined(3, weight, Tier::Eligible, JOINED_MS));
        let set = set(LeastConnections, &members);
        let mut cursor = Cursor::seeded(1);
        let mut got = 0;
        for _ in 0..40 {
            let Pick::Backend(backend) = set.pick(&mut cursor, &anyone(&[], JOINED_MS + 9_999))
            else {
                panic!("there are backends")
            };
            backend.active.fetch_add(1, Relaxed);
            got += u32::from(number(&backend) == 3);
        }
        assert!(
            (8..=12).contains(&got),
            "a quarter of the picks, not {got} of 40"
        );
        // Then it counts as what it is.
        members[3].runtime.active.store(0, Relaxed);
        let Pick::Backend(backend) = set.pick(&mut cursor, &anyone(&[], JOINED_MS + 10_000)) else {
            panic!("there are backends")
        };
        assert_eq!(number(&backend), 3);
    }
}

#[test]
fn a_set_of_new_backends_goes_by_what_they_have() {
    let members: Vec<Member> = (0..3)
        .map(|n| joined(n, 10, Tier::Eligible, LATER_MS))
        .collect();
    members[0].runtime.active.store(5, Relaxed);
    members[2].runtime.active.store(5, Relaxed);
    let set = set(LeastConnections, &members);
    assert_eq!(number(&picked(&set, &mut Cursor::seeded(0))), 1);
}

#[test]
fn no_tier_without_weight() {
    // A member of weight 0 stands outside all tiers, whatever the policy.
    for policy in [RoundRobin, LeastConnections] {
        let mut members = weighing(&[10, 20, 30]);
        members.extend((3..90).map(|n| member(n, 0, Tier::Out)));
        let set = set(policy, &members);
        let order = picks(&set, &mut Cursor::seeded(8), 1_000);
        assert!(order.iter().all(|n| *n < 3));
    }
}
