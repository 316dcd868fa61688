//! One datagram, and what comes of it. The socket is connected: nobody else can answer.

use podline_api::{CheckKind, UdpCheck};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};
use std::io::{self, ErrorKind};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::finding::{Finding, Step};
use super::schedule::ProbeKey;
use crate::net::socket::set_mark;

/// As much of an answer as can be expected.
const LONGEST: usize = 500;

/// Nothing is asked, so nothing is answered: only the timeout tells that the port is not unreachable.
pub(super) fn ends_with_the_timeout(check: &CheckKind) -> bool {
    matches!(check, CheckKind::Udp(udp) if is_silence_fine(udp))
}

fn is_silence_fine(check: &UdpCheck) -> bool {
    check.send.is_empty() && check.expect.is_none()
}

/// Asks, within the check's timeout. A finding that passes, or one that fails.
pub(super) async fn ask(
    key: &ProbeKey,
    mark: Option<u32>,
    check: &UdpCheck,
) -> Result<Finding, Finding> {
    let socket = connect(key, mark)?;
    let mut answer = [0; LONGEST];
    let exchange = async {
        socket.send(&check.send).await?;
        socket.recv(&mut answer).await
    };
    match timeout(key.check.timeout, exchange).await {
        Ok(Ok(length)) => match &check.expect {
            Some(expected) if !answer[..length].starts_with(expected) => {
                Err(Finding::AnsweredOtherwise)
            }
            _ => Ok(Finding::Answered),
        },
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => {
            Err(Finding::PortUnreachable)
        }
        Ok(Err(error)) => Err(Finding::of_io(Step::Answer, &error)),
        Err(_) if is_silence_fine(check) => Ok(Finding::NoAnswer),
        Err(_) => Err(Finding::NoAnswer),
    }
}

fn connect(key: &ProbeKey, mark: Option<u32>) -> Result<UdpSocket, Finding> {
    let failed = |errno: Errno| Finding::System(Step::Connect, errno.raw_os_error());
    let family = if key.address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, Some(ipproto::UDP))
        .map_err(failed)?;
    if let Some(mark) = mark {
        set_mark(&socket, mark).map_err(failed)?;
    }
    if let Some(source) = key.check.source_address {
        super::attempt::bind(&socket, source, key.address)?;
    }
    rustix::net::connect(&socket, &key.address).map_err(failed)?;
    let socket = std::net::UdpSocket::from(socket);
    UdpSocket::from_std(socket).map_err(|error: io::Error| Finding::of_io(Step::Connect, &error))
}
