//! One backend set as of one version: its settings and its members.

use super::SetId;
use super::affinity::Memory;
use super::backend::BackendRuntime;
use super::hash::{self, Identity};
use super::pick::{Cursor, pick};
use super::rendezvous::{Choice, Entry, Rendezvous};
use super::trie::{Member, Tally, Tier, Trie};
use podline_api::{Affinity, BackendKey, HashKey, Name, Policy, SetSettings};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// What a pick comes to.
#[derive(Clone, Debug)]
pub enum Pick {
    /// This one.
    Backend(Arc<BackendRuntime>),
    /// Nobody is eligible yet, but some have no verdict: wait for the first.
    Wait,
    /// Nobody can take it.
    Empty,
}

impl From<Option<Arc<BackendRuntime>>> for Pick {
    fn from(found: Option<Arc<BackendRuntime>>) -> Self {
        found.map_or(Self::Empty, Self::Backend)
    }
}

/// A backend set. Persistent: cloning is cheap, and changing a member of a clone leaves the original alone.
#[derive(Clone, Debug)]
pub struct Set {
    /// Its number.
    pub id: SetId,
    /// Its name.
    pub name: Name,
    /// How it picks, connects and drains.
    pub settings: Arc<SetSettings>,
    /// A backend of it has been healthy once: before that, new work waits for the first verdict.
    pub was_healthy: bool,
    members: Trie,
    /// For those that go by a hash; others do not pay for it.
    hashed: Option<Rendezvous>,
    /// What the memory of clients knows this set, or its group, by.
    remembered_as: u64,
    slots: imbl::HashMap<BackendKey, u32>,
    free: imbl::Vector<u32>,
}

impl Set {
    /// A set without members.
    pub fn new(id: SetId, name: Name, settings: SetSettings) -> Self {
        Self {
            id,
            hashed: goes_by_hash(&settings).then(Rendezvous::default),
            remembered_as: remembered_as(&name, &settings),
            name,
            settings: Arc::new(settings),
            was_healthy: false,
            members: Trie::default(),
            slots: imbl::HashMap::new(),
            free: imbl::Vector::new(),
        }
    }

    /// Adds a member, or changes the one with the same key. O(log n).
    pub fn put(&mut self, member: Member) {
        let next = u32::try_from(self.slots.len() + self.free.len()).unwrap_or(u32::MAX);
        let key = member.runtime.key.clone();
        let slot = match self.slots.get(&key) {
            Some(slot) => *slot,
            None => self.free.pop_back().unwrap_or(next),
        };
        self.slots.insert(key, slot);
        if let Some(hashed) = &mut self.hashed {
            hashed.put(entry(&self.settings, slot, &member));
        }
        self.members.set(slot, Some(member));
    }

    /// Changes how it picks. O(1), but for a change of what hashes are taken of.
    pub fn set_settings(&mut self, settings: SetSettings) {
        let before = std::mem::replace(&mut self.settings, Arc::new(settings));
        let now = &self.settings;
        self.remembered_as = remembered_as(&self.name, now);
        let same = goes_by_hash(&before) == goes_by_hash(now) && shares(&before) == shares(now);
        if same {
            return;
        }
        let mut hashed = Rendezvous::default();
        for slot in self.slots.values() {
            if let Some(member) = self.members.get(*slot) {
                hashed.put(entry(now, *slot, member));
            }
        }
        self.hashed = goes_by_hash(now).then_some(hashed);
    }

    /// Takes a member out. O(log n).
    pub fn remove(&mut self, key: &BackendKey) -> bool {
        let Some(slot) = self.slots.remove(key) else {
            return false;
        };
        if let Some(hashed) = &mut self.hashed {
            hashed.remove(Identity::of(key, shares(&self.settings)), slot);
        }
        self.members.set(slot, None);
        self.free.push_back(slot);
        true
    }

    /// The member with `key`.
    pub fn member(&self, key: &BackendKey) -> Option<&Member> {
        self.members.get(*self.slots.get(key)?)
    }

    /// Members in all.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// There are no members.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// All members, in no order that means anything.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.slots
            .values()
            .filter_map(|slot| self.members.get(*slot))
    }

    /// Members of one tier.
    pub fn tally(&self, tier: Tier) -> Tally {
        self.members.tally(tier)
    }

    /// All that could serve are unhealthy, so they get the work: a load balancer that believes in nobody is no use.
    pub fn is_fail_open(&self) -> bool {
        let count = |tier| self.members.tally(tier).count;
        !self.settings.fail_closed
            && count(Tier::Eligible) == 0
            && count(Tier::Fallback) > 0
            && (self.was_healthy || count(Tier::Detecting) == 0)
    }

    /// Chooses a backend for new work.
    pub fn pick(&self, cursor: &mut Cursor, asking: &Asking<'_>) -> Pick {
        let count = |tier| self.members.tally(tier).count;
        if count(Tier::Eligible) > 0 {
            self.pick_from(Tier::Eligible, cursor, asking)
        } else if count(Tier::Detecting) > 0 && !(self.was_healthy && count(Tier::Fallback) > 0) {
            Pick::Wait
        } else if self.settings.fail_closed {
            Pick::Empty
        } else {
            self.pick_from(Tier::Fallback, cursor, asking)
        }
    }

    /// Chooses as [`Self::pick`] does, for work that has waited long enough for a verdict.
    pub fn pick_detecting(&self, cursor: &mut Cursor, asking: &Asking<'_>) -> Pick {
        match self.pick(cursor, asking) {
            Pick::Wait => self.pick_from(Tier::Detecting, cursor, asking),
            settled => settled,
        }
    }

    fn pick_from(&self, tier: Tier, cursor: &mut Cursor, asking: &Asking<'_>) -> Pick {
        match &self.hashed {
            Some(hashed) => self.pick_hashed(hashed, tier, asking),
            None => pick(
                &self.members,
                tier,
                self.settings.policy,
                cursor,
                asking.tried,
                asking.now_ms,
            ),
        }
        .into()
    }

    /// Where the client was, if that still serves it; else where its hash leads, alike on every proxy.
    fn pick_hashed(
        &self,
        hashed: &Rendezvous,
        tier: Tier,
        asking: &Asking<'_>,
    ) -> Option<Arc<BackendRuntime>> {
        let without: Vec<Entry> = asking
            .tried
            .iter()
            .filter_map(|tried| {
                let slot = *self.slots.get(&tried.key)?;
                Some(entry(&self.settings, slot, self.members.get(slot)?))
            })
            .collect();
        let timeout = client_ip_timeout(&self.settings);
        let client = match (timeout, self.settings.policy) {
            (None, Policy::Maglev(HashKey::Flow)) => asking.client.flow(),
            _ => hash::ip(asking.client.address.ip()),
        };
        let choice = Choice {
            client,
            tier,
            without: &without,
        };
        let runtime = |slot| Some(Arc::clone(&self.members.get(slot)?.runtime));
        let Some(timeout) = timeout else {
            return runtime(hashed.pick(&choice)?);
        };
        let timeout = u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX);
        let now = u32::try_from(asking.now_ms / 1_000).unwrap_or(u32::MAX);
        let key = hash::join(self.remembered_as, client);
        let held = asking.memory.find(key, now, timeout);
        if let Some(slot) = held.and_then(|host| hashed.pick_of_host(host, &choice)) {
            return runtime(slot);
        }
        let chosen = runtime(hashed.pick(&choice)?)?;
        if asking.remembers {
            asking.memory.put(key, self.host_of(&chosen), now);
        }
        Some(chosen)
    }

    /// Remembers that `backend` answered this client, which was asked about without being remembered. Where another set
    /// of the group has remembered it meanwhile, that holds.
    pub fn remember(
        &self,
        client: SocketAddr,
        backend: &BackendRuntime,
        memory: &Memory,
        now_ms: u64,
    ) {
        let Some(timeout) = client_ip_timeout(&self.settings) else {
            return;
        };
        let timeout = u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX);
        let now = u32::try_from(now_ms / 1_000).unwrap_or(u32::MAX);
        let key = hash::join(self.remembered_as, hash::ip(client.ip()));
        if memory.find(key, now, timeout).is_none() {
            memory.put(key, self.host_of(backend), now);
        }
    }

    fn host_of(&self, backend: &BackendRuntime) -> u64 {
        Identity::of(&backend.key, shares(&self.settings)).host()
    }

    /// Whether work that has no end of its own, as a flow has none, stays with `backend`: it is a member, and while
    /// others are eligible not one that ails or is drained. No weight, or none left, keeps what is there.
    pub fn keeps(&self, backend: &Arc<BackendRuntime>) -> bool {
        self.member(&backend.key).is_some_and(|member| {
            let is_there = Arc::ptr_eq(&member.runtime, backend);
            let is_to_go = member.tier == Tier::Fallback || backend.closed.load(Relaxed);
            is_there && !(is_to_go && self.members.tally(Tier::Eligible).count > 0)
        })
    }
}

/// Who asks for a backend, and what is known of the asking.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// Whose connection it is.
    pub client: Client<'a>,
    /// Backends that could not be reached; others are chosen.
    pub tried: &'a [Arc<BackendRuntime>],
    /// Which host each client is with.
    pub memory: &'a Memory,
    /// Put the client there at once. Not where its address may be made up: then [`Set::remember`] does, once it is proven.
    pub remembers: bool,
    /// In milliseconds of the workers' clock.
    pub now_ms: u64,
}

/// Whose connection it is.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Where it comes from.
    pub address: SocketAddr,
    /// The name of the listener that it came to.
    pub listener: &'a str,
}

impl Client<'_> {
    /// A hash of this one connection, as far as it goes by addresses.
    fn flow(&self) -> u64 {
        hash::join(hash::text(self.listener), hash::address(self.address))
    }
}

fn goes_by_hash(settings: &SetSettings) -> bool {
    matches!(settings.policy, Policy::Maglev(_)) || client_ip_timeout(settings).is_some()
}

/// How long clients are remembered by their addresses, if they are. A cookie is for requests alone.
fn client_ip_timeout(settings: &SetSettings) -> Option<Duration> {
    let affinity = settings.affinity.as_ref();
    affinity.and_then(Affinity::client_ip_timeout)
}

fn remembered_as(name: &Name, settings: &SetSettings) -> u64 {
    let group = settings
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.group.as_ref());
    hash::text(group.unwrap_or(name).as_str())
}

/// Whether its clients' hosts are shared with other sets, whose ports differ.
fn shares(settings: &SetSettings) -> bool {
    settings
        .affinity
        .as_ref()
        .is_some_and(|affinity| affinity.group.is_some())
}

fn entry(settings: &SetSettings, slot: u32, member: &Member) -> Entry {
    Entry::new(
        Identity::of(&member.runtime.key, shares(settings)),
        slot,
        member,
    )
}

#[cfg(test)]
mod tests;
