//! Neighbours on a link, and the other ends of a VXLAN: which Ethernet address belongs to which IP address.

use std::net::IpAddr;

use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::routing::{Routing, Want};
use super::{Family, HostError, Mac};

/// What the kernel knows of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    /// The link that it is on.
    pub link: u32,
    /// Its address; of an entry of a VXLAN's forwarding table: the address of the tunnel's other end.
    pub address: IpAddr,
    /// Its Ethernet address.
    pub mac: Mac,
}

impl Routing {
    /// The Ethernet address of a neighbour; absent while it is not known.
    pub fn neighbour(&mut self, link: u32, address: IpAddr) -> Result<Option<Mac>, HostError> {
        let message = message(Family::of(address).into(), link, Some(address));
        match self.ask(RouteNetlinkMessage::GetNeighbour(message), Want::One) {
            Ok(replies) => Ok(replies.iter().find_map(read).map(|found| found.mac)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(HostError::new(format!("look up the neighbour {address}"))(
                error,
            )),
        }
    }

    /// All neighbours of an IP version on a link whose Ethernet address is known.
    pub fn neighbours(&mut self, family: Family, link: u32) -> Result<Vec<Neighbour>, HostError> {
        let mut ask = message(family.into(), 0, None);
        ask.attributes.push(NeighbourAttribute::IfIndex(link));
        self.list_neighbours(ask, link, "list the neighbours")
    }

    /// The forwarding table of a VXLAN: the Ethernet address on it of each other end.
    pub fn tunnel_ends(&mut self, link: u32) -> Result<Vec<Neighbour>, HostError> {
        // The kernel lists by bridge family, and filters by the header's link.
        let ask = message(AddressFamily::Bridge, link, None);
        self.list_neighbours(ask, link, "list a VXLAN's forwarding table")
    }

    fn list_neighbours(
        &mut self,
        ask: NeighbourMessage,
        link: u32,
        what: &str,
    ) -> Result<Vec<Neighbour>, HostError> {
        let replies = self
            .ask(RouteNetlinkMessage::GetNeighbour(ask), Want::All)
            .map_err(HostError::new(what))?;
        let found = replies.iter().filter_map(read);
        Ok(found.filter(|found| found.link == link).collect())
    }

    /// Makes the kernel find out, or check, the Ethernet address of a neighbour, as a packet to it would. The answer is
    /// there a little later.
    pub fn resolve(&mut self, link: u32, address: IpAddr) -> Result<(), HostError> {
        let mut message = message(Family::of(address).into(), link, Some(address));
        message.header.flags = NeighbourFlags::Use;
        message.header.state = NeighbourState::None;
        self.ask(RouteNetlinkMessage::NewNeighbour(message), Want::Replace)
            .map_err(HostError::new(format!("resolve the neighbour {address}")))?;
        Ok(())
    }
}

fn message(family: AddressFamily, link: u32, address: Option<IpAddr>) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family;
    message.header.ifindex = link;
    if let Some(address) = address {
        let to = NeighbourAttribute::Destination(address.into());
        message.attributes.push(to);
    }
    message
}

/// Absent while the kernel does not know its Ethernet address.
fn read(reply: &RouteNetlinkMessage) -> Option<Neighbour> {
    let RouteNetlinkMessage::NewNeighbour(message) = reply else {
        return None;
    };
    let unknown = [NeighbourState::Failed, NeighbourState::Incomplete];
    if unknown.contains(&message.header.state) {
        return None;
    }
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(to)) => {
                address = Some(IpAddr::V4(*to));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(to)) => {
                address = Some(IpAddr::V6(*to));
            }
            // Entries of a forwarding table have no IP version to read it by.
            NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
                address = ip(bytes);
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = <[u8; 6]>::try_from(&**bytes).ok(),
            _ => {}
        }
    }
    Some(Neighbour {
        link: message.header.ifindex,
        address: address?,
        mac: Mac(mac?),
    })
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}
