//! What one publish makes visible: every listener and every backend set of one version.

use super::headers::HeaderRules;
use super::http::HttpRules;
use super::limits::Limiter;
use super::network::NetworkView;
use super::set::Set;
use super::{ListenerId, SetId};
use crate::tls::listener::TlsRules;
use podline_api::{Name, SourceAddress};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Where a listener's connections go, and how long they may be silent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerRoute {
    /// The listener.
    pub id: ListenerId,
    /// Its name, for the access log.
    pub name: Name,
    /// The set that takes its connections; with HTTP the requests that no route takes, and there may be none.
    pub set: Option<SetId>,
    /// What is done with requests; none: connections or flows are forwarded.
    pub http: Option<Arc<HttpRules>>,
    /// How it speaks TLS with clients; none: not at all.
    pub tls: Option<TlsRules>,
    /// Silence both ways after which a connection is cut.
    pub idle_timeout: Duration,
    /// The same once one direction has ended.
    pub half_closed_timeout: Duration,
    /// What it takes at most; none: no limit.
    pub limiter: Option<Arc<Limiter>>,
    /// What it makes of PROXY headers; none: nothing.
    pub headers: Option<Arc<HeaderRules>>,
    /// Which source address backends see.
    pub source_address: SourceAddress,
}

impl ListenerRoute {
    /// How long a PROXY header from `peer` may take, if it has to send one.
    pub fn header_within_ms(&self, peer: SocketAddr) -> Option<u64> {
        self.headers.as_ref()?.header_within_ms(peer)
    }
}

/// One version of everything a worker decides by. Persistent: cloning is cheap and shares what did not change.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    /// Grows with every publish.
    pub version: u64,
    sets: imbl::HashMap<SetId, Arc<Set>>,
    listeners: imbl::HashMap<ListenerId, Arc<ListenerRoute>>,
    /// What is known of the network.
    pub network: Arc<NetworkView>,
}

impl RouteTable {
    /// The set with this number.
    pub fn set(&self, id: SetId) -> Option<&Arc<Set>> {
        self.sets.get(&id)
    }

    /// How many sets there are.
    pub fn set_count(&self) -> usize {
        self.sets.len()
    }

    /// The route of this listener.
    pub fn listener(&self, id: ListenerId) -> Option<&Arc<ListenerRoute>> {
        self.listeners.get(&id)
    }

    /// Adds or replaces a set.
    pub fn put_set(&mut self, set: Set) {
        self.sets.insert(set.id, Arc::new(set));
    }

    /// Takes a set out.
    pub fn remove_set(&mut self, id: SetId) {
        self.sets.remove(&id);
    }

    /// Adds or replaces a listener's route.
    pub fn put_listener(&mut self, route: ListenerRoute) {
        self.listeners.insert(route.id, Arc::new(route));
    }

    /// Takes a listener's route out.
    pub fn remove_listener(&mut self, id: ListenerId) {
        self.listeners.remove(&id);
    }

    /// A set to change in place; the copy that other versions share stays as it is.
    pub fn set_mut(&mut self, id: SetId) -> Option<&mut Set> {
        self.sets.get_mut(&id).map(Arc::make_mut)
    }
}
