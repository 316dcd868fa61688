//! What the engine keeps of each listener, set and backend.

use crate::lb::backend::{BackendRuntime, ListenerCounters};
use crate::lb::drain::DrainState;
use crate::lb::health::{Health, HealthState};
use crate::lb::table::ListenerRoute;
use crate::lb::trie::{Member, Tier};
use crate::lb::{ListenerId, SetId};
use crate::probe::finding::Finding;
use podline_api::{Backend, Listener, Name, Owner, SetSettings, Weight};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

/// One listener.
#[derive(Debug)]
pub(super) struct ListenerEntry {
    pub(super) id: ListenerId,
    pub(super) owner: Owner,
    pub(super) wanted: Listener,
    pub(super) counters: Arc<ListenerCounters>,
    /// Why it is not bound, if it is not.
    pub(super) failure: Option<String>,
}

impl ListenerEntry {
    pub(super) fn route(&self, set: SetId) -> ListenerRoute {
        ListenerRoute {
            id: self.id,
            name: self.wanted.name.clone(),
            set,
            idle_timeout: self.wanted.idle_timeout,
            half_closed_timeout: self.wanted.half_closed_timeout,
        }
    }
}

/// One backend set.
#[derive(Debug)]
pub(super) struct SetEntry {
    pub(super) id: SetId,
    pub(super) owner: Owner,
    /// The version at which its configuration last changed.
    pub(super) version: u64,
    pub(super) settings: SetSettings,
    /// By address: no address stands in a set twice.
    pub(super) backends: HashMap<SocketAddr, BackendEntry>,
    /// A backend of it has been healthy once.
    pub(super) was_healthy: bool,
    pub(super) created_ms: u64,
}

/// One backend.
#[derive(Clone, Debug)]
pub(super) struct BackendEntry {
    pub(super) runtime: Arc<BackendRuntime>,
    pub(super) weight: Weight,
    pub(super) health: HealthState,
    /// When `health` last changed; for display only.
    pub(super) since: SystemTime,
    pub(super) last_probe: Option<Finding>,
}

impl BackendEntry {
    /// How the backend stands in the table.
    pub(super) fn member(&self) -> Member {
        let tier = match self.health.health() {
            _ if self.weight.get() == 0 => Tier::Out,
            Health::Healthy | Health::Disabled => Tier::Eligible,
            Health::Unhealthy => Tier::Fallback,
            Health::Detecting => Tier::Detecting,
        };
        Member {
            runtime: Arc::clone(&self.runtime),
            weight: self.weight.get(),
            tier,
        }
    }

    /// As configured.
    pub(super) fn backend(&self) -> Backend {
        Backend {
            key: self.runtime.key.clone(),
            weight: self.weight,
        }
    }

    /// Whether the configuration asks for something else than what is there.
    pub(super) fn differs(&self, wanted: &Backend) -> bool {
        self.runtime.key != wanted.key || self.weight != wanted.weight
    }
}

/// A backend that was removed and has connections, or may still get one until every worker has acknowledged.
#[derive(Debug)]
pub(super) struct DrainingBackend {
    pub(super) set: Name,
    pub(super) entry: BackendEntry,
    pub(super) drain: DrainState,
    /// The version that closed it.
    pub(super) version: u64,
}

/// A listener that was removed and has connections.
#[derive(Debug)]
pub(super) struct DrainingListener {
    pub(super) entry: ListenerEntry,
    pub(super) drain: DrainState,
    pub(super) version: u64,
}

impl DrainingListener {
    pub(super) fn active(&self) -> u64 {
        self.entry.counters.active.load(Relaxed)
    }
}
