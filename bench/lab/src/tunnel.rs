//! VXLAN links as flannel makes them: no learning, every other end written down. It must not know who the ends are.

use std::net::IpAddr;

use netlink_packet_route::neighbour::NeighbourFlags;
use rtnetlink::{Handle, LinkVxlan};

use crate::error::LabError;
use crate::namespace::Namespace;

/// Number and port of flannel's on Linux.
const NETWORK: u32 = 1;
const PORT: u16 = 8472;

/// The other end of a tunnel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    /// Its address inside of the tunnel.
    pub(crate) inside: IpAddr,
    /// Its Ethernet address there.
    pub(crate) mac: [u8; 6],
    /// Where the packets that hold the frames go.
    pub(crate) outside: IpAddr,
}

impl Namespace {
    /// Adds a VXLAN, up, whose packets leave `under` with the source `outside`.
    pub(crate) fn tunnel(&self, name: &str, under: &str, outside: IpAddr) -> Result<(), LabError> {
        let link = LinkVxlan::new(name, NETWORK)
            .dev(self.index(under)?)
            .port(PORT)
            .learning(false)
            .up();
        let link = match outside {
            IpAddr::V4(outside) => link.local(outside),
            IpAddr::V6(outside) => link.local6(outside),
        };
        self.add_link(name, link.build())
    }

    /// Tells the VXLAN `link` of another end.
    pub(crate) fn tunnel_to(&self, link: &str, end: End) -> Result<(), LabError> {
        let index = self.index(link)?;
        let what = self.what("add the other end of", link);
        let add = move |netlink: Handle| async move {
            let neighbours = netlink.neighbours();
            let forwarding = neighbours.add_bridge(index, &end.mac);
            let forwarding = forwarding.flags(NeighbourFlags::Own);
            forwarding.destination(end.outside).execute().await?;
            let inside = neighbours.add(index, end.inside);
            inside.link_layer_address(&end.mac).execute().await
        };
        self.netlink(add).map_err(LabError::netlink(what))
    }
}
