//! Backends that failed connects take out of rotation, and how they come back: by a passed probe or, where there is no
//! health check, when their time is over.

use super::engine::{Engine, millis};
use super::entry::Ejected;
use crate::lb::SetId;
use crate::lb::backend::BackendRuntime;
use crate::probe::schedule::Target;
use podline_api::{Name, PassiveCheck, v1};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;
use v1::watch_response::Event;

impl Engine {
    /// Connects to `runtime` failed as often in a row as its set allows.
    pub(super) fn eject(&mut self, runtime: &Arc<BackendRuntime>) {
        let now_ms = self.plane.now_ms();
        let Some(name) = self.set_names.get(&runtime.set).cloned() else {
            return;
        };
        let serves_requests = self.listeners.values().any(|listener| {
            let wanted = &listener.wanted;
            wanted.http.is_some() && wanted.sets().contains(&name)
        });
        let Some(set) = self.sets.get_mut(&name) else {
            return;
        };
        // HTTP listeners count by the default where the set says nothing.
        let default = serves_requests.then(PassiveCheck::default);
        let Some(check) = set.settings.passive_check.or(default) else {
            return;
        };
        let address = runtime.key.address;
        let is_checked = set.settings.health_check.is_some();
        let Some(backend) = set
            .backends
            .get_mut(&address)
            .filter(|backend| Arc::ptr_eq(&backend.runtime, runtime))
            .filter(|backend| backend.health.in_service())
        else {
            return;
        };
        let was_in = backend.ejected.is_none();
        backend.ejected = Some(Ejected {
            since: backend
                .ejected
                .map_or_else(SystemTime::now, |earlier| earlier.since),
            failures: check.failures,
            until_ms: (!is_checked).then(|| now_ms + millis(check.ejection_time)),
        });
        let target = Target {
            set: set.id,
            address,
        };
        self.ejected.insert((set.id, address));
        self.probes.hasten(&target, now_ms);
        if was_in {
            let failures = check.failures;
            self.note_ejection(
                &name,
                address,
                format!("{failures} connects in a row failed"),
            );
        }
        self.update_member(&name, address);
    }

    /// Lets a backend in again, if it was out.
    pub(super) fn readmit(&mut self, name: &Name, address: SocketAddr, why: &str) {
        let Some(set) = self.sets.get_mut(name) else {
            return;
        };
        self.ejected.remove(&(set.id, address));
        let backend = set.backends.get_mut(&address);
        if backend.and_then(|backend| backend.ejected.take()).is_some() {
            self.note_ejection(name, address, why.to_owned());
            self.update_member(name, address);
        }
    }

    /// Lets in all of a set, whose check was switched off.
    pub(super) fn readmit_all(&mut self, name: &Name) {
        let Some(set) = self.sets.get(name) else {
            return;
        };
        let is_out = |(of, _): &&(SetId, SocketAddr)| *of == set.id;
        let out = self
            .ejected
            .iter()
            .filter(is_out)
            .map(|(_, address)| *address);
        for address in out.collect::<Vec<_>>() {
            self.readmit(name, address, "the check was switched off");
        }
    }

    /// Lets in again whose time is over.
    pub(super) fn end_due_ejections(&mut self, now_ms: u64) {
        for (name, address) in self.ejections_due_by(now_ms) {
            self.readmit(&name, address, "its time is over");
        }
    }

    fn ejections_due_by(&self, now_ms: u64) -> Vec<(Name, SocketAddr)> {
        let due = self.ejected.iter().filter_map(|(set, address)| {
            let name = self.set_names.get(set)?;
            let until = self.ejection_end(name, *address)?;
            (until <= now_ms).then(|| (name.clone(), *address))
        });
        due.collect()
    }

    fn ejection_end(&self, name: &Name, address: SocketAddr) -> Option<u64> {
        self.sets
            .get(name)?
            .backends
            .get(&address)?
            .ejected?
            .until_ms
    }

    /// When the next override or ejection ends.
    pub(super) fn next_end_ms(&self) -> Option<u64> {
        let overrides = self
            .overrides
            .values()
            .filter_map(|entry| Some(entry.until?.0));
        let ejections = self
            .ejected
            .iter()
            .filter_map(|(set, address)| self.ejection_end(self.set_names.get(set)?, *address));
        overrides.chain(ejections).min()
    }

    fn note_ejection(&mut self, name: &Name, address: SocketAddr, reason: String) {
        let backend = self
            .sets
            .get(name)
            .and_then(|set| set.backends.get(&address));
        self.notes.push(Event::Ejection(v1::EjectionChanged {
            set: name.to_string(),
            backend: backend.map(|backend| (&backend.backend()).into()),
            ejected: backend.is_some_and(|backend| backend.ejected.is_some()),
            reason,
        }));
    }
}
