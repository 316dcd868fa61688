//! Toy Pods: small servers with one fault or virtue each. A Pod is a thread with its own runtime, so that it can live
//! in a namespace and so that its end closes everything it had. It must not know how it serves: that is `serve`.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::oneshot;

use crate::namespace::Namespace;
use crate::serve;

/// Connections that may wait for the Pod's accept.
const BACKLOG: i32 = 4096;

/// What a Pod does with each connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Speaks HTTP/1.1 with keep-alive: answers any request with the Pod's name and a newline, and `GET /bytes/N`
    /// with N bytes of [`crate::pattern`].
    Name,
    /// The same, but answers with the address and port that the request seems to come from.
    Peer,
    /// Sends back what it gets, and ends when the client ends.
    Echo,
    /// Sends so many bytes of [`crate::pattern`] and ends; reads and forgets what comes until the client ends.
    SendThenEnd(u64),
    /// Waits for a byte, sends so many bytes of [`crate::pattern`], waits until they are acknowledged, and resets.
    SendThenReset(u64),
    /// Never reads, with a small receive buffer, and never ends by itself.
    NeverRead,
    /// Reads and forgets, never answers, and ends when the client ends.
    NeverAnswer,
}

/// What a Pod has seen; its threads write, anyone reads.
#[derive(Debug, Default)]
pub struct PodCounts {
    pub(crate) accepted: AtomicU64,
    pub(crate) open: AtomicU64,
    pub(crate) resets: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) received: AtomicU64,
}

impl PodCounts {
    /// Connections since its start.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    /// Connections it has now.
    pub fn open(&self) -> u64 {
        self.open.load(Relaxed)
    }

    /// Connections that ended by an error, which is a reset from the other side.
    pub fn resets(&self) -> u64 {
        self.resets.load(Relaxed)
    }

    /// Requests answered, by [`Behaviour::Name`] only.
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Bytes read.
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct Pod {
    name: String,
    address: SocketAddr,
    counts: Arc<PodCounts>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Pod {
    /// Starts it in the calling thread's namespace; port 0 picks a free one.
    pub fn start(name: &str, address: SocketAddr, behaviour: Behaviour) -> io::Result<Self> {
        let listener = listen(address, behaviour)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let counts = Arc::new(PodCounts::default());
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = serve::run(listener, name.to_owned(), behaviour, Arc::clone(&counts));
        let thread = thread::Builder::new()
            .name(format!("pod:{name}"))
            .spawn(move || {
                // Whichever ends first; then the runtime goes, and with it every connection.
                runtime.block_on(async move {
                    tokio::select! {
                        failed = serve => panic!("a pod cannot accept: {failed}"),
                        _ = stopped => (),
                    }
                });
            })?;
        Ok(Self {
            name: name.to_owned(),
            address,
            counts,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Starts it inside `namespace`.
    pub fn start_in(
        namespace: &Namespace,
        name: &str,
        address: SocketAddr,
        behaviour: Behaviour,
    ) -> io::Result<Self> {
        let name = name.to_owned();
        namespace.run(move || Self::start(&name, address, behaviour))
    }

    /// What it answers with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens, with the port that was picked.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has seen.
    pub fn counts(&self) -> &PodCounts {
        &self.counts
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.stop.take(); // dropping the sender is the signal
        if let Some(thread) = self.thread.take() {
            thread.join().ok(); // its panic was printed
        }
    }
}

fn listen(address: SocketAddr, behaviour: Behaviour) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?; // a Pod that comes back finds its port in TIME_WAIT
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if behaviour == Behaviour::NeverRead {
        socket.set_recv_buffer_size(4096)?; // inherited by what it accepts
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
