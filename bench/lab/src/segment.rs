//! Machines on one Ethernet segment, as in kind: a client, proxies, and nodes with Pods behind them.
//!
//! ```text
//!   client 10.88.0.1   proxies[i] 10.88.0.(100+i)   nodes[n] 10.88.0.(11+n)  ---  pods[i] 10.244.(1+n).(10+i)
//!          fd00:88::1             fd00:88::(100+i)           fd00:88::(11+n)             fd00:244:(1+n)::(10+i)
//!             |                       |                         |
//!   ----------+-----------------------+-------------------------+----------  a bridge in a namespace of its own
//! ```
//!
//! Everybody has routes to every node's Pods; in a tunnelled segment nodes and proxies reach them through a VXLAN, as
//! with flannel, and the client does not reach them. Without a switch, client and nodes hang on the proxy, each by a link
//! of its own with the same addresses. Numbers are written in decimal digits, in IPv6 addresses too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::LabError;
use crate::lab::Lab;
use crate::namespace::Namespace;
use crate::tunnel::End;

const ANY: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    IpAddr::V6(Ipv6Addr::UNSPECIFIED),
];
/// Prefixes of a network and of one host, in both families.
const NETWORK: [u8; 2] = [24, 64];
const HOST: [u8; 2] = [32, 128];
/// The VXLANs, as flannel calls them: one for each family.
const TUNNELS: [&str; 2] = ["flannel.1", "flannel-v6.1"];
const CNI_BRIDGE: &str = "cni0";

/// How Pods are joined to their node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cni {
    /// Each by a link of its own, with no neighbour but the gateway, as kindnet does.
    PointToPoint,
    /// All by the bridge `cni0`: Pods of a node reach each other without the node's routing.
    Bridge,
}

/// How machines are joined to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// By one bridge.
    Switch,
    /// Client and nodes each by a link of its own to the proxy, which routes between them. There is one proxy then, and no
    /// tunnel. No bridge's work is charged to anybody.
    Links,
}

/// What to build.
#[derive(Clone, Copy, Debug)]
pub struct SegmentPlan {
    /// How machines are joined to each other.
    pub wire: Wire,
    /// How Pods are joined to their node.
    pub cni: Cni,
    /// Proxies, at most 100.
    pub proxies: u8,
    /// Nodes, at most 80.
    pub nodes: u8,
    /// Pods of each node, at most 200.
    pub pods: u8,
    /// Whether nodes and proxies reach each other's Pods through a VXLAN.
    pub tunnelled: bool,
}

impl Default for SegmentPlan {
    /// Two proxies, two nodes with a Pod each, as in kind.
    fn default() -> Self {
        Self {
            wire: Wire::Switch,
            cni: Cni::PointToPoint,
            proxies: 2,
            nodes: 2,
            pods: 1,
            tunnelled: false,
        }
    }
}

/// Namespaces on one segment. The link of each towards it is `eth0`; without a switch the proxy's links are called as who
/// is behind them: client, node0, ... Forwarding is on in nodes and proxies, reverse path
/// filters are off everywhere.
#[derive(Debug)]
pub struct Segment {
    /// Where clients run.
    pub client: Namespace,
    /// Where proxies run.
    pub proxies: Vec<Namespace>,
    /// The nodes with their Pods.
    pub nodes: Vec<SegmentNode>,
    /// The bridge `br0` with a port for each machine, called as it is: client, proxy0, node0, ...; without ports if
    /// machines have links of their own.
    pub switch: Namespace,
    wire: Wire,
}

/// A node and its Pods.
#[derive(Debug)]
pub struct SegmentNode {
    /// The node itself; the links to its Pods are `pod0`, `pod1`, ...
    pub host: Namespace,
    /// Its Pods; their link is `eth0`.
    pub pods: Vec<Namespace>,
}

impl Segment {
    /// The client's addresses.
    pub const CLIENT: [IpAddr; 2] = machine(1);

    /// The addresses of the proxy with this index.
    pub const fn proxy(index: u8) -> [IpAddr; 2] {
        machine(100 + index)
    }

    /// The addresses of a proxy inside of the VXLAN of a tunnelled segment.
    pub const fn tunnelled_proxy(index: u8) -> [IpAddr; 2] {
        inner(100 + index, 0)
    }

    /// The addresses of the node with this index.
    pub const fn node(index: u8) -> [IpAddr; 2] {
        machine(11 + index)
    }

    /// The addresses of a Pod.
    pub const fn pod(node: u8, index: u8) -> [IpAddr; 2] {
        inner(1 + node, 10 + index)
    }

    /// The address of a node's Pods' gateway.
    pub const fn gateway(node: u8) -> [IpAddr; 2] {
        inner(1 + node, 1)
    }

    /// The network of a node's Pods, and how long its prefix is. Its first address is the node's inside of the VXLAN of a
    /// tunnelled segment.
    pub const fn pods(node: u8) -> [(IpAddr, u8); 2] {
        let [first, second] = inner(1 + node, 0);
        [(first, NETWORK[0]), (second, NETWORK[1])]
    }

    /// The VXLAN of a family in a tunnelled segment.
    pub const fn tunnel(family: usize) -> &'static str {
        TUNNELS[family]
    }

    /// Builds it.
    pub fn build(lab: &Lab, plan: SegmentPlan) -> Result<Self, LabError> {
        let switch = lab.namespace("switch")?;
        switch.bridge("br0")?;
        let mut proxies = Vec::new();
        for index in 0..plan.proxies {
            let name = format!("proxy{index}");
            proxies.push(match plan.wire {
                Wire::Switch => machine_on(lab, &switch, &name, Self::proxy(index))?,
                Wire::Links => lab.namespace(&name)?,
            });
        }
        let machine = |name: &str, addresses| match plan.wire {
            Wire::Switch => machine_on(lab, &switch, name, addresses),
            Wire::Links => machine_behind(lab, &proxies[0], name, addresses),
        };
        let client = machine("client", Self::CLIENT)?;
        let mut nodes = Vec::new();
        for index in 0..plan.nodes {
            let host = machine(&format!("node{index}"), Self::node(index))?;
            let pods = pods(lab, &host, index, plan)?;
            nodes.push(SegmentNode { host, pods });
        }
        let segment = Self {
            client,
            proxies,
            nodes,
            switch,
            wire: plan.wire,
        };
        if plan.tunnelled {
            segment.tunnels()?;
        } else {
            segment.routes()?;
        }
        segment.settings()?;
        Ok(segment)
    }

    /// Nodes and proxies, each with its number among the networks of Pods and its addresses.
    fn hosts(&self) -> Vec<(&Namespace, u8, [IpAddr; 2])> {
        let nodes = (0..).zip(&self.nodes);
        let nodes = nodes.map(|(index, node)| (&node.host, index, Self::node(index)));
        let proxies = (0..).zip(&self.proxies);
        let proxies = proxies.map(|(index, proxy)| (proxy, 99 + index, Self::proxy(index)));
        nodes.chain(proxies).collect()
    }

    /// The client, where it does not leave routing to the proxy.
    pub(crate) fn routing_clients(&self) -> Option<&Namespace> {
        (self.wire == Wire::Switch).then_some(&self.client)
    }

    fn routes(&self) -> Result<(), LabError> {
        let mut hosts = self.hosts();
        if self.wire == Wire::Links {
            hosts.drain(..self.nodes.len()); // as the client, they send all to the proxy
        }
        let everybody = hosts.iter().map(|(host, own, _)| (*host, Some(*own)));
        let clients = self.routing_clients().map(|client| (client, None));
        for (from, own) in everybody.chain(clients) {
            for index in (0..).take(self.nodes.len()) {
                if own == Some(index) {
                    continue;
                }
                for ((to, prefix), by) in Self::pods(index).into_iter().zip(Self::node(index)) {
                    from.route(to, prefix, by)?;
                }
            }
        }
        Ok(())
    }

    fn tunnels(&self) -> Result<(), LabError> {
        let hosts = self.hosts();
        for (family, tunnel) in TUNNELS.into_iter().enumerate() {
            for (host, own, addresses) in &hosts {
                host.tunnel(tunnel, "eth0", addresses[family])?;
                host.address(tunnel, Self::pods(*own)[family].0, HOST[family])?;
            }
            for (host, own, _) in &hosts {
                for (other, theirs, outside) in &hosts {
                    if own == theirs {
                        continue;
                    }
                    let (inside, prefix) = Self::pods(*theirs)[family];
                    let end = End {
                        inside,
                        mac: other.mac(tunnel)?,
                        outside: outside[family],
                    };
                    host.tunnel_to(tunnel, end)?;
                    host.route_over(inside, prefix, inside, tunnel)?;
                }
            }
        }
        Ok(())
    }

    fn settings(&self) -> Result<(), LabError> {
        for (host, _, _) in self.hosts() {
            host.sysctl("net/ipv4/ip_forward", "1")?;
            host.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        }
        let hosts = self.hosts().into_iter().map(|(host, _, _)| host);
        let pods = self.nodes.iter().flat_map(|node| &node.pods);
        for namespace in hosts.chain(pods).chain([&self.client]) {
            // The kernel takes the larger of `all` and the link's own.
            for link in namespace.links()?.iter().map(String::as_str).chain(["all"]) {
                namespace.sysctl(&format!("net/ipv4/conf/{link}/rp_filter"), "0")?;
            }
            namespace.sysctl("net/core/somaxconn", "65535")?;
            namespace.sysctl("net/ipv4/ip_local_port_range", "33000 65535")?;
        }
        Ok(())
    }
}

/// A machine with a link to the switch.
fn machine_on(
    lab: &Lab,
    switch: &Namespace,
    name: &str,
    addresses: [IpAddr; 2],
) -> Result<Namespace, LabError> {
    let machine = lab.namespace(name)?;
    switch.join(name, &machine, "eth0")?;
    switch.enslave(name, "br0")?;
    add(&machine, "eth0", addresses, NETWORK)?;
    Ok(machine)
}

/// A machine with a link to the proxy, by which it sends everything.
fn machine_behind(
    lab: &Lab,
    proxy: &Namespace,
    name: &str,
    addresses: [IpAddr; 2],
) -> Result<Namespace, LabError> {
    let machine = lab.namespace(name)?;
    proxy.join(name, &machine, "eth0")?;
    add(proxy, name, Segment::proxy(0), HOST)?;
    add(&machine, "eth0", addresses, HOST)?;
    for family in [0, 1] {
        let by = Segment::proxy(0)[family];
        proxy.route_on(addresses[family], HOST[family], name)?;
        machine.route_on(by, HOST[family], "eth0")?;
        machine.route(ANY[family], 0, by)?;
    }
    Ok(machine)
}

fn pods(
    lab: &Lab,
    host: &Namespace,
    node: u8,
    plan: SegmentPlan,
) -> Result<Vec<Namespace>, LabError> {
    let gateway = Segment::gateway(node);
    if plan.cni == Cni::Bridge {
        host.bridge(CNI_BRIDGE)?;
        add(host, CNI_BRIDGE, gateway, NETWORK)?;
    }
    let join = |index| {
        let pod = lab.namespace(&format!("pod{node}.{index}"))?;
        let (link, addresses) = (format!("pod{index}"), Segment::pod(node, index));
        host.join(&link, &pod, "eth0")?;
        match plan.cni {
            Cni::Bridge => {
                host.enslave(&link, CNI_BRIDGE)?;
                add(&pod, "eth0", addresses, NETWORK)?;
            }
            Cni::PointToPoint => {
                add(host, &link, gateway, HOST)?;
                add(&pod, "eth0", addresses, HOST)?;
                for family in [0, 1] {
                    host.route_on(addresses[family], HOST[family], &link)?;
                    pod.route_on(gateway[family], HOST[family], "eth0")?;
                }
            }
        }
        for family in [0, 1] {
            pod.route(ANY[family], 0, gateway[family])?;
        }
        Ok(pod)
    };
    (0..plan.pods).map(join).collect()
}

fn add(
    namespace: &Namespace,
    link: &str,
    addresses: [IpAddr; 2],
    prefixes: [u8; 2],
) -> Result<(), LabError> {
    for (address, prefix) in addresses.into_iter().zip(prefixes) {
        namespace.address(link, address, prefix)?;
    }
    Ok(())
}

const fn machine(host: u8) -> [IpAddr; 2] {
    let last = digits(host);
    [
        IpAddr::V4(Ipv4Addr::new(10, 88, 0, host)),
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0x88, 0, 0, 0, 0, 0, last)),
    ]
}

const fn inner(net: u8, host: u8) -> [IpAddr; 2] {
    let [net6, last] = [digits(net), digits(host)];
    [
        IpAddr::V4(Ipv4Addr::new(10, 244, net, host)),
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0x244, net6, 0, 0, 0, 0, last)),
    ]
}

/// A number whose hexadecimal digits are the decimal ones of `number`.
const fn digits(number: u8) -> u16 {
    let number = number as u16;
    number / 100 * 256 + number / 10 % 10 * 16 + number % 10
}
