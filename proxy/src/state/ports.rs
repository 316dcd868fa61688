//! What the state engine needs of the data plane. The fleet of workers is one; tests bring a fake.

use crate::lb::ListenerId;
use crate::lb::backend::{BackendRuntime, ListenerCounters};
use crate::lb::table::{ListenerRoute, RouteTable};
use futures_util::future::BoxFuture;
use podline_api::Protocol;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// The workers, as seen from the control side.
pub trait DataPlane: Send + Sync {
    /// Starts to accept connections, or to forward datagrams, at an address.
    fn bind(
        &self,
        id: ListenerId,
        at: Place,
        route: &ListenerRoute,
        counters: Arc<ListenerCounters>,
    ) -> Result<(), BindError>;
    /// Stops accepting; what is queued is served first. Connections live on.
    fn unbind(&self, id: ListenerId);
    /// Makes a table the one that all new work is decided by.
    fn publish(&self, table: Arc<RouteTable>);
    /// Waits until every worker acts on `version` or a later one; the numbers of those that did not within the time.
    fn acknowledged(&self, version: u64, within: Duration) -> BoxFuture<'_, Result<(), Vec<u32>>>;
    /// Asks every worker for a word now; the numbers of those that gave none within the time.
    fn answering(&self, _within: Duration) -> BoxFuture<'_, Result<(), Vec<u32>>> {
        Box::pin(std::future::ready(Ok(())))
    }
    /// A listener's address is about to go to another host: its connections, and those that it still lets in, live on
    /// without.
    fn detach(&self, id: ListenerId, ip: IpAddr);
    /// Cuts connections.
    fn force_close(&self, what: ForceClose);
    /// How many workers there are.
    fn workers(&self) -> u32;
    /// Connections and UDP flows of all workers.
    fn active_connections(&self) -> u64;
    /// Those that the end of the process waits for: not flows that are silent, which have no end of their own. Up to
    /// date once listeners are unbound.
    fn live_connections(&self) -> u64 {
        self.active_connections()
    }
    /// Datagrams that came to a socket of flows and from no backend of one there.
    fn stray_datagrams(&self) -> u64 {
        0
    }
    /// Descriptors that connections use, and how many they may.
    fn descriptors(&self) -> (u64, u64);
    /// Times that a worker stopped accepting because descriptors ran out.
    fn accept_pauses(&self) -> u64;
    /// Waits for backends to which connects have failed as often in a row as their sets allow; each is told once a
    /// run of failures.
    fn failing_backends(&self) -> BoxFuture<'_, Vec<Arc<BackendRuntime>>>;
    /// Waits for backends that did not answer an imitated client, and did answer the proxy itself.
    fn unanswered_clients(&self) -> BoxFuture<'_, Vec<Arc<BackendRuntime>>>;
    /// Makes room to remember clients, before the first one comes.
    fn expect_affinity(&self);
    /// Clients whose backend is remembered, and how many can be.
    fn affinity(&self) -> (u64, u64);
    /// The workers' clock, in milliseconds.
    fn now_ms(&self) -> u64;
}

/// Where a listener is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// What is spoken there.
    pub protocol: Protocol,
    /// The address and port.
    pub address: SocketAddr,
    /// The address may be another host's for now, and come here while the listener is there.
    pub may_be_absent: bool,
}

/// Whose connections to cut.
#[derive(Clone, Debug)]
pub enum ForceClose {
    /// Those of one backend.
    Backend(Arc<BackendRuntime>),
    /// Those that came through one listener.
    Listener(ListenerId),
    /// All.
    Everything,
}

/// Why a listener could not be bound, in words for an operator.
#[derive(Debug, thiserror::Error)]
#[error("{address}: {}", hint(.source.kind()))]
pub struct BindError {
    address: SocketAddr,
    source: std::io::Error,
}

impl BindError {
    /// The kernel refused `address` with `source`.
    pub fn new(address: SocketAddr, source: std::io::Error) -> Self {
        Self { address, source }
    }
}

fn hint(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::AddrInUse => {
            "the port is in use by another process; stop that one or choose another port"
        }
        ErrorKind::AddrNotAvailable => "no interface of this host has this address",
        ErrorKind::PermissionDenied => "a port below 1024 needs CAP_NET_BIND_SERVICE",
        _ => "the kernel refused the address",
    }
}
