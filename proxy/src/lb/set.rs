//! One backend set as of one version: its settings and its members.

use super::SetId;
use super::backend::BackendRuntime;
use super::pick::{Cursor, pick};
use super::trie::{Member, Tally, Tier, Trie};
use podline_api::{BackendKey, Name, SetSettings};
use std::sync::Arc;

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
    slots: imbl::HashMap<BackendKey, u32>,
    free: imbl::Vector<u32>,
}

impl Set {
    /// A set without members.
    pub fn new(id: SetId, name: Name, settings: SetSettings) -> Self {
        Self {
            id,
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
        self.members.set(slot, Some(member));
    }

    /// Takes a member out. O(log n).
    pub fn remove(&mut self, key: &BackendKey) -> bool {
        let Some(slot) = self.slots.remove(key) else {
            return false;
        };
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

    /// Chooses a backend for new work, other than those in `tried`.
    pub fn pick(&self, cursor: &mut Cursor, tried: &[Arc<BackendRuntime>], now_ms: u64) -> Pick {
        let count = |tier| self.members.tally(tier).count;
        if count(Tier::Eligible) > 0 {
            self.pick_from(Tier::Eligible, cursor, tried, now_ms)
        } else if count(Tier::Detecting) > 0 && !(self.was_healthy && count(Tier::Fallback) > 0) {
            Pick::Wait
        } else if self.settings.fail_closed {
            Pick::Empty
        } else {
            self.pick_from(Tier::Fallback, cursor, tried, now_ms)
        }
    }

    /// Chooses as [`Self::pick`] does, for work that has waited long enough for a verdict.
    pub fn pick_detecting(
        &self,
        cursor: &mut Cursor,
        tried: &[Arc<BackendRuntime>],
        now_ms: u64,
    ) -> Pick {
        match self.pick(cursor, tried, now_ms) {
            Pick::Wait => self.pick_from(Tier::Detecting, cursor, tried, now_ms),
            settled => settled,
        }
    }

    fn pick_from(
        &self,
        tier: Tier,
        cursor: &mut Cursor,
        tried: &[Arc<BackendRuntime>],
        now_ms: u64,
    ) -> Pick {
        pick(
            &self.members,
            tier,
            self.settings.policy,
            cursor,
            tried,
            now_ms,
        )
        .into()
    }
}

#[cfg(test)]
mod tests;
