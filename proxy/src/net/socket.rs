//! Making sockets: listening ones that several workers share, and connecting ones.

use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use std::net::{IpAddr, SocketAddr};

/// Connections the kernel queues per socket before a worker accepts them; the kernel caps it at `somaxconn`.
const BACKLOG: i32 = 65_535;

/// The first listening socket at `address`, which refuses to join others'. SO_REUSEPORT would let a second process of
/// this user share the address in silence: so this binds without it, and allows siblings to join only then. It may bind
/// before the address is there, where that is said.
pub(crate) fn claim(address: SocketAddr, may_be_absent: bool) -> Result<OwnedFd, Errno> {
    let socket = unbound(address, may_be_absent)?;
    rustix::net::bind(&socket, &address)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// A further listening socket at an address that this process holds.
pub(crate) fn join(address: SocketAddr, may_be_absent: bool) -> Result<OwnedFd, Errno> {
    let socket = unbound(address, may_be_absent)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn unbound(address: SocketAddr, may_be_absent: bool) -> Result<OwnedFd, Errno> {
    let socket = tcp(address)?;
    if may_be_absent {
        allow_absent(&socket, address)?;
    }
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    // Accepted sockets inherit it, which saves a call per connection.
    sockopt::set_tcp_nodelay(&socket, true)?;
    Ok(socket)
}

/// Lets a socket bind to an address that this machine does not have yet.
pub(super) fn allow_absent(socket: impl AsFd, address: SocketAddr) -> Result<(), Errno> {
    let (level, option) = if address.is_ipv6() {
        (libc::IPPROTO_IPV6, libc::IPV6_FREEBIND)
    } else {
        (libc::IPPROTO_IP, libc::IP_FREEBIND)
    };
    set_option(socket, level, option, 1)
}

/// Makes a listening socket deaf to newcomers; who has begun to connect may finish, and is queued.
///
/// A queue length of 0 would do the opposite: the kernel still answers newcomers, then drops the last step of their
/// handshake, and they are reset at the close believing that they were connected.
pub(crate) fn deafen(socket: impl AsFd) {
    const FLAGS_AT: u32 = 13;
    const SYN_AND_ACK: u32 = 0x12;
    const SYN: u32 = 0x02;
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
    let set = set_filter(socket, &mut program);
    debug_assert!(set.is_ok(), "the kernel takes this program from anyone");
}

/// A step of a filter's program.
pub(super) fn step(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: u16::try_from(code).unwrap_or(0), // all of them are below 256
        jt,
        jf,
        k,
    }
}

/// Has the kernel run a program over what comes for a socket.
pub(super) fn set_filter(
    socket: impl AsFd,
    program: &mut [libc::sock_filter],
) -> Result<(), Errno> {
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).unwrap_or(0), // some steps
        filter: program.as_mut_ptr(),
    };
    let len = libc::socklen_t::try_from(size_of::<libc::sock_fprog>()).unwrap_or(16);
    // SAFETY: SO_ATTACH_FILTER reads `len` bytes of `filter` and the steps it points to, as many as it says, and copies
    // them; both outlive the call.
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
    match refused {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)),
    }
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

/// Whether a socket that connects has been answered, and is connected still.
pub(crate) fn is_connected(socket: impl AsFd) -> bool {
    rustix::net::getpeername(socket).is_ok()
}

/// How a socket imitates somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Imitation {
    /// Whom.
    pub(crate) source: IpAddr,
    /// The ports to choose from, both ends included; none: the kernel's choice.
    pub(crate) ports: Option<(u16, u16)>,
}

/// Starts to connect, as somebody else or marked where that is wanted. The socket becomes writable, or reports an error,
/// when the outcome is known.
///
/// # Errors
/// `PERM` without the privilege for either; `ADDRNOTAVAIL` when no port is left.
pub(crate) fn connect(
    to: SocketAddr,
    imitation: Option<Imitation>,
    mark: Option<u32>,
) -> Result<OwnedFd, Errno> {
    let socket = tcp(to)?;
    if let Some(mark) = mark {
        set_mark(&socket, mark)?;
    }
    if let Some(imitation) = imitation {
        imitate(&socket, imitation, to)?;
    }
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(e) => Err(e),
    }
}

/// Makes a socket that is about to connect to `to`, of the same IP version, one of somebody else's.
///
/// # Errors
/// `PERM` without the privilege.
pub(crate) fn imitate(
    socket: impl AsFd,
    imitation: Imitation,
    to: SocketAddr,
) -> Result<(), Errno> {
    transparent(socket.as_fd(), to.is_ipv6())?;
    if let Some(ports) = imitation.ports {
        port_range(socket.as_fd(), ports)?;
    }
    bind_source(socket, imitation.source, to)
}

/// Lets a socket bind to addresses that are not this machine's.
///
/// # Errors
/// `PERM` without `CAP_NET_RAW` or `CAP_NET_ADMIN`.
pub(crate) fn transparent(socket: impl AsFd, ipv6: bool) -> Result<(), Errno> {
    let (level, option) = if ipv6 {
        (libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT)
    } else {
        (libc::IPPROTO_IP, libc::IP_TRANSPARENT)
    };
    set_option(socket, level, option, 1)
}

/// Whether this process may imitate anybody.
///
/// # Errors
/// `PERM` without the privilege.
pub(crate) fn may_imitate() -> Result<(), Errno> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        flags,
        Some(ipproto::UDP),
    )?;
    transparent(&socket, false)
}

/// A socket for datagrams between somebody else and `to`.
///
/// # Errors
/// As [`connect`].
pub(crate) fn datagrams_as(
    imitation: Imitation,
    mark: Option<u32>,
    to: SocketAddr,
) -> Result<OwnedFd, Errno> {
    let family = if to.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, Some(ipproto::UDP))?;
    if let Some(mark) = mark {
        set_mark(&socket, mark)?;
    }
    imitate(&socket, imitation, to)?;
    rustix::net::connect(&socket, &to)?;
    Ok(socket)
}

/// Marks what a socket sends, for rules that choose routes by it.
///
/// # Errors
/// `PERM` without `CAP_NET_RAW` or `CAP_NET_ADMIN`.
pub(crate) fn set_mark(socket: impl AsFd, mark: u32) -> Result<(), Errno> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_MARK, mark.cast_signed())
}

/// Lets the kernel choose this socket's port, whenever it does, from a part of those it has. Without Linux 6.3 it chooses
/// from all.
///
/// # Errors
/// None that a caller could do anything about.
fn port_range(socket: impl AsFd, (low, high): (u16, u16)) -> Result<(), Errno> {
    const IP_LOCAL_PORT_RANGE: libc::c_int = 51;
    let range = u32::from(high) << 16 | u32::from(low);
    let level = libc::IPPROTO_IP; // of IPv6 sockets too
    match set_option(socket, level, IP_LOCAL_PORT_RANGE, range.cast_signed()) {
        Err(Errno::NOPROTOOPT) => Ok(()),
        other => other,
    }
}

/// Binds a socket that is about to connect to `to`, of the same IP version, to an address and no port. The port is chosen
/// at the connect, when the other end is known: else those free for the address would run out while those free for the
/// pair of ends do not.
///
/// # Errors
/// `ADDRNOTAVAIL` when the address is not this machine's.
pub(crate) fn bind_source(socket: impl AsFd, source: IpAddr, to: SocketAddr) -> Result<(), Errno> {
    let level = libc::IPPROTO_IP; // of IPv6 sockets too
    set_option(socket.as_fd(), level, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
    let mut local = SocketAddr::new(source, 0);
    if let (SocketAddr::V6(local), SocketAddr::V6(to)) = (&mut local, to) {
        local.set_scope_id(to.scope_id()); // link-local addresses need it
    }
    rustix::net::bind(socket, &local)
}

/// Sets an option whose value is one `int`.
pub(super) fn set_option(
    socket: impl AsFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> Result<(), Errno> {
    let len = libc::socklen_t::try_from(size_of_val(&value)).unwrap_or(4);
    // SAFETY: the call reads `len` bytes of `value`, which outlives it.
    #[expect(unsafe_code, reason = "no safe wrapper for some options")]
    let refused = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            len,
        )
    };
    match refused {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)),
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
