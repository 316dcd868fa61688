//! What one proxy tells of itself, taken together: a reducer over the events of its Watch and over what it answers when
//! it is asked. Pure.
//!
//! Events tell at once how health and listeners change. What they do not tell is asked: readiness, who leads, and the
//! backends of a set that was changed, because a backend that comes without a check, or back from a drain, is healthy
//! without an event. Such a set is asked for whole; what events told meanwhile counts if it is newer than the answer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use podline_api::v1::change::Action;
use podline_api::v1::drained::Stage;
use podline_api::v1::listener_status::State;
use podline_api::v1::watch_response::Event;
use podline_api::{BackendKey, Name, Neighbour, Owner, v1};

use super::overrides::NOTE;
use crate::cluster::Family;
use crate::observed::{
    AddressState, AddressView, Drained, Healthy, Path, Paths, Unhealthy, VirtualAddresses, Whose,
};

/// No set can have this name: a request for it costs a proxy next to nothing.
const NO_SET: &str = " ";
/// Sets that are asked for at once.
const MAX_ASKED: usize = 256;

/// What is known of one proxy by its own words.
#[derive(Debug)]
pub(super) struct Observation {
    owner: Owner,
    /// Listeners of ours, and why they are not bound, if they are not.
    listeners: BTreeMap<Name, Option<String>>,
    /// Every set of ours is there.
    healthy: Healthy,
    unhealthy: Unhealthy,
    not_ready: Option<String>,
    epoch: Option<u64>,
    /// Sets that changed and were not asked for since.
    dirty: BTreeSet<Name>,
    /// What was asked and is not answered, and what events said since.
    asked: BTreeSet<Name>,
    since_asked: Vec<v1::HealthChanged>,
    drained: Drained,
    /// Grows with every change of `healthy`, `unhealthy` or `drained`.
    revision: u64,
    paths: Arc<Paths>,
    transparency_problem: String,
    addresses: Arc<VirtualAddresses>,
    is_leaving: bool,
}

impl Observation {
    /// Nothing is known yet.
    pub(super) fn new(owner: Owner) -> Self {
        Self {
            owner,
            listeners: BTreeMap::new(),
            healthy: Healthy::default(),
            unhealthy: Unhealthy::default(),
            not_ready: None,
            epoch: None,
            dirty: BTreeSet::new(),
            asked: BTreeSet::new(),
            since_asked: Vec::new(),
            drained: Drained::default(),
            revision: 0,
            paths: Arc::default(),
            transparency_problem: String::new(),
            addresses: Arc::default(),
            is_leaving: false,
        }
    }

    /// Takes in the whole state, with which a Watch begins: nothing from before counts.
    pub(super) fn start(&mut self, state: v1::GetResponse) {
        *self = Self {
            revision: self.revision + 1,
            ..Self::new(self.owner.clone())
        };
        self.note_readiness(&state);
        self.note_network(state.network.as_ref());
        self.is_leaving = state.leaving;
        for status in state.listeners {
            if self.is_ours(&status.owner)
                && status.state() != State::Draining
                && let Some(name) = status.listener.as_ref().and_then(|l| name(&l.name))
            {
                let failure = failure(status.state(), status.reason);
                self.listeners.insert(name, failure);
            }
        }
        for status in &state.backend_sets {
            self.put_set(status);
        }
        for status in &state.overrides {
            self.note_override(status, false);
        }
    }

    /// Takes in an event.
    pub(super) fn on(&mut self, event: Event) {
        match event {
            Event::State(state) => self.start(state),
            Event::Applied(applied) if self.is_ours(&applied.owner) => {
                for change in &applied.changes {
                    self.note_change(change);
                }
            }
            Event::Health(health) => {
                if !self.asked.is_empty() {
                    self.since_asked.push(health.clone());
                }
                self.note_health(&health);
            }
            Event::Listener(listener) => {
                let failure = failure(listener.state(), listener.reason);
                if let Some(known) = self.listeners.get_mut(listener.name.as_str()) {
                    *known = failure;
                }
            }
            Event::Drained(drained) if drained.stage() == Stage::Empty => {
                // It is new if it comes back. An override may drain one that stays: the answer will tell.
                if let Some(set) = name(&drained.set)
                    && let Some(key) = key(drained.backend)
                {
                    self.put(&set, key, false, None);
                    self.doubt(set);
                }
            }
            Event::Override(changed) => {
                if let Some(status) = &changed.status {
                    self.note_override(status, changed.ended);
                }
            }
            Event::Hello(_)
            | Event::Applied(_)
            | Event::Drained(_)
            | Event::Ejection(_)
            | Event::FailOpen(_) => {}
            Event::Path(path) => self.note_path(&path),
            Event::Address(status) => {
                if let Some((ip, address)) = address(&status)
                    && self.addresses.get(&ip) != Some(&address)
                {
                    Arc::make_mut(&mut self.addresses).insert(ip, address);
                }
            }
            Event::Leaving(_) => self.is_leaving = true,
        }
    }

    /// What to ask the proxy next; with the sets that changed, or for readiness alone.
    pub(super) fn ask(&mut self, with_sets: bool) -> v1::GetRequest {
        let most = if with_sets { MAX_ASKED } else { 0 };
        let now: Vec<Name> = self.dirty.iter().take(most).cloned().collect();
        for name in &now {
            self.dirty.remove(name);
        }
        let mut backend_sets: Vec<String> = now.iter().map(Into::into).collect();
        if backend_sets.is_empty() {
            backend_sets.push(NO_SET.to_owned());
        }
        self.asked = now.into_iter().collect();
        self.since_asked.clear();
        v1::GetRequest {
            backend_sets,
            ..v1::GetRequest::default()
        }
    }

    /// Takes in the answer.
    pub(super) fn answered(&mut self, state: &v1::GetResponse) {
        self.note_readiness(state);
        self.note_network(state.network.as_ref());
        // What was not asked since the Watch began is older than how it began.
        let mut missing = std::mem::take(&mut self.asked);
        for status in &state.backend_sets {
            let name = status.set.as_ref().map(|set| set.name.as_str());
            if name.is_some_and(|name| missing.remove(name)) {
                self.put_set(status);
            }
        }
        for name in missing {
            self.remove_set(&name);
        }
        for health in std::mem::take(&mut self.since_asked) {
            if health.version > state.version {
                self.note_health(&health);
            }
        }
    }

    /// There is something to ask besides readiness.
    pub(super) fn is_in_doubt(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Why the proxy is not ready, if it is not.
    pub(super) fn not_ready(&self) -> Option<&str> {
        self.not_ready.as_deref()
    }

    /// The highest epoch that the proxy has taken from our owner.
    pub(super) fn epoch(&self) -> Option<u64> {
        self.epoch
    }

    /// Listeners of ours that are not bound, and why.
    pub(super) fn failed_listeners(&self) -> BTreeMap<Name, String> {
        let failed = self.listeners.iter();
        failed
            .filter_map(|(name, failure)| Some((name.clone(), failure.clone()?)))
            .collect()
    }

    /// Healthy backends by set, and a number that grows when they, or those that are kept out, change.
    pub(super) fn healthy(&self) -> (&Healthy, u64) {
        (&self.healthy, self.revision)
    }

    /// Backends that are kept out beside their owners.
    pub(super) fn drained(&self) -> &Drained {
        &self.drained
    }

    /// Backends whose probes fail, by set; they change with the same number.
    pub(super) fn unhealthy(&self) -> &Unhealthy {
        &self.unhealthy
    }

    /// The ways to the nodes, and why none can be gone as somebody else.
    pub(super) fn network(&self) -> (&Arc<Paths>, &str) {
        (&self.paths, &self.transparency_problem)
    }

    /// How the proxy does with virtual addresses.
    pub(super) fn addresses(&self) -> &Arc<VirtualAddresses> {
        &self.addresses
    }

    /// The proxy said that it ends.
    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving
    }

    fn is_ours(&self, owner: &str) -> bool {
        owner == self.owner.as_str()
    }

    fn note_readiness(&mut self, state: &v1::GetResponse) {
        self.not_ready = (!state.ready).then(|| state.not_ready_reason.clone());
        let ours = state
            .owners
            .iter()
            .find(|status| self.is_ours(&status.owner));
        self.epoch = ours.and_then(|status| status.epoch);
    }

    /// An answer about single sets need not tell it.
    fn note_network(&mut self, network: Option<&v1::NetworkStatus>) {
        let Some(network) = network else {
            return;
        };
        self.transparency_problem
            .clone_from(&network.transparency_problem);
        let paths: Paths = network.paths.iter().filter_map(path).collect();
        if *self.paths != paths {
            self.paths = Arc::new(paths);
        }
        let addresses: VirtualAddresses = network.addresses.iter().filter_map(address).collect();
        if *self.addresses != addresses {
            self.addresses = Arc::new(addresses);
        }
    }

    fn note_path(&mut self, status: &v1::PathStatus) {
        let Some((key, path)) = path(status) else {
            return;
        };
        if self.paths.get(&key) != Some(&path) {
            Arc::make_mut(&mut self.paths).insert(key, path);
        }
    }

    fn note_change(&mut self, change: &v1::Change) {
        let is_gone = change.action() == Action::Removed;
        match change.what.split_once('/') {
            Some(("set", text)) => match name(text) {
                Some(name) if is_gone => self.remove_set(&name),
                Some(name) => {
                    if !self.healthy.contains_key(&name) {
                        self.healthy.insert(name.clone(), imbl::OrdSet::new());
                        self.revision += 1;
                    }
                    self.doubt(name);
                }
                None => {}
            },
            Some(("listener", text)) if is_gone => drop(self.listeners.remove(text)),
            Some(("listener", text)) => {
                // An event of its own tells its state.
                if let Some(name) = name(text) {
                    self.listeners.entry(name).or_default();
                }
            }
            _ => {}
        }
    }

    fn note_override(&mut self, status: &v1::OverrideStatus, has_ended: bool) {
        let Some(place) = name(&status.set).zip(key(status.backend.clone())) else {
            return;
        };
        let is_drained = status.action() == v1::override_request::Action::Drain && !has_ended;
        let has_changed = if is_drained {
            let is_ours = status.note.starts_with(NOTE);
            let whose = if is_ours { Whose::Ours } else { Whose::Foreign };
            self.drained.insert(place, whose) != Some(whose)
        } else {
            self.drained.remove(&place).is_some()
        };
        self.revision += u64::from(has_changed);
    }

    fn note_health(&mut self, health: &v1::HealthChanged) {
        let is_healthy = is_healthy(health.to());
        if let Some(set) = name(&health.set)
            && let Some(key) = key(health.backend.clone())
        {
            let is_bad = health.to() == v1::Health::Unhealthy;
            let words = is_bad.then_some(&*health.reason);
            self.put(&set, key, is_healthy, words);
        }
    }

    /// Notes one backend of a set, and what its last probe said if it fails, if the set is ours.
    fn put(&mut self, set: &Name, key: BackendKey, is_healthy: bool, words: Option<&str>) {
        let other_words = self.put_unhealthy(set, &key, words);
        let Some(healthy) = self.healthy.get_mut(set) else {
            return;
        };
        let changed = if is_healthy {
            healthy.insert(key).is_none()
        } else {
            healthy.remove(&key).is_some()
        };
        self.revision += u64::from(changed || other_words);
    }

    /// Whether that is new.
    fn put_unhealthy(&mut self, set: &Name, key: &BackendKey, words: Option<&str>) -> bool {
        let before = self.unhealthy.get(set).and_then(|keys| keys.get(key));
        if before.map(|before| &**before) == words || !self.healthy.contains_key(set) {
            return false;
        }
        let mut keys = self.unhealthy.get(set).cloned().unwrap_or_default();
        match words {
            Some(words) => keys.insert(key.clone(), words.into()),
            None => keys.remove(key),
        };
        self.put_all_unhealthy(set, keys);
        true
    }

    fn put_all_unhealthy(&mut self, set: &Name, keys: imbl::OrdMap<BackendKey, Arc<str>>) {
        if keys.is_empty() {
            self.unhealthy.remove(set);
        } else {
            self.unhealthy.insert(set.clone(), keys);
        }
    }

    fn put_set(&mut self, status: &v1::BackendSetStatus) {
        let Some(name) = status.set.as_ref().and_then(|set| name(&set.name)) else {
            return;
        };
        if !self.is_ours(&status.owner) {
            return;
        }
        let staying = || status.backends.iter().filter(|b| !b.draining);
        let bad = staying().filter(|backend| backend.health() == v1::Health::Unhealthy);
        let bad = bad.filter_map(|backend| {
            let words: Arc<str> = backend.last_probe.as_str().into();
            Some((key(backend.backend.clone())?, words))
        });
        let bad: imbl::OrdMap<BackendKey, Arc<str>> = bad.collect();
        if self.unhealthy.get(&name).cloned().unwrap_or_default() != bad {
            self.put_all_unhealthy(&name, bad);
            self.revision += 1;
        }
        let healthy = staying()
            .filter(|backend| is_healthy(backend.health()))
            .filter_map(|backend| key(backend.backend.clone()));
        let healthy: imbl::OrdSet<BackendKey> = healthy.collect();
        if self.healthy.get(&name) != Some(&healthy) {
            self.healthy.insert(name, healthy);
            self.revision += 1;
        }
    }

    fn remove_set(&mut self, name: &Name) {
        self.dirty.remove(name);
        self.unhealthy.remove(name);
        self.revision += u64::from(self.healthy.remove(name).is_some());
    }

    /// A set is to be asked for, if it is ours.
    pub(super) fn doubt(&mut self, set: Name) {
        if self.healthy.contains_key(&set) {
            self.dirty.insert(set);
        }
    }
}

fn is_healthy(health: v1::Health) -> bool {
    matches!(health, v1::Health::Healthy | v1::Health::Disabled)
}

fn failure(state: State, reason: String) -> Option<String> {
    (state == State::Failed).then_some(reason)
}

/// Names and backends come from the proxy: what we cannot read is none of ours.
fn name(text: &str) -> Option<Name> {
    Name::try_from(text).ok()
}

fn path(status: &v1::PathStatus) -> Option<((Name, Family), Path)> {
    use v1::path_status::State;
    let family = if status.ipv6 { Family::V6 } else { Family::V4 };
    let path = Path {
        is_proven: status.state() == State::Proven,
        has_failed: status.state() == State::Failed,
        reason: status.reason.clone(),
    };
    Some(((name(&status.node)?, family), path))
}

fn address(status: &v1::AddressStatus) -> Option<(IpAddr, AddressView)> {
    use v1::address_status::State;
    let view = AddressView {
        state: match status.state() {
            State::Unspecified | State::Standby => AddressState::Standby,
            State::Probing => AddressState::Probing,
            State::Holding => AddressState::Holding,
            State::Conflict => AddressState::Conflict,
            State::Yielded => AddressState::Yielded,
            State::Failed => AddressState::Failed,
        },
        reason: status.reason.clone(),
        interface: status.interface.clone(),
        other_mac: status.other_mac.clone(),
        epoch: status.epoch,
        heard_epoch: status.heard_epoch,
        own: neighbour(status.own.as_ref()),
        predecessor: neighbour(status.predecessor.as_ref()),
    };
    Some((status.address.parse().ok()?, view))
}

fn neighbour(wire: Option<&v1::Neighbour>) -> Option<Neighbour> {
    Neighbour::try_from(wire?.clone()).ok()
}

fn key(wire: Option<v1::Backend>) -> Option<BackendKey> {
    BackendKey::try_from(wire?).ok()
}
