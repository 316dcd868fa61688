//! The workers together, as the control side sees them.

use super::descriptors::Descriptors;
use super::failing::{Failing, Told};
use super::mailbox::{Command, Held, HeldUdp, Mailbox, NewListener, NewUdpListener};
use super::{Shared, Worker};
use crate::lb::ListenerId;
use crate::lb::affinity::Memory;
use crate::lb::backend::{BackendRuntime, ListenerCounters};
use crate::lb::table::{ListenerRoute, RouteTable};
use crate::net::{socket, udp};
use crate::state::ports::{BindError, DataPlane, ForceClose, Place};
use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use podline_api::Transport;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout_at};

/// How the fleet is set up.
#[derive(Clone, Copy, Debug)]
pub struct FleetSettings {
    /// Worker threads, at least 1.
    pub workers: usize,
    /// Write a log line for each connection.
    pub access_log: bool,
}

/// All workers. Dropping it stops them.
#[derive(Debug)]
pub struct Fleet {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Addresses this process has sockets at: its own do not count as somebody else's.
    held: Mutex<HashMap<SocketAddr, Weak<Held>>>,
    /// Its UDP sockets by address.
    held_udp: Mutex<HashMap<SocketAddr, Weak<HeldUdp>>>,
    /// Old tables, kept until every worker has let go of them, so that freeing one never takes a worker's time.
    retired: Mutex<VecDeque<Arc<RouteTable>>>,
}

impl Fleet {
    /// Starts the workers and raises the process's descriptor limit to what it may be.
    ///
    /// # Errors
    /// The kernel grants no thread or no descriptor.
    pub fn start(settings: FleetSettings) -> std::io::Result<Arc<Self>> {
        let workers = settings.workers.max(1);
        let shared = Arc::new(Shared {
            table: ArcSwap::from_pointee(RouteTable::default()),
            mailboxes: (0..workers)
                .map(|_| Mailbox::new())
                .collect::<std::io::Result<_>>()?,
            descriptors: Arc::new(Descriptors::under(
                raise_descriptor_limit(),
                open_descriptors(),
            )),
            acknowledged: Notify::new(),
            failing: Failing::default(),
            unanswered: Told::default(),
            memory: Memory::default(),
            pauses: AtomicU64::new(0),
            strays: AtomicU64::new(0),
            imitated: Mutex::default(),
            access_log: settings.access_log,
        });
        let mut threads = Vec::with_capacity(workers);
        for number in 0..workers {
            threads.push(start_worker(number, Arc::clone(&shared))?);
        }
        Ok(Arc::new(Self {
            shared,
            threads: Mutex::new(threads),
            held: Mutex::default(),
            held_udp: Mutex::default(),
            retired: Mutex::default(),
        }))
    }

    /// Drops all connections and ends the threads. Waits for them.
    pub fn stop(&self) {
        for mailbox in &self.shared.mailboxes {
            mailbox.send(Command::Stop);
        }
        for thread in lock(&self.threads).drain(..) {
            // A worker that panicked has said so on standard error.
            let _ = thread.join();
        }
    }

    fn silent_workers(&self, version: u64) -> Vec<u32> {
        let silent = |mailbox: &Mailbox| mailbox.acknowledged.load(Acquire) < version;
        (0u32..)
            .zip(&self.shared.mailboxes)
            .filter(|(_, m)| silent(m))
            .map(|(n, _)| n)
            .collect()
    }

    fn free_retired(&self) {
        let oldest = self
            .shared
            .mailboxes
            .iter()
            .map(|m| m.acknowledged.load(Acquire))
            .min()
            .unwrap_or(0);
        lock(&self.retired).retain(|table| table.version >= oldest);
    }

    fn bind_tcp(
        &self,
        id: ListenerId,
        at: Place,
        route: &ListenerRoute,
        counters: &Arc<ListenerCounters>,
    ) -> Result<(), Errno> {
        let (address, absent) = (at.address, at.may_be_absent);
        let mut held = lock(&self.held);
        held.retain(|_, by| by.strong_count() > 0);
        // A listener of ours that is being removed still holds the address for a moment; its successor may join it.
        let known = held.get(&address).and_then(Weak::upgrade);
        let first = if known.is_some() {
            socket::join
        } else {
            socket::claim
        };
        let sockets: Vec<OwnedFd> = (0..self.shared.mailboxes.len())
            .map(|n| {
                if n == 0 {
                    first(address, absent)
                } else {
                    socket::join(address, absent)
                }
            })
            .collect::<Result<_, Errno>>()?;
        let by = known.unwrap_or_default();
        held.insert(address, Arc::downgrade(&by));
        let route = Arc::new(route.clone());
        for (mailbox, socket) in self.shared.mailboxes.iter().zip(sockets) {
            let (counters, route, held) =
                (Arc::clone(counters), Arc::clone(&route), Arc::clone(&by));
            mailbox.send(Command::Listen(NewListener {
                id,
                socket,
                counters,
                route,
                held,
            }));
        }
        Ok(())
    }

    /// Sockets that are still there serve on: with others beside them, the kernel would spread clients otherwise.
    fn bind_udp(
        &self,
        at: Place,
        route: &ListenerRoute,
        counters: &Arc<ListenerCounters>,
    ) -> Result<(), Errno> {
        let (address, absent) = (at.address, at.may_be_absent);
        let mut all = lock(&self.held_udp);
        all.retain(|_, by| by.strong_count() > 0);
        let held = match all.get(&address).and_then(Weak::upgrade) {
            Some(held) => held,
            None => Arc::new(HeldUdp {
                sockets: std::iter::once(udp::claim(address, absent))
                    .chain((1..self.shared.mailboxes.len()).map(|_| udp::join(address, absent)))
                    .collect::<Result<_, Errno>>()?,
                is_everywhere: address.ip().is_unspecified(),
            }),
        };
        all.insert(address, Arc::downgrade(&held));
        let route = Arc::new(route.clone());
        for mailbox in &self.shared.mailboxes {
            mailbox.send(Command::ListenUdp(NewUdpListener {
                counters: Arc::clone(counters),
                route: Arc::clone(&route),
                held: Arc::clone(&held),
            }));
        }
        Ok(())
    }
}

impl DataPlane for Fleet {
    fn bind(
        &self,
        id: ListenerId,
        at: Place,
        route: &ListenerRoute,
        counters: Arc<ListenerCounters>,
    ) -> Result<(), BindError> {
        match at.protocol.transport() {
            Transport::Tcp => self.bind_tcp(id, at, route, &counters),
            Transport::Udp => self.bind_udp(at, route, &counters),
        }
        .map_err(|error| bind_error(at.address, error))
    }

    fn unbind(&self, id: ListenerId) {
        for mailbox in &self.shared.mailboxes {
            mailbox.send(Command::Unlisten(id));
        }
    }

    fn publish(&self, table: Arc<RouteTable>) {
        let old = self.shared.table.swap(table);
        lock(&self.retired).push_back(old);
        for mailbox in &self.shared.mailboxes {
            mailbox.wake.wake();
        }
        self.free_retired();
    }

    fn acknowledged(&self, version: u64, within: Duration) -> BoxFuture<'_, Result<(), Vec<u32>>> {
        Box::pin(async move {
            let all = async {
                loop {
                    let rung = self.shared.acknowledged.notified();
                    tokio::pin!(rung);
                    rung.as_mut().enable();
                    if self.silent_workers(version).is_empty() {
                        return;
                    }
                    rung.await;
                }
            };
            let answer = tokio::time::timeout(within, all).await;
            self.free_retired();
            answer.map_err(|_| self.silent_workers(version))
        })
    }

    fn answering(&self, within: Duration) -> BoxFuture<'_, Result<(), Vec<u32>>> {
        let ask = |mailbox: &Mailbox| {
            let (sender, answer) = oneshot::channel();
            mailbox.send(Command::Answer(sender));
            answer
        };
        let answers: Vec<_> = self.shared.mailboxes.iter().map(ask).collect();
        Box::pin(async move {
            let deadline = Instant::now() + within;
            let mut silent = Vec::new();
            for (number, answer) in (0u32..).zip(answers) {
                if !matches!(timeout_at(deadline, answer).await, Ok(Ok(()))) {
                    silent.push(number);
                }
            }
            if silent.is_empty() {
                Ok(())
            } else {
                Err(silent)
            }
        })
    }

    fn detach(&self, id: ListenerId, ip: IpAddr) {
        for mailbox in &self.shared.mailboxes {
            mailbox.send(Command::Detach(id, ip.is_ipv6()));
        }
    }

    fn force_close(&self, what: ForceClose) {
        for mailbox in &self.shared.mailboxes {
            mailbox.send(Command::ForceClose(what.clone()));
        }
    }

    fn workers(&self) -> u32 {
        u32::try_from(self.shared.mailboxes.len()).unwrap_or(u32::MAX)
    }

    fn active_connections(&self) -> u64 {
        let all = self.shared.mailboxes.iter();
        all.map(|m| u64::from(m.connections.load(Relaxed)) + u64::from(m.flows.load(Relaxed)))
            .sum()
    }

    fn live_connections(&self) -> u64 {
        let all = self.shared.mailboxes.iter();
        all.map(|m| u64::from(m.connections.load(Relaxed)) + u64::from(m.live_flows.load(Relaxed)))
            .sum()
    }

    fn stray_datagrams(&self) -> u64 {
        self.shared.strays.load(Relaxed)
    }

    fn descriptors(&self) -> (u64, u64) {
        self.shared.descriptors.usage()
    }

    fn accept_pauses(&self) -> u64 {
        self.shared.pauses.load(Relaxed)
    }

    fn failing_backends(&self) -> BoxFuture<'_, Vec<Arc<BackendRuntime>>> {
        Box::pin(self.shared.failing.take())
    }

    fn unanswered_clients(&self) -> BoxFuture<'_, Vec<Arc<BackendRuntime>>> {
        Box::pin(self.shared.unanswered.take())
    }

    fn expect_affinity(&self) {
        self.shared.memory.prepare();
    }

    fn affinity(&self) -> (u64, u64) {
        (self.shared.memory.clients(), Memory::CAPACITY)
    }

    fn now_ms(&self) -> u64 {
        super::clock::monotonic_ms()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts one worker on a thread of its own, where it also makes what must not leave that thread.
fn start_worker(number: usize, shared: Arc<Shared>) -> std::io::Result<JoinHandle<()>> {
    let (started, outcome) = std::sync::mpsc::channel();
    let body = move || match Worker::new(number, shared) {
        Ok(worker) => {
            let _ = started.send(Ok(()));
            worker.run();
        }
        Err(error) => {
            let _ = started.send(Err(error));
        }
    };
    let thread = std::thread::Builder::new()
        .name(format!("worker-{number}"))
        .spawn(body)?;
    outcome
        .recv()
        .unwrap_or_else(|_| Err(std::io::Error::other("the worker thread ended at once")))?;
    Ok(thread)
}

fn bind_error(address: SocketAddr, error: Errno) -> BindError {
    BindError::new(address, error.into())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The limit now in force, after asking for all that is allowed.
fn raise_descriptor_limit() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if setrlimit(Resource::Nofile, limit).is_err() {
        limit = getrlimit(Resource::Nofile);
    }
    limit.current.unwrap_or(1 << 20)
}

fn open_descriptors() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(64, |entries| entries.count() as u64)
}
