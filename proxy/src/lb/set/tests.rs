//! A set's members against a plain map, over random changes.

use super::*;
use crate::lb::backend::BackendRuntime;
use crate::lb::pick::SplitMix;
use crate::lb::tests::anyone;
use podline_api::Policy;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

fn key(n: u32) -> BackendKey {
    let address = (Ipv4Addr::from(0x0a00_0000 + n), 80).into();
    BackendKey { id: None, address }
}

fn member(n: u32, weight: u8, tier: Tier) -> Member {
    Member {
        runtime: Arc::new(BackendRuntime::new(key(n), SetId(1), 0)),
        weight,
        tier,
    }
}

fn set(tiers: &[Tier]) -> Set {
    let mut set = Set::new(SetId(1), "web".parse().unwrap(), SetSettings::default());
    for (n, tier) in (0..).zip(tiers) {
        set.put(member(n, 10, *tier));
    }
    set
}

/// The set against a plain map after random changes; every pick must be one the map allows.
fn check_invariants(set: &Set, shadow: &BTreeMap<u32, (u8, Tier)>, cursor: &mut Cursor) {
    assert_eq!(set.len(), shadow.len());
    assert_eq!(set.is_empty(), shadow.is_empty());
    assert_eq!(set.members().count(), shadow.len());
    for (n, (weight, tier)) in shadow {
        let member = set.member(&key(*n)).unwrap();
        assert_eq!((member.weight, member.tier), (*weight, *tier));
        assert_eq!(member.runtime.key, key(*n));
    }
    for tier in [Tier::Eligible, Tier::Fallback, Tier::Detecting] {
        let of_tier = || shadow.values().filter(|(_, t)| *t == tier);
        let tally = set.tally(tier);
        assert_eq!(tally.count as usize, of_tier().count());
        assert_eq!(
            tally.weight,
            of_tier().map(|(w, _)| u32::from(*w)).sum::<u32>()
        );
    }
    for _ in 0..4 {
        if let Pick::Backend(runtime) = set.pick(cursor, &anyone(&[], 0)) {
            let tier = set.member(&runtime.key).map(|m| m.tier);
            assert!(
                matches!(tier, Some(Tier::Eligible | Tier::Fallback)),
                "{tier:?}"
            );
        }
    }
}

#[test]
fn random_changes_agree_with_a_plain_map() {
    for (seed, policy) in [(1, Policy::RoundRobin), (2, Policy::LeastConnections)] {
        let mut random = SplitMix(seed);
        let settings = SetSettings {
            policy,
            ..SetSettings::default()
        };
        let mut set = Set::new(SetId(1), "web".parse().unwrap(), settings);
        let mut shadow = BTreeMap::new();
        let mut cursor = Cursor::seeded(seed);
        for round in 0..3_000 {
            let n = u32::try_from(random.next() % 150).unwrap();
            if random.next().is_multiple_of(3) {
                assert_eq!(set.remove(&key(n)), shadow.remove(&n).is_some());
            } else {
                let weight = u8::try_from(1 + random.next() % 100).unwrap();
                let tier = [Tier::Eligible, Tier::Fallback, Tier::Detecting, Tier::Out]
                    [usize::try_from(random.next() % 4).unwrap()];
                set.put(member(n, weight, tier));
                shadow.insert(n, (weight, tier));
            }
            if round % 50 == 0 {
                check_invariants(&set, &shadow, &mut cursor);
            }
        }
    }
}

/// Slots of removed members are used again: a set that changes for months must not grow.
#[test]
fn churn_does_not_spread_members_over_ever_more_slots() {
    let mut set = set(&[Tier::Eligible; 10]);
    for n in 0..1_000 {
        assert!(set.remove(&key(n)));
        set.put(member(n + 10, 10, Tier::Eligible));
        assert_eq!(set.slots.values().max(), Some(&9));
    }
}
