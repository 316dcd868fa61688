//! The single writer: turns accepted transactions and probe outcomes into new versions of the route table.
//!
//! Knows no sockets and never waits: the data plane is a port, and whoever calls it waits for acknowledgements.

use super::check;
use super::entry::{DrainingBackend, DrainingListener, ListenerEntry, SetEntry};
use super::ports::DataPlane;
use crate::lb::SetId;
use crate::lb::table::RouteTable;
use crate::probe::schedule::Schedule;
use podline_api::{Apply, BackendKey, Name, Rejected, v1};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

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
    /// The process ends: listeners that failed are not tried again.
    pub(super) stopping: bool,
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
            stopping: false,
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

    pub(super) fn fresh_id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
