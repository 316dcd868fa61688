//! Probing backends: when a probe is due ([`schedule`], pure), and doing it. Probes report and never decide: what an
//! outcome means is `lb::health`'s business.

pub mod schedule;

use crate::lb::health::ProbeOutcome;
use crate::state::State;
use podline_api::CheckKind;
use schedule::ProbeKey;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpSocket;
use tokio::sync::Semaphore;

/// Probes under way at once: a flood of them would delay their own answers.
const IN_FLIGHT: usize = 512;
/// Probes started between two looks at the clock.
const START_TURN: usize = 128;
/// How long to sleep when nothing is due: new probes ring.
const IDLE: Duration = Duration::from_hours(1);

/// Probes what is due, for as long as it is polled.
pub async fn run(state: State) {
    let places = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut probes = tokio::task::JoinSet::new();
    loop {
        let (due, next) = state.due_probes(START_TURN);
        let idle = due.is_empty();
        for (id, key) in due {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let state = state.clone();
            probes.spawn(async move {
                let (outcome, detail) = probe(&key).await;
                drop(place);
                state.on_probe(id, outcome, detail);
            });
        }
        while probes.try_join_next().is_some() {}
        if idle {
            tokio::select! {
                () = tokio::time::sleep(next.unwrap_or(IDLE).max(Duration::from_millis(1))) => {}
                () = state.probes_changed() => {}
                Some(_) = probes.join_next() => {}
            }
        }
    }
}

async fn probe(key: &ProbeKey) -> (ProbeOutcome, &'static str) {
    let answer = match &key.check.kind {
        CheckKind::Tcp | CheckKind::Http(_) | CheckKind::Grpc(_) => {
            tokio::time::timeout(key.check.timeout, connect(key.address)).await
        }
    };
    match answer {
        Ok(Ok(())) => (ProbeOutcome::Passed, "connected"),
        Ok(Err(error)) => (ProbeOutcome::Failed, reason(&error)),
        Err(_) => (ProbeOutcome::Failed, "timed out"),
    }
}

/// Connects and resets: an ordinary close would leave a socket in TIME_WAIT for each probe.
async fn connect(address: SocketAddr) -> std::io::Result<()> {
    let socket = if address.is_ipv6() {
        TcpSocket::new_v6()?
    } else {
        TcpSocket::new_v4()?
    };
    socket.set_zero_linger()?;
    socket.connect(address).await.map(drop)
}

fn reason(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused",
        ErrorKind::ConnectionReset => "connection reset",
        ErrorKind::HostUnreachable => "host unreachable",
        ErrorKind::NetworkUnreachable => "network unreachable",
        ErrorKind::TimedOut => "timed out",
        _ => "cannot connect",
    }
}
