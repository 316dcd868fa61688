//! A table as `nft list table` shows it, for logs, dry runs and documentation. Pure.

use std::fmt;

use ipnet::IpNet;

use super::ruleset::{Action, Chain, Hook, Match, Rule, Ruleset, Transport};
use crate::host::{Bits, Family};

impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table {} {} {{", family_name(self.family), self.table)?;
        writeln!(f, "\tcomment \"{}\"", self.comment)?;
        for chain in &self.chains {
            writeln!(f, "\n{chain}")?;
        }
        writeln!(f, "}}")
    }
}

/// What nft calls the tables that see this IP version, or both.
pub(super) const fn family_name(family: Option<Family>) -> &'static str {
    match family {
        None => "inet",
        Some(Family::V4) => "ip",
        Some(Family::V6) => "ip6",
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\tchain {} {{", self.name)?;
        let (kind, hook) = match self.hook {
            Hook::Prerouting => ("filter", "prerouting"),
            Hook::Output => ("route", "output"),
            Hook::OutputFilter => ("filter", "output"),
            Hook::Postrouting => ("filter", "postrouting"),
            Hook::PostroutingNat => ("nat", "postrouting"),
        };
        let priority = priority(self.priority, self.hook);
        writeln!(
            f,
            "\t\ttype {kind} hook {hook} priority {priority}; policy accept;"
        )?;
        for rule in &self.rules {
            writeln!(f, "\t\t{rule}")?;
        }
        write!(f, "\t}}")
    }
}

fn priority(priority: i32, hook: Hook) -> String {
    let (name, base) = match hook {
        Hook::PostroutingNat => ("srcnat", Chain::SOURCE_NAT),
        _ => ("mangle", Chain::MANGLE),
    };
    match priority - base {
        0 => name.to_owned(),
        more if more > 0 => format!("{name} + {more}"),
        less => format!("{name} - {}", less.unsigned_abs()),
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let matches = self.matches.iter().map(ToString::to_string);
        let then = self.then.iter().map(ToString::to_string);
        let mut parts: Vec<_> = matches.chain(then).collect();
        if !self.comment.is_empty() {
            parts.push(format!("comment \"{}\"", self.comment));
        }
        f.write_str(&parts.join(" "))
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let network = |f: &mut fmt::Formatter<'_>, network: &IpNet, what| {
            let protocol = match network {
                IpNet::V4(_) => "ip",
                IpNet::V6(_) => "ip6",
            };
            if network.prefix_len() == network.max_prefix_len() {
                return write!(f, "{protocol} {what}{}", network.addr());
            }
            write!(f, "{protocol} {what}{network}")
        };
        match self {
            Self::Family(Family::V4) => f.write_str("meta nfproto ipv4"),
            Self::Family(Family::V6) => f.write_str("meta nfproto ipv6"),
            Self::Protocol(transport) => write!(f, "meta l4proto {}", transport.name()),
            Self::From(link) => write!(f, "iifname \"{link}\""),
            Self::NotFrom(link) => write!(f, "iifname != \"{link}\""),
            Self::To(link) => write!(f, "oifname \"{link}\""),
            Self::EtherSource(mac) => write!(f, "ether saddr {mac}"),
            Self::NotEtherSource(mac) => write!(f, "ether saddr != {mac}"),
            Self::Source(net) => network(f, net, "saddr "),
            Self::NotSource(net) => network(f, net, "saddr != "),
            Self::Destination(net) => network(f, net, "daddr "),
            Self::NotDestination(net) => network(f, net, "daddr != "),
            Self::New => f.write_str("ct state new"),
            Self::Related => f.write_str("ct state related"),
            Self::Original => f.write_str("ct direction original"),
            Self::Reply => f.write_str("ct direction reply"),
            Self::BeginsNoConnection => f.write_str("tcp flags ! syn"),
            Self::OfUnknownConnection => f.write_str("ct state invalid,new"),
            Self::ConnectionMark(bits) => has(f, "ct", "==", *bits),
            Self::NotConnectionMark(bits) => has(f, "ct", "!=", *bits),
            Self::Mark(bits) => has(f, "meta", "==", *bits),
            Self::TransparentSocket => f.write_str("socket wildcard 0 socket transparent 1"),
        }
    }
}

fn has(f: &mut fmt::Formatter<'_>, whose: &str, is: &str, bits: Bits) -> fmt::Result {
    let (value, mask) = (bits.value(), bits.mask());
    write!(f, "{whose} mark & {mask:#010x} {is} {value:#010x}")
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = |f: &mut fmt::Formatter<'_>, whose, bits: Bits| {
            // As nft writes it: the bits that are set anyway need not be cleared first.
            let kept = !bits.mask() | bits.value();
            let value = bits.value();
            write!(
                f,
                "{whose} mark set {whose} mark & {kept:#010x} | {value:#010x}"
            )
        };
        match self {
            Self::SetMark(bits) => set(f, "meta", *bits),
            Self::SetConnectionMark(bits) => set(f, "ct", *bits),
            Self::ClearMark(bits) => write!(f, "meta mark set meta mark & {:#010x}", !bits.mask()),
            Self::ClearConnectionMark(bits) => {
                write!(f, "ct mark set ct mark & {:#010x}", !bits.mask())
            }
            Self::Accept => f.write_str("accept"),
            Self::Return => f.write_str("return"),
            Self::Drop => f.write_str("drop"),
            Self::CopyTo(neighbour, link) => write!(f, "dup to {neighbour} device {link}"),
            Self::KeepSource(Family::V4) => f.write_str("snat ip to ip saddr"),
            Self::KeepSource(Family::V6) => f.write_str("snat ip6 to ip6 saddr"),
            Self::Masquerade => f.write_str("masquerade"),
        }
    }
}

impl Transport {
    const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Icmpv6 => "ipv6-icmp",
        }
    }
}
