//! The single writer: turns accepted transactions and probe outcomes into new versions of the route table.
//!
//! Knows no sockets and never waits: the data plane is a port, and whoever calls it waits for acknowledgements.

use super::check::{self, Removals};
use super::entry::{BackendEntry, DrainingBackend, DrainingListener, ListenerEntry, SetEntry};
use super::ports::DataPlane;
use crate::lb::backend::{BackendRuntime, ListenerCounters};
use crate::lb::drain::DrainState;
use crate::lb::health::HealthState;
use crate::lb::set::Set;
use crate::lb::table::RouteTable;
use crate::lb::{ListenerId, SetId};
use crate::probe::schedule::{Schedule, Target};
use podline_api::{
    Apply, Backend, BackendChange, BackendKey, BackendSet, Listener, Name, Owner, Rejected, v1,
};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Release;
use std::time::{Duration, SystemTime};

/// Everything the control side knows.
pub(super) struct Engine {
    pub(super) listeners: BTreeMap<Name, ListenerEntry>,
    pub(super) sets: BTreeMap<Name, SetEntry>,
    /// Names by number, for what comes back from workers and probes.
    pub(super) set_names: HashMap<SetId, Name>,
    pub(super) draining_backends: HashMap<(SetId, BackendKey), DrainingBackend>,
    pub(super) draining_listeners: Vec<DrainingListener>,
    pub(super) probes: Schedule,
    /// The table as it will be published next.
    pub(super) table: RouteTable,
    /// The table differs from what was published.
    pub(super) dirty: bool,
    /// Health changes that the next publish makes effective.
    pub(super) health_changes: Vec<v1::HealthChanged>,
    pub(super) plane: Arc<dyn DataPlane>,
    next_id: u32,
}

/// What an accepted transaction did.
pub(super) struct Applied {
    pub(super) version: u64,
    pub(super) changes: Vec<v1::Change>,
}

impl Engine {
    /// An engine with nothing in it.
    pub(super) fn new(plane: Arc<dyn DataPlane>) -> Self {
        Self {
            listeners: BTreeMap::new(),
            sets: BTreeMap::new(),
            set_names: HashMap::new(),
            draining_backends: HashMap::new(),
            draining_listeners: Vec::new(),
            probes: Schedule::default(),
            table: RouteTable::default(),
            dirty: false,
            health_changes: Vec::new(),
            plane,
            next_id: 0,
        }
    }

    /// The version that was published last.
    pub(super) fn version(&self) -> u64 {
        self.table.version
    }

    /// Takes a transaction whole, or refuses it whole.
    pub(super) fn apply(&mut self, apply: &Apply) -> Result<Applied, Rejected> {
        let removals = check::check(self, apply)?;
        if apply.validate_only {
            return Ok(Applied {
                version: self.version(),
                changes: self.preview(apply, &removals),
            });
        }
        let version = self.version() + 1;
        let mut changes = Vec::new();
        self.remove_listeners(&removals, version, &mut changes);
        for set in &apply.backend_sets {
            changes.extend(self.put_set(&apply.owner, set, version));
        }
        for change in &apply.backend_changes {
            changes.extend(self.change_backends(change, version));
        }
        let unbound = self.put_listeners(apply, version, &mut changes);
        self.remove_sets(&removals, version, &mut changes);
        self.dirty |= !changes.is_empty();
        self.publish();
        for name in unbound {
            self.bind(&name);
        }
        Ok(Applied {
            version: self.version(),
            changes,
        })
    }

    /// Makes the table visible to the workers, if it changed.
    pub(super) fn publish(&mut self) -> bool {
        if !std::mem::take(&mut self.dirty) {
            return false;
        }
        self.table.version += 1;
        self.plane.publish(Arc::new(self.table.clone()));
        true
    }

    /// Tries to bind a listener; whether its state changed.
    pub(super) fn bind(&mut self, name: &Name) -> bool {
        let Some(entry) = self.listeners.get_mut(name) else {
            return false;
        };
        let Some(set) = self.sets.get(&entry.wanted.backend_set) else {
            return false;
        };
        let route = entry.route(set.id);
        let outcome = self.plane.bind(
            entry.id,
            entry.wanted.address,
            &route,
            Arc::clone(&entry.counters),
        );
        let failure = outcome.err().map(|error| error.to_string());
        let changed = entry.failure != failure;
        entry.failure = failure;
        changed
    }

    /// The changes that `apply` would make.
    fn preview(&self, apply: &Apply, removals: &Removals) -> Vec<v1::Change> {
        use v1::change::Action::{Added, Changed, Removed};
        let mut changes = Vec::new();
        changes.extend(
            removals
                .listeners
                .iter()
                .map(|name| change_of("listener", name, Removed)),
        );
        for wanted in &apply.backend_sets {
            let Some(entry) = self.sets.get(&wanted.name) else {
                let mut change = change_of("set", &wanted.name, Added);
                change.backends_added = count(wanted.backends.len());
                changes.push(change);
                continue;
            };
            let (removed, upserted) = set_difference(entry, &wanted.backends);
            let settings = entry.settings != wanted.settings;
            changes.extend(set_change(
                entry,
                &wanted.name,
                settings,
                &removed,
                &upserted,
            ));
        }
        for change in &apply.backend_changes {
            if let Some(entry) = self.sets.get(&change.set) {
                let upserted: Vec<&Backend> = changed_backends(entry, &change.upsert).collect();
                let removed = removed_backends(change);
                changes.extend(set_change(entry, &change.set, false, &removed, &upserted));
            }
        }
        for wanted in &apply.listeners {
            match self.listeners.get(&wanted.name) {
                None => changes.push(change_of("listener", &wanted.name, Added)),
                Some(entry) if entry.wanted != *wanted => {
                    changes.push(change_of("listener", &wanted.name, Changed));
                }
                Some(_) => {}
            }
        }
        for (name, entry) in removals
            .sets
            .iter()
            .filter_map(|n| self.sets.get_key_value(n))
        {
            changes.push(set_removal(name, entry));
        }
        changes
    }

    fn remove_listeners(
        &mut self,
        removals: &Removals,
        version: u64,
        changes: &mut Vec<v1::Change>,
    ) {
        for name in &removals.listeners {
            if let Some(entry) = self.listeners.remove(name) {
                self.retire_listener(entry, version);
                changes.push(change_of("listener", name, v1::change::Action::Removed));
            }
        }
    }

    fn retire_listener(&mut self, entry: ListenerEntry, version: u64) {
        self.plane.unbind(entry.id);
        self.table.remove_listener(entry.id);
        let drain = DrainState::new(self.plane.now_ms(), millis(entry.wanted.drain_timeout));
        self.draining_listeners.push(DrainingListener {
            entry,
            drain,
            version,
        });
    }

    /// Adds or changes listeners; the names of those that have to be bound.
    fn put_listeners(
        &mut self,
        apply: &Apply,
        version: u64,
        changes: &mut Vec<v1::Change>,
    ) -> Vec<Name> {
        let mut unbound = Vec::new();
        for wanted in &apply.listeners {
            let known = self
                .listeners
                .get(&wanted.name)
                .map(|entry| entry.wanted.clone());
            let action = match &known {
                Some(known) if known == wanted => continue,
                Some(_) => v1::change::Action::Changed,
                None => v1::change::Action::Added,
            };
            changes.push(change_of("listener", &wanted.name, action));
            if known.is_none_or(|known| {
                known.address != wanted.address || known.protocol != wanted.protocol
            }) {
                self.new_listener(&apply.owner, wanted, version);
                unbound.push(wanted.name.clone());
            }
            if let Some(entry) = self.listeners.get_mut(&wanted.name) {
                entry.wanted = wanted.clone();
                if let Some(set) = self.sets.get(&wanted.backend_set) {
                    self.table.put_listener(entry.route(set.id));
                }
            }
        }
        unbound
    }

    /// A listener at a new address is a new listener, which counts from nothing.
    fn new_listener(&mut self, owner: &Owner, wanted: &Listener, version: u64) {
        let old = self.listeners.remove(&wanted.name);
        let entry = ListenerEntry {
            id: ListenerId(self.fresh_id()),
            owner: owner.clone(),
            wanted: wanted.clone(),
            counters: Arc::new(ListenerCounters::default()),
            failure: Some("not bound yet".to_owned()),
        };
        self.listeners.insert(wanted.name.clone(), entry);
        if let Some(old) = old {
            self.retire_listener(old, version);
        }
    }

    /// Adds or replaces a set; what that changed.
    fn put_set(&mut self, owner: &Owner, wanted: &BackendSet, version: u64) -> Option<v1::Change> {
        if !self.sets.contains_key(&wanted.name) {
            self.new_set(owner, wanted, version);
            let mut change = change_of("set", &wanted.name, v1::change::Action::Added);
            change.backends_added = count(wanted.backends.len());
            return Some(change);
        }
        let entry = self.sets.get(&wanted.name)?;
        let (removed, upserted) = set_difference(entry, &wanted.backends);
        let settings = entry.settings != wanted.settings;
        let change = set_change(entry, &wanted.name, settings, &removed, &upserted)?;
        let upserted: Vec<Backend> = upserted.into_iter().cloned().collect();
        if settings {
            self.change_settings(wanted);
        }
        self.edit_backends(&wanted.name, &removed, &upserted, version);
        Some(change)
    }

    fn new_set(&mut self, owner: &Owner, wanted: &BackendSet, version: u64) {
        let id = SetId(self.fresh_id());
        let entry = SetEntry {
            id,
            owner: owner.clone(),
            version,
            settings: wanted.settings.clone(),
            backends: HashMap::with_capacity(wanted.backends.len()),
            was_healthy: false,
            created_ms: self.plane.now_ms(),
        };
        self.sets.insert(wanted.name.clone(), entry);
        self.set_names.insert(id, wanted.name.clone());
        self.table
            .put_set(Set::new(id, wanted.name.clone(), wanted.settings.clone()));
        self.edit_backends(&wanted.name, &[], &wanted.backends, version);
    }

    /// Changes of a check keep verdicts; switching it on or off starts them anew.
    fn change_settings(&mut self, wanted: &BackendSet) {
        let now_ms = self.plane.now_ms();
        let Some(entry) = self.sets.get_mut(&wanted.name) else {
            return;
        };
        let Some(set) = self.table.set_mut(entry.id) else {
            return;
        };
        let recheck = entry.settings.health_check != wanted.settings.health_check;
        entry.settings = wanted.settings.clone();
        set.settings = Arc::new(wanted.settings.clone());
        if !recheck {
            return;
        }
        let check = wanted.settings.health_check.as_ref();
        for backend in entry.backends.values_mut() {
            if backend.health.on_check_changed(check).is_some() {
                backend.since = SystemTime::now();
                set.put(backend.member());
            }
            let target = Target {
                set: entry.id,
                address: backend.runtime.key.address,
            };
            self.probes.remove(&target);
            if let Some(check) = check {
                self.probes.add(target, check, now_ms);
            }
        }
    }

    fn change_backends(&mut self, change: &BackendChange, version: u64) -> Option<v1::Change> {
        let entry = self.sets.get(&change.set)?;
        let upserted: Vec<Backend> = changed_backends(entry, &change.upsert).cloned().collect();
        let removed = removed_backends(change);
        let answer = set_change(
            entry,
            &change.set,
            false,
            &removed,
            &upserted.iter().collect::<Vec<_>>(),
        )?;
        self.edit_backends(&change.set, &removed, &upserted, version);
        Some(answer)
    }

    /// Removes and adds backends of one set. Costs what is named, whatever the set's size.
    fn edit_backends(
        &mut self,
        name: &Name,
        removed: &[SocketAddr],
        upserted: &[Backend],
        version: u64,
    ) {
        let now_ms = self.plane.now_ms();
        let Some(entry) = self.sets.get_mut(name) else {
            return;
        };
        entry.version = version;
        for address in removed {
            if let Some(backend) = self
                .sets
                .get_mut(name)
                .and_then(|s| s.backends.remove(address))
            {
                self.retire_backend(name, backend, version, now_ms);
            }
        }
        for wanted in upserted {
            self.put_backend(name, wanted, version, now_ms);
        }
    }

    fn put_backend(&mut self, name: &Name, wanted: &Backend, version: u64, now_ms: u64) {
        let Some(entry) = self.sets.get_mut(name) else {
            return;
        };
        let id = entry.id;
        let known = entry
            .backends
            .get_mut(&wanted.key.address)
            .filter(|b| b.runtime.key == wanted.key);
        if let Some(backend) = known {
            backend.weight = wanted.weight;
        } else {
            // Another identity at the same address: the old one goes, the new one starts from nothing.
            if let Some(replaced) = entry.backends.remove(&wanted.key.address) {
                self.retire_backend(name, replaced, version, now_ms);
            }
            self.new_backend(name, wanted, now_ms);
        }
        if let Some(backend) = self
            .sets
            .get(name)
            .and_then(|s| s.backends.get(&wanted.key.address))
            && let Some(set) = self.table.set_mut(id)
        {
            set.put(backend.member());
        }
    }

    /// A backend that joins; one that was draining under the same identity goes on where it was.
    fn new_backend(&mut self, name: &Name, wanted: &Backend, now_ms: u64) {
        let Some(entry) = self.sets.get_mut(name) else {
            return;
        };
        let (id, check) = (entry.id, entry.settings.health_check.as_ref());
        let revived = self
            .draining_backends
            .remove(&(id, wanted.key.clone()))
            .map(|d| d.entry);
        let mut backend = revived.unwrap_or_else(|| BackendEntry {
            runtime: Arc::new(BackendRuntime::new(wanted.key.clone(), id, now_ms)),
            weight: wanted.weight,
            health: HealthState::new(check),
            since: SystemTime::now(),
            last_probe: "",
        });
        backend.weight = wanted.weight;
        backend.health.on_check_changed(check);
        backend.runtime.closed.store(false, Release);
        if let Some(check) = check {
            self.probes.add(
                Target {
                    set: id,
                    address: wanted.key.address,
                },
                check,
                now_ms,
            );
        }
        entry.backends.insert(wanted.key.address, backend);
    }

    /// Takes a backend out of the table and lets its connections end.
    fn retire_backend(&mut self, name: &Name, backend: BackendEntry, version: u64, now_ms: u64) {
        let Some(entry) = self.sets.get(name) else {
            return;
        };
        let key = backend.runtime.key.clone();
        backend.runtime.closed.store(true, Release);
        if let Some(set) = self.table.set_mut(entry.id) {
            set.remove(&key);
        }
        self.probes.remove(&Target {
            set: entry.id,
            address: key.address,
        });
        let timeout = if entry.settings.deregister_target_rst {
            0
        } else {
            millis(entry.settings.drain_timeout)
        };
        let drain = DrainState::new(now_ms, timeout);
        let draining = DrainingBackend {
            set: name.clone(),
            entry: backend,
            drain,
            version,
        };
        self.draining_backends.insert((entry.id, key), draining);
    }

    fn remove_sets(&mut self, removals: &Removals, version: u64, changes: &mut Vec<v1::Change>) {
        for name in &removals.sets {
            let Some(entry) = self.sets.get(name) else {
                continue;
            };
            let (id, addresses) = (entry.id, entry.backends.keys().copied().collect::<Vec<_>>());
            changes.push(set_removal(name, entry));
            self.edit_backends(name, &addresses, &[], version);
            self.sets.remove(name);
            self.set_names.remove(&id);
            self.table.remove_set(id);
        }
    }

    fn fresh_id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }
}

fn change_of(kind: &str, name: &Name, action: v1::change::Action) -> v1::Change {
    v1::Change {
        what: format!("{kind}/{name}"),
        action: action.into(),
        ..v1::Change::default()
    }
}

/// The backends of `wanted` that are new or different.
fn changed_backends<'a>(
    entry: &'a SetEntry,
    wanted: &'a [Backend],
) -> impl Iterator<Item = &'a Backend> {
    wanted.iter().filter(|b| {
        entry
            .backends
            .get(&b.key.address)
            .is_none_or(|known| known.differs(b))
    })
}

/// The addresses that `change` empties. One that it also fills is not among them: whoever else is there goes anyway.
fn removed_backends(change: &BackendChange) -> Vec<SocketAddr> {
    let filled: HashSet<SocketAddr> = change.upsert.iter().map(|b| b.key.address).collect();
    let addresses = change.remove.iter().map(|key| key.address);
    addresses.filter(|a| !filled.contains(a)).collect()
}

/// The answer's line for a set that goes.
fn set_removal(name: &Name, entry: &SetEntry) -> v1::Change {
    v1::Change {
        backends_removed: count(entry.backends.len()),
        ..change_of("set", name, v1::change::Action::Removed)
    }
}

/// What turns a set's backends into `wanted`: addresses to remove, backends to add or change.
fn set_difference<'a>(
    entry: &'a SetEntry,
    wanted: &'a [Backend],
) -> (Vec<SocketAddr>, Vec<&'a Backend>) {
    let kept: HashSet<SocketAddr> = wanted.iter().map(|b| b.key.address).collect();
    let removed = entry
        .backends
        .keys()
        .filter(|address| !kept.contains(address))
        .copied()
        .collect();
    (removed, changed_backends(entry, wanted).collect())
}

/// The answer's line for a changed set, or nothing where nothing differs.
fn set_change(
    entry: &SetEntry,
    name: &Name,
    settings: bool,
    removed: &[SocketAddr],
    upserted: &[&Backend],
) -> Option<v1::Change> {
    if !settings && removed.is_empty() && upserted.is_empty() {
        return None;
    }
    let known = |b: &&&Backend| {
        entry
            .backends
            .get(&b.key.address)
            .is_some_and(|k| k.runtime.key == b.key)
    };
    let changed = upserted.iter().filter(known).count();
    let replaced = upserted
        .iter()
        .filter(|b| entry.backends.contains_key(&b.key.address))
        .count()
        - changed;
    Some(v1::Change {
        backends_added: count(upserted.len() - changed),
        backends_changed: count(changed),
        backends_removed: count(removed.len() + replaced),
        ..change_of("set", name, v1::change::Action::Changed)
    })
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
