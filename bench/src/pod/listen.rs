//! The listening sockets of a Pod, and how their connections are taken. It must not know what is said over them.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::Options;
use super::state::State;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 8192;
/// Room for datagrams that wait, where the system gives it.
const DATAGRAM_BUFFER: usize = 4 << 20;
/// How long accepting pauses when there are no descriptors left.
const PAUSE: Duration = Duration::from_millis(10);

/// What a Pod listens with.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) http: TcpListener,
    pub(crate) frames: TcpListener,
    pub(crate) datagrams: UdpSocket,
}

impl Sockets {
    /// Opens them all.
    pub(crate) fn open(options: &Options) -> io::Result<Self> {
        let http = listen((options.address, options.http_port).into())?;
        let frames_at = SocketAddr::new(options.address, options.frames_port);
        let frames = listen(frames_at)?;
        let datagrams = Socket::new(
            Domain::for_address(frames_at),
            Type::DGRAM.nonblocking(),
            Some(Protocol::UDP),
        )?;
        if set_socket_recv_buffer_size_force(&datagrams, DATAGRAM_BUFFER).is_err() {
            datagrams.set_recv_buffer_size(DATAGRAM_BUFFER).ok(); // a smaller one works too
        }
        datagrams.set_send_buffer_size(DATAGRAM_BUFFER).ok();
        datagrams.bind(&frames_at.into())?;
        Ok(Self {
            http,
            frames,
            datagrams: UdpSocket::from_std(datagrams.into())?,
        })
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?; // a Pod that comes back finds its port in TIME_WAIT
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Takes connections until the Pod stops, each served by a task of its own; those that came before are served too.
pub(crate) async fn accept<F>(
    listener: TcpListener,
    state: Arc<State>,
    serve: impl Fn(TcpStream, Arc<State>) -> F + 'static,
) where
    F: Future<Output = io::Result<()>> + 'static,
{
    let serve = Rc::new(serve);
    loop {
        let stopping = state.changed.notified();
        let is_stopping = state.is_stopping();
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = tokio::task::yield_now(), if is_stopping => return, // after another look
            () = stopping => continue,
        };
        match accepted {
            Ok((stream, from)) => {
                let (state, serve) = (Arc::clone(&state), Rc::clone(&serve));
                tokio::task::spawn_local(async move {
                    let _open = state.connected(from);
                    stream.set_nodelay(true).ok(); // it may be gone already
                    serve(stream, Arc::clone(&state)).await.ok(); // how a client ends is its own affair
                });
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => (),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
