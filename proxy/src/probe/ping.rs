//! One ICMP echo: a request, and the reply to it among whatever else comes.

use rustix::io::Errno;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::net::UdpSocket;

use super::echo::{self, Nonce};
use super::finding::{Finding, Step};
use super::schedule::ProbeKey;
use crate::net::ping::{self, Kind};
use crate::net::socket::set_mark;

/// Asks, and waits for the reply: for ever, if none comes. A finding that passes, or one that fails.
pub(super) async fn ask(key: &ProbeKey, mark: Option<u32>) -> Result<Finding, Finding> {
    let (host, nonce) = (key.address.ip(), nonce());
    let (socket, kind) = connect(key, mark)?;
    let failed = |error: io::Error| Finding::of_io(Step::Answer, &error);
    let request = echo::request(host, nonce);
    socket.send(&request).await.map_err(failed)?;
    let mut room = [0; echo::LONGEST_REPLY];
    loop {
        let (length, from) = socket.recv_from(&mut room).await.map_err(failed)?;
        let reply = &room[..length];
        if from.ip() == host && echo::is_reply(host, kind == Kind::Raw, reply, nonce) {
            return Ok(Finding::Answered);
        }
    }
}

/// The runtime knows no other datagram sockets than UDP's; to it they are alike.
fn connect(key: &ProbeKey, mark: Option<u32>) -> Result<(UdpSocket, Kind), Finding> {
    let failed = |errno: Errno| Finding::System(Step::Connect, errno.raw_os_error());
    let (socket, kind) = ping::open(key.address.ip()).map_err(|errno| match errno {
        Errno::ACCESS | Errno::PERM => Finding::NoPermission,
        errno => failed(errno),
    })?;
    if let Some(mark) = mark {
        set_mark(&socket, mark).map_err(failed)?;
    }
    if let Some(source) = key.check.source_address {
        if source.is_ipv4() != key.address.is_ipv4() {
            return Err(Finding::SourceVersion);
        }
        ping::bind(&socket, source, key.address).map_err(|errno| match errno {
            Errno::ADDRNOTAVAIL => Finding::SourceNotOurs,
            errno => failed(errno),
        })?;
    }
    ping::connect(&socket, key.address).map_err(failed)?;
    let socket = UdpSocket::from_std(socket.into());
    let socket = socket.map_err(|error| Finding::of_io(Step::Connect, &error))?;
    Ok((socket, kind))
}

/// Never the same, and never foreseen.
fn nonce() -> Nonce {
    static SECRET: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static LAST: AtomicU64 = AtomicU64::new(0);
    let number = LAST.fetch_add(1, Relaxed);
    let secret = SECRET.hash_one(number);
    Nonce(u128::from(secret) << 64 | u128::from(number))
}
