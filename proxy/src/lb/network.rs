//! Whether a backend may see the client's own address: what is known of the ways between this proxy and the nodes, and
//! the decision for one connection or flow.
//!
//! Start with [`NetworkView::source`]. It must not know how a way is proven, nor how a socket imitates a client.

mod ranges;

use super::backend::BackendRuntime;
use podline_api::{Network, PortShare, SourceAddress};
use ranges::Ranges;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Names a node for as long as the process lives; a node that leaves and comes back under its name has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

impl NodeId {
    /// What stands for no node where a number is kept.
    pub const NONE: u32 = u32::MAX;
}

/// The way between this proxy and a node, for one IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId {
    /// The node.
    pub node: NodeId,
    /// IPv6, else IPv4.
    pub ipv6: bool,
}

/// What is known of a way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Path {
    /// Not tried, or nobody to ask.
    #[default]
    Unproven,
    /// An imitated address was seen, and the answer came back here.
    Proven {
        /// Backends of the node reach their neighbours without their node's help.
        bridged: bool,
    },
    /// It was tried and does not work.
    Failed,
}

/// Why a connection whose listener wants to imitate the client does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SnatReason {
    /// The backend would talk to itself.
    ClientIsBackend,
    /// Answers to a node's address do not leave that node, or come from it and are martian here.
    ClientIsNode,
    /// The backend would answer its neighbour directly.
    ClientBesideBackend,
    /// The client speaks another IP version than the backend.
    OtherFamily,
    /// That answers come back through this proxy is not proven.
    Unproven,
    /// It is not known which node the backend runs on.
    NodeUnknown,
    /// This process can imitate nobody.
    NoPrivilege,
    /// The backend did not answer the imitated client in time, and did answer the proxy.
    NoAnswer,
    /// All ports of the client's address towards this backend are taken.
    PortsExhausted,
    /// Nobody can be imitated at such an address: loopback, link-local, multicast, the proxy's own.
    SpecialClient,
    /// Imitating flows take a socket each, and there are as many as may be.
    TooManyFlows,
}

impl SnatReason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::ClientIsBackend,
        Self::ClientIsNode,
        Self::ClientBesideBackend,
        Self::OtherFamily,
        Self::Unproven,
        Self::NodeUnknown,
        Self::NoPrivilege,
        Self::NoAnswer,
        Self::PortsExhausted,
        Self::SpecialClient,
        Self::TooManyFlows,
    ];

    /// As status and metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClientIsBackend => "CLIENT_IS_BACKEND",
            Self::ClientIsNode => "CLIENT_IS_NODE",
            Self::ClientBesideBackend => "CLIENT_BESIDE_BACKEND",
            Self::OtherFamily => "OTHER_FAMILY",
            Self::Unproven => "UNPROVEN",
            Self::NodeUnknown => "NODE_UNKNOWN",
            Self::NoPrivilege => "NO_PRIVILEGE",
            Self::NoAnswer => "NO_ANSWER",
            Self::PortsExhausted => "PORTS_EXHAUSTED",
            Self::SpecialClient => "SPECIAL_CLIENT",
            Self::TooManyFlows => "TOO_MANY_FLOWS",
        }
    }
}

/// Which source address a backend is to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The proxy's; with the reason where the client's was wanted.
    Snat(Option<SnatReason>),
    /// The client's.
    Transparent,
    /// The client's was insisted on and cannot work: this backend is unreachable for this client.
    Impossible(SnatReason),
}

impl SnatReason {
    /// What comes of the reason where `wanted` was wanted.
    pub fn meets(self, wanted: SourceAddress) -> Source {
        match wanted {
            SourceAddress::Snat => Source::Snat(None),
            SourceAddress::PreferTransparent => Source::Snat(Some(self)),
            SourceAddress::Transparent => Source::Impossible(self),
        }
    }
}

/// What is known of the network, as of one version. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub struct NetworkView {
    /// This process can bind to clients' addresses, and gets the answers.
    pub can_imitate: bool,
    /// The source ports that imitating sockets use, both ends included; none: the kernel's choice.
    pub ports: Option<(u16, u16)>,
    /// What sockets to backends on a route of ours are marked with.
    pub route_mark: Option<u32>,
    map: Arc<Map>,
    /// The addresses of the proxy's own machine.
    own: Arc<HashSet<IpAddr>>,
    paths: imbl::HashMap<PathId, Path>,
}

/// What owners say of the network.
#[derive(Debug, Default)]
struct Map {
    nodes: HashMap<IpAddr, NodeId>,
    pods: Ranges<NodeId>,
    routes: Ranges<()>,
}

impl NetworkView {
    /// Which source address `backend` is to see of a connection from `client`.
    pub fn source(
        &self,
        wanted: SourceAddress,
        client: IpAddr,
        backend: &BackendRuntime,
    ) -> Source {
        if wanted == SourceAddress::Snat {
            return Source::Snat(None);
        }
        let (client, address) = (client.to_canonical(), backend.key.address.ip());
        match self.obstacle(wanted, client, address, backend.node()) {
            Some(reason) => reason.meets(wanted),
            None => Source::Transparent,
        }
    }

    /// The first thing that speaks against imitating `client`.
    fn obstacle(
        &self,
        wanted: SourceAddress,
        client: IpAddr,
        backend: IpAddr,
        node: Option<NodeId>,
    ) -> Option<SnatReason> {
        let ipv6 = backend.is_ipv6();
        if !self.can_imitate {
            return Some(SnatReason::NoPrivilege);
        }
        if client.is_ipv6() != ipv6 {
            return Some(SnatReason::OtherFamily);
        }
        if client == backend {
            return Some(SnatReason::ClientIsBackend);
        }
        if self.map.nodes.contains_key(&client) {
            return Some(SnatReason::ClientIsNode);
        }
        if is_special(client) || self.own.contains(&client) {
            return Some(SnatReason::SpecialClient);
        }
        let is_vouched_for = wanted == SourceAddress::Transparent;
        let Some(node) = node else {
            return (!is_vouched_for).then_some(SnatReason::NodeUnknown);
        };
        let path = self.path(PathId { node, ipv6 });
        let is_beside = || self.map.pods.find(client) == Some(&node);
        match path {
            Path::Proven { bridged: true } if is_beside() => Some(SnatReason::ClientBesideBackend),
            Path::Proven { .. } => None,
            Path::Unproven | Path::Failed if is_vouched_for => None,
            Path::Unproven | Path::Failed if is_beside() => Some(SnatReason::ClientBesideBackend),
            Path::Unproven | Path::Failed => Some(SnatReason::Unproven),
        }
    }

    /// What is known of a way.
    pub fn path(&self, id: PathId) -> Path {
        self.paths.get(&id).copied().unwrap_or_default()
    }

    /// What a socket that connects to `backend` has to be marked with, if it does not go by the kernel's own routes.
    pub fn mark(&self, backend: IpAddr) -> Option<u32> {
        let mark = self.route_mark?;
        self.map.routes.find(backend).map(|()| mark)
    }

    /// The node that has `address` as its own.
    pub fn node_at(&self, address: IpAddr) -> Option<NodeId> {
        self.map.nodes.get(&address).copied()
    }

    /// The node whose pod ranges hold `address`.
    pub fn node_of(&self, address: IpAddr) -> Option<NodeId> {
        self.map.pods.find(address).copied()
    }

    /// Learns what a proof found.
    pub fn set_path(&mut self, id: PathId, path: Path) {
        match path {
            Path::Unproven => self.paths.remove(&id),
            _ => self.paths.insert(id, path),
        };
    }

    /// The addresses of the proxy's own machine.
    pub fn own(&self) -> &HashSet<IpAddr> {
        &self.own
    }

    /// Learns the addresses of the proxy's own machine.
    pub fn set_own(&mut self, own: HashSet<IpAddr>) {
        self.own = Arc::new(own);
    }

    /// Learns what owners say; `id` names nodes. What was found out of nodes that are gone is forgotten.
    pub fn set_networks<'a>(
        &mut self,
        networks: impl Iterator<Item = &'a Network>,
        mut id: impl FnMut(&'a podline_api::Name) -> NodeId,
    ) {
        let (mut map, mut there) = (Map::default(), HashSet::new());
        for network in networks {
            for node in &network.nodes {
                let node_id = id(&node.name);
                there.insert(node_id);
                for address in &node.addresses {
                    map.nodes.insert(*address, node_id);
                }
                for range in &node.pod_ranges {
                    map.pods.put(*range, node_id);
                }
            }
            for route in &network.routes {
                map.routes.put(route.to, ());
            }
        }
        self.map = Arc::new(map);
        self.paths.retain(|id, _| there.contains(&id.node));
    }
}

/// The ports of a share of `all`, both ends included.
pub fn ports_of(share: PortShare, all: (u16, u16)) -> (u16, u16) {
    let (low, high) = (u32::from(all.0), u32::from(all.1));
    let (slot, slots) = (u32::from(share.slot), u32::from(share.slots));
    let width = (high + 1).saturating_sub(low) / slots.max(1);
    let first = low + slot * width.max(1);
    let last = first + width.max(1) - 1;
    let port = |port: u32| u16::try_from(port.min(high)).unwrap_or(u16::MAX);
    (port(first), port(last))
}

/// The reserved address that the proxy with this share of the ports imitates, so that several do not meet.
pub fn proof_source(ipv6: bool, slot: u16) -> IpAddr {
    if ipv6 {
        [0x2001, 2, 0, slot, 0, 0, 0, 1].into()
    } else {
        let [high, low] = slot.to_be_bytes();
        [198, 18 + (high & 1), low, 1].into()
    }
}

/// No client can be imitated at such an address, whoever it is.
fn is_special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.octets()[0] == 0
                || v4.octets()[0] >= 224 // multicast, reserved, broadcast
                || v4.is_loopback()
                || v4.is_link_local()
        }
        IpAddr::V6(v6) => {
            v6.is_unspecified()
                || v6.is_loopback()
                || v6.is_multicast()
                || v6.is_unicast_link_local()
        }
    }
}

impl BackendRuntime {
    /// The node it runs on, if that is known.
    pub fn node(&self) -> Option<NodeId> {
        let node = self.node.load(Relaxed);
        (node != NodeId::NONE).then_some(NodeId(node))
    }
}

#[cfg(test)]
mod tests;
