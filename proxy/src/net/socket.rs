//! Making sockets: listening ones that several workers share, and connecting ones.

use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use std::net::{IpAddr, SocketAddr};

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

/// Makes a listening socket deaf to newcomers; who has begun to connect may finish, and is queued.
///
/// A queue length of 0 would do the opposite: the kernel still answers newcomers, then drops the last step of their
/// handshake, and they are reset at the close believing that they were connected.
pub(crate) fn deafen(socket: impl AsFd) {
    const FLAGS_AT: u32 = 13;
    const SYN_AND_ACK: u32 = 0x12;
    const SYN: u32 = 0x02;
    let step = |code: u32, jt, jf, k| libc::sock_filter {
        code: u16::try_from(code).unwrap_or(0), // all of them are below 256
        jt,
        jf,
        k,
    };
    // Seen from the TCP header on: drop a segment that has SYN and no ACK, take all others.
    let mut program = [
        step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, FLAGS_AT),
        step(
            libc::BPF_ALU | libc::BPF_AND | libc::BPF_K,
            0,
            0,
            SYN_AND_ACK,
        ),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, SYN),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
    ];
    let filter = libc::sock_fprog {
        len: 5,
        filter: program.as_mut_ptr(),
    };
    let len = libc::socklen_t::try_from(size_of::<libc::sock_fprog>()).unwrap_or(16);
    // SAFETY: SO_ATTACH_FILTER reads `len` bytes of `filter` and the five instructions it points to, and copies them;
    // both outlive the call.
    #[expect(unsafe_code, reason = "no safe wrapper for this option")]
    let refused = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            len,
        )
    };
    debug_assert!(refused == 0, "the kernel takes this program from anyone");
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

/// The address that the other end connected to.
pub(crate) fn local_address(socket: impl AsFd) -> Option<SocketAddr> {
    let address = rustix::net::getsockname(socket).ok()?;
    SocketAddr::try_from(address).ok()
}

/// Starts to connect. The socket becomes writable, or reports an error, when the outcome is known.
pub(crate) fn connect(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let socket = tcp(address)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(e) => Err(e),
    }
}

/// Binds a socket that is about to connect to `to`, of the same IP version, to an address and no port. The port is chosen
/// at the connect, when the other end is known: else those free for the address would run out while those free for the
/// pair of ends do not.
///
/// # Errors
/// `ADDRNOTAVAIL` when the address is not this machine's.
pub(crate) fn bind_source(socket: impl AsFd, source: IpAddr, to: SocketAddr) -> Result<(), Errno> {
    let on: libc::c_int = 1;
    let len = libc::socklen_t::try_from(size_of_val(&on)).unwrap_or(4);
    // SAFETY: IP_BIND_ADDRESS_NO_PORT reads `len` bytes of `on`, which outlives the call.
    #[expect(unsafe_code, reason = "no safe wrapper for this option")]
    let refused = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_IP, // of IPv6 sockets too
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            len,
        )
    };
    debug_assert!(refused == 0, "Linux has it since 4.2");
    let mut local = SocketAddr::new(source, 0);
    if let (SocketAddr::V6(local), SocketAddr::V6(to)) = (&mut local, to) {
        local.set_scope_id(to.scope_id()); // link-local addresses need it
    }
    rustix::net::bind(socket, &local)
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
