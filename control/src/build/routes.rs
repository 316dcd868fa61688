//! The ways to Pods that only their node knows: TKE's GlobalRouter gives Pods addresses of their node's network, and the
//! cloud routes that. Here the proxies do, by the node's internal address (K17). Pure.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;
use podline_api::Route;

use super::modes::{NetworkMode, of_pod};
use crate::cluster::family::is_special;
use crate::cluster::{Cluster, Family, Node, Pod};

/// As many as a proxy takes.
const MOST: usize = 100_000;
/// Of one node and family.
const MOST_OF_NODE: usize = 1_000;

/// The routes to the Pods of a node: to its network, if every Pod that is known lies there; else to each Pod.
pub(super) fn of_node(cluster: &Cluster, node: &Node, pods: &[&Pod]) -> Vec<Route> {
    if cluster.global_routes() != Some(true) {
        return Vec::new();
    }
    let families = [Family::V4, Family::V6].into_iter();
    families
        .flat_map(|family| of_family(cluster, node, pods, family))
        .collect()
}

fn of_family(cluster: &Cluster, node: &Node, pods: &[&Pod], family: Family) -> Vec<Route> {
    let Some(via) = node.internal_of(family).filter(|ip| !is_special(*ip)) else {
        return Vec::new();
    };
    let of_family = |pod: &&Pod| -> Vec<IpAddr> {
        let addresses = pod.addresses.iter().copied();
        addresses.filter(|ip| Family::of(*ip) == family).collect()
    };
    let is_global = |pod: &&&Pod| of_pod(cluster, pod) == Some(NetworkMode::GlobalRouter);
    let mut routed: Vec<IpAddr> = pods.iter().filter(is_global).flat_map(of_family).collect();
    routed.retain(|ip| !is_special(*ip) && !node.addresses.contains(ip));
    routed.sort_unstable();
    routed.dedup();
    routed.truncate(MOST_OF_NODE);
    let all: Vec<IpAddr> = pods.iter().flat_map(of_family).collect();
    let mut ranges: Vec<IpNet> = node.pod_ranges.clone();
    ranges.retain(|range| routed.iter().any(|ip| range.contains(ip)) && range.prefix_len() > 0);
    let is_inside = |ip: &IpAddr| ranges.iter().any(|range| range.contains(ip));
    // What leads to the node must not go by the node.
    let holds_node = ranges
        .iter()
        .any(|range| node.addresses.iter().any(|ip| range.contains(ip)));
    if !all.iter().all(is_inside) || holds_node {
        ranges = routed.into_iter().map(IpNet::from).collect();
    }
    ranges.into_iter().map(|to| Route { to, via }).collect()
}

/// All of them, none to one destination twice: of two nodes that claim one, the first has it.
pub(super) fn assemble<'a>(parts: impl Iterator<Item = &'a [Route]>) -> Vec<Route> {
    let mut taken = HashSet::new();
    let all = parts.flatten().copied();
    all.filter(|route| taken.insert(route.to))
        .take(MOST)
        .collect()
}

#[cfg(test)]
mod tests;
