//! What makes answers to imitated clients arrive at this process: a table of marks, a routing rule for the marks and a
//! local route for the rule; and the routes that owners want beside the kernel's own.
//!
//! ```text
//!   answer to 192.0.2.1 --> prerouting: it is for a transparent socket: mark --> rule: mark --> table: local --> socket
//! ```
//!
//! All of it stays when the process ends: connections may live on in another, and the next process adopts it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use podline_api::Route as Wanted;

use super::routes::{Route, Way, default_of};
use super::rules::MarkRule;
use super::sysctl;
use super::{Bits, Family, HostError, Routing, Ruleset, Table};
use crate::host::links::LinkKind;
use crate::host::nft::{Action, Chain, Hook, Match, Rule, Seen, Transport};
use crate::net::socket;
use crate::settings::Settings;

/// The table's name.
const TABLE: &str = "podline";
/// Below the main table's rule, above most others.
const PRIORITY: u32 = 7_000;

/// Which marks and routing tables are ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marks {
    /// Of packets that are delivered here whatever their destination is.
    pub(crate) deliver: Bits,
    /// Of what goes by the routes that owners want.
    pub(crate) route: Bits,
    /// The table that delivers; the next but one has the routes.
    pub(crate) table: u32,
}

impl Marks {
    /// Those of a value in a mask.
    ///
    /// # Errors
    /// There is no room for two: the words for the operator.
    pub(crate) fn new(mark: u32, within: u32, table: u32) -> Result<Self, String> {
        let deliver = Bits::new(mark, within).ok_or_else(|| {
            format!("--mark {mark:#x} must lie in --mask {within:#x} and not be 0")
        })?;
        // Nodes count the marks of their ways back up from another one.
        let second = within & (within - 1);
        let flipped = mark ^ (second & second.wrapping_neg());
        let route = Bits::new(flipped, within).filter(|bits| bits.value() != mark);
        let route = route.ok_or_else(|| {
            format!("--mask {within:#x} has no room for a second mark beside {mark:#x}")
        })?;
        let is_taken = table == 0 || (253..=255).contains(&table) || table > u32::MAX - 2;
        if is_taken || (251..=253).contains(&table) {
            return Err(format!("--route-table {table} is the kernel's own"));
        }
        Ok(Self {
            deliver,
            route,
            table,
        })
    }

    const fn route_table(self) -> u32 {
        self.table + 2
    }
}

/// What this process can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Why it can imitate nobody; nothing if it can, or was not asked.
    pub(crate) problem: Option<String>,
    /// What sockets that go by owners' routes are marked with, if there are such routes.
    pub(crate) route_mark: Option<u32>,
    /// The ports that the kernel gives to sockets that ask for none.
    pub(crate) all_ports: (u16, u16),
    /// This machine's addresses.
    pub(crate) own: HashSet<IpAddr>,
}

/// Keeps it in place.
#[derive(Debug)]
pub(crate) struct Transparency {
    marks: Marks,
    table: Option<Table>,
    routing: Option<Routing>,
    /// Rules, routes and table have been in place before.
    was_kept: bool,
    /// What was said last, so that nothing is said twice.
    told: Option<String>,
    told_of_routes: Option<String>,
    is_tuned: bool,
    warned: BTreeSet<String>,
}

impl Transparency {
    /// Nothing is changed yet.
    pub(crate) fn new(marks: Marks) -> Self {
        Self {
            marks,
            table: None,
            routing: None,
            was_kept: false,
            told: None,
            told_of_routes: None,
            is_tuned: false,
            warned: BTreeSet::new(),
        }
    }

    /// Puts in place, or repairs, what is wanted: the means to imitate clients, and routes. Waits for nothing but the
    /// kernel.
    pub(crate) fn keep(&mut self, imitate: bool, routes: &[Wanted]) -> Found {
        let problem = if imitate { self.imitate().err() } else { None };
        if problem != self.told {
            if let Some(why) = &problem {
                tracing::warn!(
                    why,
                    "clients cannot be imitated; PREFER_TRANSPARENT is SNAT"
                );
            } else {
                tracing::info!("clients can be imitated");
            }
        }
        self.told.clone_from(&problem);
        let in_place = self.keep_routes(routes);
        let why = in_place.as_ref().err().map(ToString::to_string);
        if let Some(why) = why.as_ref().filter(|_| why != self.told_of_routes) {
            tracing::warn!(why, "the network's routes are not in place");
        }
        self.told_of_routes = why;
        let is_routed = in_place.is_ok() && !routes.is_empty();
        Found {
            problem,
            route_mark: is_routed.then_some(self.marks.route.value()),
            all_ports: sysctl::local_ports(),
            own: self.own_addresses().unwrap_or_default(),
        }
    }

    /// Takes away what this process keeps in place, if it does; in words. What another of us holds stays.
    ///
    /// # Errors
    /// Some of it may be left.
    pub(crate) fn clear(&mut self) -> Result<Vec<String>, HostError> {
        let was_kept = std::mem::replace(&mut self.was_kept, false);
        // Its owner may remove it.
        let table = self.table.take();
        if was_kept {
            clear(self.marks, table, false)
        } else {
            Ok(Vec::new())
        }
    }

    /// # Errors
    /// Why that cannot be, for the operator.
    fn imitate(&mut self) -> Result<(), String> {
        if socket::may_imitate().is_err() {
            return Err("the process lacks CAP_NET_ADMIN".to_owned());
        }
        if !std::mem::replace(&mut self.is_tuned, true) {
            tune();
        }
        self.deliver()?;
        self.warn_of_filters();
        Ok(())
    }

    /// Has the kernel deliver what is for sockets with foreign addresses.
    ///
    /// # Errors
    /// Why that cannot be, for the operator.
    pub(crate) fn deliver(&mut self) -> Result<(), String> {
        let mut repaired = Vec::new();
        let kept = self.keep_table(&mut repaired);
        kept.and_then(|()| self.keep_delivery(&mut repaired))
            .map_err(|error| {
                if error.is_denied() {
                    format!("the process lacks CAP_NET_ADMIN: {}", words(&error))
                } else {
                    words(&error)
                }
            })?;
        if self.was_kept && !repaired.is_empty() {
            let what = repaired.join(", ");
            tracing::warn!(what, "somebody took this away; it is back");
        }
        self.was_kept = true;
        Ok(())
    }

    fn keep_table(&mut self, repaired: &mut Vec<String>) -> Result<(), HostError> {
        let table = match &mut self.table {
            Some(table) => table,
            None => self.table.insert(Table::open(TABLE)?),
        };
        if table.look()? == Seen::AsPut {
            return Ok(());
        }
        match table.put(&ruleset(self.marks.deliver)) {
            Ok(()) => {
                repaired.push(format!("table inet {TABLE}"));
                Ok(())
            }
            // Another of us holds it, which does what is wanted; when it ends, this one takes over.
            Err(error) if error.is_denied() && table.look()? == Seen::Changed => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn routing(&mut self) -> Result<&mut Routing, HostError> {
        match &mut self.routing {
            Some(routing) => Ok(routing),
            none => Ok(none.insert(Routing::open()?)),
        }
    }

    /// Rules and routes that deliver what is marked.
    fn keep_delivery(&mut self, repaired: &mut Vec<String>) -> Result<(), HostError> {
        let Marks { deliver, table, .. } = self.marks;
        let routing = self.routing()?;
        let loopback = loopback(routing)?;
        for family in Routing::families() {
            let rule = MarkRule {
                family,
                priority: PRIORITY,
                mark: deliver,
                table,
            };
            keep_rule(routing, rule, repaired)?;
            let route = Route {
                table,
                to: default_of(family),
                way: Way::Local { link: loopback },
            };
            if !routing.routes(family, Some(table))?.contains(&route) {
                routing.replace_route(route)?;
                repaired.push(route.to_string());
            }
        }
        Ok(())
    }

    /// Makes our table hold `wanted` and nothing else.
    fn keep_routes(&mut self, wanted: &[Wanted]) -> Result<(), HostError> {
        let (mark, table) = (self.marks.route, self.marks.route_table());
        if wanted.is_empty() && self.routing.is_none() {
            return Ok(());
        }
        let routing = self.routing()?;
        let links = ways(routing, wanted)?;
        let mut missing = Vec::new();
        for family in Routing::families() {
            let there: HashSet<Route> = routing.routes(family, Some(table))?.into_iter().collect();
            let of_family = wanted
                .iter()
                .filter(|route| Family::of(route.via) == family);
            let mut ours = HashSet::new();
            for wanted in of_family {
                let link = match links.get(&wanted.via) {
                    Some(Hop::Neighbour(link)) => *link,
                    // Its own node's Pods are this host's own to know.
                    Some(Hop::Own) => continue,
                    Some(Hop::Far) | None => {
                        missing.push(wanted.via.to_string());
                        continue;
                    }
                };
                ours.insert(Route {
                    table,
                    to: wanted.to,
                    way: Way::Via {
                        gateway: wanted.via,
                        link,
                    },
                });
            }
            let rule = MarkRule {
                family,
                priority: PRIORITY + 2,
                mark,
                table,
            };
            if ours.is_empty() {
                if routing.rules(family)?.contains(&rule) {
                    routing.delete_rule(rule)?;
                }
            } else {
                keep_rule(routing, rule, &mut Vec::new())?;
            }
            for route in ours.difference(&there) {
                routing.replace_route(*route)?;
            }
            let destinations: HashSet<_> = ours.iter().map(|route| route.to).collect();
            for route in there.difference(&ours) {
                if !destinations.contains(&route.to) {
                    routing.delete_route(*route)?;
                }
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let told = missing.first().cloned().unwrap_or_default();
        let why = format!(
            "{} of their next hops are no neighbours, {told} first",
            missing.len()
        );
        if self.warned.insert(why.clone()) {
            tracing::warn!(why, "some of the network's routes are left out");
        }
        Ok(())
    }

    fn own_addresses(&mut self) -> Result<HashSet<IpAddr>, HostError> {
        let routing = self.routing()?;
        let mut own = HashSet::new();
        for family in Routing::families() {
            let addresses = routing.host_addresses(family)?;
            own.extend(addresses.into_iter().map(|own| own.network.addr()));
        }
        Ok(own)
    }

    /// The kernel's next hop to each; a backend that is a neighbour is its own.
    pub(crate) fn next_hops(&mut self, to: &[IpAddr]) -> Vec<(IpAddr, Option<IpAddr>)> {
        let Ok(routing) = self.routing() else {
            return Vec::new();
        };
        let hop = |address: IpAddr| {
            let found = routing.next_hop(address).ok().flatten()?;
            Some(found.gateway.unwrap_or(address))
        };
        let mut hop = hop;
        to.iter().map(|address| (*address, hop(*address))).collect()
    }

    fn warn_of_filters(&mut self) {
        for (link, why) in sysctl::filters() {
            if self.warned.insert(format!("{link} {why}")) {
                tracing::warn!(link, "{why}");
            }
        }
    }
}

/// The table: what is for a transparent socket is marked, by the socket and by its connection; errors about such a
/// connection's packets know only the latter. A network plugin of this host may masquerade what goes to other hosts' Pods
/// and does not come from Pods, as flannel does: not those connections.
fn ruleset(deliver: Bits) -> Ruleset {
    let chain = |name: &str, hook, rules| Chain {
        name: name.to_owned(),
        hook,
        priority: match hook {
            Hook::PostroutingNat => Chain::SOURCE_NAT - 10,
            _ => Chain::MANGLE,
        },
        rules,
    };
    let kept = Family::ALL.map(|family| {
        let matches = [Match::Original, Match::ConnectionMark(deliver)];
        Rule::new(matches, [Action::KeepSource(family)])
    });
    let to_socket = |transport| {
        let matches = [Match::Protocol(transport), Match::TransparentSocket];
        Rule::new(matches, [Action::SetMark(deliver)])
    };
    let answers = Rule::new(
        [Match::Reply, Match::ConnectionMark(deliver)],
        [Action::SetMark(deliver), Action::Accept],
    );
    let begins = Rule::new(
        [Match::TransparentSocket, Match::NotConnectionMark(deliver)],
        [Action::SetConnectionMark(deliver)],
    );
    Ruleset {
        family: None,
        table: TABLE.to_owned(),
        comment: "podline-proxy: answers to clients that it imitates come to it".to_owned(),
        chains: vec![
            chain(
                "pre",
                Hook::Prerouting,
                vec![
                    answers.comment("answers, and errors about what was sent"),
                    to_socket(Transport::Tcp).comment("whatever is for an imitating socket"),
                    to_socket(Transport::Udp),
                ],
            ),
            chain(
                "out",
                Hook::OutputFilter,
                vec![begins.comment("connections of imitating sockets")],
            ),
            chain("post", Hook::PostroutingNat, kept.into()),
        ],
    }
}

/// Takes away what a process with these marks keeps in place, or says what there is: nothing if one that lives holds it.
fn clear(marks: Marks, table: Option<Table>, dry_run: bool) -> Result<Vec<String>, HostError> {
    let mut told = Vec::new();
    let mut own = match table {
        Some(table) => table,
        None => Table::open(TABLE)?,
    };
    // First what sets marks, then what they mean.
    if own.look()? != Seen::Missing {
        let removed = if dry_run { Ok(true) } else { own.remove() };
        match removed {
            Err(error) if error.is_denied() => return Ok(told),
            removed => removed?,
        };
        told.push(format!("delete table inet {TABLE}"));
    }
    let mut routing = Routing::open()?;
    for family in Routing::families() {
        let is_ours = |rule: &MarkRule| {
            (rule.mark, rule.table) == (marks.deliver, marks.table)
                || (rule.mark, rule.table) == (marks.route, marks.route_table())
        };
        for rule in routing.rules(family)?.into_iter().filter(is_ours) {
            told.push(format!("delete {rule}"));
            if !dry_run {
                routing.delete_rule(rule)?;
            }
        }
        for table in [marks.table, marks.route_table()] {
            for route in routing.routes(family, Some(table))? {
                told.push(format!("delete {route}"));
                if !dry_run {
                    routing.delete_route(route)?;
                }
            }
        }
    }
    Ok(told)
}

/// Takes away what proxies that are gone, and had the marks that they have unless told otherwise, left on this host; in
/// words.
///
/// # Errors
/// Some of it may be left.
pub(super) fn clear_leftovers(dry_run: bool) -> Result<Vec<String>, HostError> {
    let marks = Marks::new(Settings::MARK, Settings::MASK, Settings::ROUTE_TABLE);
    marks.map_or_else(|_| Ok(Vec::new()), |marks| clear(marks, None, dry_run))
}

fn keep_rule(
    routing: &mut Routing,
    rule: MarkRule,
    repaired: &mut Vec<String>,
) -> Result<(), HostError> {
    if !routing.rules(rule.family)?.contains(&rule) {
        routing.add_rule(rule)?;
        repaired.push(rule.to_string());
    }
    Ok(())
}

fn loopback(routing: &mut Routing) -> Result<u32, HostError> {
    let links = routing.links()?;
    let loopback = links.iter().find(|link| link.kind == LinkKind::Loopback);
    Ok(loopback.map_or(1, |link| link.index))
}

/// Where a next hop is.
#[derive(Clone, Copy)]
enum Hop {
    /// On a link of this number.
    Neighbour(u32),
    /// It is this host itself.
    Own,
    /// Behind others, or nowhere.
    Far,
}

/// Where next hops are.
fn ways(routing: &mut Routing, wanted: &[Wanted]) -> Result<HashMap<IpAddr, Hop>, HostError> {
    let mut hops = HashMap::new();
    for via in wanted.iter().map(|route| route.via) {
        if hops.contains_key(&via) {
            continue;
        }
        let hop = match routing.next_hop(via)? {
            Some(hop) if hop.is_local => Hop::Own,
            Some(hop) if hop.gateway.is_none() => Hop::Neighbour(hop.link),
            _ => Hop::Far,
        };
        hops.insert(via, hop);
    }
    Ok(hops)
}

/// Ports and their reuse: one client reaches one backend by so many connections at once, and a second.
fn tune() {
    let outcomes = [sysctl::reuse_ports_early(), sysctl::widen_local_ports()];
    let refused: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
    if let Some(why) = refused.first() {
        tracing::warn!(
            why,
            "cannot set net.ipv4.tcp_tw_reuse=1 and a wide net.ipv4.ip_local_port_range: an imitated client opens at most about 470 connections a second to one backend"
        );
    }
}

pub(super) fn words(error: &HostError) -> String {
    format!("{error}: {}", error.source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_reads_as_it_should() {
        let text = ruleset(Bits::new(0x700, 0xfff).unwrap()).to_string();
        let expected = "table inet podline {
\tcomment \"podline-proxy: answers to clients that it imitates come to it\"

\tchain pre {
\t\ttype filter hook prerouting priority mangle; policy accept;
\t\tct direction reply ct mark & 0x00000fff == 0x00000700 meta mark set meta mark & 0xfffff700 | 0x00000700 accept comment \"answers, and errors about what was sent\"
\t\tmeta l4proto tcp socket wildcard 0 socket transparent 1 meta mark set meta mark & 0xfffff700 | 0x00000700 comment \"whatever is for an imitating socket\"
\t\tmeta l4proto udp socket wildcard 0 socket transparent 1 meta mark set meta mark & 0xfffff700 | 0x00000700
\t}

\tchain out {
\t\ttype filter hook output priority mangle; policy accept;
\t\tsocket wildcard 0 socket transparent 1 ct mark & 0x00000fff != 0x00000700 ct mark set ct mark & 0xfffff700 | 0x00000700 comment \"connections of imitating sockets\"
\t}

\tchain post {
\t\ttype nat hook postrouting priority srcnat - 10; policy accept;
\t\tct direction original ct mark & 0x00000fff == 0x00000700 snat ip to ip saddr
\t\tct direction original ct mark & 0x00000fff == 0x00000700 snat ip6 to ip6 saddr
\t}
}
";
        assert_eq!(text, expected);
    }

    #[test]
    fn two_marks_and_two_tables_fit_or_that_is_said() {
        let marks = Marks::new(0x700, 0xfff, 700).unwrap();
        assert_eq!(marks.deliver.to_string(), "0x700/0xfff");
        assert_eq!(marks.route.to_string(), "0x702/0xfff");
        assert_eq!(marks.route_table(), 702);
        for (mark, mask, table) in [
            (0, 0xfff, 700),
            (0x1700, 0xfff, 700),
            (1, 1, 700),
            (2, 2, 700),
            (0x700, 0xfff, 254),
            (0x700, 0xfff, 253),
            (0x700, 0xfff, 252),
            (0x700, 0xfff, 0),
            (0x700, 0, 700),
        ] {
            Marks::new(mark, mask, table).unwrap_err();
        }
    }
}
