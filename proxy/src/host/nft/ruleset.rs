//! An nf_tables table as a value: chains of rules, each some matches and what then happens. Pure.
//!
//! Only what Podline needs: it looks at links, Ethernet addresses, connections and marks, sets marks, and sends packets on.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::host::{Bits, Family, Mac};

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    /// The IP version that it sees; none: family `inet`, which sees both.
    pub family: Option<Family>,
    /// The table's name.
    pub table: String,
    /// Whose it is, for whoever lists the tables.
    pub comment: String,
    /// In the order in which they are told; the hooks decide when each is run.
    pub chains: Vec<Chain>,
}

/// Rules at a hook. What no rule decides goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Unique in the table.
    pub name: String,
    /// Where packets pass it.
    pub hook: Hook,
    /// Lower comes first; [`Chain::MANGLE`] is usual.
    pub priority: i32,
    /// In the order in which a packet meets them.
    pub rules: Vec<Rule>,
}

impl Chain {
    /// Where marks are set: connections are known, addresses not rewritten yet.
    pub const MANGLE: i32 = -150;
    /// Where sources are rewritten.
    pub const SOURCE_NAT: i32 = 100;
}

/// Where packets pass a chain, and what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// All that comes in, before it is routed.
    Prerouting,
    /// What this host sends; a changed mark makes the kernel route it anew.
    Output,
    /// What this host sends; it stays where it was routed.
    OutputFilter,
    /// All that goes out, after it was routed.
    Postrouting,
    /// The first packet of each connection on its way out, where its source may be rewritten.
    PostroutingNat,
}

/// Matches, all of which must hold, and then what happens, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// None: every packet.
    pub matches: Vec<Match>,
    /// What happens then.
    pub then: Vec<Action>,
    /// For whoever lists the rules; empty for none. At most 120 bytes are kept.
    pub comment: String,
}

impl Rule {
    /// Without a comment.
    pub fn new(matches: impl Into<Vec<Match>>, then: impl Into<Vec<Action>>) -> Self {
        Self {
            matches: matches.into(),
            then: then.into(),
            comment: String::new(),
        }
    }

    /// With one.
    #[must_use]
    pub fn comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = comment.into();
        self
    }
}

/// What a packet may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// It is of this IP version.
    Family(Family),
    /// It carries this protocol.
    Protocol(Transport),
    /// It came in by this link.
    From(String),
    /// It came in by another link than this one.
    NotFrom(String),
    /// It goes out by this link.
    To(String),
    /// The Ethernet address it came from.
    EtherSource(Mac),
    /// It came from another Ethernet address than this one.
    NotEtherSource(Mac),
    /// Its source address lies in this network.
    Source(IpNet),
    /// Its source address does not lie in this network.
    NotSource(IpNet),
    /// Its destination address lies in this network.
    Destination(IpNet),
    /// Its destination address does not lie in this network.
    NotDestination(IpNet),
    /// It is the first of its connection.
    New,
    /// It is an error about a connection, or its helper's.
    Related,
    /// It goes the way its connection's first packet went.
    Original,
    /// It goes the other way, or is an error about such a packet.
    Reply,
    /// Its connection's mark has these bits.
    ConnectionMark(Bits),
    /// Its connection's mark has other bits there.
    NotConnectionMark(Bits),
    /// Its own mark has these bits.
    Mark(Bits),
    /// It is of TCP, and does not ask for a connection.
    BeginsNoConnection,
    /// Nothing was seen of its connection before it, or it fits none.
    OfUnknownConnection,
    /// A socket of this host waits for it that may have foreign addresses, and is no listener for all addresses.
    TransparentSocket,
}

/// A protocol above IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP of IPv4.
    Icmp,
    /// ICMP of IPv6.
    Icmpv6,
}

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// These bits of its mark are set.
    SetMark(Bits),
    /// These bits of its mark become zero.
    ClearMark(Bits),
    /// These bits of its connection's mark are set.
    SetConnectionMark(Bits),
    /// These bits of its connection's mark become zero.
    ClearConnectionMark(Bits),
    /// Nothing more happens to it in this chain.
    Accept,
    /// The same; kept apart for reading.
    Return,
    /// A copy is sent to this neighbour on the link of this number, as it is. In tables of one IP version.
    CopyTo(IpAddr, u32),
    /// It is gone.
    Drop,
    /// Its source stays as it is, for a host whose other rules would rewrite it.
    KeepSource(Family),
    /// Its source becomes this host's.
    Masquerade,
}
