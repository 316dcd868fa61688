//! The handle to the kernel's routing: rules, routes, neighbours and links go through it, each in a file of its own.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::RouteProtocol;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::netlink::Netlink;
use super::{Family, HostError};

/// Who made a rule or route, as the kernel keeps it with each: so ours are told from others'.
pub(super) const PROTOCOL: RouteProtocol = RouteProtocol::Other(112);

/// A handle to the routing of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Routing {
    netlink: Netlink,
}

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// One answer.
    One,
    /// All there are.
    All,
    /// A change that must be new.
    Add,
    /// A change that takes the place of what is there.
    Replace,
    /// To be rid of it.
    Delete,
}

impl Want {
    const fn flags(self) -> u16 {
        NLM_F_REQUEST
            | match self {
                Self::One => 0,
                Self::All => NLM_F_DUMP,
                Self::Add => NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
                Self::Replace => NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE,
                Self::Delete => NLM_F_ACK,
            }
    }
}

impl Routing {
    /// Opens it.
    pub fn open() -> Result<Self, HostError> {
        let netlink = Netlink::open(NETLINK_ROUTE);
        Ok(Self {
            netlink: netlink.map_err(HostError::new("speak to the kernel's routing"))?,
        })
    }

    /// The IP versions that this host speaks.
    pub fn families() -> impl Iterator<Item = Family> {
        let speaks = |family: &Family| match family {
            Family::V4 => true,
            Family::V6 => std::path::Path::new("/proc/sys/net/ipv6").exists(),
        };
        Family::ALL.into_iter().filter(speaks)
    }

    /// Sends one request and takes what the kernel says to it.
    pub(super) fn ask(
        &mut self,
        message: RouteNetlinkMessage,
        want: Want,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut message = NetlinkMessage::from(message);
        message.header.flags = want.flags();
        message.header.sequence_number = 1;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        let replies = self.netlink.exchange(&bytes)?;
        // A message that the decoder does not know says nothing that we ask for.
        let read = replies.iter().filter_map(|reply| {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&reply.bytes).ok()?;
            match message.payload {
                NetlinkPayload::InnerMessage(message) => Some(message),
                _ => None,
            }
        });
        Ok(read.collect())
    }
}
