//! The nodes of a segment as kube-proxy sees them. It must not know what rules look like.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::view::{Endpoint, Family, NodeView, Service};
use crate::segment::Segment;

impl Segment {
    /// The range of all nodes' Pods.
    pub const fn all_pods(family: Family) -> (IpAddr, u8) {
        match family {
            Family::V4 => (IpAddr::V4(Ipv4Addr::new(10, 244, 0, 0)), 16),
            Family::V6 => (
                IpAddr::V6(Ipv6Addr::new(0xfd00, 0x244, 0, 0, 0, 0, 0, 0)),
                32,
            ),
        }
    }

    /// The range of Services' addresses, which no machine of the segment has.
    pub const fn cluster_addresses(family: Family) -> (IpAddr, u8) {
        match family {
            Family::V4 => (IpAddr::V4(Ipv4Addr::new(10, 96, 0, 0)), 16),
            Family::V6 => (
                IpAddr::V6(Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0)),
                112,
            ),
        }
    }

    /// What kube-proxy of a node knows: its node ports are at [`Segment::node`].
    pub fn node_view(family: Family, node: u8, services: Vec<Service>) -> NodeView {
        let addresses = Self::node(node).into_iter();
        NodeView {
            family,
            node: node_name(node),
            addresses: addresses.filter(|address| family.has(*address)).collect(),
            pods: Some(Self::all_pods(family)),
            cluster_addresses: Some(Self::cluster_addresses(family)),
            services,
        }
    }

    /// A Pod of a node as an endpoint, with its target port.
    pub fn endpoint(family: Family, node: u8, pod: u8, port: u16) -> Endpoint {
        let [v4, v6] = Self::pod(node, pod);
        let address = match family {
            Family::V4 => v4,
            Family::V6 => v6,
        };
        Endpoint {
            address: (address, port).into(),
            node: node_name(node),
        }
    }
}

fn node_name(node: u8) -> String {
    format!("node{node}")
}
