//! What should be installed for the numbers that are taken, and what has to change for it. Pure.

use std::collections::BTreeSet;
use std::fmt;

use super::settings::Numbers;
use super::slots::{Held, Slots};
use crate::host::nft::{Action, Chain, Hook, Match, Rule, Ruleset};
use crate::host::routes::{Route, Way, default_of};
use crate::host::rules::MarkRule;
use crate::host::{Bits, Family};

/// The table of nf_tables.
pub const TABLE: &str = "podline_return";
/// Of our routing rules: before the main table, and before the rules that CNIs add for Pods.
pub const PRIORITY: u32 = 700;

/// What should be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The table of nf_tables.
    pub ruleset: Ruleset,
    /// Routing rules.
    pub rules: BTreeSet<MarkRule>,
    /// Routes.
    pub routes: BTreeSet<Route>,
}

impl Wish {
    /// For these numbers, on a host that speaks these IP versions.
    pub fn of(slots: &Slots, numbers: Numbers, families: &[Family]) -> Self {
        let mut wish = Self {
            ruleset: ruleset(slots, numbers, families),
            rules: BTreeSet::new(),
            routes: BTreeSet::new(),
        };
        for (slot, held) in slots.iter() {
            for family in served(held, families) {
                let (Some(gateway), table) = (held.back[family as usize], numbers.table(slot))
                else {
                    continue;
                };
                wish.rules.insert(MarkRule {
                    family,
                    priority: PRIORITY,
                    mark: numbers.mark(slot),
                    table,
                });
                let link = held.link.index;
                wish.routes.insert(Route {
                    table,
                    to: default_of(family),
                    way: Way::Via { gateway, link },
                });
            }
        }
        wish
    }

    /// What has to be done, in this order, so that a mark is never set before its way is there.
    pub fn changes(&self, rules: &BTreeSet<MarkRule>, routes: &BTreeSet<Route>) -> Vec<Change> {
        let put = self.routes.difference(routes).copied().map(Change::Put);
        let add = self.rules.difference(rules).copied().map(Change::Add);
        let delete = rules.difference(&self.rules).copied().map(Change::Delete);
        // A route that another one takes the place of is gone already.
        let stays = |route: &&Route| {
            let mut wished = self.routes.iter();
            wished.any(|wish| wish.table == route.table && wish.to == route.to)
        };
        let drop = routes
            .difference(&self.routes)
            .filter(|route| !stays(route));
        let drop = drop.copied().map(Change::Drop);
        put.chain(add).chain(delete).chain(drop).collect()
    }
}

/// A change of the kernel's routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A route, in place of another to the same destination.
    Put(Route),
    /// A routing rule.
    Add(MarkRule),
    /// A routing rule goes.
    Delete(MarkRule),
    /// A route goes.
    Drop(Route),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put(route) => write!(f, "put {route}"),
            Self::Add(rule) => write!(f, "add {rule}"),
            Self::Delete(rule) => write!(f, "delete {rule}"),
            Self::Drop(route) => write!(f, "delete {route}"),
        }
    }
}

/// The IP versions that a way serves.
fn served(held: &Held, families: &[Family]) -> Vec<Family> {
    let is_served = |family: &&Family| held.back[**family as usize].is_some();
    families.iter().filter(is_served).copied().collect()
}

fn ruleset(slots: &Slots, numbers: Numbers, families: &[Family]) -> Ruleset {
    let held = || slots.iter().map(|(slot, held)| (numbers.mark(slot), held));
    let coming = held().filter_map(|(mark, held)| coming(mark, held, families));
    let others = held().filter_map(|(mark, held)| others(mark, held));
    let leaving = held().map(|(mark, held)| {
        let rule = [
            Match::NotFrom(held.link.name.clone()),
            Match::Reply,
            Match::ConnectionMark(mark),
        ];
        Rule::new(rule, [Action::SetMark(mark)])
    });
    let own = held().map(|(mark, _)| {
        Rule::new(
            [Match::Reply, Match::ConnectionMark(mark)],
            [Action::SetMark(mark)],
        )
    });
    // The mark has done its work. A VXLAN would look for the way of its own packets by it, and find itself.
    let out = held().map(|(mark, held)| {
        let matches = [Match::To(held.link.name.clone()), Match::Mark(mark)];
        Rule::new(matches, [Action::ClearMark(mark)])
    });
    let chain = |name: &str, hook, rules| Chain {
        name: name.to_owned(),
        hook,
        priority: Chain::MANGLE,
        rules,
    };
    Ruleset {
        family: None,
        table: TABLE.to_owned(),
        comment: "podline-proxy return-path: replies go back through the proxy".to_owned(),
        chains: vec![
            chain(
                "prerouting",
                Hook::Prerouting,
                coming.chain(others).chain(leaving).collect(),
            ),
            chain("output", Hook::Output, own.collect()),
            chain("postrouting", Hook::Postrouting, out.collect()),
        ],
    }
}

/// Marks a proxy's connections; also those that began while nothing was installed, and those that came by another proxy
/// before.
fn coming(mark: Bits, held: &Held, families: &[Family]) -> Option<Rule> {
    let mut matches = vec![
        Match::From(held.link.name.clone()),
        Match::EtherSource(held.mac?),
        Match::Original,
        Match::NotConnectionMark(mark),
    ];
    match *served(held, families).as_slice() {
        [] => return None,
        [family] => matches.push(Match::Family(family)),
        _ => {}
    }
    let rule = Rule::new(matches, [Action::SetConnectionMark(mark)]);
    Some(rule.comment(format!("proxy {}", held.proxies())))
}

/// Takes the mark from a connection that others go on with: a client that comes by itself, from the port that the proxy
/// imitated it with.
fn others(mark: Bits, held: &Held) -> Option<Rule> {
    let matches = [
        Match::From(held.link.name.clone()),
        Match::Original,
        Match::ConnectionMark(mark),
        Match::NotEtherSource(held.mac?),
    ];
    Some(Rule::new(matches, [Action::ClearConnectionMark(mark)]))
}
