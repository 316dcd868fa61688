//! How the control side speaks to a worker: it leaves a command and wakes the thread.

use crate::lb::ListenerId;
use crate::lb::backend::ListenerCounters;
use crate::lb::table::ListenerRoute;
use crate::net::wake::Wake;
use crate::state::ports::ForceClose;
use rustix::fd::OwnedFd;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// An address that sockets of this process are bound to. Whoever has such a socket has a share of it.
#[derive(Debug, Default)]
pub(crate) struct Held;

/// A worker's own socket of a new listener.
#[derive(Debug)]
pub(crate) struct NewListener {
    pub(crate) id: ListenerId,
    pub(crate) socket: OwnedFd,
    pub(crate) counters: Arc<ListenerCounters>,
    pub(crate) route: Arc<ListenerRoute>,
    /// The address. That it lives tells that the address is still ours.
    pub(crate) held: Arc<Held>,
}

/// The sockets of a UDP address, one for each worker. They are closed when no worker has flows or a listener there any
/// more: while there are fewer of them, the kernel spreads clients otherwise, and flows would change their workers.
#[derive(Debug)]
pub(crate) struct HeldUdp {
    pub(crate) sockets: Vec<OwnedFd>,
    /// They listen at every address of the host.
    pub(crate) is_everywhere: bool,
}

/// A new UDP listener.
#[derive(Debug)]
pub(crate) struct NewUdpListener {
    pub(crate) counters: Arc<ListenerCounters>,
    pub(crate) route: Arc<ListenerRoute>,
    pub(crate) held: Arc<HeldUdp>,
}

/// What a worker can be told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Accept from this socket from now on.
    Listen(NewListener),
    /// Forward datagrams of this listener from now on. Flows of a listener that had the address before become its.
    ListenUdp(NewUdpListener),
    /// Serve what is queued, then close the listener's socket. Its connections and flows live on.
    Unlisten(ListenerId),
    /// Serve a connection that another worker accepted. It brings all it needs: this worker may not have the listener
    /// yet, or not any more.
    Adopt {
        socket: OwnedFd,
        peer: SocketAddr,
        route: Arc<ListenerRoute>,
        counters: Arc<ListenerCounters>,
    },
    /// The listener's address is about to go to another host: its sockets are to do without. Over IPv6, or IPv4.
    Detach(ListenerId, bool),
    /// Cut connections.
    ForceClose(ForceClose),
    /// Say that you live.
    Answer(oneshot::Sender<()>),
    /// Drop everything and end the thread.
    Stop,
}

/// A worker as others see it.
#[derive(Debug)]
pub(crate) struct Mailbox {
    pub(crate) wake: Wake,
    commands: Mutex<Vec<Command>>,
    /// The version the worker acts on. Written by the worker, read by who waits for acknowledgements.
    pub(crate) acknowledged: AtomicU64,
    /// Connections the worker has. Written by the worker, read by all of them to share the load.
    pub(crate) connections: AtomicU32,
    /// Its UDP flows.
    pub(crate) flows: AtomicU32,
    /// Those of them that are not silent; kept up to date while a listener is being removed.
    pub(crate) live_flows: AtomicU32,
}

impl Mailbox {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            wake: Wake::new()?,
            commands: Mutex::default(),
            acknowledged: AtomicU64::new(0),
            connections: AtomicU32::new(0),
            flows: AtomicU32::new(0),
            live_flows: AtomicU32::new(0),
        })
    }

    /// Leaves a command and wakes the worker.
    pub(crate) fn send(&self, command: Command) {
        self.commands
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(command);
        self.wake.wake();
    }

    /// Takes the commands left so far. Called by the worker when it was woken, never otherwise.
    pub(crate) fn take(&self) -> Vec<Command> {
        std::mem::take(&mut *self.commands.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
