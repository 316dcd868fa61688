//! Sockets of clients, and what their errors mean. It must not know what is said over them.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};

use super::Failure;

/// What a socket carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// A stream.
    Tcp,
    /// Datagrams.
    Udp,
}

/// Begins a connection to `target` and does not wait for it; one for datagrams is made at once.
pub(crate) fn connect(target: SocketAddr, transport: Transport) -> io::Result<Socket> {
    let (kind, protocol) = match transport {
        Transport::Tcp => (Type::STREAM, Protocol::TCP),
        Transport::Udp => (Type::DGRAM, Protocol::UDP),
    };
    let domain = Domain::for_address(target);
    let socket = Socket::new(domain, kind.nonblocking(), Some(protocol))?;
    if transport == Transport::Tcp {
        socket.set_tcp_nodelay(true)?;
    }
    match socket.connect(&target.into()) {
        Ok(()) => Ok(socket),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// Whose fault an error of a connection is: `before` it was made, or after.
pub(crate) fn classify(error: &io::Error, before: bool) -> Failure {
    let ours = [
        Errno::ADDRNOTAVAIL,
        Errno::ADDRINUSE,
        Errno::AGAIN, // no free port
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::PERM,
        Errno::ACCESS,
        Errno::AFNOSUPPORT,
    ];
    match Errno::from_io_error(error) {
        Some(errno) if ours.contains(&errno) => Failure::Client,
        _ if before => Failure::Connect,
        _ if error.kind() == ErrorKind::UnexpectedEof => Failure::Ended,
        _ if error.kind() == ErrorKind::InvalidData => Failure::Wrong, // of TLS
        _ => Failure::Reset,
    }
}

/// Lets this process have as many descriptors as the system gives it.
pub(crate) fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, most).ok(); // what it has then is what it had
}
