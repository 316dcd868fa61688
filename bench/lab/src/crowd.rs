//! Many addresses of one Pod: it has every address of a range, so that thousands of backends need no processes of their
//! own. A server behind them listens on every address (`0.0.0.0`). IPv4 only.
//!
//! ```text
//!   100.64.0.0/10, a /17 of it for each node, a /20 of that for each Pod
//! ```

use std::net::{IpAddr, Ipv4Addr};

use crate::error::LabError;
use crate::segment::Segment;

/// The first address of all.
const FIRST: u32 = u32::from_be_bytes([100, 64, 0, 0]);
/// How many low bits tell the addresses of a node and of a Pod apart.
const NODE_BITS: u8 = 15;
const POD_BITS: u8 = 12;

impl Segment {
    /// Addresses of a Pod's crowd.
    pub const CROWD: u16 = 1 << POD_BITS;
    /// Pods of a node that can have one, by their index.
    pub const CROWDS: u8 = 1 << (NODE_BITS - POD_BITS);

    /// The address of a Pod's crowd with this number, modulo [`Self::CROWD`].
    pub const fn crowd(node: u8, index: u8, number: u16) -> IpAddr {
        let pod = (index % Self::CROWDS) as u32;
        let number = (number % Self::CROWD) as u32;
        let address = FIRST + ((node as u32) << NODE_BITS) + (pod << POD_BITS) + number;
        IpAddr::V4(Ipv4Addr::from_bits(address))
    }

    /// Gives a Pod its crowd: everybody reaches it there, as at its own address.
    pub fn give_crowd(&self, node: u8, index: u8) -> Result<(), LabError> {
        let first = Self::crowd(node, index, 0);
        let prefix = 32 - POD_BITS;
        let host = &self.nodes[usize::from(node)];
        host.pods[usize::from(index)].route_local(first, prefix)?;
        // By the Pod's own address: as neighbours, so many addresses would overflow the kernel's table.
        let [own, _] = Self::pod(node, index);
        let link = format!("pod{index}");
        host.host.route_over(first, prefix, own, &link)?;
        let [by, _] = Self::node(node);
        for from in self.proxies.iter().chain(self.routing_clients()) {
            from.route(first, prefix, by)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crowds_do_not_meet() {
        let at = |node, index, number| Segment::crowd(node, index, number).to_string();
        assert_eq!(at(0, 0, 0), "100.64.0.0");
        assert_eq!(at(0, 0, Segment::CROWD - 1), "100.64.15.255");
        assert_eq!(at(0, 1, 0), "100.64.16.0");
        assert_eq!(
            at(0, Segment::CROWDS - 1, Segment::CROWD - 1),
            "100.64.127.255"
        );
        assert_eq!(at(1, 0, 0), "100.64.128.0");
        assert_eq!(at(79, 7, Segment::CROWD - 1), "100.103.255.255");
    }
}
