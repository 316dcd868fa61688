//! Picks over whole sets: by policy and under change in `policies`, by tier in `tiers`, by hash and by cookie; and the `trie` below them. Knows no socket and no clock.

mod cookies;
mod hashing;
mod policies;
mod tiers;
mod trie;

use super::SetId;
use super::affinity::Memory;
use super::backend::BackendRuntime;
use super::pick::Cursor;
use super::set::{Asking, Client, Pick, Set};
use super::trie::{Member, Tier};
use podline_api::{BackendKey, Policy, SetSettings};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock};

/// Long after every backend joined.
const LATER_MS: u64 = 1_000_000;

fn member(n: u32, weight: u8, tier: Tier) -> Member {
    joined(n, weight, tier, 0)
}

fn joined(n: u32, weight: u8, tier: Tier, added_ms: u64) -> Member {
    let address = SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + n), 80));
    let runtime = BackendRuntime::new(BackendKey { id: None, address }, SetId(1), added_ms);
    Member {
        runtime: Arc::new(runtime),
        weight,
        tier,
    }
}

/// Somebody asks whose address does not matter.
pub(super) fn anyone(tried: &[Arc<BackendRuntime>], now_ms: u64) -> Asking<'_> {
    static MEMORY: LazyLock<Memory> = LazyLock::new(Memory::default);
    Asking {
        client: Client {
            address: ([192, 0, 2, 1], 4_000).into(),
            listener: "web",
        },
        tried,
        memory: &MEMORY,
        remembers: true,
        now_ms,
    }
}

/// The number that [`member`] was made from.
fn number(backend: &BackendRuntime) -> usize {
    match backend.key.address {
        SocketAddr::V4(address) => (u32::from(*address.ip()) - 0x0a00_0000) as usize,
        SocketAddr::V6(_) => unreachable!("members are IPv4"),
    }
}

fn set(policy: Policy, members: &[Member]) -> Set {
    let settings = SetSettings {
        policy,
        ..SetSettings::default()
    };
    let mut set = Set::new(SetId(1), "web".parse().unwrap(), settings);
    for member in members {
        set.put(member.clone());
    }
    set
}

/// Members 0, 1, 2 and so on, all eligible.
fn weighing(weights: &[u8]) -> Vec<Member> {
    (0..)
        .zip(weights)
        .map(|(n, weight)| member(n, *weight, Tier::Eligible))
        .collect()
}

fn picked(set: &Set, cursor: &mut Cursor) -> Arc<BackendRuntime> {
    match set.pick(cursor, &anyone(&[], LATER_MS)) {
        Pick::Backend(backend) => backend,
        other => panic!("{other:?} of {} members", set.len()),
    }
}

fn picks(set: &Set, cursor: &mut Cursor, count: usize) -> Vec<usize> {
    (0..count).map(|_| number(&picked(set, cursor))).collect()
}
