//! Where the API and the admin pages are served: a TCP address or a Unix socket, and what is accepted there.
//!
//! Bounds how many connections are open at once, and outlives a moment without descriptors. At the bound, a connection
//! that never said anything gives way to a new one, so that silent callers cannot keep others out; over TLS, neither
//! does a handshake count as a word nor does one wait for another's. Data-plane listeners are not made here.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::Connected;

use crate::api::identity::{Caller, Identity};
use crate::api::refusals::Refusals;
use crate::settings::ApiAddress;
use crate::tls::accept::{self, Refused};
use crate::tls::certificates::Certificates;

/// After an accept that failed for want of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// A bound address with a bound on its connections.
pub(crate) struct Served {
    socket: Socket,
    slots: Arc<Semaphore>,
    /// Those that may be silent still, oldest first.
    silent: Mutex<VecDeque<Weak<Presence>>>,
}

/// What is known of a connection's other end.
#[derive(Default)]
struct Presence {
    /// It has said something.
    heard: AtomicBool,
    /// Its connection is to end.
    cut: AtomicBool,
    reader: AtomicWaker,
}

enum Socket {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        path: PathBuf,
    },
}

impl Served {
    /// Binds `address`; at most `connections` are open at once, further ones wait in the kernel.
    pub(crate) async fn bind(address: &ApiAddress, connections: usize) -> io::Result<Self> {
        let socket = match address {
            ApiAddress::Tcp(address) => Socket::Tcp(TcpListener::bind(address).await?),
            ApiAddress::Unix(path) => Socket::Unix {
                listener: bind_unix(path)?,
                path: path.clone(),
            },
        };
        let slots = Arc::new(Semaphore::new(connections));
        Ok(Self {
            socket,
            slots,
            silent: Mutex::default(),
        })
    }

    /// Where it is bound, with the port that it was given for port 0.
    pub(crate) fn address(&self) -> io::Result<ApiAddress> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().map(ApiAddress::Tcp),
            Socket::Unix { path, .. } => Ok(ApiAddress::Unix(path.clone())),
        }
    }

    /// Connections in plain text as they come, for ever. Waiting for the next one can be broken off without losing any.
    pub(crate) fn incoming(self) -> impl Stream<Item = Accepted> + Send {
        self.arrivals().map(Arrival::in_plain_text)
    }

    /// Connections over TLS as they come, for ever, each after its handshake; those that fail are told to `refusals`.
    pub(crate) fn incoming_over_tls(
        self,
        certificates: Certificates,
        refusals: Arc<Refusals>,
    ) -> impl Stream<Item = Accepted> + Send {
        // One more than there are places, so that the next caller is always looked after: it may push out a silent one.
        let handshakes = self.slots.available_permits() + 1;
        self.arrivals()
            .map(move |arrival| {
                // A task of its own: handshakes are work, and the others are not to wait for it.
                tokio::spawn(arrival.over_tls(certificates.clone(), Arc::clone(&refusals)))
            })
            .buffer_unordered(handshakes)
            .filter_map(|accepted| std::future::ready(accepted.ok().flatten()))
    }

    fn arrivals(self) -> impl Stream<Item = Arrival> + Send {
        futures_util::stream::unfold(self, |served| async {
            let arrival = served.accept().await;
            Some((arrival, served))
        })
    }

    /// The next connection. Not cancel safe: one that waits for a place would be lost.
    async fn accept(&self) -> Arrival {
        let link = loop {
            match self.socket.accept().await {
                Ok(link) => break link,
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a control connection for now");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        };
        if self.slots.available_permits() == 0 {
            self.cut_a_silent_one();
        }
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        let presence = Arc::new(Presence::default());
        let mut silent = self.silent();
        silent.retain(|presence| {
            presence
                .upgrade()
                .is_some_and(|presence| !presence.heard.load(Relaxed))
        });
        silent.push_back(Arc::downgrade(&presence));
        Arrival {
            link,
            presence,
            slot: slot.expect("the semaphore is never closed"),
        }
    }

    /// Ends the oldest connection that never said anything, if there is one.
    fn cut_a_silent_one(&self) {
        let mut silent = self.silent();
        while let Some(presence) = silent.pop_front() {
            if let Some(presence) = presence.upgrade()
                && !presence.heard.load(Relaxed)
            {
                presence.cut.store(true, Release);
                presence.reader.wake();
                return;
            }
        }
    }

    fn silent(&self) -> MutexGuard<'_, VecDeque<Weak<Presence>>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Presence {
    /// Resolves when the connection is to end.
    async fn until_cut(&self) {
        std::future::poll_fn(|cx| {
            self.reader.register(cx.waker());
            if self.cut.load(Acquire) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

impl Socket {
    async fn accept(&self) -> io::Result<Link> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Link::Tcp(stream, from)
            }
            Self::Unix { listener, .. } => Link::Unix(listener.accept().await?.0),
        })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Self::Unix { path, .. } = self {
            // If it is gone already, that is what was wanted.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Whether the error says nothing about the connections to come.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, InvalidInput};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted | InvalidInput
    )
}

/// Binds a socket that only the process's own user can open, in the place of one that nobody serves any more.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    // Made elsewhere and moved, so that it is never there with other rights.
    let mut private = path.as_os_str().to_owned();
    private.push(format!(".{}", std::process::id()));
    let private = PathBuf::from(private);
    let _ = std::fs::remove_file(&private);
    let listener = UnixListener::bind(&private)?;
    std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o600))
        .and_then(|()| replace_socket(&private, path))
        .inspect_err(|_| drop(std::fs::remove_file(&private)))?;
    Ok(listener)
}

/// Moves the socket at `from` to `to`, where nothing but a dead socket may be.
fn replace_socket(from: &Path, to: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    match std::fs::symlink_metadata(to) {
        Ok(found) if !found.file_type().is_socket() => Err(io::ErrorKind::AlreadyExists.into()),
        _ => std::fs::rename(from, to),
    }
}

trait Duplex: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Duplex for T {}

enum Link {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

/// A connection that has its place, and has not said a word.
struct Arrival {
    link: Link,
    presence: Arc<Presence>,
    slot: OwnedSemaphorePermit,
}

impl Arrival {
    fn in_plain_text(self) -> Accepted {
        let io: Pin<Box<dyn Duplex>> = match self.link {
            Link::Tcp(stream, _) => Box::pin(stream),
            Link::Unix(stream) => Box::pin(stream),
        };
        Accepted {
            io,
            presence: self.presence,
            caller: Caller::Local,
            _slot: self.slot,
        }
    }

    async fn over_tls(
        self,
        certificates: Certificates,
        refusals: Arc<Refusals>,
    ) -> Option<Accepted> {
        let (Link::Tcp(stream, from), Some(config)) = (self.link, certificates.current()) else {
            return None;
        };
        let stream = tokio::select! {
            accepted = accept::accept(stream, from, config) => accepted,
            () = self.presence.until_cut() => return None,
        };
        let stream = stream.unwrap_or_else(
            |Refused {
                 reason,
                 detail,
                 from,
             }| {
                refusals.add(reason, from.ip(), &detail);
                None
            },
        )?;
        let shown = stream.get_ref().1.peer_certificates();
        let identity = Identity::of(shown?.first()?);
        Some(Accepted {
            io: Box::pin(stream),
            presence: self.presence,
            caller: Caller::Certificate { identity, from },
            _slot: self.slot,
        })
    }
}

/// A connection; its place is free again when it is dropped.
pub(crate) struct Accepted {
    io: Pin<Box<dyn Duplex>>,
    presence: Arc<Presence>,
    caller: Caller,
    _slot: OwnedSemaphorePermit,
}

impl Connected for Accepted {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.presence.heard.load(Relaxed) {
            self.presence.reader.register(cx.waker());
            if self.presence.cut.load(Acquire) {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
        }
        let before = buffer.filled().len();
        let result = self.io.as_mut().poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.presence.heard.store(true, Relaxed);
        }
        result
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.io.as_mut().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.as_mut().poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_unix_socket_is_private_replaces_a_dead_one_and_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let address = ApiAddress::Unix(path.clone());
        let served = Served::bind(&address, 1).await.unwrap();
        assert_eq!(served.address().unwrap(), address);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let taken = Served::bind(&address, 1).await.map(drop).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);

        let mut client = UnixStream::connect(&path).await.unwrap();
        // The probe of the second bind was taken up first.
        drop(served.accept().await);
        let mut accepted = served.accept().await.in_plain_text();
        client.write_all(b"x").await.unwrap();
        assert_eq!(accepted.read_u8().await.unwrap(), b'x');
        drop(served);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_is_not_replaced_by_a_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        std::fs::write(&path, "keep me").unwrap();
        let refused = Served::bind(&ApiAddress::Unix(path.clone()), 1).await;
        assert_eq!(
            refused.map(drop).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "keep me");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    async fn pair(served: &Served, address: std::net::SocketAddr) -> (TcpStream, Accepted) {
        let client = TcpStream::connect(address).await.unwrap();
        (client, served.accept().await.in_plain_text())
    }

    async fn bind(connections: usize) -> (Served, std::net::SocketAddr) {
        let address = "127.0.0.1:0".parse().unwrap();
        let served = Served::bind(&address, connections).await.unwrap();
        let ApiAddress::Tcp(address) = served.address().unwrap() else {
            panic!()
        };
        (served, address)
    }

    #[tokio::test]
    async fn connections_beyond_the_bound_wait_for_those_that_talk() {
        let (served, address) = bind(1).await;
        let (mut client, mut first) = pair(&served, address).await;
        client.write_all(b"x").await.unwrap();
        assert_eq!(first.read_u8().await.unwrap(), b'x');
        let _second = TcpStream::connect(address).await.unwrap();
        let next = served.accept();
        let mut next = std::pin::pin!(next);
        let early = tokio::time::timeout(Duration::from_millis(50), &mut next).await;
        assert!(early.is_err());
        client.write_all(b"y").await.unwrap();
        assert_eq!(first.read_u8().await.unwrap(), b'y');
        drop(first);
        next.await;
    }

    #[tokio::test]
    async fn the_oldest_silent_connection_gives_way() {
        let (served, address) = bind(3).await;
        let (mut talker, mut heard) = pair(&served, address).await;
        talker.write_all(b"x").await.unwrap();
        assert_eq!(heard.read_u8().await.unwrap(), b'x');
        let (_quiet, mut oldest) = pair(&served, address).await;
        let (_other, mut younger) = pair(&served, address).await;
        let cut = tokio::spawn(async move { oldest.read_u8().await.unwrap_err().kind() });
        let (_new, _) = pair(&served, address).await;
        assert_eq!(cut.await.unwrap(), io::ErrorKind::ConnectionAborted);
        let left = tokio::time::timeout(Duration::from_millis(20), younger.read_u8()).await;
        assert!(left.is_err(), "the younger one stays");
    }
}
