//! The sockets of datagrams: of listeners, towards backends, and those that imitate a client.

use crate::net::socket;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What a listener's socket may have queued, and any other one, in bytes. Bursts are what UDP is lost in.
const RECEIVE_BUFFER: usize = 4 << 20;

/// The first socket of a listener at `address`, which refuses to share it with other processes, as
/// [`socket::claim`] does.
pub(crate) fn claim(address: SocketAddr, may_be_absent: bool) -> Result<OwnedFd, Errno> {
    let socket = of_listener(address, may_be_absent)?;
    rustix::net::bind(&socket, &address)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    Ok(socket)
}

/// A further socket at an address that this process holds.
pub(crate) fn join(address: SocketAddr, may_be_absent: bool) -> Result<OwnedFd, Errno> {
    let socket = of_listener(address, may_be_absent)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}

/// A socket towards backends, which tells what ICMP says of each of them.
pub(crate) fn upstream(is_v6: bool) -> Result<OwnedFd, Errno> {
    let socket = unbound(is_v6)?;
    tell_errors(&socket, is_v6);
    let any: IpAddr = if is_v6 {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    };
    rustix::net::bind(&socket, &SocketAddr::new(any, 0))?;
    Ok(socket)
}

/// A socket of one flow, between its client, whom it imitates, and a backend: from the client's own port where nobody
/// has it, and `is_own` allows it; else from one of `ports`, or of the kernel's choice.
///
/// # Errors
/// `PERM` without the privilege; `ADDRNOTAVAIL` or `ADDRINUSE` when no port is left.
pub(crate) fn imitating(
    client: SocketAddr,
    to: SocketAddr,
    is_own: bool,
    ports: Option<(u16, u16)>,
    mark: Option<u32>,
) -> Result<OwnedFd, Errno> {
    let open = || {
        let socket = unbound(to.is_ipv6())?;
        tell_errors(&socket, to.is_ipv6());
        if let Some(mark) = mark {
            socket::set_mark(&socket, mark)?;
        }
        Ok(socket)
    };
    if is_own {
        let socket = open()?;
        socket::transparent(&socket, to.is_ipv6())?;
        // Flows of one client and port to other backends are other sockets at that port.
        sockopt::set_socket_reuseaddr(&socket, true)?;
        if rustix::net::bind(&socket, &client).is_ok() {
            rustix::net::connect(&socket, &to)?;
            return Ok(socket);
        }
    }
    let socket = open()?;
    let source = client.ip();
    socket::imitate(&socket, socket::Imitation { source, ports }, to)?;
    rustix::net::connect(&socket, &to)?;
    Ok(socket)
}

fn tell_errors(socket: &OwnedFd, is_v6: bool) {
    if is_v6 {
        set_flag(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR);
    } else {
        set_flag(socket, libc::IPPROTO_IP, libc::IP_RECVERR);
    }
}

fn unbound(is_v6: bool) -> Result<OwnedFd, Errno> {
    let family = if is_v6 {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, Some(ipproto::UDP))?;
    if is_v6 {
        sockopt::set_ipv6_v6only(&socket, true)?;
        sockopt::set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::DONT)?;
    } else {
        sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DONT)?;
    }
    // Beyond what the system allows to all only with a privilege; then as much as it allows.
    if sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
        let _ = sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
    }
    Ok(socket)
}

fn of_listener(address: SocketAddr, may_be_absent: bool) -> Result<OwnedFd, Errno> {
    let socket = unbound(address.is_ipv6())?;
    // At every address, a datagram must tell which one it was sent to: the reply leaves from there.
    if address.ip().is_unspecified() {
        match address {
            SocketAddr::V4(_) => set_flag(&socket, libc::IPPROTO_IP, libc::IP_PKTINFO),
            SocketAddr::V6(_) => set_flag(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        }
    }
    if may_be_absent {
        socket::allow_absent(&socket, address)?;
    }
    Ok(socket)
}

fn set_flag(socket: impl AsFd, level: libc::c_int, name: libc::c_int) {
    let set = socket::set_option(socket, level, name, 1);
    debug_assert!(set.is_ok(), "every kernel has these options");
}
