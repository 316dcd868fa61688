//! Routes in tables of our own, and the kernel's own answer to where an address is.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::routing::{PROTOCOL, Routing, Want};
use super::{Family, HostError};

/// A route of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// The table it is in.
    pub table: u32,
    /// Where to; see [`default_of`].
    pub to: IpNet,
    /// Which way.
    pub way: Way,
}

/// Where packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// To a neighbour on a link, whether or not an address of that link says that it is one.
    Via {
        /// The neighbour.
        gateway: IpAddr,
        /// The link's number.
        link: u32,
    },
    /// Out of a link: the destination itself is a neighbour there.
    Link {
        /// The link's number.
        link: u32,
    },
    /// To this host, as if the destination were its own address.
    Local {
        /// The loopback's number, 1 as a rule.
        link: u32,
    },
}

/// What the kernel does with a packet to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The link that it leaves by.
    pub link: u32,
    /// The neighbour that it is given to; absent if the destination is a neighbour itself.
    pub gateway: Option<IpAddr>,
    /// The source that it gets if none was chosen.
    pub source: Option<IpAddr>,
    /// Whether the address is one of this host's own.
    pub is_local: bool,
}

/// Everything of an IP version.
pub fn default_of(family: Family) -> IpNet {
    let any = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    IpNet::new_assert(any, 0)
}

impl Route {
    /// Which IP version it is of.
    pub fn family(&self) -> Family {
        Family::of(self.to.addr())
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (family, table) = (self.family().option(), self.table);
        let to = match self.to.prefix_len() {
            0 => "default".to_owned(),
            _ => self.to.to_string(),
        };
        write!(f, "ip {family} route ")?;
        match self.way {
            Way::Via { gateway, link } => write!(f, "{to} via {gateway} dev #{link} onlink"),
            Way::Link { link } => write!(f, "{to} dev #{link}"),
            Way::Local { link } => write!(f, "local {to} dev #{link}"),
        }?;
        write!(f, " table {table}")
    }
}

impl Routing {
    /// The routes that we made, of all processes of ours, in all tables or in one.
    pub fn routes(&mut self, family: Family, table: Option<u32>) -> Result<Vec<Route>, HostError> {
        let mut ask = RouteMessage::default();
        ask.header.address_family = family.into();
        ask.header.protocol = PROTOCOL;
        if let Some(table) = table {
            ask.attributes.push(RouteAttribute::Table(table));
        }
        let replies = match self.ask(RouteNetlinkMessage::GetRoute(ask), Want::All) {
            // A table that has never had a route does not exist.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            replies => replies.map_err(HostError::new("list the routes"))?,
        };
        let routes = replies.iter().filter_map(|reply| match reply {
            RouteNetlinkMessage::NewRoute(message) => read(family, message),
            _ => None,
        });
        // Old kernels list those of all tables.
        let is_wanted = |route: &Route| table.is_none_or(|table| route.table == table);
        Ok(routes.filter(is_wanted).collect())
    }

    /// Puts it there, in place of one to the same destination in the same table.
    pub fn replace_route(&mut self, route: Route) -> Result<(), HostError> {
        self.ask(RouteNetlinkMessage::NewRoute(write(route)), Want::Replace)
            .map_err(HostError::new(format!("replace {route}")))?;
        Ok(())
    }

    /// Deletes it, if it is there.
    pub fn delete_route(&mut self, route: Route) -> Result<(), HostError> {
        let message = RouteNetlinkMessage::DelRoute(write(route));
        match self.ask(message, Want::Delete) {
            Ok(_) => Ok(()),
            // ESRCH has no kind of its own.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            Err(error) => Err(HostError::new(format!("delete {route}"))(error)),
        }
    }

    /// Where a packet to `address` without a mark would go; absent if there is no way.
    pub fn next_hop(&mut self, address: IpAddr) -> Result<Option<NextHop>, HostError> {
        let mut ask = RouteMessage::default();
        ask.header.address_family = Family::of(address).into();
        ask.header.destination_prefix_length = IpNet::from(address).prefix_len();
        ask.attributes
            .push(RouteAttribute::Destination(address.into()));
        match self.ask(RouteNetlinkMessage::GetRoute(ask), Want::One) {
            Ok(replies) => Ok(replies.iter().find_map(|reply| match reply {
                RouteNetlinkMessage::NewRoute(message) => next_hop(message),
                _ => None,
            })),
            Err(error) if is_nowhere(&error) => Ok(None),
            Err(error) => Err(HostError::new(format!("find the way to {address}"))(error)),
        }
    }
}

fn is_nowhere(error: &io::Error) -> bool {
    use io::ErrorKind::{HostUnreachable, InvalidInput, NetworkUnreachable, PermissionDenied};
    let kinds = [
        HostUnreachable,
        InvalidInput, // a blackhole's
        NetworkUnreachable,
        PermissionDenied, // a prohibited way's
    ];
    kinds.contains(&error.kind())
}

fn next_hop(message: &RouteMessage) -> Option<NextHop> {
    let parts = Parts::of(message);
    let ways = [RouteType::Unicast, RouteType::Local];
    if !ways.contains(&message.header.kind) {
        return None;
    }
    Some(NextHop {
        link: parts.link?,
        gateway: parts.gateway,
        source: parts.source,
        is_local: message.header.kind == RouteType::Local,
    })
}

/// What is of interest among a route's attributes.
#[derive(Default)]
struct Parts {
    to: Option<IpAddr>,
    gateway: Option<IpAddr>,
    source: Option<IpAddr>,
    link: Option<u32>,
    table: Option<u32>,
}

impl Parts {
    fn of(message: &RouteMessage) -> Self {
        let mut parts = Self::default();
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(to) => parts.to = address(to),
                RouteAttribute::Gateway(gateway) => parts.gateway = address(gateway),
                RouteAttribute::PrefSource(source) => parts.source = address(source),
                RouteAttribute::Oif(link) => parts.link = Some(*link),
                RouteAttribute::Table(table) => parts.table = Some(*table),
                _ => {}
            }
        }
        parts
    }
}

fn address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// Absent if it is not ours, or not of a kind that we make.
fn read(family: Family, message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    let is_cached = header.flags.contains(RouteFlags::Cloned);
    if header.protocol != PROTOCOL
        || is_cached
        || header.address_family != AddressFamily::from(family)
    {
        return None;
    }
    let parts = Parts::of(message);
    let to = parts.to.unwrap_or_else(|| default_of(family).addr());
    let link = parts.link?;
    Some(Route {
        table: parts.table.unwrap_or(header.table.into()),
        to: IpNet::new(to, header.destination_prefix_length).ok()?,
        way: match (header.kind, parts.gateway) {
            (RouteType::Local, _) => Way::Local { link },
            (RouteType::Unicast, Some(gateway)) => Way::Via { gateway, link },
            (RouteType::Unicast, None) => Way::Link { link },
            _ => return None,
        },
    })
}

fn write(route: Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = route.family().into();
    header.destination_prefix_length = route.to.prefix_len();
    header.protocol = PROTOCOL;
    header.kind = RouteType::Unicast;
    header.scope = RouteScope::Universe;
    let link = match route.way {
        Way::Via { gateway, link } => {
            header.flags = RouteFlags::Onlink;
            message
                .attributes
                .push(RouteAttribute::Gateway(gateway.into()));
            link
        }
        Way::Link { link } => {
            header.scope = RouteScope::Link;
            link
        }
        Way::Local { link } => {
            header.kind = RouteType::Local;
            header.scope = RouteScope::Host;
            link
        }
    };
    if route.to.prefix_len() > 0 {
        let to = RouteAttribute::Destination(route.to.network().into());
        message.attributes.push(to);
    }
    message.attributes.push(RouteAttribute::Oif(link));
    message.attributes.push(RouteAttribute::Table(route.table));
    message
}
