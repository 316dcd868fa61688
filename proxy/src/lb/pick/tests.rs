//! Shares, rotation, load and the avoidance of what was tried, for both policies.

use super::*;
use crate::lb::SetId;
use podline_api::BackendKey;
use std::collections::HashMap;
use std::net::Ipv4Addr;

/// Late enough that no backend added at 0 is new.
const LATER: u64 = NEW_MS;

fn runtime(n: u32, added_ms: u64) -> Arc<BackendRuntime> {
    let address = (Ipv4Addr::from(0x0a00_0000 + n), 80).into();
    let key = BackendKey { id: None, address };
    Arc::new(BackendRuntime::new(key, SetId(0), added_ms))
}

fn eligible(n: u32, weight: u8) -> Member {
    Member {
        runtime: runtime(n, 0),
        weight,
        tier: Tier::Eligible,
    }
}

fn out(member: &Member) -> Member {
    Member {
        tier: Tier::Out,
        ..member.clone()
    }
}

/// A trie of eligible members with these weights.
fn trie(weights: &[u8]) -> (Trie, Vec<Member>) {
    let members: Vec<Member> = (0..)
        .zip(weights)
        .map(|(n, weight)| eligible(n, *weight))
        .collect();
    let mut trie = Trie::default();
    for (slot, member) in (0..).zip(&members) {
        trie.set(slot, Some(member.clone()));
    }
    (trie, members)
}

fn next(trie: &Trie, policy: Policy, cursor: &mut Cursor) -> Arc<BackendRuntime> {
    pick(trie, Tier::Eligible, policy, cursor, &[], LATER).unwrap()
}

fn index(members: &[Member], runtime: &Arc<BackendRuntime>) -> usize {
    members
        .iter()
        .position(|m| Arc::ptr_eq(&m.runtime, runtime))
        .unwrap()
}

/// Each share of `picks` must be within 5% of its weight's share, or within two picks where shares are that small.
fn check_shares(picks: &[u64], weights: &[u8], context: &str) {
    let total: u64 = picks.iter().sum();
    let weight: u64 = weights.iter().map(|w| u64::from(*w)).sum();
    for (n, (picks, w)) in picks.iter().zip(weights).enumerate() {
        let fair = total as f64 * f64::from(*w) / weight as f64;
        let off = (*picks as f64 - fair).abs();
        assert!(
            off < (fair * 0.05).max(2.0),
            "{context}: backend {n} got {picks}, fair {fair:.1}"
        );
    }
}

#[test]
fn equal_weights_take_strict_turns() {
    for size in [1u32, 2, 3, 7, 31, 32, 33, 100] {
        let (trie, members) = trie(&vec![10; size as usize]);
        let mut cursor = Cursor::seeded(size.into());
        let mut round = || -> Vec<usize> {
            (0..size)
                .map(|_| index(&members, &next(&trie, Policy::RoundRobin, &mut cursor)))
                .collect()
        };
        let first = round();
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..members.len()).collect::<Vec<_>>());
        assert_eq!(round(), first);
    }
}

#[test]
fn unequal_weights_get_their_shares_in_any_window() {
    for weights in [&[1, 2][..], &[10, 20, 30, 100], &[1, 100, 50, 50, 7]] {
        let (trie, members) = trie(weights);
        let mut cursor = Cursor::seeded(3);
        for window in 0..5 {
            let mut picks = vec![0; weights.len()];
            for _ in 0..20_000 {
                picks[index(&members, &next(&trie, Policy::RoundRobin, &mut cursor))] += 1;
            }
            check_shares(&picks, weights, &format!("{weights:?}, window {window}"));
        }
    }
}

/// One backend comes and goes between picks, in step with them: the others must not notice.
fn churn(weights: &[u8], per_publish: u64, coming: usize, policy: Policy) {
    let (mut trie, members) = trie(weights);
    let mut cursor = Cursor::seeded(per_publish);
    let slot = u32::try_from(coming).unwrap();
    let mut picks = vec![0; weights.len()];
    for publish in 0..(6_000 / per_publish).max(600) {
        let member = &members[coming];
        let member = if publish % 2 == 0 {
            out(member)
        } else {
            member.clone()
        };
        trie.set(slot, Some(member));
        for _ in 0..per_publish {
            picks[index(&members, &next(&trie, policy, &mut cursor))] += 1;
        }
    }
    let mut others = weights.to_vec();
    picks.remove(coming);
    others.remove(coming);
    let context =
        format!("{policy:?}, {weights:?}, {per_publish} per publish, {coming} comes and goes");
    check_shares(&picks, &others, &context);
}

#[test]
fn shares_stay_even_while_a_backend_comes_and_goes() {
    for size in [3usize, 4, 5, 10, 33] {
        for per_publish in [1, 2, 3, 5, 10, 32] {
            for coming in [0, size / 2, size - 1] {
                churn(&vec![10; size], per_publish, coming, Policy::RoundRobin);
            }
        }
    }
}

#[test]
fn an_idle_set_is_used_evenly_while_a_backend_comes_and_goes() {
    for size in [3usize, 5, 10] {
        for per_publish in [1, 2, 3, 5] {
            for coming in [0, size - 1] {
                churn(
                    &vec![10; size],
                    per_publish,
                    coming,
                    Policy::LeastConnections,
                );
            }
        }
    }
}

#[test]
fn unequal_shares_hold_while_a_backend_comes_and_goes() {
    for per_publish in [1, 2, 3, 5, 10] {
        churn(&[10, 20, 30, 100], per_publish, 1, Policy::RoundRobin);
        churn(
            &[50, 1, 100, 50, 25, 10],
            per_publish,
            2,
            Policy::RoundRobin,
        );
    }
}

/// Publishes at random moments, each adding, removing or re-weighting a backend beside four that stay.
#[test]
fn random_publishes_leave_shares_within_five_percent() {
    for seed in 0..20 {
        let mut random = SplitMix(seed);
        let (mut trie, members) = trie(&[10; 4]);
        let mut cursor = Cursor::seeded(seed);
        let mut picks = vec![0; 4];
        for _ in 0..20_000 {
            if random.next().is_multiple_of(3) {
                let slot = 4 + u32::try_from(random.next() % 60).unwrap();
                let there = random.next().is_multiple_of(2);
                trie.set(slot, there.then(|| eligible(slot, 10)));
            }
            let chosen = next(&trie, Policy::RoundRobin, &mut cursor);
            if let Some(n) = members
                .iter()
                .position(|m| Arc::ptr_eq(&m.runtime, &chosen))
            {
                picks[n] += 1;
            }
        }
        check_shares(&picks, &[10; 4], &format!("seed {seed}"));
    }
}

#[test]
fn workers_start_at_places_of_their_own() {
    let (trie, members) = trie(&[10; 10]);
    let mut firsts = [0; 10];
    for seed in 0..1_000 {
        let chosen = next(&trie, Policy::RoundRobin, &mut Cursor::seeded(seed));
        firsts[index(&members, &chosen)] += 1;
    }
    assert!(firsts.iter().all(|n| (50..200).contains(n)), "{firsts:?}");
}

#[test]
fn what_was_tried_is_avoided_while_anything_else_is_left() {
    for policy in [Policy::RoundRobin, Policy::LeastConnections] {
        for size in [1usize, 2, 5, 40, 100] {
            // One heavy backend among light ones, so that draws by weight keep hitting what was tried.
            let mut weights = vec![1; size];
            weights[0] = 100;
            let (trie, members) = trie(&weights);
            let mut cursor = Cursor::seeded(1);
            let mut tried = Vec::new();
            while let Some(chosen) = pick(&trie, Tier::Eligible, policy, &mut cursor, &tried, LATER)
            {
                assert!(!tried.iter().any(|t| Arc::ptr_eq(t, &chosen)));
                tried.push(chosen);
            }
            assert_eq!(tried.len(), members.len(), "{policy:?} of {size}");
        }
    }
}

#[test]
fn only_the_tier_asked_for_is_picked() {
    let mut random = SplitMix(11);
    let (mut trie, members) = trie(&[10; 200]);
    let mut tiers = HashMap::new();
    for (slot, member) in (0u32..).zip(&members) {
        let tier = [Tier::Eligible, Tier::Fallback, Tier::Detecting, Tier::Out]
            [usize::try_from(random.next() % 4).unwrap()];
        tiers.insert(Arc::as_ptr(&member.runtime), tier);
        trie.set(
            slot,
            Some(Member {
                tier,
                ..member.clone()
            }),
        );
    }
    for policy in [Policy::RoundRobin, Policy::LeastConnections] {
        for tier in [Tier::Eligible, Tier::Fallback, Tier::Detecting] {
            let mut cursor = Cursor::seeded(0);
            for _ in 0..500 {
                let chosen = pick(&trie, tier, policy, &mut cursor, &[], LATER).unwrap();
                assert_eq!(tiers[&Arc::as_ptr(&chosen)], tier);
            }
        }
    }
}

#[test]
fn up_to_64_the_least_loaded_for_its_weight_is_found() {
    let mut random = SplitMix(5);
    for round in 0..300u64 {
        let size = usize::try_from(1 + random.next() % 64).unwrap();
        let weights: Vec<u8> = (0..size)
            .map(|_| u8::try_from(1 + random.next() % 100).unwrap())
            .collect();
        let (trie, members) = trie(&weights);
        for member in &members {
            let active = u32::try_from(random.next() % 500).unwrap();
            member.runtime.active.store(active, Relaxed);
        }
        let load = |m: &Member| f64::from(m.runtime.active.load(Relaxed) + 1) / f64::from(m.weight);
        let least = members.iter().map(load).fold(f64::MAX, f64::min);
        let chosen = next(&trie, Policy::LeastConnections, &mut Cursor::seeded(round));
        let chosen = load(&members[index(&members, &chosen)]);
        assert!((chosen - least).abs() < 1e-5, "{chosen} against {least}");
    }
}

#[test]
fn beyond_64_connections_spread_over_all() {
    let (trie, members) = trie(&[10; 1_000]);
    let mut cursor = Cursor::seeded(9);
    let mut random = SplitMix(9);
    let mut open = Vec::new();
    for _ in 0..60_000 {
        let chosen = next(&trie, Policy::LeastConnections, &mut cursor);
        chosen.active.fetch_add(1, Relaxed);
        open.push(chosen);
        if open.len() > 20_000 {
            let n = usize::try_from(random.next() % open.len() as u64).unwrap();
            open.swap_remove(n).active.fetch_sub(1, Relaxed);
        }
    }
    let most = members.iter().map(|m| m.runtime.active.load(Relaxed)).max();
    assert!(most < Some(30), "the mean is 20, the most {most:?}");
}

/// Without the rule a backend that joins a busy set gets every connection until it has as many as the others.
#[test]
fn a_new_backend_gets_no_flood() {
    let (mut trie, members) = trie(&[10; 10]);
    for member in &members {
        member.runtime.active.store(100, Relaxed);
    }
    let joined = Member {
        runtime: runtime(77, 50_000),
        weight: 10,
        tier: Tier::Eligible,
    };
    trie.set(10, Some(joined.clone()));
    let mut cursor = Cursor::seeded(2);
    let mut picks = |now_ms| {
        (0..110)
            .filter(|_| {
                let policy = Policy::LeastConnections;
                let chosen = pick(&trie, Tier::Eligible, policy, &mut cursor, &[], now_ms);
                Arc::ptr_eq(&chosen.unwrap(), &joined.runtime)
            })
            .count()
    };
    // Active connections stay as they are here: each pick asks the same question again.
    joined.runtime.active.store(95, Relaxed);
    let while_new = picks(50_000 + NEW_MS - 1);
    assert!(while_new > 0);
    assert_eq!(picks(50_000 + NEW_MS), 110);
}
