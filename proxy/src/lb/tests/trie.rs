//! The trie against a plain vector.

use super::member;
use crate::lb::pick::SplitMix;
use crate::lb::trie::{Member, Tier, Trie};
use std::sync::Arc;

fn tier(n: u64) -> Tier {
    [Tier::Eligible, Tier::Fallback, Tier::Detecting, Tier::Out][usize::try_from(n % 4).unwrap()]
}

/// Every answer of the trie against a plain vector's.
fn check_invariants(trie: &Trie, shadow: &[Option<Member>]) {
    for tier in [Tier::Eligible, Tier::Fallback, Tier::Detecting] {
        let slots: Vec<(u32, &Member)> = (0u32..)
            .zip(shadow)
            .filter_map(|(slot, m)| Some((slot, m.as_ref().filter(|m| m.tier == tier)?)))
            .collect();
        let members: Vec<&Member> = slots.iter().map(|(_, m)| *m).collect();
        for from in 0..u32::try_from(shadow.len()).unwrap() {
            let next = slots.get(slots.partition_point(|(slot, _)| *slot < from));
            assert_eq!(
                trie.at_or_after(tier, from).map(|(slot, _)| slot),
                next.map(|(slot, _)| *slot)
            );
        }
        assert!(trie.at_or_after(tier, u32::MAX).is_none());
        let tally = trie.tally(tier);
        assert_eq!(tally.count as usize, members.len());
        assert_eq!(
            tally.weight,
            members.iter().map(|m| u32::from(m.weight)).sum::<u32>()
        );
        assert_eq!(
            tally.is_even(),
            members.windows(2).all(|w| w[0].weight == w[1].weight)
        );
        let mut visited = Vec::new();
        trie.for_each(tier, |slot, m| {
            visited.push((slot, Arc::as_ptr(&m.runtime)));
        });
        let expected: Vec<_> = slots
            .iter()
            .map(|(slot, m)| (*slot, Arc::as_ptr(&m.runtime)))
            .collect();
        assert_eq!(visited, expected);
        let mut line = 0;
        for (rank, (slot, member)) in (0u32..).zip(&slots) {
            let found = trie.at_rank(tier, rank).unwrap();
            assert_eq!(found.0, *slot);
            assert!(Arc::ptr_eq(&found.1.runtime, &member.runtime));
            if member.weight > 0 {
                for weight in [line, line + u32::from(member.weight) - 1] {
                    assert_eq!(trie.at_weight(tier, weight).unwrap().0, *slot);
                }
            }
            line += u32::from(member.weight);
        }
        assert!(trie.at_rank(tier, tally.count).is_none());
        assert!(trie.at_weight(tier, tally.weight).is_none());
    }
}

#[test]
fn random_changes_agree_with_a_plain_vector_and_leave_old_versions_alone() {
    let mut random = SplitMix(7);
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
