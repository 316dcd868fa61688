//! An address that comes from a proxy that ends in order, and that lets its connections come to theirs: what belongs to
//! them is sent on to it.
//!
//! ```text
//!  client --(the address is here now)--> prerouting: begins a connection, or its connection began here --> listener
//!                                          '--(anything else)--> the predecessor, whose sockets need no address
//! ```
//!
//! Which connections began here the kernel's connection tracking knows. What the predecessor itself passes on, having no
//! use for it, is not sent back. The answers go from the predecessor to the client, not through this host.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use podline_api::Neighbour;

use crate::host::nft::{Action, Chain, Hook, Match, Rule};
use crate::host::{Family, HostError, Ruleset, Table};

/// The tables' name, one for each IP version.
const TABLE: &str = "podline_handover";

/// What is for an address goes on to its predecessor, by a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Leg {
    pub(super) ip: IpAddr,
    pub(super) link: u32,
    pub(super) predecessor: Neighbour,
}

/// The kernel's rules for that. They stay when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Handover {
    /// Absent before the first look: a process that was killed may have left some.
    legs: Option<BTreeSet<Leg>>,
    tables: BTreeMap<Family, Table>,
}

impl Handover {
    /// Sends on by these legs and no others. Where the kernel does not let us, connections end as if their proxy had been
    /// killed, which is logged.
    pub(super) fn keep(&mut self, legs: BTreeSet<Leg>) {
        if self.legs.as_ref() == Some(&legs) {
            return;
        }
        for family in Family::ALL {
            let of_family = legs.iter().filter(|leg| Family::of(leg.ip) == family);
            let of_family: Vec<Leg> = of_family.copied().collect();
            if let Err(error) = self.keep_table(family, &of_family) {
                let why = format!("{error}: {}", error.source);
                if !of_family.is_empty() {
                    tracing::warn!(
                        why,
                        "connections that others let in end with this address's move"
                    );
                } else if self.legs.is_some() {
                    tracing::warn!(why, "rules that sent connections on may be left");
                }
            }
        }
        for Leg {
            ip, predecessor, ..
        } in &legs
        {
            let Neighbour { address, mac } = predecessor;
            tracing::info!(%ip, to = %address, %mac, "what belongs to connections of another proxy is sent on to it");
        }
        self.legs = Some(legs);
    }

    /// By which legs it does.
    pub(super) fn legs(&self) -> BTreeSet<Leg> {
        self.legs.clone().unwrap_or_default()
    }

    /// Sends nothing on any more.
    pub(crate) fn end(mut self) {
        self.keep(BTreeSet::new());
    }

    fn keep_table(&mut self, family: Family, legs: &[Leg]) -> Result<(), HostError> {
        let mut table = match self.tables.remove(&family) {
            Some(table) => table,
            None => Table::of(Some(family), TABLE)?,
        };
        if legs.is_empty() {
            return table.remove().map(drop);
        }
        table.put(&ruleset(family, legs))?;
        self.tables.insert(family, table);
        Ok(())
    }
}

/// Takes away what a process that was killed left; in words.
///
/// # Errors
/// Some of it may be left.
pub(in crate::host) fn clear_leftovers(dry_run: bool) -> Result<Vec<String>, HostError> {
    use crate::host::nft::Seen;
    let mut told = Vec::new();
    for family in Family::ALL {
        let mut table = Table::of(Some(family), TABLE)?;
        if table.look()? == Seen::Missing {
            continue;
        }
        let removed = if dry_run { Ok(true) } else { table.remove() };
        match removed {
            // A proxy that lives holds it.
            Err(error) if error.is_denied() => continue,
            removed => removed?,
        };
        told.push(format!("delete {table}"));
    }
    Ok(told)
}

fn ruleset(family: Family, legs: &[Leg]) -> Ruleset {
    let rule = |leg: &Leg| {
        let Neighbour { address, mac } = leg.predecessor;
        let matches = [
            Match::NotEtherSource(mac),
            Match::Destination(IpNet::from(leg.ip)),
            Match::BeginsNoConnection,
            Match::OfUnknownConnection,
        ];
        Rule::new(matches, [Action::CopyTo(address, leg.link), Action::Drop])
    };
    let chain = Chain {
        name: "pre".to_owned(),
        hook: Hook::Prerouting,
        priority: Chain::MANGLE,
        rules: legs.iter().map(rule).collect(),
    };
    Ruleset {
        family: Some(family),
        table: TABLE.to_owned(),
        comment: "podline-proxy: connections of a proxy that ends".to_owned(),
        chains: vec![chain],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Mac;

    #[test]
    fn what_began_elsewhere_goes_on_unless_it_comes_from_there() {
        let leg = |ip: &str, at: &str| Leg {
            ip: ip.parse().unwrap(),
            link: 7,
            predecessor: Neighbour {
                address: at.parse().unwrap(),
                mac: Mac([2, 0, 0, 0, 0, 1]),
            },
        };
        let text = ruleset(Family::V4, &[leg("10.88.0.200", "10.88.0.11")]).to_string();
        let expected = "table ip podline_handover {
\tcomment \"podline-proxy: connections of a proxy that ends\"

\tchain pre {
\t\ttype filter hook prerouting priority mangle; policy accept;
\t\tether saddr != 02:00:00:00:00:01 ip daddr 10.88.0.200 tcp flags ! syn ct state invalid,new dup to 10.88.0.11 device 7 drop
\t}
}
";
        assert_eq!(text, expected);
        let text = ruleset(Family::V6, &[leg("fd00::200", "fe80::1")]).to_string();
        let rule = "ether saddr != 02:00:00:00:00:01 ip6 daddr fd00::200 tcp flags ! syn ct state invalid,new dup to fe80::1 device 7 drop";
        assert!(
            text.starts_with("table ip6 ") && text.contains(rule),
            "{text}"
        );
    }
}
