//! TKE's network modes: which one Pods use, and whether it lets a Service go straight to them. They mean something only
//! where TKE was: elsewhere every Pod is bound as it is. Pure.

use std::collections::BTreeMap;
use std::fmt;

use super::note::{Note, Reason};
use crate::cluster::switches::{GLOBAL_ROUTES, NAME, NAMESPACE};
use crate::cluster::{Cluster, Key, Pod, Service};

/// How a Pod is in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NetworkMode {
    /// With an address of the cloud's network.
    VpcCni,
    /// With an address of its node's network, which others reach by way of the node.
    GlobalRouter,
}

impl fmt::Display for NetworkMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::VpcCni => "VPC-CNI",
            Self::GlobalRouter => "GlobalRouter",
        })
    }
}

/// The mode of a Pod; nothing if it is in neither, or modes mean nothing here.
pub(super) fn of_pod(cluster: &Cluster, pod: &Pod) -> Option<NetworkMode> {
    cluster.global_routes()?;
    if pod.is_vpc_cni {
        return Some(NetworkMode::VpcCni);
    }
    let node = cluster.node(pod.node.as_deref()?)?;
    let is_of_node = |address| node.pod_ranges.iter().any(|range| range.contains(address));
    let is_global = !pod.addresses.is_empty() && pod.addresses.iter().all(is_of_node);
    is_global.then_some(NetworkMode::GlobalRouter)
}

/// The modes that Services' Pods were bound in.
pub(super) type OfServices = BTreeMap<Key, NetworkMode>;

/// The mode that a Service's Pods use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Modes<'a> {
    cluster: &'a Cluster,
    /// What they used before, for as long as any of them does; else what the oldest use, of what is allowed.
    used: Option<NetworkMode>,
}

impl<'a> Modes<'a> {
    /// Looks at the Pods that the Service's slices name. `before`: what they used so far, if that is known.
    pub(crate) fn of(cluster: &'a Cluster, service: &Service, before: Option<NetworkMode>) -> Self {
        let mut modes = Self {
            cluster,
            used: None,
        };
        if cluster.global_routes().is_none() {
            return modes;
        }
        let endpoints = cluster.slices_of(&service.key);
        let endpoints = endpoints.flat_map(|slice| &slice.endpoints);
        let pods = endpoints.filter_map(|endpoint| cluster.pod_behind(endpoint));
        let pods = pods.filter(|pod| {
            pod.key.namespace == service.key.namespace && !pod.is_host_network && !pod.has_ended
        });
        let known = pods.filter_map(|pod| Some((pod, of_pod(cluster, pod)?)));
        let allowed = known.filter(|(_, mode)| modes.allows(*mode));
        let first = allowed.min_by_key(|(pod, mode)| {
            let is_other = before.is_some_and(|before| before != *mode);
            (pod.is_deleting, is_other, pod.created, &pod.uid)
        });
        modes.used = first.map(|(_, mode)| mode);
        modes
    }

    /// What its Pods use.
    pub(crate) const fn used(&self) -> Option<NetworkMode> {
        self.used
    }

    fn allows(&self, mode: NetworkMode) -> bool {
        mode == NetworkMode::VpcCni || self.cluster.global_routes() == Some(true)
    }

    /// Why a Pod may not be bound, if it may not. One that is being deleted is not put out besides.
    pub(crate) fn refuse(&self, pod: &Pod) -> Option<Note> {
        let mode = of_pod(self.cluster, pod).filter(|_| !pod.is_deleting)?;
        if !self.allows(mode) {
            let message = format!(
                "Pods with network mode {mode} are not bound: set {GLOBAL_ROUTES}: \"true\" in ConfigMap {NAMESPACE}/{NAME}, or use node ports"
            );
            return Some(Note::new(Reason::NetworkModeRefused, message));
        }
        let used = self.used.filter(|used| *used != mode)?;
        let message = format!(
            "Pods with network mode {mode} are not bound: those that are use {used}, and one workload uses one mode"
        );
        Some(Note::new(Reason::NetworkModeMixed, message))
    }
}

#[cfg(test)]
mod tests;
