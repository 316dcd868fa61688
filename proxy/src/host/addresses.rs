//! The addresses of this host, and those that we put on links, each by itself and for a time: when nobody says it again,
//! the kernel takes it away.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol, CacheInfo,
};

use super::routing::{PROTOCOL, Routing, Want};
use super::{Family, HostError};

/// An address of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostAddress {
    /// The number of the link that it is on.
    pub link: u32,
    /// With its network.
    pub network: IpNet,
    /// A process of ours put it there.
    pub is_ours: bool,
}

impl Routing {
    /// The addresses of an IP version.
    pub fn host_addresses(&mut self, family: Family) -> Result<Vec<HostAddress>, HostError> {
        let mut ask = AddressMessage::default();
        ask.header.family = family.into();
        let replies = self
            .ask(RouteNetlinkMessage::GetAddress(ask), Want::All)
            .map_err(HostError::new("list the addresses"))?;
        let addresses = replies.iter().filter_map(|reply| match reply {
            RouteNetlinkMessage::NewAddress(message) if message.header.family == family.into() => {
                Some(HostAddress {
                    link: message.header.index,
                    network: network(message)?,
                    is_ours: is_ours(message),
                })
            }
            _ => None,
        });
        Ok(addresses.collect())
    }

    /// Puts an address on a link, or keeps it there, for so many seconds: without a route to a network, and without the
    /// kernel's own look for others that have it. It is never the source of what this host sends by its own choice.
    pub fn put_address(&mut self, link: u32, ip: IpAddr, seconds: u32) -> Result<(), HostError> {
        let mut message = message(link, ip);
        let flags = AddressFlags::Noprefixroute | AddressFlags::Nodad;
        message.header.flags = AddressHeaderFlags::Nodad;
        message.attributes.push(AddressAttribute::Flags(flags));
        let mut lifetime = CacheInfo::default();
        lifetime.ifa_valid = seconds;
        // IPv4 chooses by networks, and this address has none.
        lifetime.ifa_preferred = if ip.is_ipv6() { 0 } else { seconds };
        message
            .attributes
            .push(AddressAttribute::CacheInfo(lifetime));
        message
            .attributes
            .push(AddressAttribute::Protocol(AddressProtocol::Other(
                PROTOCOL.into(),
            )));
        self.ask(RouteNetlinkMessage::NewAddress(message), Want::Replace)
            .map_err(HostError::new(format!("put {ip} on link #{link}")))?;
        Ok(())
    }

    /// Takes an address from a link, if it is there.
    pub fn remove_address(&mut self, link: u32, ip: IpAddr) -> Result<(), HostError> {
        let message = RouteNetlinkMessage::DelAddress(message(link, ip));
        match self.ask(message, Want::Delete) {
            Ok(_) => Ok(()),
            Err(error) if is_gone(&error) => Ok(()),
            Err(error) => Err(HostError::new(format!("take {ip} from link #{link}"))(
                error,
            )),
        }
    }
}

/// The address, or the link, is not there.
fn is_gone(error: &io::Error) -> bool {
    let codes = [libc::EADDRNOTAVAIL, libc::ENODEV, libc::ENXIO];
    // The kernel's words come without its number.
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error
            .raw_os_error()
            .is_some_and(|code| codes.contains(&code))
}

fn message(link: u32, ip: IpAddr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = Family::of(ip).into();
    message.header.prefix_len = IpNet::from(ip).prefix_len();
    message.header.index = link;
    message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
    message
}

/// By who made it or, before Linux 5.18, which does not keep that, by its form.
fn is_ours(message: &AddressMessage) -> bool {
    let (mut maker, mut flags) = (None, AddressFlags::empty());
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Protocol(protocol) => maker = Some(u8::from(*protocol)),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    let is_alone = network(message).is_some_and(|n| n.prefix_len() == n.max_prefix_len());
    let passes = !flags.contains(AddressFlags::Permanent);
    match maker {
        Some(maker) => maker == u8::from(PROTOCOL),
        None => is_alone && passes && flags.contains(AddressFlags::Noprefixroute),
    }
}

/// On a point-to-point link, `Address` is the other end.
fn network(message: &AddressMessage) -> Option<IpNet> {
    let mut other = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => {
                return IpNet::new(*address, message.header.prefix_len).ok();
            }
            AddressAttribute::Address(address) => other = Some(*address),
            _ => {}
        }
    }
    IpNet::new(other?, message.header.prefix_len).ok()
}
