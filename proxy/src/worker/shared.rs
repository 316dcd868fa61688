//! What all workers see.

use super::descriptors::Descriptors;
use super::failing::{Failing, Told};
use super::mailbox::Mailbox;
use crate::lb::affinity::Memory;
use crate::lb::backend::BackendRuntime;
use crate::lb::set::Set;
use crate::lb::table::RouteTable;
use arc_swap::ArcSwap;
use podline_api::PassiveCheck;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// Shared by all workers and by the fleet's handle.
#[derive(Debug)]
pub struct Shared {
    /// Written by the publisher; each worker loads it when woken.
    pub(crate) table: ArcSwap<RouteTable>,
    pub(crate) mailboxes: Box<[Mailbox]>,
    pub(crate) descriptors: Arc<Descriptors>,
    /// Rung by each worker after it acted on a version.
    pub(crate) acknowledged: Notify,
    /// Backends to which connects keep failing.
    pub(crate) failing: Failing,
    /// Backends that did not answer an imitated client, and did answer the proxy.
    pub(crate) unanswered: Told<Arc<BackendRuntime>>,
    /// Which host each client is with.
    pub(crate) memory: Memory,
    /// Times that a worker stopped accepting because descriptors ran out.
    pub(crate) pauses: AtomicU64,
    /// Datagrams that came to a socket of flows and from no backend of one there.
    pub(crate) strays: AtomicU64,
    /// Clients that are imitated at their own ports, and towards whom.
    pub(crate) imitated: Mutex<HashSet<(SocketAddr, SocketAddr)>>,
    /// Write a log line for each connection.
    pub(crate) access_log: bool,
}

impl Shared {
    /// Counts a failed attempt to reach a backend of `set`, and tells of it if that was one too many in a row.
    /// `of_http`: requests count by the default where the set says nothing, as CLB's do.
    pub(crate) fn count_failure(&self, backend: &Arc<BackendRuntime>, set: &Set, of_http: bool) {
        let default = of_http.then(PassiveCheck::default);
        if backend.count_failure(set.settings.passive_check.or(default)) {
            self.failing.tell(Arc::clone(backend));
        }
    }
}
