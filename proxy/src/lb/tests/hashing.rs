//! Sets that go by a hash: ten proxies that never talk agree, whatever each of them went through.

use super::{LATER_MS, Memory, SetId};
use crate::lb::backend::BackendRuntime;
use crate::lb::pick::{Cursor, SplitMix};
use crate::lb::set::{Asking, Client, Pick, Set};
use crate::lb::trie::{Member, Tier};
use podline_api::{Affinity, AffinityKind, BackendKey, HashKey, Policy, SetSettings};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

const PROXIES: u64 = 10;
const CLIENTS: u32 = 100_000;
const BACKENDS: u32 = 200;

fn key(n: u32) -> BackendKey {
    let address = (Ipv4Addr::from(0x0a00_0000 + n), 80).into();
    BackendKey { id: None, address }
}

fn member(n: u32, tier: Tier) -> Member {
    Member {
        runtime: Arc::new(BackendRuntime::new(key(n), SetId(1), 0)),
        weight: u8::try_from(1 + n * 7 % 20).unwrap(),
        tier,
    }
}

fn settings(affinity: bool) -> SetSettings {
    let kind = AffinityKind::ClientIp {
        timeout: Duration::from_hours(3),
    };
    SetSettings {
        policy: Policy::Maglev(HashKey::ClientIp),
        affinity: affinity.then_some(Affinity { kind, group: None }),
        ..SetSettings::default()
    }
}

/// One proxy: its set, and what it remembers.
struct Proxy {
    set: Set,
    memory: Memory,
}

impl Proxy {
    /// Backends 0 to 199, put in an order of its own among others that came and went.
    fn new(seed: u64, affinity: bool) -> Self {
        let mut random = SplitMix(seed);
        let mut set = Set::new(SetId(1), "web".parse().unwrap(), settings(affinity));
        let mut order: Vec<u32> = (0..BACKENDS).collect();
        for place in 0..order.len() {
            let other = usize::try_from(random.next() % u64::from(BACKENDS)).unwrap();
            order.swap(place, other);
        }
        for n in order {
            set.put(member(1_000 + n % 37, Tier::Eligible));
            set.put(member(n, Tier::Fallback));
            set.put(member(n, Tier::Eligible));
            if random.next().is_multiple_of(3) {
                set.remove(&key(n));
                set.put(member(n, Tier::Eligible));
            }
        }
        for n in 0..37 {
            set.remove(&key(1_000 + n));
        }
        Self {
            set,
            memory: Memory::default(),
        }
    }

    /// A tenth of the backends give way to others.
    fn replace_a_tenth(&mut self) {
        for n in (0..BACKENDS).step_by(10) {
            self.set.remove(&key(n));
            self.set.put(member(500 + n, Tier::Eligible));
        }
    }

    fn pick(&self, client: u32) -> SocketAddr {
        let address = Ipv4Addr::from(0x6440_0000 + client);
        self.pick_for((address, 1_024 + u16::try_from(client % 60_000).unwrap()).into())
    }

    fn pick_for(&self, address: SocketAddr) -> SocketAddr {
        let asking = Asking {
            client: Client {
                address,
                listener: "web",
            },
            tried: &[],
            memory: &self.memory,
            remembers: true,
            now_ms: LATER_MS,
        };
        match self.set.pick(&mut Cursor::seeded(1), &asking) {
            Pick::Backend(backend) => backend.key.address,
            other => panic!("{other:?}"),
        }
    }
}

fn proxies(affinity: bool) -> Vec<Proxy> {
    (1..=PROXIES)
        .map(|seed| Proxy::new(seed, affinity))
        .collect()
}

/// Clients that all proxies send to the same backend.
fn agreement(proxies: &[Proxy]) -> u32 {
    let agrees = |client: &u32| {
        let first = proxies[0].pick(*client);
        proxies[1..]
            .iter()
            .all(|proxy| proxy.pick(*client) == first)
    };
    let count = (0..CLIENTS).filter(agrees).count();
    u32::try_from(count).unwrap()
}

#[test]
fn ten_proxies_agree_before_and_after_a_tenth_of_the_backends_is_replaced() {
    for affinity in [false, true] {
        let mut proxies = proxies(affinity);
        assert_eq!(agreement(&proxies), CLIENTS);
        let before: Vec<SocketAddr> = (0..CLIENTS).map(|client| proxies[0].pick(client)).collect();
        proxies.iter_mut().for_each(Proxy::replace_a_tenth);
        assert_eq!(agreement(&proxies), CLIENTS);
        let stays = (0..CLIENTS)
            .zip(&before)
            .filter(|(client, at)| proxies[0].pick(*client) == **at);
        let stayed = stays.count();
        // A tenth of the weight left; with affinity nobody else moves, without it the newcomers take their share.
        let least = if affinity { 89 } else { 79 };
        println!("affinity {affinity}: {stayed} of {CLIENTS} stayed");
        assert!(stayed >= CLIENTS as usize * least / 100, "{stayed} stayed");
    }
}

/// What cannot be had without talking: a proxy that has never seen a client knows only the hash.
#[test]
fn proxies_that_have_not_seen_a_client_know_the_hash_alone() {
    let mut proxies = proxies(true);
    for client in 0..CLIENTS {
        proxies[(client % 10) as usize].pick(client);
    }
    proxies.iter_mut().for_each(Proxy::replace_a_tenth);
    let agreed = agreement(&proxies);
    println!("{agreed} of {CLIENTS} agreed");
    assert!(agreed >= CLIENTS * 85 / 100, "{agreed}");
}

#[test]
fn a_client_stays_when_backends_come_and_leaves_only_those_that_may_not_serve() {
    let mut proxy = Proxy::new(3, true);
    let before: Vec<SocketAddr> = (0..10_000).map(|client| proxy.pick(client)).collect();
    for n in 300..400 {
        proxy.set.put(member(n, Tier::Eligible));
    }
    let moved = (0..10_000)
        .zip(&before)
        .filter(|(client, at)| proxy.pick(*client) != **at);
    assert_eq!(moved.count(), 0);
    for tier in [Tier::Fallback, Tier::Out, Tier::Detecting] {
        let mut proxy = Proxy::new(3, true);
        let gone = proxy.pick(0);
        let n = (0..BACKENDS).find(|n| key(*n).address == gone).unwrap();
        proxy.set.put(member(n, tier));
        let now = proxy.pick(0);
        assert_ne!(now, gone);
        // It stays where it went.
        proxy.set.put(member(n, Tier::Eligible));
        assert_eq!(proxy.pick(0), now);
    }
}

#[test]
fn a_backend_that_could_not_be_reached_is_not_chosen_again() {
    let proxy = Proxy::new(4, true);
    let address: SocketAddr = "198.51.100.7:1".parse().unwrap();
    let mut tried: Vec<Arc<BackendRuntime>> = Vec::new();
    for _ in 0..BACKENDS {
        let asking = Asking {
            client: Client {
                address,
                listener: "web",
            },
            tried: &tried,
            memory: &proxy.memory,
            remembers: true,
            now_ms: LATER_MS,
        };
        let Pick::Backend(backend) = proxy.set.pick(&mut Cursor::seeded(1), &asking) else {
            panic!("there are more");
        };
        assert!(!tried.iter().any(|known| Arc::ptr_eq(known, &backend)));
        tried.push(backend);
    }
}

#[test]
fn flows_of_one_client_spread_and_addresses_of_one_flow_do_not() {
    let mut proxy = Proxy::new(5, false);
    proxy.set.set_settings(SetSettings {
        policy: Policy::Maglev(HashKey::Flow),
        ..settings(false)
    });
    let client = |port: u16| SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), port));
    let mut seen: Vec<SocketAddr> = (1..=1_000)
        .map(|port| proxy.pick_for(client(port)))
        .collect();
    assert_eq!(proxy.pick_for(client(7)), seen[6]);
    seen.sort_unstable();
    seen.dedup();
    assert!(seen.len() > 150, "{}", seen.len());
}

#[test]
fn weights_are_obeyed() {
    let proxy = Proxy::new(6, false);
    let total: u32 = (0..BACKENDS).map(|n| 1 + n * 7 % 20).sum();
    let mut counts = vec![0u32; BACKENDS as usize];
    for client in 0..CLIENTS {
        let SocketAddr::V4(at) = proxy.pick(client) else {
            panic!()
        };
        counts[(u32::from(*at.ip()) - 0x0a00_0000) as usize] += 1;
    }
    for (n, count) in (0u32..).zip(counts) {
        let fair = f64::from(CLIENTS * (1 + n * 7 % 20)) / f64::from(total);
        let off = (f64::from(count) - fair).abs();
        assert!(
            off < 5.0 * fair.sqrt() + 1.0,
            "{n}: {count}, fair would be {fair}"
        );
    }
}

/// Services have one set for each port; a client is with one Pod for all of them.
#[test]
fn sets_of_one_group_share_a_client_s_host() {
    let kind = AffinityKind::ClientIp {
        timeout: Duration::from_hours(3),
    };
    let memory = Memory::default();
    let port = |port: u16, name: &str| {
        let group = Some("uid".parse().unwrap());
        let kind = kind.clone();
        let affinity = Some(Affinity { kind, group });
        let settings = SetSettings {
            affinity,
            ..SetSettings::default()
        };
        let mut set = Set::new(SetId(port.into()), name.parse().unwrap(), settings);
        for n in 0..50 {
            let mut key = key(n);
            key.address.set_port(port);
            let runtime = Arc::new(BackendRuntime::new(key, SetId(port.into()), 0));
            set.put(Member {
                runtime,
                weight: 10,
                tier: Tier::Eligible,
            });
        }
        set
    };
    let (mut web, dns) = (port(80, "web"), port(53, "dns"));
    let host = |set: &Set, client: u32| {
        let asking = Asking {
            client: Client {
                address: (Ipv4Addr::from(client), 9).into(),
                listener: "any",
            },
            tried: &[],
            memory: &memory,
            remembers: true,
            now_ms: LATER_MS,
        };
        match set.pick(&mut Cursor::seeded(1), &asking) {
            Pick::Backend(backend) => (backend.key.address.ip(), Arc::clone(&backend)),
            other => panic!("{other:?}"),
        }
    };
    for client in 0..2_000 {
        assert_eq!(host(&web, client).0, host(&dns, client).0);
    }
    // One Pod's web port is gone: its clients move there, and on all ports.
    let (_, gone) = host(&web, 0);
    web.remove(&gone.key);
    let moved = host(&web, 0).0;
    assert_ne!(moved, gone.key.address.ip());
    assert_eq!(host(&dns, 0).0, moved);
}
