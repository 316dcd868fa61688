//! What the proxies have to know of the network: the nodes, where their Pods are, and who answers for the way there. Pure.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use podline_api::{Name, Network, Node, Route};

use super::routes;
use crate::cluster::family::is_special;
use crate::cluster::{Cluster, Family, Pod, Touched};
use crate::installation::port;

/// As many as a proxy takes.
const MOST_NODES: usize = 10_000;
/// Of one node.
const MOST_RANGES: usize = 1_000;
const MOST_ADDRESSES: usize = 100;

/// The network, made of the parts of its nodes, so that a change costs what it touches.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts {
    by_name: BTreeMap<Arc<str>, Part>,
}

impl Parts {
    /// Looks at the nodes that `touched` names; the whole network, if it differs from before. `namespace` is where the
    /// responders are: elsewhere anybody may call a Pod so.
    pub(super) fn update(
        &mut self,
        cluster: &Cluster,
        touched: &Touched,
        namespace: &str,
    ) -> Option<Network> {
        let names: Vec<Arc<str>> = if touched.all {
            let known = self.by_name.keys().cloned();
            let mut names: Vec<_> = cluster.nodes().map(|n| Arc::clone(&n.name)).collect();
            names.extend(known);
            names
        } else {
            touched.nodes.iter().cloned().collect()
        };
        let mut differs = false;
        for name in names {
            let now = part(cluster, &name, namespace);
            if self.by_name.get(&name) == now.as_ref() {
                continue;
            }
            differs = true;
            match now {
                Some(now) => self.by_name.insert(name, now),
                None => self.by_name.remove(&name),
            };
        }
        differs.then(|| assemble(&self.by_name))
    }
}

/// What one node adds to it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    node: Node,
    /// The ways to its Pods that nobody else knows.
    routes: Vec<Route>,
}

/// One node's part; `None` if it is not there, or cannot be named or reached.
fn part(cluster: &Cluster, name: &str, namespace: &str) -> Option<Part> {
    let node = cluster.node(name)?;
    let pods: Vec<&Pod> = cluster.pods_on(name).collect();
    let ranges = [Family::V4, Family::V6];
    let ranges = ranges
        .iter()
        .flat_map(|family| of_pods(*family, &node.pod_ranges, &pods));
    let mut pod_ranges: Vec<IpNet> = ranges.collect();
    pod_ranges.truncate(MOST_RANGES);
    let mut addresses = node.addresses.clone();
    addresses.retain(|ip| !is_special(*ip));
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(MOST_ADDRESSES);
    (!addresses.is_empty()).then_some(())?;
    let routes = routes::of_node(cluster, node, &pods);
    let node = Node {
        name: Name::try_from(name).ok()?,
        addresses,
        pod_ranges,
        responders: responders(&pods, namespace),
    };
    Some(Part { node, routes })
}

/// Where the Pods of a node are, in one family: its `podCIDRs`, if every Pod that is known lies in them, since many
/// networks give out addresses without regard to them; else each by itself.
fn of_pods(family: Family, ranges: &[IpNet], pods: &[&Pod]) -> Vec<IpNet> {
    let mut ranges: Vec<IpNet> = ranges.to_vec();
    ranges.retain(|range| Family::of(range.addr()) == family && range.prefix_len() > 0);
    let addresses = pods.iter().flat_map(|pod| &pod.addresses).copied();
    let mut addresses: Vec<IpAddr> = addresses
        .filter(|ip| Family::of(*ip) == family && !is_special(*ip))
        .collect();
    let is_inside = |ip: &IpAddr| ranges.iter().any(|range| range.contains(ip));
    if ranges.is_empty() || !addresses.iter().all(is_inside) {
        addresses.sort_unstable();
        ranges = addresses.into_iter().map(IpNet::from).collect();
    }
    ranges.sort_unstable();
    ranges.dedup();
    ranges
}

/// Where the responder of a node answers, once a family: of two, that which came later.
fn responders(pods: &[&Pod], namespace: &str) -> Vec<SocketAddr> {
    let is_ours =
        |pod: &&&Pod| pod.is_responder && !pod.is_deleting && &*pod.key.namespace == namespace;
    let newest = pods
        .iter()
        .filter(is_ours)
        .max_by_key(|pod| (pod.created, &pod.uid));
    let Some(pod) = newest else {
        return Vec::new();
    };
    let of = |family| {
        let mut of_family = pod.addresses.iter().copied();
        of_family.find(|ip| Family::of(*ip) == family && !is_special(*ip))
    };
    let both = [Family::V4, Family::V6].into_iter().filter_map(of);
    both.map(|ip| SocketAddr::new(ip, port::RESPONDER))
        .collect()
}

/// All of them, no address twice: of two nodes that claim one, the first by name has it.
fn assemble(parts: &BTreeMap<Arc<str>, Part>) -> Network {
    let mut taken: HashSet<IpAddr> = HashSet::new();
    let mut network = Network::default();
    for part in parts.values() {
        let mut node = part.node.clone();
        node.addresses.retain(|ip| taken.insert(*ip));
        if !node.addresses.is_empty() && network.nodes.len() < MOST_NODES {
            network.nodes.push(node);
        }
    }
    let routes = parts.values().map(|part| part.routes.as_slice());
    network.routes = routes::assemble(routes);
    network
}

#[cfg(test)]
mod tests;
