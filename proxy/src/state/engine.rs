//! The single writer: turns accepted transactions and probe outcomes into new versions of the route table.
//!
//! Knows no sockets and never waits: the data plane is a port, and whoever calls it waits for acknowledgements.

use super::check;
use super::entry::{DrainingBackend, DrainingListener, ListenerEntry, SetEntry};
use super::network::Networks;
use super::overrides::OverrideEntry;
use super::owners::Owners;
use super::ports::{DataPlane, Place};
use super::saved::{SavedOwner, Verdicts};
use crate::lb::SetId;
use crate::lb::ejection;
use crate::lb::table::RouteTable;
use crate::probe::schedule::Schedule;
use crate::tls::tickets;
use podline_api::{Apply, BackendKey, Name, Rejected, v1};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio_rustls::rustls::server::ProducesTickets;
use v1::watch_response::Event;

/// Everything the control side knows.
pub(super) struct Engine {
    pub(super) listeners: BTreeMap<Name, ListenerEntry>,
    pub(super) sets: BTreeMap<Name, SetEntry>,
    /// Names by number, for what comes back from workers and probes.
    pub(super) set_names: HashMap<SetId, Name>,
    pub(super) draining_backends: HashMap<(SetId, BackendKey), DrainingBackend>,
    pub(super) draining_listeners: Vec<DrainingListener>,
    /// What operators say beside the owners. Also of backends that are not there.
    pub(super) overrides: BTreeMap<(Name, BackendKey), OverrideEntry>,
    /// Backends that failed connects took out for a time.
    pub(super) ejected: HashSet<(SetId, SocketAddr)>,
    pub(super) owners: Owners,
    /// What was known before a restart, for backends that are still to appear.
    pub(super) verdicts: Verdicts,
    /// What owners had before a restart, until it is put back.
    pub(super) waiting_owners: Vec<SavedOwner>,
    pub(super) probes: Schedule,
    pub(super) networks: Networks,
    /// What seals tickets of TLS sessions where their listener has no keys of its own.
    pub(super) tickets: Arc<dyn ProducesTickets>,
    /// The table as it will be published next.
    pub(super) table: RouteTable,
    /// Since when the process ends: listeners that failed are not tried again.
    pub(super) stopping: Option<SystemTime>,
    /// The process ends, and what it holds is to go elsewhere.
    pub(super) is_leaving: bool,
    /// The table differs from what was published.
    pub(super) dirty: bool,
    /// Health changes that the next publish makes effective.
    pub(super) health_changes: Vec<v1::HealthChanged>,
    /// What else happened and was not told yet.
    pub(super) notes: Vec<Event>,
    /// Sets whose members the next publish changes.
    pub(super) touched: BTreeSet<Name>,
    pub(super) plane: Arc<dyn DataPlane>,
    /// The version that this process published last; a restored one was published by another.
    published: Option<u64>,
    next_id: u32,
}

/// What an accepted transaction did.
pub(super) struct Applied {
    pub(super) version: u64,
    pub(super) changes: Vec<v1::Change>,
    /// What workers have to act on for this to be in effect.
    pub(super) published: Option<u64>,
    /// Listeners were bound: workers have to hear of them beside the table.
    pub(super) binds: bool,
    /// It was the first with this epoch.
    pub(super) raises_epoch: bool,
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
            overrides: BTreeMap::new(),
            ejected: HashSet::new(),
            owners: Owners::default(),
            verdicts: Verdicts::default(),
            waiting_owners: Vec::new(),
            probes: Schedule::default(),
            networks: Networks::default(),
            tickets: tickets::of_this_process(),
            table: RouteTable::default(),
            stopping: None,
            is_leaving: false,
            dirty: false,
            health_changes: Vec::new(),
            notes: Vec::new(),
            touched: BTreeSet::new(),
            plane,
            published: None,
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
                published: None,
                binds: false,
                raises_epoch: false,
            });
        }
        let version = self.version() + 1;
        // First: backends are told which node they run on as they come.
        let mut changes: Vec<_> = self.put_network(apply).into_iter().collect();
        self.remove_listeners(&removals, version, &mut changes);
        for set in &apply.backend_sets {
            changes.extend(self.put_set(&apply.owner, set, version));
        }
        for change in &apply.backend_changes {
            changes.extend(self.change_backends(change, version));
        }
        let unbound = self.put_listeners(apply, version, &mut changes);
        self.remove_sets(&removals, version, &mut changes);
        let raises_epoch = self.owners.get(&apply.owner).epoch < apply.epoch;
        if apply.epoch.is_some() || !changes.is_empty() {
            self.owners.took(&apply.owner, apply.epoch);
        }
        self.dirty |= !changes.is_empty();
        self.publish();
        for name in &unbound {
            self.bind(name);
        }
        let touches_sets = !apply.backend_sets.is_empty();
        let touches_listeners = !(apply.listeners.is_empty() && removals.listeners.is_empty());
        if touches_sets || touches_listeners {
            self.update_routes();
        }
        Ok(Applied {
            version: self.version(),
            changes,
            published: self.published,
            binds: !unbound.is_empty(),
            raises_epoch,
        })
    }

    /// Makes the table visible to the workers, if it changed.
    pub(super) fn publish(&mut self) -> bool {
        if !std::mem::take(&mut self.dirty) {
            return false;
        }
        self.table.version += 1;
        self.published = Some(self.table.version);
        self.plane.publish(Arc::new(self.table.clone()));
        for name in std::mem::take(&mut self.touched) {
            self.update_fail_open(&name);
        }
        true
    }

    /// Notes whether all of a set's backends are unhealthy now.
    fn update_fail_open(&mut self, name: &Name) {
        let Some(entry) = self.sets.get_mut(name) else {
            return;
        };
        let now = self
            .table
            .set(entry.id)
            .is_some_and(|set| set.is_fail_open());
        if entry.fail_open != now {
            entry.fail_open = now;
            entry.ailing_since = SystemTime::now();
            self.notes.push(Event::FailOpen(v1::FailOpenChanged {
                set: name.to_string(),
                fail_open: now,
            }));
        }
    }

    /// Brings the table in line with what is known of one backend.
    pub(super) fn update_member(&mut self, name: &Name, address: SocketAddr) {
        let Some(entry) = self.sets.get_mut(name) else {
            return;
        };
        match entry.backends.get(&address) {
            Some(backend) if backend.ails() => entry.ejections.put(address),
            _ => entry.ejections.remove(&address),
        }
        self.put_member(name, address);
        self.settle_ejections(name);
    }

    /// Lets as many ailing backends be out as may.
    pub(super) fn settle_ejections(&mut self, name: &Name) {
        let Some(entry) = self.sets.get_mut(name) else {
            return;
        };
        let limit = ejection::limit(entry.backends.len(), entry.settings.max_ejection_percent);
        for address in entry.ejections.settle(limit) {
            self.put_member(name, address);
        }
    }

    fn put_member(&mut self, name: &Name, address: SocketAddr) {
        let Some(entry) = self.sets.get(name) else {
            return;
        };
        if let Some(backend) = entry.backends.get(&address)
            && let Some(set) = self.table.set_mut(entry.id)
        {
            set.put(backend.member(entry.ejections.keeps(&address)));
            self.dirty = true;
            self.touched.insert(name.clone());
        }
    }

    /// Tries to bind a listener; whether its state changed.
    pub(super) fn bind(&mut self, name: &Name) -> bool {
        let Some(entry) = self.listeners.get_mut(name) else {
            return false;
        };
        let sets = &self.sets;
        let route = entry.route(|name| Some(sets.get(name)?.id));
        let outcome = self.plane.bind(
            entry.id,
            Place {
                protocol: entry.wanted.protocol,
                address: entry.wanted.address,
                may_be_absent: self.networks.is_virtual(entry.wanted.address.ip()),
            },
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
