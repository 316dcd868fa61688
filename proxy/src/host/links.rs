//! The links of this host.

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};

use super::routing::{Routing, Want};
use super::{HostError, Mac};

/// A link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its Ethernet address, if it has one.
    pub mac: Option<Mac>,
    /// Whether it is up.
    pub is_up: bool,
    /// Whether its other end is there, too.
    pub has_carrier: bool,
    /// What it is, as far as we care.
    pub kind: LinkKind,
}

/// What a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// The loopback.
    Loopback,
    /// A VXLAN: frames are sent to its other ends inside of UDP.
    Vxlan,
    /// A bridge.
    Bridge,
    /// Anything else.
    Other,
}

impl Routing {
    /// All links, in the kernel's order.
    pub fn links(&mut self) -> Result<Vec<Link>, HostError> {
        let ask = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let replies = self
            .ask(ask, Want::All)
            .map_err(HostError::new("list the links"))?;
        let links = replies.iter().filter_map(|reply| match reply {
            RouteNetlinkMessage::NewLink(message) => read(message),
            _ => None,
        });
        Ok(links.collect())
    }
}

fn read(message: &LinkMessage) -> Option<Link> {
    let flags = message.header.flags;
    let mut name = None;
    let mut mac = None;
    let mut kind = if flags.contains(LinkFlags::Loopback) {
        LinkKind::Loopback
    } else {
        LinkKind::Other
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::Address(bytes) => mac = <[u8; 6]>::try_from(&**bytes).ok().map(Mac),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(InfoKind::Vxlan) => kind = LinkKind::Vxlan,
                        LinkInfo::Kind(InfoKind::Bridge) => kind = LinkKind::Bridge,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Some(Link {
        index: message.header.index,
        name: name?,
        mac,
        is_up: flags.contains(LinkFlags::Up),
        has_carrier: flags.contains(LinkFlags::LowerUp),
        kind,
    })
}
