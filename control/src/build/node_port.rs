//! NodePort mode: the backends of one port are the nodes, at its node port. Pure.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use podline_api::{Backend, BackendId, BackendKey, Name, Weight};

use super::annotation::Settings;
use super::endpoints::{State, state_of};
use crate::cluster::{Cluster, Family, Node, Service};

/// What nodes become.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bound {
    /// In the order of their addresses.
    pub(super) backends: Vec<Backend>,
    /// More nodes than the quota.
    pub(super) is_beyond_quota: bool,
}

/// Binds the nodes that `settings` select, at most `quota`, the oldest first. A node that is not ready stays: its node
/// port may work all the same, and probes know better. With `externalTrafficPolicy: Local` only nodes with endpoints
/// are bound.
pub(super) fn bind(
    cluster: &Cluster,
    service: &Service,
    settings: &Settings,
    family: Family,
    node_port: u16,
    quota: usize,
) -> Bound {
    let pods = service
        .is_local
        .then(|| PodsOfNodes::count(cluster, service, family));
    let is_wanted = |node: &&Node| {
        let selected = settings
            .nodes
            .as_ref()
            .is_none_or(|selector| selector.matches(&node.labels));
        let has_pods = pods.as_ref().is_none_or(|pods| pods.has_any(&node.name));
        selected && !node.is_excluded && has_pods
    };
    let mut nodes: Vec<&Node> = cluster.nodes().filter(is_wanted).collect();
    nodes.sort_by_key(|node| (node.created, &node.name));
    let (mut bound, mut taken) = (Bound::default(), HashSet::new());
    for node in nodes {
        let address = node.internal_of(family);
        // Two nodes that say they have one address are one backend: the older.
        let Some(address) = address.filter(|address| !taken.contains(address)) else {
            continue;
        };
        if bound.backends.len() == quota {
            bound.is_beyond_quota = true;
            break;
        }
        taken.insert(address);
        let weight = pods.as_ref().map_or(Weight::DEFAULT, |pods| {
            pods.weight(&node.name, settings.weighted_balance)
        });
        bound.backends.push(Backend {
            node: Name::try_from(&*node.name).ok(),
            key: BackendKey {
                id: BackendId::try_from(&*node.uid).ok(),
                address: SocketAddr::new(address, node_port),
            },
            weight,
        });
    }
    bound.backends.sort_by_key(|backend| backend.key.address);
    bound
}

/// How many Pods of the Service each node has.
struct PodsOfNodes<'a> {
    by_node: HashMap<&'a str, Count>,
    /// Some node has a Pod that takes new work.
    has_active: bool,
}

#[derive(Default)]
struct Count {
    active: u32,
    serving: u32,
}

impl<'a> PodsOfNodes<'a> {
    /// Counts each address once. Here Pods of any kind do: it is their node that is connected to.
    fn count(cluster: &'a Cluster, service: &Service, family: Family) -> Self {
        let mut best: HashMap<IpAddr, (_, &str, State)> = HashMap::new();
        let slices = cluster.slices_of(&service.key);
        for slice in slices.filter(|slice| slice.family == Some(family)) {
            for endpoint in &slice.endpoints {
                let pod = cluster.pod_behind(endpoint);
                let node = endpoint.node.as_deref().or_else(|| pod?.node.as_deref());
                let (Some(node), Some(address)) = (node, endpoint.address) else {
                    continue;
                };
                let state = state_of(endpoint, pod, cluster);
                let age = (slice.created, &slice.key);
                let rank = (state.is_live(), age, Reverse(state), node);
                if best.get(&address).is_none_or(|(other, ..)| *other < rank) {
                    best.insert(address, (rank, node, state));
                }
            }
        }
        let mut by_node: HashMap<&str, Count> = HashMap::new();
        for (_, node, state) in best.into_values() {
            let count = by_node.entry(node).or_default();
            match state {
                State::Active => count.active += 1,
                State::Serving => count.serving += 1,
                State::Unready | State::Finished => {}
            }
        }
        Self {
            has_active: by_node.values().any(|count| count.active > 0),
            by_node,
        }
    }

    fn has_any(&self, node: &str) -> bool {
        self.by_node.contains_key(node)
    }

    /// kube-proxy falls back to terminating Pods where a node has no others; where another node has, they get nothing.
    fn weight(&self, node: &str, weighted: bool) -> Weight {
        let counted = self.by_node.get(node).map_or(0, |count| {
            if self.has_active {
                count.active
            } else {
                count.serving
            }
        });
        match (counted, weighted) {
            (0, _) => Weight::NONE,
            (_, false) => Weight::DEFAULT,
            (pods, true) => Weight::try_from(pods).unwrap_or(Weight::MAX),
        }
    }
}

#[cfg(test)]
mod tests;
