//! The engine's part that adds, changes and removes backend sets and their backends.

use super::change::{
    change_of, changed_backends, count, removed_backends, set_change, set_difference, set_removed,
};
use super::check::Removals;
use super::engine::{Engine, millis};
use super::entry::{BackendEntry, DrainingBackend, Route, SetEntry};
use crate::lb::SetId;
use crate::lb::backend::BackendRuntime;
use crate::lb::drain::DrainState;
use crate::lb::ejection::Ejections;
use crate::lb::health::{Health, HealthState};
use crate::lb::set::Set;
use crate::probe::schedule::Target;
use podline_api::{Backend, BackendChange, BackendSet, Name, Owner, SetSettings, v1};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::time::{Duration, SystemTime};

/// What backends that are taken out have in common.
#[derive(Clone, Copy)]
struct Retirement {
    /// The version that closes them.
    version: u64,
    now_ms: u64,
    /// How long their connections live on; absent: as the set says.
    drain_timeout: Option<Duration>,
}

impl Engine {
    /// Adds or replaces a set; what that changed.
    pub(super) fn put_set(
        &mut self,
        owner: &Owner,
        wanted: &BackendSet,
        version: u64,
    ) -> Option<v1::Change> {
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
        self.edit_backends(&wanted.name, &removed, &upserted, self.retirement(version));
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
            ejections: Ejections::default(),
            fail_open: false,
            ailing_since: SystemTime::now(),
            route: Route::None,
            route_since: SystemTime::now(),
        };
        self.sets.insert(wanted.name.clone(), entry);
        self.set_names.insert(id, wanted.name.clone());
        if remembers_clients(&wanted.settings) {
            self.plane.expect_affinity();
        }
        self.table
            .put_set(Set::new(id, wanted.name.clone(), wanted.settings.clone()));
        let retirement = self.retirement(version);
        self.edit_backends(&wanted.name, &[], &wanted.backends, retirement);
    }

    /// By the rules of the set.
    fn retirement(&self, version: u64) -> Retirement {
        Retirement {
            version,
            now_ms: self.plane.now_ms(),
            drain_timeout: None,
        }
    }

    /// Changes of a check keep verdicts; switching it off ends them.
    fn change_settings(&mut self, wanted: &BackendSet) {
        let now_ms = self.plane.now_ms();
        if wanted.settings.passive_check.is_none() {
            self.readmit_all(&wanted.name);
        }
        let Some(entry) = self.sets.get_mut(&wanted.name) else {
            return;
        };
        let Some(set) = self.table.set_mut(entry.id) else {
            return;
        };
        self.touched.insert(wanted.name.clone());
        let recheck = entry.settings.health_check != wanted.settings.health_check;
        entry.settings = wanted.settings.clone();
        set.set_settings(wanted.settings.clone());
        if remembers_clients(&wanted.settings) {
            self.plane.expect_affinity();
        }
        if !recheck {
            return;
        }
        let check = wanted.settings.health_check.as_ref();
        let mut changed = Vec::new();
        for backend in entry.backends.values_mut() {
            if backend.health.on_check_changed(check).is_some() {
                backend.since = SystemTime::now();
                changed.push(backend.runtime.key.address);
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
        // Who was in service unchecked has been healthy as far as anybody can tell.
        if check.is_some() && !changed.is_empty() {
            entry.was_healthy = true;
            set.was_healthy = true;
        }
        for address in changed {
            self.update_member(&wanted.name, address);
        }
    }

    pub(super) fn change_backends(
        &mut self,
        change: &BackendChange,
        version: u64,
    ) -> Option<v1::Change> {
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
        let retirement = Retirement {
            drain_timeout: change.drain_timeout,
            ..self.retirement(version)
        };
        self.edit_backends(&change.set, &removed, &upserted, retirement);
        Some(answer)
    }

    /// Removes and adds backends of one set. Costs what is named, whatever the set's size.
    fn edit_backends(
        &mut self,
        name: &Name,
        removed: &[SocketAddr],
        upserted: &[Backend],
        retirement: Retirement,
    ) {
        let Some(entry) = self.sets.get_mut(name) else {
            return;
        };
        entry.version = retirement.version;
        for address in removed {
            if let Some(backend) = self
                .sets
                .get_mut(name)
                .and_then(|s| s.backends.remove(address))
            {
                self.retire_backend(name, backend, retirement);
            }
        }
        for wanted in upserted {
            self.put_backend(name, wanted, retirement);
        }
        self.settle_ejections(name);
    }

    fn put_backend(&mut self, name: &Name, wanted: &Backend, retirement: Retirement) {
        let Some(entry) = self.sets.get_mut(name) else {
            return;
        };
        let known = entry
            .backends
            .get_mut(&wanted.key.address)
            .filter(|b| b.runtime.key == wanted.key);
        if let Some(backend) = known {
            backend.weight = wanted.weight;
            backend.weight_since = SystemTime::now();
        } else {
            // Another identity at the same address: the old one goes, the new one starts from nothing.
            if let Some(replaced) = entry.backends.remove(&wanted.key.address) {
                self.retire_backend(name, replaced, retirement);
            }
            self.new_backend(name, wanted, retirement.now_ms);
        }
        self.find_node(name, wanted);
        self.update_member(name, wanted.key.address);
    }

    /// Tells a backend which node it runs on.
    fn find_node(&mut self, name: &Name, wanted: &Backend) {
        let address = wanted.key.address;
        let node = self.node_number(wanted.node.as_ref(), address.ip());
        let set = self.sets.get_mut(name);
        if let Some(backend) = set.and_then(|set| set.backends.get_mut(&address)) {
            backend.node.clone_from(&wanted.node);
            backend.runtime.node.store(node, Relaxed);
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
        let verdict = self.verdicts.take(name, &wanted.key, now_ms);
        let mut backend = revived.unwrap_or_else(|| {
            let mut runtime = BackendRuntime::new(wanted.key.clone(), id, now_ms);
            if let Some(set) = self.table.set(id) {
                runtime.requests_of_set = Arc::clone(&set.requests);
            }
            let health = match verdict {
                Some(was_healthy) => HealthState::restored(check, was_healthy),
                None => HealthState::new(check),
            };
            BackendEntry::new(runtime, wanted.weight, health)
        });
        let was_healthy = backend.health.health() == Health::Healthy;
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
        if was_healthy {
            entry.was_healthy = true;
            if let Some(set) = self.table.set_mut(id) {
                set.was_healthy = true;
            }
        }
        let held = (name.clone(), wanted.key.clone());
        if let Some(entry) = self.overrides.get(&held) {
            self.apply_hold(&held, Some(entry.held));
        }
    }

    /// Takes a backend out of the table and lets its connections end.
    fn retire_backend(&mut self, name: &Name, mut backend: BackendEntry, retirement: Retirement) {
        let Retirement {
            version,
            now_ms,
            drain_timeout,
        } = retirement;
        let Some(entry) = self.sets.get_mut(name) else {
            return;
        };
        let key = backend.runtime.key.clone();
        entry.ejections.remove(&key.address);
        backend.ejected = None;
        backend.held = None;
        self.ejected.remove(&(entry.id, key.address));
        self.touched.insert(name.clone());
        if let Some(over) = self.overrides.get_mut(&(name.clone(), key.clone())) {
            over.drain = None; // the removal's own takes over
        }
        backend.runtime.closed.store(true, Release);
        if let Some(set) = self.table.set_mut(entry.id) {
            set.remove(&key);
        }
        self.probes.remove(&Target {
            set: entry.id,
            address: key.address,
        });
        let timeout = match drain_timeout {
            Some(timeout) => millis(timeout),
            None if entry.settings.deregister_target_rst => 0,
            None => millis(entry.settings.drain_timeout),
        };
        let since = SystemTime::now();
        let draining = DrainingBackend {
            set: name.clone(),
            entry: backend,
            drain: DrainState::new(now_ms, timeout),
            version,
            since,
            until: since + Duration::from_millis(timeout),
        };
        self.draining_backends.insert((entry.id, key), draining);
    }

    pub(super) fn remove_sets(
        &mut self,
        removals: &Removals,
        version: u64,
        changes: &mut Vec<v1::Change>,
    ) {
        for name in &removals.sets {
            let Some(entry) = self.sets.get(name) else {
                continue;
            };
            let (id, addresses) = (entry.id, entry.backends.keys().copied().collect::<Vec<_>>());
            changes.push(set_removed(name, entry));
            self.edit_backends(name, &addresses, &[], self.retirement(version));
            self.sets.remove(name);
            self.set_names.remove(&id);
            self.table.remove_set(id);
        }
    }
}

/// By their addresses, which takes memory.
fn remembers_clients(settings: &SetSettings) -> bool {
    let affinity = settings.affinity.as_ref();
    affinity.is_some_and(|affinity| affinity.client_ip_timeout().is_some())
}
