//! A data plane that remembers what it was told and answers as the test wants.

use super::*;
use crate::lb::ListenerId;
use crate::lb::backend::{BackendRuntime, ListenerCounters};
use crate::lb::table::{ListenerRoute, RouteTable};
use crate::state::ports::{BindError, Place};
use crate::worker::failing::Failing;
use futures_util::future::BoxFuture;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use tokio::sync::watch;

pub(super) struct Fake {
    started: Instant,
    /// The version before the first that is published.
    pub(super) first: AtomicU64,
    /// Every table that was published.
    pub(super) tables: Mutex<Vec<Arc<RouteTable>>>,
    /// Listeners that accept, and where.
    pub(super) bound: Mutex<HashMap<ListenerId, SocketAddr>>,
    /// Where listeners are that may be there before their address.
    absent: Mutex<Vec<SocketAddr>>,
    /// Addresses that other processes hold.
    pub(super) taken: Mutex<HashSet<SocketAddr>>,
    /// Backends and listeners whose connections were cut.
    pub(super) forced: Mutex<Vec<String>>,
    /// Worker 1 does not acknowledge on its own.
    pub(super) is_silent: AtomicBool,
    /// Worker 2 does not hear what it is asked.
    pub(super) is_deaf: AtomicBool,
    /// What worker 1 acknowledges nevertheless.
    pub(super) acknowledged: watch::Sender<u64>,
    /// Backends to which connects keep failing.
    pub(super) failing: Failing,
    /// Backends that do not answer imitated clients.
    pub(super) unanswered: Failing,
}

impl Fake {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            first: AtomicU64::new(0),
            tables: Mutex::default(),
            bound: Mutex::default(),
            absent: Mutex::default(),
            taken: Mutex::default(),
            forced: Mutex::default(),
            is_silent: AtomicBool::new(false),
            is_deaf: AtomicBool::new(false),
            acknowledged: watch::Sender::new(0),
            failing: Failing::default(),
            unanswered: Failing::default(),
        }
    }

    /// Where listeners were bound that may be there before their address.
    pub(super) fn absent(&self) -> Vec<SocketAddr> {
        lock(&self.absent).clone()
    }

    /// How often something was published.
    pub(super) fn publishes(&self) -> usize {
        lock(&self.tables).len()
    }

    /// The table that workers act on.
    pub(super) fn table(&self) -> Arc<RouteTable> {
        Arc::clone(lock(&self.tables).last().unwrap())
    }

    /// What workers count of a backend of "web".
    pub(super) fn runtime(state: &State, n: u16) -> Arc<BackendRuntime> {
        let engine = state.engine();
        Arc::clone(&engine.sets[&name("web")].backends[&address(n)].runtime)
    }
}

impl DataPlane for Fake {
    fn bind(
        &self,
        id: ListenerId,
        at: Place,
        _route: &ListenerRoute,
        _counters: Arc<ListenerCounters>,
    ) -> Result<(), BindError> {
        let address = at.address;
        if lock(&self.taken).contains(&address) {
            let refused = std::io::Error::from(std::io::ErrorKind::AddrInUse);
            return Err(BindError::new(address, refused));
        }
        if at.may_be_absent {
            lock(&self.absent).push(address);
        }
        let other = lock(&self.bound).insert(id, address);
        assert_eq!(other, None, "bound twice");
        Ok(())
    }

    fn unbind(&self, id: ListenerId) {
        lock(&self.bound).remove(&id);
    }

    fn publish(&self, table: Arc<RouteTable>) {
        let mut tables = lock(&self.tables);
        let last = tables.last().map_or(self.first.load(SeqCst), |t| t.version);
        assert_eq!(table.version, last + 1, "versions grow by one");
        tables.push(table);
    }

    fn acknowledged(&self, version: u64, within: Duration) -> BoxFuture<'_, Result<(), Vec<u32>>> {
        Box::pin(async move {
            assert!(self.table().version >= version, "never published");
            if !self.is_silent.load(SeqCst) {
                return Ok(());
            }
            let mut acknowledged = self.acknowledged.subscribe();
            let version = acknowledged.wait_for(|v| *v >= version);
            let in_time = tokio::time::timeout(within, version).await;
            in_time.map(drop).map_err(|_| vec![1])
        })
    }

    fn answering(&self, within: Duration) -> BoxFuture<'_, Result<(), Vec<u32>>> {
        Box::pin(async move {
            if !self.is_deaf.load(SeqCst) {
                return Ok(());
            }
            tokio::time::sleep(within).await;
            Err(vec![2])
        })
    }

    fn detach(&self, _: ListenerId, ip: IpAddr) {
        lock(&self.forced).push(format!("detached from {ip}"));
    }

    fn force_close(&self, what: ForceClose) {
        lock(&self.forced).push(match what {
            ForceClose::Backend(runtime) => runtime.key.to_string(),
            ForceClose::Listener(_) => "listener".to_owned(),
            ForceClose::Everything => "everything".to_owned(),
        });
    }

    fn workers(&self) -> u32 {
        2
    }

    fn active_connections(&self) -> u64 {
        0
    }

    fn descriptors(&self) -> (u64, u64) {
        (0, 0)
    }

    fn accept_pauses(&self) -> u64 {
        0
    }

    fn failing_backends(&self) -> BoxFuture<'_, Vec<Arc<BackendRuntime>>> {
        Box::pin(self.failing.take())
    }

    fn unanswered_clients(&self) -> BoxFuture<'_, Vec<Arc<BackendRuntime>>> {
        Box::pin(self.unanswered.take())
    }

    fn expect_affinity(&self) {}

    fn affinity(&self) -> (u64, u64) {
        (0, 0)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap()
    }
}
