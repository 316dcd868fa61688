//! What a pick and the change of one member cost in large sets: a pick must stay under 1 us at 10,000 backends of which
//! a tenth is ineligible, a change must cost about the same at 100,000 as at 10,000.

#![expect(clippy::unwrap_used, reason = "a bench, whose inputs are its own")]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use podline_api::{BackendKey, Policy, SetSettings};
use podline_proxy::lb::SetId;
use podline_proxy::lb::backend::BackendRuntime;
use podline_proxy::lb::pick::Cursor;
use podline_proxy::lb::set::Set;
use podline_proxy::lb::table::RouteTable;
use podline_proxy::lb::trie::{Member, Tier};
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;

const SET: SetId = SetId(1);
/// Late enough that no backend counts as new.
const NOW_MS: u64 = 60_000;

fn member(n: u32, weight: u8, tier: Tier) -> Member {
    let address = (Ipv4Addr::from(0x0a00_0000 + n), 80).into();
    let key = BackendKey { id: None, address };
    Member {
        runtime: Arc::new(BackendRuntime::new(key, SET, 0)),
        weight,
        tier,
    }
}

/// A set in which every tenth backend is unhealthy or drained.
fn set(size: u32, policy: Policy, weight: impl Fn(u32) -> u8) -> Set {
    let settings = SetSettings {
        policy,
        ..SetSettings::default()
    };
    let mut set = Set::new(SET, "bench".parse().unwrap(), settings);
    set.was_healthy = true;
    for n in 0..size {
        let tier = match n % 20 {
            3 => Tier::Fallback,
            13 => Tier::Out,
            _ => Tier::Eligible,
        };
        set.put(member(n, weight(n), tier));
    }
    set
}

fn picks(criterion: &mut Criterion) {
    let even = |_| 10;
    let uneven = |n| u8::try_from(1 + n % 100).unwrap_or(1);
    let sets = [
        (
            "round robin, equal weights",
            set(10_000, Policy::RoundRobin, even),
        ),
        (
            "round robin, unequal weights",
            set(10_000, Policy::RoundRobin, uneven),
        ),
        (
            "least connections",
            set(10_000, Policy::LeastConnections, even),
        ),
        (
            "least connections of 64",
            set(64, Policy::LeastConnections, even),
        ),
    ];
    for (name, set) in &sets {
        let mut cursor = Cursor::seeded(1);
        criterion.bench_function(&format!("pick of {}: {name}", set.len()), |bencher| {
            bencher.iter(|| black_box(set.pick(&mut cursor, &[], NOW_MS)));
        });
    }
}

/// One member changes in a table whose last version workers still hold, as at every publish.
fn changes(criterion: &mut Criterion) {
    for size in [10_000, 100_000] {
        let mut table = RouteTable::default();
        table.put_set(set(size, Policy::RoundRobin, |_| 10));
        let members: Vec<Member> = table.set(SET).unwrap().members().cloned().collect();
        let mut turn = 0;
        criterion.bench_function(&format!("change one of {size}"), |bencher| {
            bencher.iter_batched(
                || {
                    turn = (turn + 7_919) % members.len();
                    (table.clone(), members[turn].clone())
                },
                |(mut next, member)| {
                    next.set_mut(SET).unwrap().put(Member {
                        tier: Tier::Fallback,
                        ..member
                    });
                    next.version += 1;
                    Arc::new(next)
                },
                BatchSize::SmallInput,
            );
        });
        criterion.bench_function(&format!("remove and add one of {size}"), |bencher| {
            bencher.iter_batched(
                || {
                    turn = (turn + 7_919) % members.len();
                    (table.clone(), members[turn].clone())
                },
                |(mut next, member)| {
                    let set = next.set_mut(SET).unwrap();
                    set.remove(&member.runtime.key);
                    set.put(member);
                    Arc::new(next)
                },
                BatchSize::SmallInput,
            );
        });
    }
}

criterion_group!(benches, picks, changes);
criterion_main!(benches);
