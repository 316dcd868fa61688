//! What all workers see.

use super::descriptors::Descriptors;
use super::failing::{Failing, Told};
use super::mailbox::Mailbox;
use crate::lb::affinity::Memory;
use crate::lb::backend::BackendRuntime;
use crate::lb::table::RouteTable;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
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
    /// Write a log line for each connection.
    pub(crate) access_log: bool,
}
