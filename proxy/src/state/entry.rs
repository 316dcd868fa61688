//! What the engine keeps of each listener, set and backend.

use crate::lb::backend::{BackendRuntime, ListenerCounters};
use crate::lb::drain::DrainState;
use crate::lb::ejection::Ejections;
use crate::lb::headers::HeaderRules;
use crate::lb::health::{Health, HealthState};
use crate::lb::http::HttpRules;
use crate::lb::limits::Limiter;
use crate::lb::table::ListenerRoute;
use crate::lb::trie::{Member, Tier};
use crate::lb::{ListenerId, SetId};
use crate::probe::finding::Finding;
use crate::tls::listener::TlsRules;
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
    pub(super) limiter: Option<Arc<Limiter>>,
    /// What it makes of PROXY headers.
    pub(super) headers: Option<Arc<HeaderRules>>,
    /// How it speaks TLS.
    pub(super) tls: Option<TlsRules>,
    /// Why it is not bound, if it is not.
    pub(super) failure: Option<String>,
}

impl ListenerEntry {
    /// Where its work goes; `set` tells a set's number. A number stays as long as a listener leads to its set.
    pub(super) fn route(&self, set: impl Fn(&Name) -> Option<SetId>) -> ListenerRoute {
        let default = self.wanted.backend_set.as_ref().and_then(&set);
        let http = self.wanted.http.as_ref();
        let port = self.wanted.address.port();
        ListenerRoute {
            id: self.id,
            name: self.wanted.name.clone(),
            set: default,
            http: http.map(|http| Arc::new(HttpRules::new(http, port, default, set))),
            idle_timeout: self.wanted.idle_timeout,
            half_closed_timeout: self.wanted.half_closed_timeout,
            limiter: self.limiter.clone(),
            tls: self.tls.clone(),
            headers: self.headers.clone(),
            source_address: self.wanted.source_address,
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
    /// Which of its ailing backends are out.
    pub(super) ejections: Ejections,
    /// Whether all are unhealthy, as of the last publish.
    pub(super) fail_open: bool,
    /// When all of them became unhealthy, or ceased to be; for display only.
    pub(super) ailing_since: SystemTime,
    /// Whether connections can come to it at all.
    pub(super) route: Route,
    pub(super) route_since: SystemTime,
}

/// Whether connections can come to a set at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// A listener that accepts leads to it.
    Open,
    /// No listener leads to it.
    None,
    /// None of those that do could be bound; why one of them could not.
    Failed(String),
}

/// One backend.
#[derive(Clone, Debug)]
pub(super) struct BackendEntry {
    pub(super) runtime: Arc<BackendRuntime>,
    pub(super) weight: Weight,
    /// The node it runs on, as its owner says.
    pub(super) node: Option<Name>,
    /// When `weight` last changed; for display only.
    pub(super) weight_since: SystemTime,
    pub(super) health: HealthState,
    /// When `health` last changed; for display only.
    pub(super) since: SystemTime,
    pub(super) last_probe: Option<Finding>,
    /// When the first probe ended that says anything of it; for display only.
    pub(super) first_probe: Option<SystemTime>,
    /// What an override says.
    pub(super) held: Option<Held>,
    /// It is out because connects to it failed.
    pub(super) ejected: Option<Ejected>,
}

/// What an override makes of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// No new connections.
    Drained,
    /// This weight counts.
    Weight(Weight),
}

/// Out because connects failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ejected {
    pub(super) since: SystemTime,
    /// Failed connects in a row.
    pub(super) failures: u8,
    /// When it is over, where no probe ends it.
    pub(super) until_ms: Option<u64>,
}

impl BackendEntry {
    /// A backend that nothing is known of.
    pub(super) fn new(runtime: BackendRuntime, weight: Weight, health: HealthState) -> Self {
        let now = SystemTime::now();
        Self {
            runtime: Arc::new(runtime),
            weight,
            node: None,
            weight_since: now,
            health,
            since: now,
            last_probe: None,
            first_probe: None,
            held: None,
            ejected: None,
        }
    }

    /// The weight that counts.
    pub(super) fn effective_weight(&self) -> Weight {
        match self.held {
            Some(Held::Weight(weight)) => weight,
            _ => self.weight,
        }
    }

    /// Probes or connects speak against it.
    pub(super) fn ails(&self) -> bool {
        self.health.health() == Health::Unhealthy || self.ejected.is_some()
    }

    /// How the backend stands in the table. `kept`: it stays in rotation though it ails.
    pub(super) fn member(&self, kept: bool) -> Member {
        let weight = self.effective_weight().get();
        let tier = match self.health.health() {
            _ if weight == 0 || self.held == Some(Held::Drained) => Tier::Out,
            _ if self.ails() && !kept => Tier::Fallback,
            Health::Detecting => Tier::Detecting,
            Health::Healthy | Health::Disabled | Health::Unhealthy => Tier::Eligible,
        };
        Member {
            runtime: Arc::clone(&self.runtime),
            weight,
            tier,
        }
    }

    /// As configured.
    pub(super) fn backend(&self) -> Backend {
        Backend {
            key: self.runtime.key.clone(),
            weight: self.weight,
            node: self.node.clone(),
        }
    }

    /// Whether the configuration asks for something else than what is there.
    pub(super) fn differs(&self, wanted: &Backend) -> bool {
        self.backend() != *wanted
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
    pub(super) since: SystemTime,
    /// When what is left is cut.
    pub(super) until: SystemTime,
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
