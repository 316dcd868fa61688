//! What a pick and the change of one member cost in large sets: a pick must stay under 1 us at 10,000 backends of which
//! a tenth is ineligible, a change must cost about the same at 100,000 as at 10,000. Beside the consistent hashing that
//! the proxy has, a Maglev table, which it does not have, as the yardstick.

#![expect(clippy::unwrap_used, reason = "a bench, whose inputs are its own")]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use podline_api::{Affinity, AffinityKind, BackendKey, HashKey, Policy, SetSettings};
use podline_proxy::lb::SetId;
use podline_proxy::lb::affinity::Memory;
use podline_proxy::lb::backend::BackendRuntime;
use podline_proxy::lb::hash::{self, Identity};
use podline_proxy::lb::pick::{Cursor, SplitMix};
use podline_proxy::lb::rendezvous::{Choice, Entry, Rendezvous};
use podline_proxy::lb::set::{Asking, Client, Pick, Set};
use podline_proxy::lb::table::RouteTable;
use podline_proxy::lb::trie::{Member, Tier};
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::Instant;

const SET: SetId = SetId(1);
/// Different clients that ask.
const CLIENTS: u32 = 100_000;
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

/// Clients one after the other.
fn asking(n: u32, memory: &Memory) -> Asking<'_> {
    let address = Ipv4Addr::from(n.wrapping_mul(2_654_435_761));
    Asking {
        client: Client {
            address: (address, 4_000).into(),
            listener: "bench",
        },
        tried: &[],
        memory,
        remembers: true,
        now_ms: NOW_MS,
    }
}

/// A set whose clients stay with their backends.
fn sticky(size: u32) -> Set {
    let mut set = set(size, Policy::RoundRobin, |_| 10);
    let kind = AffinityKind::ClientIp {
        timeout: Duration::from_hours(3),
    };
    set.set_settings(SetSettings {
        affinity: Some(Affinity { kind, group: None }),
        ..SetSettings::default()
    });
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
        (
            "maglev, equal weights",
            set(10_000, Policy::Maglev(HashKey::ClientIp), even),
        ),
        (
            "maglev, unequal weights",
            set(10_000, Policy::Maglev(HashKey::Flow), uneven),
        ),
        ("affinity, a known client", sticky(10_000)),
    ];
    let memory = Memory::default();
    for (name, set) in &sets {
        let (mut cursor, mut client) = (Cursor::seeded(1), 0);
        criterion.bench_function(&format!("pick of {}: {name}", set.len()), |bencher| {
            bencher.iter(|| {
                client = (client + 1) % CLIENTS;
                black_box(set.pick(&mut cursor, &asking(client, &memory)))
            });
        });
    }
}

/// What it costs to keep the time of a backend's first connection: a pick with its count, with that and without, in turn.
fn counting(_: &mut Criterion) {
    const EACH: u32 = 2_000_000;
    let (set, memory) = (set(64, Policy::RoundRobin, |_| 10), Memory::default());
    let time = |count: fn(&BackendRuntime)| {
        let mut cursor = Cursor::seeded(1);
        let begun = Instant::now();
        for client in 0..EACH {
            if let Pick::Backend(backend) = set.pick(&mut cursor, &asking(client, &memory)) {
                count(black_box(&backend));
            }
        }
        begun.elapsed().as_secs_f64() * 1e9 / f64::from(EACH)
    };
    let plain = |backend: &BackendRuntime| _ = backend.connections.fetch_add(1, Relaxed);
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..31 {
        without.push(time(plain));
        with.push(time(|backend| backend.count_connection(NOW_MS)));
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let (with, without) = (median(&mut with), median(&mut without));
    println!("pick and count: {with:.2} ns with the first's time, {without:.2} ns without");
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

/// A Maglev table as in the paper, of members with equal weights: each takes slots in an order of its own, in turns.
struct Maglev(Vec<u32>);

impl Maglev {
    fn of(members: &[u32], slots: u64) -> Self {
        let mut walks: Vec<(u64, u64)> = members
            .iter()
            .map(|n| {
                let hash = hash::mix(u64::from(*n) + 1);
                (hash % slots, hash::mix(hash) % (slots - 1) + 1)
            })
            .collect();
        let mut table = vec![u32::MAX; usize::try_from(slots).unwrap()];
        let mut left = table.len();
        'turns: loop {
            for ((place, step), n) in walks.iter_mut().zip(members) {
                while table[usize::try_from(*place).unwrap()] != u32::MAX {
                    *place = (*place + *step) % slots;
                }
                table[usize::try_from(*place).unwrap()] = *n;
                left -= 1;
                if left == 0 {
                    break 'turns;
                }
            }
        }
        Self(table)
    }

    fn pick(&self, client: u64) -> u32 {
        self.0[usize::try_from(client % self.0.len() as u64).unwrap()]
    }
}

const SMALL: u64 = 65_537;
const LARGE: u64 = 1_000_003;

fn entry(n: u32) -> Entry {
    let member = member(n, 10, Tier::Eligible);
    Entry::new(Identity::of(&member.runtime.key, false), n, &member)
}

fn hashed(members: &[u32]) -> Rendezvous {
    let mut all = Rendezvous::default();
    for n in members {
        all.put(entry(*n));
    }
    all
}

fn choose(all: &Rendezvous, client: u64) -> u32 {
    let choice = Choice {
        client,
        tier: Tier::Eligible,
        without: &[],
    };
    all.pick(&choice).unwrap()
}

/// Times of both, side by side.
fn hashing(criterion: &mut Criterion) {
    for size in [1_000, 10_000] {
        let members: Vec<u32> = (0..size).collect();
        let mut clients = SplitMix(1);
        let all = hashed(&members);
        let (gone, new) = (entry(size / 2), entry(size));
        criterion.bench_function(&format!("hashing of {size}: pick"), |bencher| {
            bencher.iter(|| black_box(choose(&all, clients.next())));
        });
        criterion.bench_function(&format!("hashing of {size}: build"), |bencher| {
            bencher.iter(|| hashed(&members));
        });
        criterion.bench_function(&format!("hashing of {size}: replace one"), |bencher| {
            bencher.iter_batched(
                || all.clone(),
                |mut next| {
                    next.remove(gone.identity, gone.slot);
                    next.put(new);
                    next
                },
                BatchSize::SmallInput,
            );
        });
        for slots in [SMALL, LARGE] {
            let table = Maglev::of(&members, slots);
            criterion.bench_function(&format!("Maglev {slots} of {size}: pick"), |bencher| {
                bencher.iter(|| black_box(table.pick(clients.next())));
            });
            criterion.bench_function(&format!("Maglev {slots} of {size}: build"), |bencher| {
                bencher.iter(|| Maglev::of(&members, slots));
            });
        }
    }
}

/// Memory and stability of both, printed: nothing of it is a time.
fn stability(_: &mut Criterion) {
    for size in [1_000, 10_000] {
        let members: Vec<u32> = (0..size).collect();
        println!(
            "bytes for {size}: {} hashing",
            resident(|| hashed(&members))
        );
        for slots in [SMALL, LARGE] {
            let bytes = resident(|| Maglev::of(&members, slots));
            println!("bytes for {size}: {bytes} Maglev {slots}");
        }
    }
    for changed in [1, 100] {
        report("hashing", changed, hashed, choose);
        for slots in [SMALL, LARGE] {
            let make = |members: &[u32]| Maglev::of(members, slots);
            report(&format!("Maglev {slots}"), changed, make, Maglev::pick);
        }
    }
}

/// Replaces `changed` of 1,000 members, a few times, and says how many clients move; needlessly: from one member that
/// stays to another that was there before.
fn report<T>(name: &str, changed: u32, make: impl Fn(&[u32]) -> T, pick: impl Fn(&T, u64) -> u32) {
    const CLIENTS: u32 = 100_000;
    const TIMES: u32 = 10;
    let members: Vec<u32> = (0..1_000).collect();
    let mut random = SplitMix(5);
    let (mut moved, mut needless) = (0, 0);
    let before = make(&members);
    for _ in 0..TIMES {
        let mut after = members.clone();
        for n in 0..changed {
            let gone = random.next() % u64::from(1_000 - n);
            after.remove(usize::try_from(gone).unwrap());
            after.push(1_000 + n);
        }
        let table = make(&after);
        for _ in 0..CLIENTS {
            let client = random.next();
            let (old, new) = (pick(&before, client), pick(&table, client));
            moved += u32::from(old != new);
            let could_stay = old != new && after.binary_search(&old).is_ok();
            needless += u32::from(could_stay && new < 1_000);
        }
    }
    let percent = |clients| f64::from(clients) * 100.0 / f64::from(CLIENTS * TIMES);
    let (moved, needless) = (percent(moved), percent(needless));
    println!("{changed} of 1000 replaced: {moved:.2}% move, {needless:.2}% needlessly: {name}");
}

/// Bytes that one of what `make` makes takes, by the process's growth.
fn resident<T>(make: impl Fn() -> T) -> usize {
    const COPIES: usize = 64;
    let pages = || -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse().unwrap()
    };
    let before = pages();
    let copies: Vec<T> = (0..COPIES).map(|_| make()).collect();
    let grown = pages().saturating_sub(before) * 4096 / COPIES;
    drop(copies);
    grown
}

criterion_group!(benches, picks, counting, changes, hashing, stability);
criterion_main!(benches);
