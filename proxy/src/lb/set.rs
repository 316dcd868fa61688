//! One backend set as of one version: its settings and its members.

use super::SetId;
use super::affinity::Memory;
use super::backend::BackendRuntime;
use super::hash::{self, Identity};
use super::pick::{Cursor, pick};
use super::rendezvous::{Choice, Entry, Rendezvous};
use super::requests::RequestCounters;
use super::trie::{Member, Tally, Tier, Trie};
use crate::tls::backend::BackendRules;
use podline_api::{AffinityKind, BackendKey, HashKey, Name, Policy, SetSettings};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

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

/// The cookie by which a set's clients are held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// As configured; else one of the set's or group's own, so that two sets behind one host do not take each other's.
    pub name: String,
    /// Seconds that the client keeps it for; none: as long as the browser runs.
    pub max_age_s: Option<u64>,
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
    cookie: Option<Arc<Cookie>>,
    /// Requests that its backends answered.
    pub requests: Arc<RequestCounters>,
    /// How backends are spoken to over TLS; none: in the clear.
    pub(crate) tls: Option<BackendRules>,
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
            cookie: cookie(&name, &settings).map(Arc::new),
            requests: Arc::default(),
            tls: BackendRules::of(&settings),
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
        self.cookie = cookie(&self.name, now).map(Arc::new);
        if before.tls != now.tls || before.http_version != now.http_version {
            self.tls = BackendRules::of(now);
        }
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
        match self.tier() {
            Ok(tier) => self.pick_from(tier, cursor, asking),
            Err(nobody) => nobody,
        }
    }

    /// Whom picks are from; else what they come to.
    fn tier(&self) -> Result<Tier, Pick> {
        let count = |tier| self.members.tally(tier).count;
        if count(Tier::Eligible) > 0 {
            Ok(Tier::Eligible)
        } else if count(Tier::Detecting) > 0 && !(self.was_healthy && count(Tier::Fallback) > 0) {
            Err(Pick::Wait)
        } else if self.settings.fail_closed {
            Err(Pick::Empty)
        } else {
            Ok(Tier::Fallback)
        }
    }

    /// Chooses as [`Self::pick`] does, for work that has waited long enough for a verdict.
    pub fn pick_detecting(&self, cursor: &mut Cursor, asking: &Asking<'_>) -> Pick {
        match self.pick(cursor, asking) {
            Pick::Wait => self.pick_from(Tier::Detecting, cursor, asking),
            settled => settled,
        }
    }

    /// The backend of `host`, as [`Self::host_of`] tells it, if a pick could come to it now; of several the one that the
    /// client's address chooses. Nobody: pick, and hold the client there. Only sets with affinity know their hosts.
    pub fn pick_held(&self, host: u64, asking: &Asking<'_>) -> Option<Arc<BackendRuntime>> {
        let hashed = self.hashed.as_ref()?;
        let without = self.entries(asking.tried);
        let choice = Choice {
            client: hash::ip(asking.client.address.ip()),
            tier: self.tier().ok()?,
            without: &without,
        };
        self.runtime(hashed.pick_of_host(host, &choice)?)
    }

    /// The cookie by which its clients are held, if they are.
    pub fn cookie(&self) -> Option<&Cookie> {
        self.cookie.as_deref()
    }

    fn pick_from(&self, tier: Tier, cursor: &mut Cursor, asking: &Asking<'_>) -> Pick {
        match &self.hashed {
            Some(hashed) if picks_by_hash(&self.settings) => self.pick_hashed(hashed, tier, asking),
            _ => pick(
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
        let without = self.entries(asking.tried);
        let held_for = remembered_for(&self.settings);
        let client = match self.settings.policy {
            Policy::Maglev(HashKey::Flow) if held_for.is_none() => asking.client.flow(),
            _ => hash::ip(asking.client.address.ip()),
        };
        let choice = Choice {
            client,
            tier,
            without: &without,
        };
        let Some(timeout) = held_for else {
            return self.runtime(hashed.pick(&choice)?);
        };
        let now = u32::try_from(asking.now_ms / 1_000).unwrap_or(u32::MAX);
        let key = hash::join(self.remembered_as, client);
        let held = asking.memory.find(key, now, timeout);
        if let Some(slot) = held.and_then(|host| hashed.pick_of_host(host, &choice)) {
            return self.runtime(slot);
        }
        let chosen = self.runtime(hashed.pick(&choice)?)?;
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
        let Some(timeout) = remembered_for(&self.settings) else {
            return;
        };
        let now = u32::try_from(now_ms / 1_000).unwrap_or(u32::MAX);
        let key = hash::join(self.remembered_as, hash::ip(client.ip()));
        if memory.find(key, now, timeout).is_none() {
            memory.put(key, self.host_of(backend), now);
        }
    }

    fn runtime(&self, slot: u32) -> Option<Arc<BackendRuntime>> {
        Some(Arc::clone(&self.members.get(slot)?.runtime))
    }

    /// Those of `backends` that are members, as the hash sees them.
    fn entries(&self, backends: &[Arc<BackendRuntime>]) -> Vec<Entry> {
        let of = |backend: &Arc<BackendRuntime>| {
            let slot = *self.slots.get(&backend.key)?;
            Some(entry(&self.settings, slot, self.members.get(slot)?))
        };
        backends.iter().filter_map(of).collect()
    }

    /// What [`Self::pick_held`] and the memory of clients know a backend's host by: never 0, and the same on every proxy.
    pub fn host_of(&self, backend: &BackendRuntime) -> u64 {
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

/// Whether its members stand in order of their hashes.
fn goes_by_hash(settings: &SetSettings) -> bool {
    matches!(settings.policy, Policy::Maglev(_)) || settings.affinity.is_some()
}

/// Whether a client's hash chooses. Where cookies hold clients, the policy says whom a new one gets.
fn picks_by_hash(settings: &SetSettings) -> bool {
    matches!(settings.policy, Policy::Maglev(_)) || remembered_for(settings).is_some()
}

/// For how many seconds clients are remembered, if they are.
fn remembered_for(settings: &SetSettings) -> Option<u32> {
    let timeout = settings.affinity.as_ref()?.client_ip_timeout()?;
    Some(u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX))
}

fn cookie(set: &Name, settings: &SetSettings) -> Option<Cookie> {
    let AffinityKind::Cookie { name, timeout } = &settings.affinity.as_ref()?.kind else {
        return None;
    };
    let own = || format!("podline-{:08x}", remembered_as(set, settings) >> 32);
    Some(Cookie {
        name: name.clone().unwrap_or_else(own),
        max_age_s: timeout.map(|timeout| timeout.as_secs()),
    })
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
