//! Datagrams, many at a call: receiving with who sent them and to which address, sending from an address of choice,
//! and what ICMP says of those that did not arrive.
//!
//! A datagram lies where it was received until it is sent on: nothing is copied here. Each slot has a short head and a
//! long tail of its own, so that small datagrams lie close together and the largest fit. `sockets` makes those that they
//! come and go by.

mod sockets;

pub(crate) use sockets::{claim, imitating, join, upstream};

use rustix::fd::{AsFd, AsRawFd};
use rustix::io::Errno;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Datagrams received before any of them must have been sent on.
pub(crate) const SLOTS: usize = 64;
/// Bytes of a datagram in its head.
const IN_HEAD: usize = 2_048;
/// From head to head: the odd part keeps them from sharing the same places of the processor's caches.
const HEAD: usize = IN_HEAD + 64;
/// Bytes in its tail: together more than any datagram has.
const TAIL: usize = 65_536 - IN_HEAD;
/// A run of datagrams that goes to the kernel as one: at most so many, and so many bytes.
const RUN: usize = 64;
const RUN_BYTES: usize = 65_000;
/// The longest datagram of a run: what fits into a packet everywhere. Longer ones may need fragments, which runs cannot.
const RUN_DATAGRAM: usize = 1_200;
const NAME: usize = size_of::<libc::sockaddr_in6>();
const CONTROL: usize = 96;
const HEADER: usize = size_of::<libc::cmsghdr>();

/// Bytes of an address or a control message, where the kernel may find any type of them.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Aligned<const N: usize>([u8; N]);

/// Which of the host's addresses a datagram was sent to, and over which interface.
pub(crate) type To = (IpAddr, u32);

/// What is to be sent: a slot's datagram.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing {
    pub(crate) slot: usize,
    pub(crate) to: SocketAddr,
    /// From which of the host's addresses, and over which interface (0: any), if not the kernel's choice.
    pub(crate) from: Option<To>,
    /// What rules that choose routes are to see, if anything.
    pub(crate) mark: Option<u32>,
}

/// Room for datagrams, and what the kernel wants to know of it.
pub(crate) struct Batch {
    heads: Box<[u8]>,
    tails: Box<[u8]>,
    names: Vec<Aligned<32>>,
    controls: Vec<Aligned<CONTROL>>,
    parts: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    received: Vec<Received>,
    /// How many datagrams each message that is being sent has, and in how many parts they lie.
    runs: Vec<(usize, usize)>,
    /// The kernel takes runs of datagrams.
    takes_runs: bool,
}

/// What was received into a slot.
#[derive(Clone, Copy, Default)]
struct Received {
    len: usize,
    from: Option<SocketAddr>,
    to: Option<To>,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").finish_non_exhaustive()
    }
}

impl Batch {
    /// Empty; takes no memory before datagrams come.
    pub(crate) fn new() -> Self {
        Self {
            heads: vec![0; SLOTS * HEAD].into(),
            tails: vec![0; SLOTS * TAIL].into(),
            names: vec![Aligned([0; 32]); SLOTS],
            controls: vec![Aligned([0; CONTROL]); SLOTS],
            parts: Vec::with_capacity(2 * SLOTS),
            headers: Vec::with_capacity(SLOTS),
            received: vec![Received::default(); SLOTS],
            runs: Vec::with_capacity(SLOTS),
            takes_runs: true,
        }
    }

    /// The length of a slot's datagram.
    pub(crate) fn len(&self, slot: usize) -> usize {
        self.received[slot].len
    }

    /// Who sent it; nobody, if it is to be ignored.
    pub(crate) fn from(&self, slot: usize) -> Option<SocketAddr> {
        self.received[slot].from
    }

    /// Where it was sent, if the socket tells.
    pub(crate) fn to(&self, slot: usize) -> Option<To> {
        self.received[slot].to
    }

    /// Receives what is queued into the slots from `first` on, `most` at most, and says how many came.
    ///
    /// # Errors
    /// `AGAIN` when there is nothing. Others are errors of datagrams sent before, told once each.
    pub(crate) fn receive(
        &mut self,
        socket: impl AsFd,
        first: usize,
        most: usize,
        tells_to: bool,
    ) -> Result<usize, Errno> {
        let most = most.min(SLOTS - first);
        self.prepare_to_receive(first, most, tells_to);
        let most = libc::c_uint::try_from(most).unwrap_or(0);
        let (fd, headers) = (socket.as_fd().as_raw_fd(), self.headers.as_mut_ptr());
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: `prepare_to_receive` made `most` headers. Each points to a name, a control buffer and two parts, all
        // of them of this batch, valid for the lengths beside them, and not otherwise used during the call.
        #[expect(unsafe_code, reason = "no safe wrapper for this call")]
        let got = unsafe { libc::recvmmsg(fd, headers, most, flags, std::ptr::null_mut()) };
        let count = usize::try_from(got).map_err(|_| last_error())?;
        for (index, header) in self.headers.iter().enumerate().take(count) {
            let slot = first + index;
            let is_cut = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            let control = &self.controls[slot].0;
            let control = control.get(..header.msg_hdr.msg_controllen).unwrap_or(&[]);
            self.received[slot] = Received {
                len: header.msg_len as usize,
                // A part of a datagram is none. It cannot happen, as no datagram is longer than a slot.
                from: socket_address(&self.names[slot].0).filter(|_| !is_cut),
                to: sent_to(control),
            };
        }
        Ok(count)
    }

    fn prepare_to_receive(&mut self, first: usize, most: usize, tells_to: bool) {
        self.parts.clear();
        self.headers.clear();
        let heads = self.heads.chunks_exact_mut(HEAD);
        let tails = self.tails.chunks_exact_mut(TAIL);
        for (head, tail) in heads.zip(tails).skip(first).take(most) {
            self.parts.push(part(&mut head[..IN_HEAD]));
            self.parts.push(part(tail));
        }
        let parts = self.parts.chunks_exact_mut(2);
        let names = self.names.iter_mut().skip(first);
        let controls = self.controls.iter_mut().skip(first);
        for ((parts, name), control) in parts.zip(names).zip(controls) {
            let mut header = empty_header();
            header.msg_name = name.0.as_mut_ptr().cast();
            header.msg_namelen = NAME_LEN;
            header.msg_iov = parts.as_mut_ptr();
            header.msg_iovlen = parts.len();
            if tells_to {
                header.msg_control = control.0.as_mut_ptr().cast();
                header.msg_controllen = CONTROL;
            }
            self.headers.push(libc::mmsghdr {
                msg_hdr: header,
                msg_len: 0,
            });
        }
    }

    /// Sends datagrams, in order; by a socket that `is_connected`, all to where it is. Those that the kernel did not take
    /// are told to `lost`, with why.
    pub(crate) fn send(
        &mut self,
        socket: impl AsFd,
        is_connected: bool,
        all: &[Outgoing],
        mut lost: impl FnMut(&Outgoing, Errno),
    ) {
        let mut rest = all;
        let mut tries = 0;
        while !rest.is_empty() {
            self.prepare_to_send(rest, is_connected);
            match self.send_prepared(socket.as_fd()) {
                Ok(messages) => {
                    let sent: usize = self.runs.iter().take(messages).map(|run| run.0).sum();
                    rest = &rest[sent..];
                    tries = 0;
                }
                Err(Errno::INVAL | Errno::IO | Errno::OPNOTSUPP | Errno::MSGSIZE)
                    if self.runs[0].0 > 1 =>
                {
                    self.takes_runs = false;
                }
                // What ICMP told of earlier datagrams is said first, once each: of these it says nothing.
                Err(error) if tries < 2 && error != Errno::AGAIN && error != Errno::MSGSIZE => {
                    tries += 1;
                }
                Err(error) => {
                    let failed = if error == Errno::AGAIN {
                        rest.len()
                    } else {
                        self.runs[0].0
                    };
                    let (first, others) = rest.split_at(failed);
                    for one in first {
                        lost(one, error);
                    }
                    rest = others;
                    tries = 0;
                }
            }
        }
    }

    fn send_prepared(&mut self, socket: impl AsFd) -> Result<usize, Errno> {
        let count = libc::c_uint::try_from(self.headers.len()).unwrap_or(0);
        let (fd, headers) = (socket.as_fd().as_raw_fd(), self.headers.as_mut_ptr());
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: `prepare_to_send` made `count` headers. Each points to a name, perhaps a control buffer, and parts,
        // all of them of this batch and valid for the lengths beside them during the call.
        #[expect(unsafe_code, reason = "no safe wrapper for this call")]
        let sent = unsafe { libc::sendmmsg(fd, headers, count, flags) };
        usize::try_from(sent).map_err(|_| last_error())
    }

    /// One message for each run of datagrams of one length from and to the same.
    fn prepare_to_send(&mut self, all: &[Outgoing], is_connected: bool) {
        self.runs.clear();
        self.parts.clear();
        self.headers.clear();
        let all = &all[..all.len().min(SLOTS)];
        let mut rest = all;
        while !rest.is_empty() {
            let (run, others) = rest.split_at(self.run(rest));
            let before = self.parts.len();
            for one in run {
                self.add_parts(one.slot);
            }
            self.runs.push((run.len(), self.parts.len() - before));
            rest = others;
        }
        let mut parts = self.parts.as_mut_slice();
        let mut at = 0;
        let buffers = self.names.iter_mut().zip(&mut self.controls);
        for ((run, count), (name, control)) in self.runs.iter().zip(buffers) {
            let (own, others) = std::mem::take(&mut parts).split_at_mut(*count);
            parts = others;
            let first = &all[at];
            let segment = (*run > 1).then(|| self.received[first.slot].len);
            let mut header = empty_header();
            if !is_connected {
                header.msg_namelen = put_address(&mut name.0, first.to);
                header.msg_name = name.0.as_mut_ptr().cast();
            }
            header.msg_iov = own.as_mut_ptr();
            header.msg_iovlen = own.len();
            let len = put_control(&mut control.0, first, segment);
            if len > 0 {
                header.msg_control = control.0.as_mut_ptr().cast();
                header.msg_controllen = len;
            }
            self.headers.push(libc::mmsghdr {
                msg_hdr: header,
                msg_len: 0,
            });
            at += run;
        }
    }

    fn add_parts(&mut self, slot: usize) {
        let len = self.received[slot].len;
        let head = &mut self.heads[slot * HEAD..][..len.min(IN_HEAD)];
        self.parts.push(part(head));
        if len > IN_HEAD {
            let tail = &mut self.tails[slot * TAIL..][..len - IN_HEAD];
            self.parts.push(part(tail));
        }
    }

    /// How many datagrams from the first on can go as one message: all of one length, but a shorter last one.
    fn run(&self, all: &[Outgoing]) -> usize {
        let len = |one: &Outgoing| self.received[one.slot].len;
        let Some(first) = all.first() else {
            return 0;
        };
        let segment = len(first);
        if !self.takes_runs || segment == 0 || segment > RUN_DATAGRAM {
            return 1;
        }
        let most = RUN.min(RUN_BYTES / segment);
        let mut run = 1;
        for one in all.iter().take(most).skip(1) {
            let is_alike = one.to == first.to && one.from == first.from;
            if !is_alike || len(one) > segment || len(one) == 0 {
                break;
            }
            run += 1;
            if len(one) < segment {
                break;
            }
        }
        run
    }
}

const NAME_LEN: libc::socklen_t = 28;
const _: () = assert!(NAME == 28 && HEADER == 16);

fn part(bytes: &mut [u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    }
}

fn empty_header() -> libc::msghdr {
    libc::msghdr {
        msg_name: std::ptr::null_mut(),
        msg_namelen: 0,
        msg_iov: std::ptr::null_mut(),
        msg_iovlen: 0,
        msg_control: std::ptr::null_mut(),
        msg_controllen: 0,
        msg_flags: 0,
    }
}

fn last_error() -> Errno {
    let code = std::io::Error::last_os_error().raw_os_error();
    Errno::from_raw_os_error(code.unwrap_or(libc::EIO))
}

/// The address in the kernel's form.
fn socket_address(bytes: &[u8; 32]) -> Option<SocketAddr> {
    let family = libc::c_int::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
    let port = u16::from_be_bytes([bytes[2], bytes[3]]);
    match family {
        libc::AF_INET => {
            let ip: [u8; 4] = bytes[4..8].try_into().ok()?;
            Some(SocketAddrV4::new(ip.into(), port).into())
        }
        libc::AF_INET6 => {
            let ip: [u8; 16] = bytes[8..24].try_into().ok()?;
            let scope = u32::from_ne_bytes(bytes[24..28].try_into().ok()?);
            Some(SocketAddrV6::new(ip.into(), port, 0, scope).into())
        }
        _ => None,
    }
}

fn put_address(bytes: &mut [u8; 32], address: SocketAddr) -> libc::socklen_t {
    let family = if address.is_ipv6() { 10u16 } else { 2 };
    bytes[..2].copy_from_slice(&family.to_ne_bytes());
    bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
    match address {
        SocketAddr::V4(v4) => {
            bytes[4..8].copy_from_slice(&v4.ip().octets());
            bytes[8..16].fill(0);
            16
        }
        SocketAddr::V6(v6) => {
            bytes[4..8].fill(0);
            bytes[8..24].copy_from_slice(&v6.ip().octets());
            bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
            NAME_LEN
        }
    }
}

/// The messages in a control buffer: level, type and content.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (i32, i32, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from_ne_bytes(bytes.get(..8)?.try_into().ok()?);
        let number = |at: usize| Some(i32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let message = (number(8)?, number(12)?, bytes.get(HEADER..len)?);
        bytes = bytes.get(len.next_multiple_of(8)..).unwrap_or(&[]);
        Some(message)
    })
}

/// Where a datagram was sent, as IP_PKTINFO or IPV6_PKTINFO tells it.
fn sent_to(control: &[u8]) -> Option<To> {
    messages(control).find_map(|(level, kind, content)| match (level, kind) {
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            // The interface, the host's address, and what the packet says, which can be a broadcast address.
            let ip: [u8; 4] = content.get(4..8)?.try_into().ok()?;
            Some((Ipv4Addr::from(ip).into(), 0))
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            let ip: [u8; 16] = content.get(..16)?.try_into().ok()?;
            let ip = Ipv6Addr::from(ip);
            let interface = u32::from_ne_bytes(content.get(16..20)?.try_into().ok()?);
            let needs_it = ip.is_unicast_link_local();
            Some((ip.into(), if needs_it { interface } else { 0 }))
        }
        _ => None,
    })
}

/// Writes what goes with a datagram, or a run of them; how many bytes that are.
fn put_control(bytes: &mut [u8; CONTROL], of: &Outgoing, segment: Option<usize>) -> usize {
    let mut at = 0;
    let mut put = |level: i32, kind: i32, content: &[u8]| {
        let len = HEADER + content.len();
        let room = &mut bytes[at..at + len.next_multiple_of(8)];
        room[..8].copy_from_slice(&len.to_ne_bytes());
        room[8..12].copy_from_slice(&level.to_ne_bytes());
        room[12..16].copy_from_slice(&kind.to_ne_bytes());
        room[HEADER..len].copy_from_slice(content);
        at += len.next_multiple_of(8);
    };
    match of.from {
        Some((IpAddr::V4(ip), _)) => {
            let mut content = [0; 12];
            content[4..8].copy_from_slice(&ip.octets());
            put(libc::IPPROTO_IP, libc::IP_PKTINFO, &content);
        }
        Some((IpAddr::V6(ip), interface)) => {
            let mut content = [0; 20];
            content[..16].copy_from_slice(&ip.octets());
            content[16..].copy_from_slice(&interface.to_ne_bytes());
            put(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &content);
        }
        None => {}
    }
    if let Some(mark) = of.mark {
        put(libc::SOL_SOCKET, libc::SO_MARK, &mark.to_ne_bytes());
    }
    if let Some(segment) = segment {
        let segment = u16::try_from(segment).unwrap_or(0);
        put(libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
    }
    at
}

/// A datagram that did not arrive: where it was to go, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Undelivered {
    pub(crate) to: SocketAddr,
    pub(crate) why: Errno,
}

/// What ICMP, or the kernel itself, told of a datagram that was sent by `socket`.
///
/// # Errors
/// `AGAIN` when there is nothing more.
pub(crate) fn undelivered(socket: impl AsFd) -> Result<Option<Undelivered>, Errno> {
    let mut name = Aligned([0; 32]);
    let mut control = Aligned([0; 256]);
    let mut content = [0; 1];
    let mut part = part(&mut content);
    let mut header = empty_header();
    header.msg_name = name.0.as_mut_ptr().cast();
    header.msg_namelen = NAME_LEN;
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = control.0.len();
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the header points to a name, one part and a control buffer, which outlive the call and are as long as it
    // says.
    #[expect(unsafe_code, reason = "no safe wrapper for this call")]
    let got = unsafe { libc::recvmsg(fd, &raw mut header, flags) };
    if got < 0 {
        return Err(last_error());
    }
    let told = control.0.get(..header.msg_controllen).unwrap_or(&[]);
    let why = messages(told).find_map(|(level, kind, content)| match (level, kind) {
        (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) => {
            let code = i32::from_ne_bytes(content.get(..4)?.try_into().ok()?);
            Some(Errno::from_raw_os_error(code))
        }
        _ => None,
    });
    let to = socket_address(&name.0);
    Ok(to.zip(why).map(|(to, why)| Undelivered { to, why }))
}
