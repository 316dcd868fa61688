//! The network between a proxy and the backends, as far as the proxy cannot see it for itself.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::address::{backend_address, host};
use crate::document::refuse_same_names;
use crate::invalid::Checks;
use crate::limits::source_range;
use crate::{Invalid, Name, VirtualAddress, v1};

/// One owner's view of the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// No name twice, and no address of one at another.
    pub nodes: Vec<Node>,
    /// No destination twice.
    pub routes: Vec<Route>,
    /// The part of the source ports that transparent connections use; absent: all.
    pub port_share: Option<PortShare>,
    /// No address twice.
    pub addresses: Vec<VirtualAddress>,
}

/// A machine that backends run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Unique in the proxy, over all owners.
    pub name: Name,
    /// Its own addresses, at least one.
    pub addresses: Vec<IpAddr>,
    /// Its backends' addresses; networks without host bits.
    pub pod_ranges: Vec<IpNet>,
    /// Where the way to its backends can be proven, at most one for each IP version.
    pub responders: Vec<SocketAddr>,
}

/// A way to backends that the kernel's own tables do not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to; without host bits.
    pub to: IpNet,
    /// The next hop, of the same IP version.
    pub via: IpAddr,
}

/// One of `slots` equal parts of the source ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortShare {
    /// Which one: below `slots`.
    pub slot: u16,
    /// How many there are: 1 to 256.
    pub slots: u16,
}

const MAX_NODES: usize = 10_000;
const MAX_ROUTES: usize = 100_000;
const MAX_VIRTUAL: usize = 1_000;
const MAX_RANGES: usize = 1_000;
const MAX_ADDRESSES: usize = 100;

impl Network {
    /// It says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl TryFrom<v1::Network> for Network {
    type Error = Invalid;

    fn try_from(wire: v1::Network) -> Result<Self, Invalid> {
        let mut checks = Checks::default();
        let nodes = bounded(&mut checks, "nodes", wire.nodes, MAX_NODES);
        let nodes = checks.each("nodes", nodes, Node::try_from);
        let names = nodes.iter().map(|(i, node)| (*i, &node.name));
        refuse_same_names(&mut checks, "nodes", ".name", names);
        let mut first: HashMap<IpAddr, usize> = HashMap::new();
        for (i, node) in &nodes {
            for address in &node.addresses {
                let earlier = *first.entry(*address).or_insert(*i);
                if earlier != *i {
                    let problem = format!("{address} is an address of nodes[{earlier}] too");
                    checks.refuse(format_args!("nodes[{i}].addresses"), problem);
                }
            }
        }
        let routes = bounded(&mut checks, "routes", wire.routes, MAX_ROUTES);
        let routes = checks.each("routes", routes, Route::try_from);
        let mut first: HashMap<IpNet, usize> = HashMap::new();
        for (i, route) in &routes {
            let earlier = *first.entry(route.to).or_insert(*i);
            if earlier != *i {
                let problem = format!("{} is the destination of routes[{earlier}] too", route.to);
                checks.refuse(format_args!("routes[{i}].to"), problem);
            }
        }
        let share = wire.port_share.map(PortShare::try_from).transpose();
        let port_share = checks.take("portShare", share);
        let addresses = virtual_addresses(&mut checks, wire.addresses);
        checks.finish(port_share.map(|port_share| Self {
            nodes: nodes.into_iter().map(|(_, node)| node).collect(),
            routes: routes.into_iter().map(|(_, route)| route).collect(),
            port_share,
            addresses,
        }))
    }
}

fn virtual_addresses(checks: &mut Checks, wire: Vec<v1::VirtualAddress>) -> Vec<VirtualAddress> {
    let addresses = bounded(checks, "addresses", wire, MAX_VIRTUAL);
    let addresses = checks.each("addresses", addresses, VirtualAddress::try_from);
    let mut first: HashMap<IpAddr, usize> = HashMap::new();
    for (i, named) in &addresses {
        let earlier = *first.entry(named.address).or_insert(*i);
        if earlier != *i {
            let problem = format!("{} is addresses[{earlier}] too", named.address);
            checks.refuse(format_args!("addresses[{i}].address"), problem);
        }
    }
    addresses.into_iter().map(|(_, address)| address).collect()
}

fn bounded<T>(checks: &mut Checks, list: &str, mut entries: Vec<T>, most: usize) -> Vec<T> {
    if entries.len() > most {
        let problem = format!("{} entries are too many: use {most} at most", entries.len());
        checks.refuse(list, problem);
        entries.truncate(most);
    }
    entries
}

impl TryFrom<v1::Node> for Node {
    type Error = Invalid;

    fn try_from(wire: v1::Node) -> Result<Self, Invalid> {
        let mut checks = Checks::default();
        let name = checks.take("name", Name::try_from(wire.name));
        if wire.addresses.is_empty() {
            checks.refuse("addresses", "is required: write at least one");
        }
        let addresses = bounded(&mut checks, "addresses", wire.addresses, MAX_ADDRESSES);
        let addresses = checks.each("addresses", addresses, |text| host(&text));
        let ranges = bounded(&mut checks, "podRanges", wire.pod_ranges, MAX_RANGES);
        let pod_ranges = checks.each("podRanges", ranges, |text| source_range(&text));
        let responders = checks.each("responders", wire.responders, |text| backend_address(&text));
        for is_ipv4 in [true, false] {
            let of_version = responders.iter().filter(|(_, r)| r.is_ipv4() == is_ipv4);
            if let Some((i, _)) = of_version.skip(1).last() {
                let problem = "is a second one of this IP version: use one";
                checks.refuse(format_args!("responders[{i}]"), problem);
            }
        }
        checks.finish(name.map(|name| Self {
            name,
            addresses: addresses.into_iter().map(|(_, address)| address).collect(),
            pod_ranges: pod_ranges.into_iter().map(|(_, range)| range).collect(),
            responders: responders.into_iter().map(|(_, address)| address).collect(),
        }))
    }
}

impl TryFrom<v1::Route> for Route {
    type Error = Invalid;

    fn try_from(wire: v1::Route) -> Result<Self, Invalid> {
        let mut checks = Checks::default();
        let to = checks.take("to", source_range(&wire.to));
        let via = checks.take("via", host(&wire.via));
        let both = to.zip(via);
        if let Some((to, via)) = both
            && to.addr().is_ipv4() != via.is_ipv4()
        {
            checks.refuse("via", format!("{via} is of another IP version than {to}"));
        }
        checks.finish(both.map(|(to, via)| Self { to, via }))
    }
}

impl TryFrom<v1::PortShare> for PortShare {
    type Error = Invalid;

    fn try_from(wire: v1::PortShare) -> Result<Self, Invalid> {
        let mut checks = Checks::default();
        let below = |most: u32, value: u32| u16::try_from(value).ok().filter(|_| value < most);
        let slots = below(257, wire.slots).filter(|slots| *slots > 0);
        let slot = below(wire.slots, wire.slot);
        if slots.is_none() {
            checks.refuse(
                "slots",
                format!("{} is out of range: use 1 to 256", wire.slots),
            );
        } else if slot.is_none() {
            checks.refuse(
                "slot",
                format!("{} is no slot of {}", wire.slot, wire.slots),
            );
        }
        checks.finish(slot.zip(slots).map(|(slot, slots)| Self { slot, slots }))
    }
}

impl From<&Network> for v1::Network {
    fn from(network: &Network) -> Self {
        Self {
            nodes: network.nodes.iter().map(Into::into).collect(),
            routes: network
                .routes
                .iter()
                .map(|route| v1::Route {
                    to: route.to.to_string(),
                    via: route.via.to_string(),
                })
                .collect(),
            port_share: network.port_share.map(|share| v1::PortShare {
                slot: share.slot.into(),
                slots: share.slots.into(),
            }),
            addresses: network.addresses.iter().map(Into::into).collect(),
        }
    }
}

impl From<&Node> for v1::Node {
    fn from(node: &Node) -> Self {
        fn texts<T: ToString>(values: &[T]) -> Vec<String> {
            values.iter().map(ToString::to_string).collect()
        }
        Self {
            name: (&node.name).into(),
            addresses: texts(&node.addresses),
            pod_ranges: texts(&node.pod_ranges),
            responders: texts(&node.responders),
        }
    }
}
