//! The agent itself: looks, wishes, changes, again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::observe::{families, observe, resolve};
use super::settings::Numbers;
use super::slots::{Event, Slots};
use super::ways::{NoWay, View, ways};
use super::wish::{Change, PRIORITY, TABLE, Wish};
use crate::error::chain;
use crate::host::nft::{Ruleset, Seen, Table};
use crate::host::routes::Route;
use crate::host::rules::MarkRule;
use crate::host::transparency::clear_leftovers;
use crate::host::vip::handover;
use crate::host::{Family, HostError, Routing, sysctl};

/// The agent between two looks.
#[derive(Debug)]
pub(super) struct Agent {
    numbers: Numbers,
    families: Vec<Family>,
    routing: Routing,
    table: Table,
    slots: Slots,
    /// As it is in the kernel, unless somebody changed it.
    put: Option<Ruleset>,
    told: Told,
}

/// What was said already, so that it is said once.
#[derive(Debug, Default)]
struct Told {
    /// With how often in a row it was so.
    no_way: BTreeMap<(IpAddr, NoWay), u32>,
    one_version: BTreeSet<(u8, Family)>,
    strict: BTreeSet<String>,
    full: bool,
    failure: Option<String>,
}

impl Agent {
    /// Takes over the numbers of an earlier agent. Nothing is changed yet.
    pub(super) fn start(numbers: Numbers) -> Result<Self, HostError> {
        let mut routing = Routing::open()?;
        let families = families();
        let links = routing.links()?;
        let name = |index| {
            let link = links.iter().find(|link| link.index == index)?;
            Some(link.name.clone())
        };
        let (_, routes) = installed(&mut routing, numbers, &families)?;
        let routes: Vec<_> = routes.into_iter().collect();
        let slots = Slots::adopt(numbers, &routes, name, Duration::ZERO);
        for (slot, held) in slots.iter() {
            tracing::info!(mark = %numbers.mark(slot), way = %held, "taken over from an earlier agent");
        }
        Ok(Self {
            numbers,
            families,
            table: Table::open(TABLE)?,
            routing,
            slots,
            put: None,
            told: Told::default(),
        })
    }

    /// Looks at the host; says what should be installed for these proxies.
    pub(super) fn look(
        &mut self,
        addresses: &[IpAddr],
        ask_neighbours: bool,
        now: Duration,
    ) -> Result<Wish, HostError> {
        let view = observe(&mut self.routing, addresses)?;
        let (found, none) = ways(&view);
        let unresolved = none.iter().any(|(_, why)| *why == NoWay::Unresolved);
        if ask_neighbours || unresolved {
            resolve(&mut self.routing, &view);
        }
        let events = self.slots.update(self.numbers, &found, addresses, now);
        self.told.events(&events, &self.slots, self.numbers);
        self.told.no_way(&none);
        self.told.versions(&self.slots, &self.families);
        self.warn_strict(&view);
        Ok(Wish::of(&self.slots, self.numbers, &self.families))
    }

    /// Brings the kernel to what is wished, and mends what others changed.
    ///
    /// # Errors
    /// The first refusal; what does not depend on it is done all the same.
    pub(super) fn apply(&mut self, wish: &Wish) -> Result<(), HostError> {
        let (rules, routes) = installed(&mut self.routing, self.numbers, &self.families)?;
        let (before, after) = split(wish.changes(&rules, &routes));
        let before = self.change_all(&before);
        let put = self.put_table(wish);
        // The old numbers' ways go when no rule sets their marks any more.
        let after = self.change_all(&after);
        before.and(put).and(after)?;
        if self.told.failure.take().is_some() {
            tracing::info!("all is as it should be again");
        }
        Ok(())
    }

    fn change_all(&mut self, changes: &[Change]) -> Result<(), HostError> {
        let mut first = Ok(());
        for change in changes {
            let result = self.change(*change);
            first = first.and(result);
        }
        first
    }

    fn change(&mut self, change: Change) -> Result<(), HostError> {
        match change {
            Change::Put(route) => self.routing.replace_route(route),
            Change::Drop(route) => self.routing.delete_route(route),
            Change::Add(rule) => self.routing.add_rule(rule),
            Change::Delete(rule) => self.routing.delete_rule(rule),
        }?;
        tracing::info!("{change}");
        Ok(())
    }

    fn put_table(&mut self, wish: &Wish) -> Result<(), HostError> {
        let is_put = self.put.as_ref() == Some(&wish.ruleset);
        if is_put {
            match self.table.look()? {
                Seen::AsPut => return Ok(()),
                Seen::Changed => tracing::warn!("somebody changed the table inet {TABLE}"),
                Seen::Missing => tracing::warn!("somebody removed the table inet {TABLE}"),
            }
        }
        self.table.put(&wish.ruleset)?;
        let owned = self.table.is_owned();
        tracing::info!(owned, "put the table inet {TABLE}:\n{}", wish.ruleset);
        self.put = Some(wish.ruleset.clone());
        Ok(())
    }

    /// Says what went wrong, once until it goes well.
    pub(super) fn failed(&mut self, error: &HostError) {
        let text = chain(error);
        if self.told.failure.as_ref() != Some(&text) {
            tracing::error!("{text}");
            self.told.failure = Some(text);
        }
    }

    fn warn_strict(&mut self, view: &View) {
        let slots = self.slots.iter().map(|(_, held)| held.link.name.as_str());
        for link in slots.filter(|name| view.links.iter().any(|link| link.name == *name)) {
            if sysctl::is_strict(link) && self.told.strict.insert(link.to_owned()) {
                tracing::warn!(
                    "the reverse path filter is strict on {link}: connections of clients that this host reaches by another link are dropped there; set net.ipv4.conf.{link}.rp_filter=2, and net.ipv4.conf.all.rp_filter to 0 or 2"
                );
            }
        }
    }
}

/// Takes away everything, or only says what it would be.
pub(super) fn remove(numbers: Numbers, dry_run: bool) -> Result<Vec<String>, HostError> {
    let mut routing = Routing::open()?;
    let families = families();
    let (rules, routes) = installed(&mut routing, numbers, &families)?;
    let mut table = Table::open(TABLE)?;
    let mut told = Vec::new();
    // First what sets marks, then what they mean.
    let is_there = table.look()? != Seen::Missing;
    if is_there {
        told.push(format!("delete table inet {TABLE}"));
        if !dry_run {
            table.remove()?;
        }
    }
    for rule in rules {
        told.push(Change::Delete(rule).to_string());
        if !dry_run {
            routing.delete_rule(rule)?;
        }
    }
    for route in routes {
        told.push(Change::Drop(route).to_string());
        if !dry_run {
            routing.delete_route(route)?;
        }
    }
    // Proxies come and go, and leave theirs for the next one.
    told.extend(clear_leftovers(dry_run)?);
    told.extend(handover::clear_leftovers(dry_run)?);
    Ok(told)
}

/// The rules and routes of agents: those of ours with a number of an agent's.
fn installed(
    routing: &mut Routing,
    numbers: Numbers,
    families: &[Family],
) -> Result<(BTreeSet<MarkRule>, BTreeSet<Route>), HostError> {
    let (mut rules, mut routes) = (BTreeSet::new(), BTreeSet::new());
    let is_ours = |table| numbers.slot_of_table(table).is_some();
    for family in families {
        let found = routing.rules(*family)?;
        rules.extend(
            found
                .into_iter()
                .filter(|rule| rule.priority == PRIORITY && is_ours(rule.table)),
        );
        let found = routing.routes(*family, None)?;
        routes.extend(found.into_iter().filter(|route| is_ours(route.table)));
    }
    Ok((rules, routes))
}

/// Additions, and what goes.
fn split(changes: Vec<Change>) -> (Vec<Change>, Vec<Change>) {
    changes
        .into_iter()
        .partition(|change| matches!(change, Change::Put(_) | Change::Add(_)))
}

impl Told {
    fn events(&mut self, events: &[Event], slots: &Slots, numbers: Numbers) {
        for event in events {
            let (slot, what) = match event {
                Event::New(slot) => (*slot, "a proxy's connections are marked"),
                Event::Changed(slot) => (*slot, "a proxy's way changed"),
                Event::Gone(slot) => (
                    *slot,
                    "a proxy is no longer named; its way stays for its connections",
                ),
                Event::Freed(slot) => {
                    tracing::info!(mark = %numbers.mark(*slot), "a proxy's way is given up");
                    continue;
                }
                Event::Full(link, mac) => {
                    if !std::mem::replace(&mut self.full, true) {
                        tracing::error!(link, %mac, "there is no mark left for this proxy: widen --mask");
                    }
                    continue;
                }
            };
            if let Some(held) = slots.get(slot) {
                let proxy = held.proxies();
                tracing::info!(proxy, mark = %numbers.mark(slot), way = %held, "{what}");
            }
        }
    }

    fn no_way(&mut self, none: &[(IpAddr, NoWay)]) {
        for (address, why) in none {
            let times = self.no_way.entry((*address, *why)).or_default();
            *times += 1;
            match why {
                // The first answer takes a moment.
                NoWay::Unresolved if *times == 3 => tracing::warn!(proxy = %address, "{why}"),
                NoWay::Own if *times == 1 => tracing::info!(proxy = %address, "{why}"),
                NoWay::NoRoute | NoWay::Behind(_) if *times == 1 => {
                    tracing::warn!(proxy = %address, "{why}");
                }
                _ => {}
            }
        }
        self.no_way.retain(|told, _| none.contains(told));
    }

    /// A proxy that no way serves in one of the IP versions that this host speaks.
    fn versions(&mut self, slots: &Slots, families: &[Family]) {
        let known = || slots.iter().filter(|(_, held)| held.mac.is_some());
        let mut missing = BTreeSet::new();
        for (slot, held) in known() {
            for family in families {
                let mut same = known().filter(|(_, other)| other.is_same_proxy(held));
                if !same.any(|(_, other)| other.back[*family as usize].is_some()) {
                    missing.insert((slot, *family));
                }
            }
        }
        for (slot, family) in missing.difference(&self.one_version) {
            if let Some(held) = slots.get(*slot) {
                let (version, proxy) = (family.name(), held.proxies());
                tracing::warn!(
                    proxy,
                    "{version} is not served: no neighbour with this proxy's Ethernet address is known; give its {version} address with --proxy too"
                );
            }
        }
        self.one_version = missing;
    }
}
