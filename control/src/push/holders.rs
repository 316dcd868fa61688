//! Which proxy holds which virtual address. Pure: time is an argument, in milliseconds since any moment.
//!
//! Who holds one keeps it for as long as it serves; nobody moves because a proxy comes. What a proxy says that it holds
//! it was told by the leader before, so a new leader goes on with that. Each move has a higher epoch, and the leader's own
//! reign is a part of it: of two proxies that both believe to hold an address the one that was told later does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use podline_api::{Neighbour, VirtualAddress};

use super::fits::{ADDRESSES, HANDOVER};
use crate::observed::{AddressState, Holding, Observed, ProxyView};
use crate::snapshot::Snapshot;

/// A holder that does not serve for so long loses what it holds.
const ABSENT_MS: u64 = 1_500;
/// A new leader waits so long for proxies that it cannot reach, before it gives away what nobody is seen to hold.
const SETTLE_MS: u64 = 5_000;
/// A proxy that could not take an address is not tried again before this.
const FAILED_MS: u64 = 60_000;
/// An address that nobody has held for so long is not on its way any more.
const NOWHERE_MS: u64 = 10_000;
/// Below this the moves of one reign are counted.
const REIGN_SHIFT: u32 = 32;

/// Who holds what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Holders {
    of: BTreeMap<IpAddr, Held>,
    reign: u64,
    since_ms: u64,
    /// No epoch was higher so far.
    highest: u64,
    /// Since when proxies do not serve.
    absent: BTreeMap<String, u64>,
    /// Who could not take which address, and until when that counts.
    failed: BTreeMap<(IpAddr, String), u64>,
    /// Since when nobody that serves holds an address.
    lacking: BTreeMap<IpAddr, u64>,
}

/// Who holds one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) proxy: String,
    pub(super) epoch: u64,
    /// A proxy has held it before.
    pub(super) take_over: bool,
    /// That one, if it ends in order and lives still: its connections are sent on to it.
    pub(super) predecessor: Option<Neighbour>,
}

/// The addresses that listeners stand on, where those are not all of a host's, and can be at another.
pub(super) fn virtual_addresses(snapshot: &Snapshot) -> BTreeSet<IpAddr> {
    let listeners = snapshot.listeners.values();
    let addresses = listeners.map(|listener| listener.address.ip());
    let moves = |ip: &IpAddr| match ip {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    };
    addresses
        .filter(|ip| !ip.is_unspecified() && moves(ip))
        .collect()
}

impl Holders {
    /// Decides, as the leader of this reign, who holds the addresses that are wanted.
    pub(super) fn step(
        &mut self,
        reign: u64,
        wanted: &BTreeSet<IpAddr>,
        observed: &Observed,
        now_ms: u64,
    ) {
        if self.reign != reign {
            *self = Self {
                reign,
                since_ms: now_ms,
                highest: self.highest,
                ..Self::default()
            };
        }
        self.highest = self.highest.max(reign << REIGN_SHIFT);
        self.note(observed, now_ms);
        self.of.retain(|ip, _| wanted.contains(ip));
        self.lacking.retain(|ip, _| wanted.contains(ip));
        let is_settled = now_ms >= self.since_ms + SETTLE_MS;
        for (ip, held) in &mut self.of {
            let lives = |one: &Neighbour| !is_settled || is_alive(*ip, *one, observed);
            held.predecessor = held.predecessor.filter(lives);
        }
        for ip in wanted {
            self.find_holder(*ip, observed, now_ms);
            if is_held(*ip, observed) {
                self.lacking.remove(ip);
            } else {
                self.lacking.entry(*ip).or_insert(now_ms);
            }
        }
    }

    /// Whether anybody holds those that are wanted.
    pub(super) fn holdings(
        &self,
        wanted: &BTreeSet<IpAddr>,
        now_ms: u64,
    ) -> BTreeMap<IpAddr, Holding> {
        let of = |ip: &IpAddr| match self.lacking.get(ip) {
            None => Holding::Held,
            Some(since) if now_ms < since + NOWHERE_MS => Holding::Moving,
            Some(_) => Holding::Nowhere,
        };
        wanted.iter().map(|ip| (*ip, of(ip))).collect()
    }

    /// Who holds it; nothing where that is not decided in this reign: then what proxies have of it stays as it is.
    pub(super) fn of(&self, ip: IpAddr, reign: u64) -> Option<&Held> {
        self.of.get(&ip).filter(|_| self.reign == reign)
    }

    /// What is another than before, in words.
    pub(super) fn moves_since(&self, before: &Self) -> Vec<String> {
        let mut moves = Vec::new();
        for (ip, held) in &self.of {
            let had = before.of(*ip, self.reign);
            if had == Some(held) {
                continue;
            }
            let Held { proxy, epoch, .. } = held;
            moves.push(match had {
                Some(had) if had.proxy == *proxy && had.epoch == *epoch => {
                    format!("{ip} is all {proxy}'s: who held it before has ended")
                }
                Some(had) if had.proxy != *proxy => {
                    format!("{ip} goes from {} to {proxy}, epoch {epoch}", had.proxy)
                }
                _ => format!("{ip} is held by {proxy}, epoch {epoch}"),
            });
        }
        moves
    }

    fn note(&mut self, observed: &Observed, now_ms: u64) {
        for (name, proxy) in &observed.proxies {
            for (ip, told) in &*proxy.virtual_addresses {
                self.highest = self.highest.max(told.epoch).max(told.heard_epoch);
                if told.state == AddressState::Failed {
                    let place = (*ip, name.clone());
                    self.failed.insert(place, now_ms + FAILED_MS);
                }
            }
            if proxy.serving {
                self.absent.remove(name);
            } else {
                self.absent.entry(name.clone()).or_insert(now_ms);
            }
        }
        self.failed.retain(|_, until_ms| now_ms < *until_ms);
        self.absent
            .retain(|name, _| observed.proxies.contains_key(name));
    }

    fn find_holder(&mut self, ip: IpAddr, observed: &Observed, now_ms: u64) {
        let Some(held) = self.of.get(&ip) else {
            if let Some(held) = reported(ip, observed) {
                self.of.insert(ip, held);
            } else if self.is_settled(observed, now_ms)
                && let Some(proxy) = self.choose(ip, observed)
            {
                self.give(ip, proxy, false, None);
            }
            return;
        };
        if !self.may_stay(ip, held, observed, now_ms) {
            if let Some(proxy) = self.choose(ip, observed) {
                let takes = observed.proxies.get(&proxy);
                let sends_on = takes.is_some_and(|proxy| proxy.features.contains(HANDOVER));
                let predecessor = leaves(ip, held, observed).filter(|_| sends_on);
                self.give(ip, proxy, true, predecessor);
            }
        } else if is_kept_from(ip, held, observed) {
            let proxy = held.proxy.clone();
            let predecessor = held.predecessor;
            self.give(ip, proxy, true, predecessor);
        }
    }

    fn give(&mut self, ip: IpAddr, proxy: String, take_over: bool, predecessor: Option<Neighbour>) {
        self.highest += 1;
        let epoch = self.highest;
        let held = Held {
            proxy,
            epoch,
            take_over,
            predecessor,
        };
        self.of.insert(ip, held);
    }

    fn may_stay(&self, ip: IpAddr, held: &Held, observed: &Observed, now_ms: u64) -> bool {
        let Some(proxy) = observed.proxies.get(&held.proxy) else {
            return false;
        };
        let absent = self.absent.get(&held.proxy);
        let is_absent = absent.is_some_and(|since| now_ms >= since + ABSENT_MS);
        let has_failed = self.failed.contains_key(&(ip, held.proxy.clone()));
        let is_gone = proxy.is_dead || proxy.is_leaving || is_absent;
        !is_gone && !has_failed
    }

    /// Every proxy has said what it holds, or will not any more.
    fn is_settled(&self, observed: &Observed, now_ms: u64) -> bool {
        let mut proxies = observed.proxies.values();
        now_ms >= self.since_ms + SETTLE_MS || proxies.all(|proxy| proxy.serving || proxy.is_dead)
    }

    /// The proxy that holds the fewest of those that can take it.
    fn choose(&self, ip: IpAddr, observed: &Observed) -> Option<String> {
        let can = |name: &str, proxy: &ProxyView| {
            proxy.serving
                && !proxy.is_leaving
                && proxy.features.contains(ADDRESSES)
                && !self.failed.contains_key(&(ip, name.to_owned()))
        };
        let load = |name: &str| self.of.values().filter(|held| held.proxy == name).count();
        let all = observed.proxies.iter();
        all.filter(|(name, proxy)| can(name, proxy))
            .min_by_key(|(name, _)| load(name))
            .map(|(name, _)| name.clone())
    }
}

/// One that serves says that it holds the address.
fn is_held(ip: IpAddr, observed: &Observed) -> bool {
    observed.serving().any(|(_, proxy)| {
        let told = proxy.virtual_addresses.get(&ip);
        told.is_some_and(|told| told.state == AddressState::Holding)
    })
}

/// Who says that it holds the address, with the most right.
fn reported(ip: IpAddr, observed: &Observed) -> Option<Held> {
    let all = observed.proxies.iter();
    let holding = all.filter_map(|(name, proxy)| {
        let told = proxy.virtual_addresses.get(&ip)?;
        (told.state == AddressState::Holding).then_some((told.epoch, name, told.predecessor))
    });
    holding.max().map(|(epoch, name, predecessor)| Held {
        proxy: name.clone(),
        epoch,
        take_over: true,
        predecessor,
    })
}

/// Who holds it, to others on its link, where that one ends in order: it serves those that it has.
fn leaves(ip: IpAddr, held: &Held, observed: &Observed) -> Option<Neighbour> {
    let proxy = observed.proxies.get(&held.proxy)?;
    let told = proxy.virtual_addresses.get(&ip)?;
    told.own.filter(|_| proxy.is_leaving && !proxy.is_dead)
}

/// One of the proxies that live is this one.
fn is_alive(ip: IpAddr, one: Neighbour, observed: &Observed) -> bool {
    let mut all = observed.proxies.values();
    all.any(|proxy| {
        let told = proxy.virtual_addresses.get(&ip);
        !proxy.is_dead && told.is_some_and(|told| told.own == Some(one))
    })
}

/// Another proxy of ours, which is not reached, keeps the holder from it.
fn is_kept_from(ip: IpAddr, held: &Held, observed: &Observed) -> bool {
    let proxy = observed.proxies.get(&held.proxy);
    let told = proxy.and_then(|proxy| proxy.virtual_addresses.get(&ip));
    told.is_some_and(|told| {
        let waits = matches!(told.state, AddressState::Conflict | AddressState::Yielded);
        waits && told.epoch == held.epoch && told.heard_epoch >= told.epoch
    })
}

/// What one proxy is to be told of the addresses: `had` is what it has, where that is not decided.
pub(super) fn for_proxy(
    proxy: &str,
    wanted: &BTreeSet<IpAddr>,
    (holders, reign): (&Holders, u64),
    had: &[VirtualAddress],
    interface: Option<&str>,
) -> Vec<VirtualAddress> {
    let one = |ip: &IpAddr| {
        let known = had.iter().find(|known| known.address == *ip);
        let decided = holders
            .of(*ip, reign)
            .map(|held| (held, held.proxy == proxy));
        let mut address = match (decided, known) {
            (Some((held, true)), _) => VirtualAddress {
                held: true,
                epoch: held.epoch,
                take_over: held.take_over,
                predecessor: held.predecessor,
                ..VirtualAddress::standby(*ip)
            },
            (Some((_, false)), _) | (None, None) => VirtualAddress::standby(*ip),
            (None, Some(known)) => known.clone(),
        };
        address.interface = interface.map(str::to_owned);
        address
    };
    wanted.iter().map(one).collect()
}

#[cfg(test)]
mod tests;
