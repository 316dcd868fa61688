//! The machines against a proxy that is a model, and the tasks against one that answers on loopback.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod addresses;
mod fake;
mod firsting;
mod loopback;
mod model;
mod observing;
mod overriding;
mod property;
mod syncing;
mod tls;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use podline_api::{
    Backend, BackendId, BackendKey, BackendSet, Listener, Name, Network, Node, Owner, Protocol,
    SetSettings, Weight,
};

use crate::snapshot::Snapshot;

/// What a proxy of this release can do.
const FEATURES: [&str; 10] = [
    "override",
    "maglev",
    "client-ip-affinity",
    "http-check",
    "passive-check",
    "limits",
    "source-ranges",
    "drain-timeout-of-change",
    "network",
    "addresses",
];

fn owner() -> Owner {
    "k8s/east".parse().unwrap()
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn key(n: u8) -> BackendKey {
    BackendKey {
        id: Some(BackendId::try_from(format!("pod-{n}").as_str()).unwrap()),
        address: SocketAddr::from(([10, 0, 0, n], 80)),
    }
}

fn backend(n: u8, weight: u32) -> Backend {
    Backend {
        node: None,
        key: key(n),
        weight: Weight::try_from(weight).unwrap(),
    }
}

fn set(text: &str, backends: impl IntoIterator<Item = u8>) -> BackendSet {
    BackendSet {
        name: name(text),
        settings: SetSettings::default(),
        backends: backends.into_iter().map(|n| backend(n, 10)).collect(),
    }
}

fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn listener(text: &str, port: u16, set: &str) -> Listener {
    Listener::new(name(text), at(port), Protocol::Tcp, name(set))
}

/// Changes of a snapshot that share what stays.
trait Build: Sized {
    fn next(&self) -> Self;
    fn with_set(self, set: BackendSet) -> Self;
    fn with(self, listener: Listener) -> Self;
    fn without(self, text: &str) -> Self;
    fn without_set(self, text: &str) -> Self;
    fn ended(self, pods: impl IntoIterator<Item = u8>) -> Self;
    fn with_nodes(self, names: &[&str]) -> Self;
}

impl Build for Snapshot {
    fn next(&self) -> Self {
        Self {
            version: self.version + 1,
            ..self.clone()
        }
    }

    fn with_set(mut self, set: BackendSet) -> Self {
        self.sets.insert(set.name.clone(), Arc::new(set));
        self
    }

    fn with(mut self, listener: Listener) -> Self {
        let name = listener.name.clone();
        self.listeners.insert(name, Arc::new(listener));
        self
    }

    fn without(mut self, text: &str) -> Self {
        self.listeners.remove(text);
        self
    }

    fn without_set(mut self, text: &str) -> Self {
        self.sets.remove(text);
        self
    }

    fn ended(mut self, pods: impl IntoIterator<Item = u8>) -> Self {
        self.ended = Arc::new(pods.into_iter().filter_map(|n| key(n).id).collect());
        self
    }

    fn with_nodes(mut self, names: &[&str]) -> Self {
        let node = |(n, text): (u8, &&str)| Node {
            name: name(text),
            addresses: vec![[192, 0, 2, n].into()],
            pod_ranges: Vec::new(),
            responders: Vec::new(),
        };
        self.network = Arc::new(Network {
            nodes: (1..).zip(names).map(node).collect(),
            ..Network::default()
        });
        self
    }
}

/// Listener `web` on port 80 with a set of backends 1, 2 and 3.
fn web() -> Snapshot {
    Snapshot::default()
        .next()
        .with_set(set("web", 1..=3))
        .with(listener("web", 80, "web"))
}

/// xorshift64*: the same numbers in every run of a seed.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % end
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}
