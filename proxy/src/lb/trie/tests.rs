//! The trie against a plain vector, over random changes.

use super::*;
use crate::lb::SetId;
use podline_api::BackendKey;

fn member(n: u32, weight: u8, tier: Tier) -> Member {
    let address = std::net::SocketAddr::from((std::net::Ipv4Addr::from(0x0a00_0000 + n), 80));
    let runtime = Arc::new(BackendRuntime::new(
        BackendKey { id: None, address },
        SetId(0),
        0,
    ));
    Member {
        runtime,
        weight,
        tier,
    }
}

fn tier(n: u64) -> Tier {
    [Tier::Eligible, Tier::Fallback, Tier::Detecting, Tier::Out][usize::try_from(n % 4).unwrap()]
}

type Known = (u32, *const BackendRuntime);

fn known((slot, member): Found<'_>) -> Known {
    (slot, Arc::as_ptr(&member.runtime))
}

/// Every answer of the trie against a plain vector's.
fn check_invariants(trie: &Trie, shadow: &[Option<Member>]) {
    for tier in [Tier::Eligible, Tier::Fallback, Tier::Detecting] {
        let members: Vec<Found<'_>> = (0..)
            .zip(shadow)
            .filter_map(|(slot, m)| Some((slot, m.as_ref().filter(|m| m.tier == tier)?)))
            .collect();
        let weight = |found: &Found<'_>| u32::from(found.1.weight);
        let tally = trie.tally(tier);
        assert_eq!(tally.count as usize, members.len());
        assert_eq!(tally.weight, members.iter().map(weight).sum::<u32>());
        let even = members.windows(2).all(|w| weight(&w[0]) == weight(&w[1]));
        assert_eq!(tally.is_even(), even);
        let mut visited = Vec::new();
        trie.for_each(tier, |found| visited.push(known(found)));
        let all: Vec<Known> = members.iter().copied().map(known).collect();
        assert_eq!(visited, all);
        check_places(trie, tier, &members);
        check_slots(trie, tier, &all, u32::try_from(shadow.len()).unwrap());
    }
}

fn check_places(trie: &Trie, tier: Tier, members: &[Found<'_>]) {
    let mut line = 0;
    for (rank, found) in (0u32..).zip(members) {
        assert_eq!(trie.at_rank(tier, rank).map(known), Some(known(*found)));
        let weight = u32::from(found.1.weight);
        if weight > 0 {
            for at in [line, line + weight - 1] {
                assert_eq!(trie.at_weight(tier, at).map(known), Some(known(*found)));
            }
        }
        line += weight;
    }
    let tally = trie.tally(tier);
    assert!(trie.at_rank(tier, tally.count).is_none());
    assert!(trie.at_weight(tier, tally.weight).is_none());
}

fn check_slots(trie: &Trie, tier: Tier, all: &[Known], slots: u32) {
    let mut rest = all;
    for slot in 0..slots + 40 {
        while rest.first().is_some_and(|(first, _)| *first < slot) {
            rest = &rest[1..];
        }
        let found = trie.at_or_behind(tier, slot).map(known);
        assert_eq!(found.as_ref(), rest.first(), "slot {slot}");
    }
    assert!(trie.at_or_behind(tier, u32::MAX).is_none());
}

#[test]
fn random_changes_agree_with_a_plain_vector_and_leave_old_versions_alone() {
    let mut random = crate::lb::pick::SplitMix(7);
    let mut trie = Trie::default();
    let mut shadow: Vec<Option<Member>> = vec![None; 3_000];
    let mut old = (trie.clone(), shadow.clone());
    for round in 0..600u32 {
        let slot = usize::try_from(random.next() % 3_000).unwrap();
        let value = (!random.next().is_multiple_of(4)).then(|| {
            member(
                round,
                u8::try_from(random.next() % 101).unwrap(),
                tier(random.next()),
            )
        });
        shadow[slot].clone_from(&value);
        trie.set(u32::try_from(slot).unwrap(), value);
        if round % 100 == 0 {
            check_invariants(&trie, &shadow);
            check_invariants(&old.0, &old.1);
            old = (trie.clone(), shadow.clone());
        }
    }
    for (slot, value) in (0u32..).zip(&shadow) {
        assert_eq!(trie.get(slot).is_some(), value.is_some());
    }
    assert!(trie.get(u32::MAX).is_none());
}
