//! Making sockets: listening ones that several workers share, and connecting ones.

use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use std::net::SocketAddr;

/// Connections the kernel queues per socket before a worker accepts them; the kernel caps it at `somaxconn`.
const BACKLOG: i32 = 65_535;

/// The first listening socket at `address`, which refuses to join others'. SO_REUSEPORT would let a second process of
/// this user share the address in silence: so this binds without it, and allows siblings to join only then.
pub(crate) fn claim(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let socket = unbound(address)?;
    rustix::net::bind(&socket, &address)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// A further listening socket at an address that this process holds.
pub(crate) fn join(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let socket = unbound(address)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn unbound(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let socket = tcp(address)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    // Accepted sockets inherit it, which saves a call per connection.
    sockopt::set_tcp_nodelay(&socket, true)?;
    Ok(socket)
}

/// Takes the queue away from a listening socket: what is queued can still be accepted, hardly anything joins it.
pub(crate) fn stop_queueing(socket: impl AsFd) {
    let _ = rustix::net::listen(socket, 0);
}

/// The next queued connection and who it is from.
///
/// # Errors
/// `AGAIN` when the queue is empty; `MFILE`, `NFILE`, `NOMEM` when the process or the machine is at its limit; others
/// concern that one connection alone.
pub(crate) fn accept(listener: impl AsFd) -> Result<(OwnedFd, SocketAddr), Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (socket, peer) = rustix::net::acceptfrom_with(listener, flags)?;
    let peer = peer
        .and_then(|p| SocketAddr::try_from(p).ok())
        .ok_or(Errno::CONNABORTED)?;
    Ok((socket, peer))
}

/// Starts to connect. The socket becomes writable, or reports an error, when the outcome is known.
pub(crate) fn connect(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let socket = tcp(address)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(e) => Err(e),
    }
}

fn tcp(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))
}
