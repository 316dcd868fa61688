//! From the slices of a Service to the endpoints that may be bound, merged and vetted (K2, K5, K22). Pure.
//!
//! Slices are untrusted: whoever may write one in its namespace must not aim the proxies at a kubelet or at another
//! namespace's Pods.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::Arc;

use podline_api::Weight;

use super::modes::Modes;
use super::note::{Note, Reason};
use crate::cluster::family::is_special;
use crate::cluster::{Cluster, Endpoint, Family, Gate, Key, Pod, Service, ServicePort, Slice};

/// An endpoint that may be bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Where it listens.
    pub address: IpAddr,
    /// On which port.
    pub port: u16,
    /// The Pod behind it, if a slice says so.
    pub pod: Option<Key>,
    /// The Pod's uid.
    pub uid: Option<Arc<str>>,
    /// When its Pod was made, in seconds since 1970; 0 without a Pod.
    pub created: i64,
    /// Where it runs.
    pub node: Option<Arc<str>>,
    /// How it does.
    pub state: State,
    /// What it weighs while it takes new work.
    pub weight: Weight,
    /// Its Pod's readiness gate; absent without a Pod.
    pub gate: Option<Gate>,
}

/// How an endpoint does, as far as Kubernetes knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Ready, or waiting for nothing but us.
    Active,
    /// Not ready, and not terminating: no new work, and nothing is cut.
    Unready,
    /// Terminating, and still able to serve.
    Serving,
    /// Terminating, and not able to serve.
    Finished,
}

impl State {
    /// Is not being deleted.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Active | Self::Unready)
    }
}

/// The endpoints of one port and family, by address and port, and what there is to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gathered {
    /// No address and port twice.
    pub candidates: Vec<Candidate>,
    /// In no order, perhaps twice.
    pub notes: Vec<Note>,
    /// A slice has endpoints, but none has this port.
    pub lacks_port: bool,
}

/// Gathers the endpoints of one port of a Service in one family, of what its Pods use.
pub(crate) fn gather(
    cluster: &Cluster,
    modes: &Modes<'_>,
    service: &Service,
    port: &ServicePort,
    family: Family,
) -> Gathered {
    let mut gathered = Gathered::default();
    let mut all = Vec::new();
    let (mut has_endpoints, mut has_port) = (false, false);
    for slice in cluster.slices_of(&service.key) {
        if slice.family.is_none() {
            let message = format!(
                "slice {} holds host names, which are not forwarded to",
                slice.key.name
            );
            gathered
                .notes
                .push(Note::new(Reason::HostNameEndpoints, message));
        }
        if slice.family != Some(family) {
            continue;
        }
        has_endpoints |= !slice.endpoints.is_empty();
        let of_port = |p: &&crate::cluster::slice::SlicePort| {
            p.name == port.name && p.protocol == port.protocol
        };
        let Some(number) = slice.ports.iter().find(of_port).map(|p| p.port) else {
            continue;
        };
        has_port |= !slice.endpoints.is_empty();
        for endpoint in &slice.endpoints {
            match vet(modes, cluster, service, slice, endpoint, family) {
                Vetted::Bind(candidate) => {
                    let candidate = Candidate {
                        port: number,
                        ..candidate
                    };
                    all.push((slice, candidate));
                }
                Vetted::Refuse(note) => gathered.notes.push(note),
                Vetted::Wait => {}
            }
        }
    }
    gathered.lacks_port = has_endpoints && !has_port;
    gathered.candidates = best(all);
    gathered
}

/// Which of two entries for one address counts: a live one, then that of the newer slice, then that of the newer Pod.
/// The order within a slice means nothing.
type Rank<'a> = (
    bool,
    i64,
    &'a Key,
    i64,
    Option<&'a Arc<str>>,
    Reverse<State>,
);

fn rank<'a>((slice, candidate): &'a (&Slice, Candidate)) -> Rank<'a> {
    (
        candidate.state.is_live(),
        slice.created,
        &slice.key,
        candidate.created,
        candidate.uid.as_ref(),
        Reverse(candidate.state),
    )
}

/// The best of each address and port, in their order. Hardly any has two.
fn best(mut all: Vec<(&Slice, Candidate)>) -> Vec<Candidate> {
    let place = |entry: &(&Slice, Candidate)| (entry.1.address, entry.1.port);
    all.sort_by(|a, b| (place(a).cmp(&place(b))).then_with(|| rank(b).cmp(&rank(a))));
    all.dedup_by(|later, first| place(later) == place(first));
    all.into_iter().map(|(_, candidate)| candidate).collect()
}

enum Vetted {
    Bind(Candidate),
    Refuse(Note),
    /// What it refers to was not seen yet, or is gone already.
    Wait,
}

fn vet(
    modes: &Modes<'_>,
    cluster: &Cluster,
    service: &Service,
    slice: &Slice,
    endpoint: &Endpoint,
    family: Family,
) -> Vetted {
    let Some(address) = endpoint.address.filter(|ip| Family::of(*ip) == family) else {
        return refuse(slice, "has an address that is none");
    };
    if is_special(address) {
        let what = "a loopback, link-local or multicast address";
        return refuse(slice, &format!("aims at {address}, {what}"));
    }
    let Some((key, _)) = &endpoint.pod else {
        return match aims_wrong(cluster, &service.key.namespace, address) {
            Some(what) => refuse(slice, &format!("aims at {address}, {what}")),
            None => bind(endpoint, address, None, state_of(endpoint, None, cluster)),
        };
    };
    if key.namespace != service.key.namespace {
        return refuse(slice, &format!("names Pod {key} of another namespace"));
    }
    let Some(pod) = cluster.pod_behind(endpoint) else {
        return Vetted::Wait;
    };
    if pod.is_host_network {
        let message = "Pods with hostNetwork are not bound: they have no address of their own; use NodePort mode";
        return Vetted::Refuse(Note::new(Reason::HostNetwork, message));
    }
    if pod.addresses.is_empty() || pod.has_ended {
        return Vetted::Wait;
    }
    if !pod.addresses.contains(&address) {
        return refuse(
            slice,
            &format!("aims at {address}, which is not an address of Pod {key}"),
        );
    }
    if let Some(note) = modes.refuse(pod) {
        return Vetted::Refuse(note);
    }
    bind(
        endpoint,
        address,
        Some(pod),
        state_of(endpoint, Some(pod), cluster),
    )
}

fn refuse(slice: &Slice, what: &str) -> Vetted {
    let message = format!("an endpoint of slice {} {what}", slice.key.name);
    Vetted::Refuse(Note::new(Reason::EndpointRefused, message))
}

fn bind(endpoint: &Endpoint, address: IpAddr, pod: Option<&Pod>, state: State) -> Vetted {
    Vetted::Bind(Candidate {
        address,
        port: 0, // the caller knows it
        pod: pod.map(|pod| pod.key.clone()),
        uid: pod.map(|pod| Arc::clone(&pod.uid)),
        created: pod.map_or(0, |pod| pod.created),
        // A slice may claim anything; the API server binds a Pod to its node once.
        node: match pod {
            Some(pod) => pod.node.clone(),
            None => endpoint.node.clone(),
        },
        state,
        weight: Weight::DEFAULT,
        gate: pod.map(|pod| pod.gate),
    })
}

/// How an endpoint does. `pod` is the one that it names, if that was seen.
pub(super) fn state_of(endpoint: &Endpoint, pod: Option<&Pod>, cluster: &Cluster) -> State {
    if endpoint.is_terminating || pod.is_some_and(|pod| pod.is_deleting) {
        // A slice may lag behind its Pod: then it still says ready, which is serving.
        return if endpoint.is_serving {
            State::Serving
        } else {
            State::Finished
        };
    }
    let waits_for_us = || {
        pod.is_some_and(|pod| {
            let node = pod.node.as_ref().and_then(|name| cluster.node(name));
            // The Pods of a dead node look like this, too.
            pod.waits_for_gate_only() && node.is_some_and(|node| node.is_ready)
        })
    };
    if endpoint.is_ready || waits_for_us() {
        State::Active
    } else {
        State::Unready
    }
}

/// What `address` is, if a slice without a Pod may not hold it.
pub(super) fn aims_wrong(cluster: &Cluster, namespace: &str, address: IpAddr) -> Option<String> {
    if let Some(node) = cluster
        .nodes()
        .find(|node| node.addresses.contains(&address))
    {
        return Some(format!("an address of node {}", node.name));
    }
    let of_proxy = |ip: &IpAddr| *ip == address;
    let mut proxies = cluster.observed().proxies.iter();
    if let Some((name, _)) = proxies.find(|(_, proxy)| proxy.addresses.iter().any(of_proxy)) {
        return Some(format!("an address of proxy {name}"));
    }
    if let Some(front) = cluster.front_at(address) {
        return Some(format!("an address of {front}"));
    }
    let mut pods = cluster.pods_at(address);
    let foreign = pods.find(|pod| *pod.namespace != *namespace)?;
    Some(format!(
        "an address of a Pod in namespace {}",
        foreign.namespace
    ))
}

#[cfg(test)]
mod tests;
