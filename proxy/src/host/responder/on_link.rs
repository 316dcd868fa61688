//! Whether this host, as a rule a Pod, reaches its neighbours without a gateway.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::wire::Saw;
use crate::host::{Family, HostError, Routing};

/// For each IP version, in the order of [`Family::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OnLink([bool; 2]);

impl OnLink {
    /// Asks the kernel. What it does not tell counts as no.
    pub(super) fn look() -> Self {
        Self(Family::ALL.map(|family| is_on_link(family).unwrap_or_default()))
    }

    /// What is said to `peer`.
    pub(super) fn saw(self, peer: SocketAddr) -> Saw {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let [v4, v6] = self.0;
        let is_on_link = if peer.is_ipv4() { v4 } else { v6 };
        Saw { peer, is_on_link }
    }
}

impl fmt::Display for OnLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [v4, v6] = self.0;
        write!(f, "IPv4 {v4}, IPv6 {v6}")
    }
}

/// Whether the address beside one of our own is reached without a gateway.
fn is_on_link(family: Family) -> Result<bool, HostError> {
    let mut routing = Routing::open()?;
    let own = routing.host_addresses(family)?;
    for address in own.iter().map(|own| own.network.addr()) {
        if address.is_loopback() || is_link_local(address) {
            continue;
        }
        for neighbour in beside(address) {
            if let Some(hop) = routing.next_hop(neighbour)?
                && hop.gateway.is_none()
                && !hop.is_local
            {
                // The gateway itself is always reached so: one of the two is not it.
                continue;
            }
            return Ok(false);
        }
        return Ok(true);
    }
    Ok(false)
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// Two addresses that differ from this one in a late bit each.
fn beside(address: IpAddr) -> [IpAddr; 2] {
    [2, 4].map(|bit| match address {
        IpAddr::V4(address) => IpAddr::V4((address.to_bits() ^ bit).into()),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() ^ u128::from(bit)).into()),
    })
}
