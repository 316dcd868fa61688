//! A hub that routes between hosts: a cluster with load balancers and clients around it.
//!
//! ```text
//!   spokes[0]             hub             spokes[1]
//!   10.90.0.2  ----  10.90.0.1 | 10.90.1.1  ----  10.90.1.2
//!   fd00:90::2       fd00:90::1   fd00:90:0:1::1  fd00:90:0:1::2
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::LabError;
use crate::lab::Lab;
use crate::namespace::Namespace;

/// A hub and its spokes. Forwarding is on in the hub, reverse path filters are off everywhere.
#[derive(Debug)]
pub struct Star {
    /// Where everything meets; its links are called as the spokes are.
    pub hub: Namespace,
    /// The hosts around it, in the order of their names; their link is `eth0`, their default route the hub.
    pub spokes: Vec<Namespace>,
}

impl Star {
    /// The addresses of the spoke with this index.
    pub const fn spoke(index: u8) -> [IpAddr; 2] {
        Self::end(index, 2)
    }

    /// The hub's addresses towards that spoke.
    pub const fn hub(index: u8) -> [IpAddr; 2] {
        Self::end(index, 1)
    }

    const fn end(index: u8, host: u8) -> [IpAddr; 2] {
        [
            IpAddr::V4(Ipv4Addr::new(10, 90, index, host)),
            IpAddr::V6(Ipv6Addr::new(
                0xfd00,
                0x90,
                0,
                index as u16,
                0,
                0,
                0,
                host as u16,
            )),
        ]
    }

    /// Builds a hub with a spoke for each name; a link is called like its spoke, so at most 15 letters.
    pub fn build(lab: &Lab, names: &[&str]) -> Result<Self, LabError> {
        let hub = lab.namespace("hub")?;
        let mut star = Self {
            hub,
            spokes: Vec::new(),
        };
        for (index, name) in (0..).zip(names) {
            star.add(lab, index, name)?;
        }
        star.settings()?;
        Ok(star)
    }

    fn add(&mut self, lab: &Lab, index: u8, name: &str) -> Result<(), LabError> {
        let spoke = lab.namespace(name)?;
        self.hub.join(name, &spoke, "eth0")?;
        for (family, prefix) in [(0, 24), (1, 64)] {
            self.hub.address(name, Self::hub(index)[family], prefix)?;
            spoke.address("eth0", Self::spoke(index)[family], prefix)?;
        }
        spoke.route(Ipv4Addr::UNSPECIFIED.into(), 0, Self::hub(index)[0])?;
        spoke.route(Ipv6Addr::UNSPECIFIED.into(), 0, Self::hub(index)[1])?;
        self.spokes.push(spoke);
        Ok(())
    }

    fn settings(&self) -> Result<(), LabError> {
        self.hub.sysctl("net/ipv4/ip_forward", "1")?;
        self.hub.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        for namespace in [&self.hub].into_iter().chain(&self.spokes) {
            // The kernel takes the larger of `all` and the link's own.
            for link in namespace.links()?.iter().map(String::as_str).chain(["all"]) {
                namespace.sysctl(&format!("net/ipv4/conf/{link}/rp_filter"), "0")?;
            }
            namespace.sysctl("net/core/somaxconn", "65535")?;
            // Above the ports that servers of tests and node ports have.
            namespace.sysctl("net/ipv4/ip_local_port_range", "33000 65535")?;
        }
        Ok(())
    }
}
