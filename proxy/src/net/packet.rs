//! Packet sockets: whole Ethernet frames of one kind, on one link.

use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::SendFlags;

/// Which frames a socket hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frames {
    /// ARP.
    Arp,
    /// Solicitations and advertisements of IPv6's neighbour discovery.
    Neighbours,
}

/// A socket that hears such frames on a link, and says what it is given there. Does not hear what this host says.
///
/// # Errors
/// `PERM` without `CAP_NET_RAW`; `NODEV` if there is no such link; `NETDOWN` if it is down.
pub(crate) fn open(link: u32, frames: Frames) -> Result<OwnedFd, Errno> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    // Of no protocol yet: nothing is heard before it is said on which link.
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
    if frames == Frames::Neighbours {
        only_neighbours(&socket)?;
    }
    bind(&socket, link, frames)?;
    Ok(socket)
}

/// Says a frame on the socket's link.
///
/// # Errors
/// `NETDOWN`, `NXIO` or `NODEV` when the link is down or gone; `AGAIN` and `NOBUFS` when it is busy.
pub(crate) fn send(socket: impl AsFd, frame: &[u8]) -> Result<(), Errno> {
    rustix::net::send(socket, frame, SendFlags::DONTWAIT).map(drop)
}

fn bind(socket: &OwnedFd, link: u32, frames: Frames) -> Result<(), Errno> {
    let protocol = match frames {
        Frames::Arp => libc::ETH_P_ARP,
        Frames::Neighbours => libc::ETH_P_IPV6,
    };
    let family = libc::c_ushort::try_from(libc::AF_PACKET).unwrap_or(0); // 17
    let protocol = u16::try_from(protocol).unwrap_or(0); // both are below 65536
    let address = libc::sockaddr_ll {
        sll_family: family,
        sll_protocol: protocol.to_be(),
        sll_ifindex: link.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = libc::socklen_t::try_from(size_of_val(&address)).unwrap_or(20);
    // SAFETY: the call reads `len` bytes of `address`, which outlives it.
    #[expect(unsafe_code, reason = "no safe wrapper for this kind of address")]
    let refused = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
    match refused {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)),
    }
}

/// Seen from the Ethernet header on: the rest of IPv6 is none of this socket's business, and would be much.
fn only_neighbours(socket: &OwnedFd) -> Result<(), Errno> {
    const NEXT_HEADER_AT: u32 = 14 + 6;
    const TYPE_AT: u32 = 14 + 40;
    const ICMPV6: u32 = 58;
    const SOLICITATION: u32 = 135;
    const ADVERTISEMENT: u32 = 136;
    let load = |at| super::socket::step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, at);
    let is = |value, yes, no| {
        super::socket::step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, yes, no, value)
    };
    let take = |bytes| super::socket::step(libc::BPF_RET | libc::BPF_K, 0, 0, bytes);
    super::socket::set_filter(
        socket,
        &mut [
            load(NEXT_HEADER_AT),
            is(ICMPV6, 0, 4),
            load(TYPE_AT),
            is(SOLICITATION, 1, 0),
            is(ADVERTISEMENT, 0, 1),
            take(u32::MAX),
            take(0),
        ],
    )
}
