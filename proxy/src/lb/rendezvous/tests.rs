//! The choice follows from who is there alone; it moves few clients; it obeys weights.

use super::*;
use crate::lb::pick::SplitMix;
use std::collections::BTreeMap;
use std::mem::size_of;

/// A member's slot is its number in these tests, so that the choice shows who was chosen.
fn entry(n: u32, weight: u32) -> Entry {
    with_identity(n, Identity(mix(u64::from(n) + 1)), weight)
}

fn with_identity(n: u32, identity: Identity, weight: u32) -> Entry {
    Entry {
        identity,
        tie: n,
        slot: n,
        weights: [weight, 0, 0],
    }
}

fn of(entries: impl IntoIterator<Item = Entry>) -> Rendezvous {
    let mut all = Rendezvous::default();
    entries.into_iter().for_each(|entry| all.put(entry));
    all
}

fn choice(client: u64) -> Choice<'static> {
    Choice {
        client: mix(client),
        tier: Tier::Eligible,
        without: &[],
    }
}

fn choices(all: &Rendezvous, clients: u64) -> Vec<u32> {
    (0..clients)
        .map(|client| all.pick(&choice(client)).unwrap())
        .collect()
}

fn moved(before: &[u32], after: &[u32]) -> usize {
    before.iter().zip(after).filter(|(b, a)| b != a).count()
}

#[test]
fn a_child_stays_small() {
    assert_eq!(size_of::<Child>(), 32);
}

#[test]
fn the_history_does_not_matter() {
    for size in [1, 2, 16, 17, 64, 1_000] {
        let plain = of((0..size).map(|n| entry(n, 1 + n % 100)));
        let expected = choices(&plain, 2_000);
        for seed in 0..5 {
            let mut random = SplitMix(seed);
            let mut all = Rendezvous::default();
            let mut draw = |most: u32| u32::try_from(random.next() % u64::from(most)).unwrap();
            // Others come and go, weights and tiers change, before everybody is as they should be.
            for _ in 0..3 * size {
                let n = draw(2 * size);
                if draw(3) == 0 {
                    let gone = entry(n, 0);
                    all.remove(gone.identity, gone.slot);
                } else {
                    let mut other = entry(n, 1 + draw(100));
                    other.weights.rotate_right(draw(3) as usize);
                    all.put(other);
                }
            }
            (size..2 * size).for_each(|n| all.remove(entry(n, 0).identity, n));
            (0..size).rev().for_each(|n| all.put(entry(n, 1 + n % 100)));
            assert_eq!(
                choices(&all, 2_000),
                expected,
                "{size} members, seed {seed}"
            );
            assert_eq!(all.root.check_invariants(), plain.root.check_invariants());
        }
    }
}

/// Random changes against a plain map, with identities that share long prefixes or are equal.
#[test]
fn random_changes_agree_with_a_plain_map() {
    let mut random = SplitMix(7);
    let identities = [0, 1, 1 << 4, 1 << 24, 3 << 62, u64::MAX, u64::MAX << 4].map(Identity);
    let mut all = Rendezvous::default();
    let mut shadow = BTreeMap::new();
    for round in 0..20_000 {
        let n = u32::try_from(random.next() % 40).unwrap();
        let identity = identities[n as usize % identities.len()];
        if random.next().is_multiple_of(2) {
            all.remove(identity, n);
            shadow.remove(&n);
        } else {
            let new = with_identity(n, identity, 1 + n);
            all.put(new);
            shadow.insert(n, new);
        }
        if round % 10 > 0 {
            continue;
        }
        all.root.check_invariants();
        assert_eq!(
            all.root.weights_below()[0],
            shadow.values().map(|e| e.weights[0]).sum::<u32>()
        );
        let rebuilt = of(shadow.values().copied());
        for client in 0..20 {
            let picked = all.pick(&choice(client));
            assert_eq!(picked, rebuilt.pick(&choice(client)));
            assert_eq!(picked.is_some(), !shadow.is_empty());
            assert!(picked.is_none_or(|slot| shadow.contains_key(&slot)));
        }
    }
}

#[test]
fn members_of_equal_identity_all_get_their_share() {
    let twins = |count| (0..count).map(|n| with_identity(n, Identity(42), 10));
    let all = of(twins(3));
    let mut got = [0; 3];
    for slot in choices(&all, 30_000) {
        got[slot as usize] += 1;
    }
    assert!(got.iter().all(|n| (9_500..10_500).contains(n)), "{got:?}");
    let mut fewer = of(twins(3).chain([entry(9, 10)]));
    fewer.remove(entry(9, 0).identity, 9);
    fewer.remove(Identity(42), 1);
    assert_eq!(
        choices(&fewer, 1_000),
        choices(
            &of([0, 2].map(|n| with_identity(n, Identity(42), 10))),
            1_000
        )
    );
    fewer.remove(Identity(42), 0);
    fewer.remove(Identity(42), 2);
    assert_eq!(fewer.pick(&choice(1)), None);
}

/// How many clients move is what the levels of the trie say, and those that move leave or join the member that changed
/// or its neighbours on the way to it.
#[test]
fn a_member_that_leaves_moves_few_clients() {
    const CLIENTS: u64 = 40_000;
    for (size, most) in [
        (2, 1.1),
        (16, 1.6),
        (17, 1.6),
        (64, 2.5),
        (1_000, 3.0),
        (10_000, 4.0),
    ] {
        let mut all = of((0..size).map(|n| entry(n, 10)));
        let before = choices(&all, CLIENTS);
        let (mut total, mut own) = (0, 0);
        let leavers = [0, size / 2, size - 1];
        for n in leavers {
            let identity = entry(n, 0).identity;
            all.remove(identity, n);
            let after = choices(&all, CLIENTS);
            total += moved(&before, &after);
            own += before.iter().filter(|slot| **slot == n).count();
            assert!(!after.contains(&n));
            // Whoever moved was on the member, or on one that shares a node with it.
            all.put(entry(n, 10));
            assert_eq!(choices(&all, 1_000), before[..1_000]);
        }
        let share = total as f64 / leavers.len() as f64 / CLIENTS as f64 * f64::from(size);
        assert!(
            share < most,
            "{size} members: {share:.2}/n of the clients moved"
        );
        assert!(own <= total);
    }
}

#[test]
fn weights_are_obeyed() {
    for size in [2, 5, 16, 17, 64, 300] {
        let weight = |n: u32| [10, 20, 50, 100][n as usize % 4];
        let all = of((0..size).map(|n| entry(n, weight(n))));
        let clients = 1_000 * u64::from(size);
        let mut got = vec![0.0; size as usize];
        for slot in choices(&all, clients) {
            got[slot as usize] += 1.0;
        }
        let line: u32 = (0..size).map(weight).sum();
        for n in 0..size {
            let due = clients as f64 * f64::from(weight(n)) / f64::from(line);
            let ratio = got[n as usize] / due;
            // Four and a half standard deviations of chance.
            assert!(
                (ratio - 1.0).abs() < 4.5 / due.sqrt(),
                "{n} of {size}: {ratio}"
            );
        }
    }
}

#[test]
fn a_choice_without_some_is_the_choice_when_they_are_gone() {
    for size in [1, 2, 17, 64, 1_000] {
        let entries: Vec<_> = (0..size).map(|n| entry(n, 1 + n % 100)).collect();
        let all = of(entries.iter().copied());
        let twins: Vec<_> = (0..size)
            .map(|n| with_identity(n, Identity(7), 10))
            .collect();
        for (all, entries) in [(all, &entries), (of(twins.iter().copied()), &twins)] {
            let mut random = SplitMix(u64::from(size));
            for client in 0..100 {
                let mut without: Vec<Entry> = Vec::new();
                let mut gone = all.clone();
                for _ in 0..5 {
                    let choice = Choice {
                        without: &without,
                        ..choice(client)
                    };
                    assert_eq!(all.pick(&choice), gone.pick(&self::choice(client)));
                    let one = entries[usize::try_from(random.next()).unwrap() % entries.len()];
                    if !without.contains(&one) {
                        without.push(one);
                    }
                    gone.remove(one.identity, one.slot);
                }
            }
        }
    }
}

#[test]
fn the_host_of_a_member_leads_to_it() {
    let all = of((0..1_000).map(|n| entry(n, 10)));
    for n in 0..1_000 {
        let host = entry(n, 0).identity.host();
        assert_eq!(all.pick_of_host(host, &choice(1)), Some(n));
        let fallback = Choice {
            tier: Tier::Fallback,
            ..choice(1)
        };
        assert_eq!(all.pick_of_host(host, &fallback), None);
        let without = [entry(n, 10)];
        let choice = Choice {
            without: &without,
            ..choice(1)
        };
        assert_eq!(all.pick_of_host(host, &choice), None);
    }
    assert_eq!(
        all.pick_of_host(entry(1_000, 0).identity.host(), &choice(1)),
        None
    );
    // A host with several members: one of them, the same each time.
    let host = 0x12_3456_789a;
    let members = (0..4).map(|n| with_identity(n, Identity(host << 24 | u64::from(n) << 3), 10));
    let several = of(members.chain((10..90).map(|n| entry(n, 10))));
    let of_host: Vec<_> = (0..100)
        .map(|client| several.pick_of_host(host, &choice(client)).unwrap())
        .collect();
    assert!((0..4).all(|n| of_host.contains(&n)) && of_host.iter().all(|n| *n < 4));
}

#[test]
fn a_version_shares_all_but_a_path_and_memory_follows_the_members() {
    let before = of((0..10_000).map(|n| entry(n, 10)));
    assert!(before.root.check_invariants() < 12_500);
    let mut after = before.clone();
    after.put(entry(77, 50));
    after.remove(entry(78, 0).identity, 78);
    assert!(before.root.nodes_not_in(&after.root) < 9);
    assert_eq!(
        choices(&before, 1_000),
        choices(&of((0..10_000).map(|n| entry(n, 10))), 1_000)
    );
    let mut emptied = after;
    (0..10_000).for_each(|n| emptied.remove(entry(n, 0).identity, n));
    assert_eq!(emptied.root.check_invariants(), 0);
}
