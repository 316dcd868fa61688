//! Sockets for ICMP echo: those that the kernel lends to a group of users, else raw ones, which need a privilege.

use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// What a socket for echo messages shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The replies to what it asked.
    Lent,
    /// All ICMP that comes from where it is connected to, and over IPv4 the IP header before it.
    Raw,
}

/// An unbound socket of `ip`'s version.
///
/// # Errors
/// `ACCESS` or `PERM` when this process may have neither kind.
pub(crate) fn open(ip: IpAddr) -> Result<(OwnedFd, Kind), Errno> {
    let (family, protocol) = match ip {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    let open = |kind| {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        rustix::net::socket_with(family, kind, flags, Some(protocol))
    };
    match open(SocketType::DGRAM) {
        Ok(socket) => Ok((socket, Kind::Lent)),
        Err(Errno::ACCESS | Errno::PERM | Errno::PROTONOSUPPORT) => {
            Ok((open(SocketType::RAW)?, Kind::Raw))
        }
        Err(error) => Err(error),
    }
}

/// Makes a socket that is about to connect to `to`, of the same IP version, send from `source`.
///
/// # Errors
/// `ADDRNOTAVAIL` when the address is not this machine's.
pub(crate) fn bind(socket: impl AsFd, source: IpAddr, to: SocketAddr) -> Result<(), Errno> {
    let mut local = SocketAddr::new(source, 0);
    if let (SocketAddr::V6(local), SocketAddr::V6(to)) = (&mut local, to) {
        local.set_scope_id(to.scope_id()); // link-local addresses need it
    }
    rustix::net::bind(socket, &local)
}

/// Makes a socket send to `to`, whose port is of no account, and show what comes from there.
pub(crate) fn connect(socket: impl AsFd, mut to: SocketAddr) -> Result<(), Errno> {
    to.set_port(0);
    rustix::net::connect(socket, &to)
}

/// Whether this process may ping at all.
pub(crate) fn is_permitted() -> bool {
    open(Ipv4Addr::LOCALHOST.into()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

    /// The capabilities are those of the test's own thread, which ends with it.
    #[test]
    fn without_the_privilege_a_socket_is_lent_or_refused_as_the_group_range_says() {
        std::thread::spawn(|| {
            let mut sets = capabilities(None).unwrap();
            sets.effective.remove(CapabilitySet::NET_RAW);
            set_capabilities(None, sets).unwrap();
            for host in ["127.0.0.1", "::1"] {
                match open(host.parse().unwrap()) {
                    Ok((_, kind)) => assert_eq!(kind, Kind::Lent),
                    Err(error) => assert_eq!(error, Errno::PERM),
                }
            }
        })
        .join()
        .unwrap();
    }
}
