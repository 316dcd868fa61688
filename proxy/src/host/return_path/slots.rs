//! Which number each way has: the same for as long as it lives, over restarts of the agent too. Pure.
//!
//! A connection's mark holds the number of the way that it came by, so a number must not change its meaning while there
//! are such connections.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::settings::Numbers;
use super::ways::{InboundWay, LinkName};
use crate::host::Mac;
use crate::host::routes::{Route, Way};

/// How long the way back of a proxy that is no longer named is kept: its connections may live on. As long as a proxy lets
/// a connection be idle.
pub const GRACE: Duration = Duration::from_mins(15);

/// Ways by their numbers.
#[derive(Clone, Debug, Default)]
pub struct Slots {
    held: BTreeMap<u8, Held>,
}

/// A number that is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The proxy's addresses as they were given; empty when an earlier agent left it and no proxy was found to fit.
    pub proxy: Vec<IpAddr>,
    /// The link.
    pub link: LinkName,
    /// Where its connections come from on the link; unknown when an earlier agent left it.
    pub mac: Option<Mac>,
    /// Where replies go.
    pub back: [Option<IpAddr>; 2],
    /// Since when no named proxy has it.
    gone: Option<Duration>,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mac {
            Some(mac) => write!(f, "from {mac}")?,
            None => f.write_str("from an unknown Ethernet address")?,
        }
        let back = self.back.iter().flatten().map(ToString::to_string);
        let back = back.collect::<Vec<_>>().join(" and ");
        write!(f, " on {}, back to {back}", self.link.name)
    }
}

/// What became of the numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A way got a number that was free.
    New(u8),
    /// The way with this number changed.
    Changed(u8),
    /// The proxy with this number is no longer named; its connections may live on.
    Gone(u8),
    /// The number is free again.
    Freed(u8),
    /// There is no number left for the way from this Ethernet address on this link.
    Full(String, Mac),
}

impl Slots {
    /// The numbers that the routes of an earlier agent tell; `name` tells a link's name.
    pub fn adopt(
        numbers: Numbers,
        routes: &[Route],
        name: impl Fn(u32) -> Option<String>,
        now: Duration,
    ) -> Self {
        let mut slots = Self::default();
        for route in routes {
            let slot = numbers.slot_of_table(route.table);
            let (Some(slot), Way::Via { gateway, link }) = (slot, route.way) else {
                continue;
            };
            let Some(name) = name(link) else { continue };
            let held = slots.held.entry(slot).or_insert_with(|| Held {
                proxy: Vec::new(),
                link: LinkName { index: link, name },
                mac: None,
                back: [None, None],
                gone: Some(now),
            });
            if held.link.index == link {
                held.back[route.family() as usize] = Some(gateway);
            }
        }
        slots
    }

    /// The numbers in use, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &Held)> {
        self.held.iter().map(|(slot, held)| (*slot, held))
    }

    /// What is held under a number.
    pub fn get(&self, slot: u8) -> Option<&Held> {
        self.held.get(&slot)
    }

    /// Takes over what was found. `named` are all addresses of all proxies, whether or not a way was found for them: a
    /// way whose proxy does not answer just now stays.
    pub fn update(
        &mut self,
        numbers: Numbers,
        ways: &[InboundWay],
        named: &[IpAddr],
        now: Duration,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        let mut seen = Vec::new();
        for way in ways {
            let slot = self.find(way, &seen).or_else(|| self.free(numbers));
            let Some(slot) = slot else {
                events.push(Event::Full(way.link.name.clone(), way.mac));
                continue;
            };
            seen.push(slot);
            events.extend(self.hold(slot, way));
        }
        for (slot, held) in &mut self.held {
            let is_named = |address: &IpAddr| named.contains(address);
            let is_back = held.back.iter().flatten().any(is_named);
            if seen.contains(slot) || is_back || held.proxy.iter().any(is_named) {
                held.gone = None;
            } else if held.gone.is_none() {
                held.gone = Some(now);
                events.push(Event::Gone(*slot));
            }
        }
        self.held.retain(|slot, held| {
            let is_over = held
                .gone
                .is_some_and(|since| now.saturating_sub(since) >= GRACE);
            if is_over {
                events.push(Event::Freed(*slot));
            }
            !is_over
        });
        events
    }

    /// The number of a way: where its replies go tells, else where it comes from.
    fn find(&self, way: &InboundWay, seen: &[u8]) -> Option<u8> {
        let free = || self.held.iter().filter(|(slot, _)| !seen.contains(slot));
        let same_back = |held: &Held| {
            let mut pairs = held.back.iter().zip(&way.back);
            pairs.any(|(old, new)| old.is_some() && old == new)
        };
        let by_back = free().find(|(_, held)| held.link == way.link && same_back(held));
        let moved = || free().find(|(_, held)| same_back(held) && held.proxy == way.proxy);
        let same_mac = |held: &Held| held.link == way.link && held.mac == Some(way.mac);
        let by_mac = || free().find(|(_, held)| same_mac(held));
        let found = by_back.or_else(moved).or_else(by_mac);
        found.map(|(slot, _)| *slot)
    }

    fn free(&self, numbers: Numbers) -> Option<u8> {
        numbers.slots().find(|slot| !self.held.contains_key(slot))
    }

    fn hold(&mut self, slot: u8, way: &InboundWay) -> Option<Event> {
        let old = self.held.get(&slot);
        let mut back = way.back;
        if let Some(old) = old.filter(|old| old.link == way.link) {
            // A neighbour that the kernel has forgotten is still there.
            for (new, old) in back.iter_mut().zip(old.back) {
                *new = new.or(old);
            }
        }
        let held = Held {
            proxy: way.proxy.clone(),
            link: way.link.clone(),
            mac: Some(way.mac),
            back,
            gone: None,
        };
        let event = match old {
            None => Some(Event::New(slot)),
            Some(old) if old.gone.is_some() || !old.is_same(&held) => Some(Event::Changed(slot)),
            Some(_) => None,
        };
        self.held.insert(slot, held);
        event
    }
}

impl Held {
    /// The proxy's addresses as they were given.
    pub fn proxies(&self) -> String {
        let proxy = self.proxy.iter().map(ToString::to_string);
        proxy.collect::<Vec<_>>().join(" ")
    }

    pub(super) fn is_same_proxy(&self, other: &Self) -> bool {
        self == other || self.proxy.iter().any(|proxy| other.proxy.contains(proxy))
    }

    fn is_same(&self, other: &Self) -> bool {
        let essence = |held: &Self| (held.link.clone(), held.mac, held.back);
        essence(self) == essence(other)
    }
}
