//! Clients that go by a hash, and clients that stay: over real sockets, and over two proxies that never talk.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use podline_api::v1;
use podline_lab::{Behaviour, Pod};
use podline_proxy::lb::affinity::Memory;
use podline_proxy::lb::hash::mix;
use v1::backend_set::{HashKey, Policy};

use crate::harness::{Proxy, addresses, http, pod, tcp, wire};

fn pods(count: usize) -> Vec<Pod> {
    let all = (0..count).map(|n| pod(&format!("pod-{n}"), Behaviour::Name));
    all.collect()
}

/// Who serves client number `n` at `address`.
fn served(n: u8, address: SocketAddr) -> String {
    let client = IpAddr::from(Ipv4Addr::new(127, 0, 7, n));
    http::Client::connect_from(client, address)
        .unwrap()
        .name()
        .unwrap()
}

fn serve(proxy: &Proxy, set: v1::BackendSet) -> SocketAddr {
    let address = tcp::free_address();
    proxy.serve_with(wire::listener("web", address, "web"), set);
    address
}

fn maglev(key: HashKey, pods: &[SocketAddr]) -> v1::BackendSet {
    v1::BackendSet {
        policy: Some(Policy::Maglev.into()),
        hash_key: Some(key.into()),
        ..wire::set("web", pods)
    }
}

fn sticky(pods: &[SocketAddr]) -> v1::BackendSet {
    v1::BackendSet {
        affinity: Some(v1::Affinity {
            client_ip: Some(v1::ClientIpAffinity::default()),
            ..Default::default()
        }),
        ..wire::set("web", pods)
    }
}

#[test]
fn two_proxies_send_a_client_to_the_same_backend() {
    let pods = pods(5);
    let mut reversed = addresses(&pods);
    reversed.reverse();
    let proxies = [Proxy::start(), Proxy::start()];
    for set in [maglev as fn(HashKey, &[SocketAddr]) -> _, |_, pods| {
        sticky(pods)
    }] {
        let at = [
            serve(&proxies[0], set(HashKey::ClientIp, &addresses(&pods))),
            serve(&proxies[1], set(HashKey::ClientIp, &reversed)),
        ];
        let mut seen = std::collections::HashSet::new();
        for client in 1..=120 {
            let first = served(client, at[0]);
            for address in [at[1], at[0]] {
                assert_eq!(served(client, address), first);
            }
            seen.insert(first);
        }
        assert_eq!(seen.len(), 5, "clients spread");
    }
}

#[test]
fn a_client_stays_while_backends_come_and_go_around_it() {
    let pods = pods(6);
    let proxy = Proxy::start();
    let address = serve(&proxy, sticky(&addresses(&pods[..3])));
    let before: Vec<String> = (1..=40).map(|client| served(client, address)).collect();
    proxy.apply(wire::change("web", &addresses(&pods[3..]), &[]));
    for (client, at) in (1..).zip(&before) {
        assert_eq!(served(client, address), *at, "newcomers take nobody away");
    }
    assert_eq!(proxy.get().affinity_clients, 40);
    // One leaves: its clients go, once, and nobody else.
    proxy.apply(wire::change("web", &[], &[pods[0].address()]));
    for (client, at) in (1..).zip(&before) {
        let now = served(client, address);
        assert_eq!(now == *at, at != "pod-0");
        assert_eq!(served(client, address), now);
    }
}

#[test]
fn a_flow_goes_by_more_than_the_client() {
    let pods = pods(5);
    let proxy = Proxy::start();
    let address = serve(&proxy, maglev(HashKey::Flow, &addresses(&pods)));
    let seen: std::collections::HashSet<String> = (0..120).map(|_| served(1, address)).collect();
    assert_eq!(seen.len(), 5);
}

/// Whatever four threads do at once, a client is with a host that somebody put it with, or with none.
#[test]
fn threads_never_mix_clients_up() {
    let memory = Memory::default();
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let memory = &memory;
            scope.spawn(move || {
                for n in 0..400_000u64 {
                    let client = (n * 7 + thread) % 50_000;
                    if let Some(host) = memory.find(mix(client), 5, 60) {
                        assert_eq!(host % 50_000, client);
                    }
                    memory.put(mix(client), client + 50_000 * (1 + thread), 5);
                }
            });
        }
    });
    assert!(memory.clients() <= 50_000 + 100, "few are remembered twice");
}
