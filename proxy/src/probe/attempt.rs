//! One probe: from a socket to what it found, within the check's timeout.

use podline_api::CheckKind;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::finding::{Finding, Step};
use super::schedule::ProbeKey;
use super::{grpc, http, ping, udp};
use crate::lb::health::ProbeOutcome;
use crate::net::socket::{bind_source, set_mark};

/// Probes once; `mark` is for routes of ours. Whatever the backend does, this ends with the check's timeout and leaves no
/// connection.
pub(super) async fn probe(
    key: &ProbeKey,
    mark: Option<u32>,
    tls: &TlsConnector,
) -> (ProbeOutcome, Finding) {
    let limit = key.check.timeout;
    // Connecting alone stays small: the rest is boxed.
    let found = match &key.check.kind {
        CheckKind::Udp(udp) => Box::pin(udp::ask(key, mark, udp)).await,
        CheckKind::Ping => {
            let answer = timeout(limit, Box::pin(ping::ask(key, mark))).await;
            answer.unwrap_or(Err(Finding::NoAnswer))
        }
        CheckKind::Tcp | CheckKind::Http(_) | CheckKind::Grpc(_) => {
            let mut step = Step::Connect;
            let answer = timeout(limit, ask(key, mark, tls, &mut step)).await;
            answer.unwrap_or(Err(Finding::TimedOut(step)))
        }
    };
    match found {
        Ok(finding) => (ProbeOutcome::Passed, finding),
        Err(finding) => (ProbeOutcome::Failed, finding),
    }
}

/// Asks over a connection. A finding that passes, or one that fails.
async fn ask(
    key: &ProbeKey,
    mark: Option<u32>,
    tls: &TlsConnector,
    step: &mut Step,
) -> Result<Finding, Finding> {
    let (address, check) = (key.address, &*key.check);
    let stream = connect(key, mark).await?;
    match &check.kind {
        CheckKind::Http(http) => Box::pin(http::ask(stream, address, http, tls, step)).await,
        CheckKind::Grpc(grpc) => {
            *step = Step::Answer;
            Box::pin(grpc::ask(stream, address, grpc, check.timeout)).await
        }
        _ => Ok(Finding::Connected),
    }
}

/// A connection that ends with a reset: an ordinary close would leave a socket in TIME_WAIT for each probe.
async fn connect(key: &ProbeKey, mark: Option<u32>) -> Result<TcpStream, Finding> {
    let failed = |error| Finding::of_io(Step::Connect, &error);
    let socket = match key.address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let socket = socket.map_err(failed)?;
    socket.set_zero_linger().map_err(failed)?;
    if key.check.kind != CheckKind::Tcp {
        // Handshakes write several times in a row.
        socket.set_nodelay(true).map_err(failed)?;
    }
    if let Some(mark) = mark {
        set_mark(&socket, mark).map_err(|errno| failed(errno.into()))?;
    }
    if let Some(source) = key.check.source_address {
        bind(&socket, source, key.address)?;
    }
    socket.connect(key.address).await.map_err(failed)
}

pub(super) fn bind(socket: impl AsFd, source: IpAddr, to: SocketAddr) -> Result<(), Finding> {
    if source.is_ipv4() != to.is_ipv4() {
        return Err(Finding::SourceVersion);
    }
    bind_source(socket, source, to).map_err(|errno| {
        let error = io::Error::from(errno);
        match error.kind() {
            ErrorKind::AddrNotAvailable => Finding::SourceNotOurs,
            _ => Finding::of_io(Step::Connect, &error),
        }
    })
}
