//! Dialing under a source address: the client's where that was decided, and what comes of it when that does not work.
//!
//! A backend that does not answer an imitated client within a second is dialed once more: under the proxy's own address
//! where the client's is preferred, and from another port where it is insisted on. What then fails is the backend's fault.

use crate::l4::socket::Socket;
use crate::lb::network::{NetworkView, SnatReason, Source as Seen};
use crate::net::socket::{self, Imitation};
use crate::worker::Worker;
use crate::worker::connection::{ATTEMPTS, Connection, Phase, Source};
use crate::worker::slab::Key;
use podline_api::SourceAddress;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// How long an imitated client waits for an answer before its backend is dialed once more.
const ANSWER_MS: u64 = 1_000;

/// Why a dial did not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// The backend cannot be reached.
    Backend,
    /// It cannot be reached under the client's address, which is insisted on.
    Imitation,
}

impl Worker {
    /// Starts to connect to the connection's backend as was decided; it gives up at `last_ms`.
    pub(super) fn start_dial(&mut self, key: Key, last_ms: u64) -> Result<(), Failed> {
        let Some(connection) = self.connections.get_mut(key) else {
            return Ok(());
        };
        let dial = dial(&self.table.network, connection)?;
        connection.attempt = (connection.attempt + 1) % ATTEMPTS;
        let token = Source::Backend(key, connection.attempt).token();
        if self.epoll.add_socket(&dial, token).is_err() {
            return Err(Failed::Backend);
        }
        connection.active_ms = self.now_ms;
        connection.is_dialed(self.now_ms, last_ms);
        connection.phase = match std::mem::replace(&mut connection.phase, Phase::Moving) {
            Phase::Waiting(client) | Phase::Dialing { client, .. } => Phase::Dialing {
                client,
                dial: Socket::connecting(dial),
            },
            other => other,
        };
        self.watch_deadline(key);
        Ok(())
    }

    /// A dial has waited long enough for its answer.
    pub(crate) fn on_dial_timeout(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let Some(last_ms) = connection.second_try() else {
            return self.on_dial_failed(key, "timed out");
        };
        match self.start_dial(key, last_ms) {
            Ok(()) => {
                if let Some(connection) = self.connections.get_mut(key) {
                    connection.is_last_try(last_ms);
                }
            }
            Err(_) => self.on_dial_failed(key, "timed out"),
        }
    }

    /// Counts whose address the backend sees of a connection that was just established, and tells of a way on which
    /// imitated clients get no answers.
    pub(crate) fn count_source(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let counters = &connection.counters;
        match connection.source {
            Seen::Snat(None) | Seen::Impossible(_) => {}
            Seen::Transparent => {
                counters.transparent.fetch_add(1, Relaxed);
            }
            Seen::Snat(Some(reason)) => {
                counters.snat[reason as usize].fetch_add(1, Relaxed);
                if reason == SnatReason::NoAnswer
                    && let Some(backend) = &connection.backend
                {
                    self.shared.unanswered.tell(Arc::clone(backend));
                }
            }
        }
    }
}

impl Connection {
    /// A dial has begun that gives up at `last_ms`, and one that imitates the client earlier, for another try.
    pub(crate) fn is_dialed(&mut self, now_ms: u64, last_ms: u64) {
        self.is_last_try(last_ms);
        if self.source == Seen::Transparent {
            let left_ms = last_ms.saturating_sub(now_ms);
            self.deadline_ms = now_ms + ANSWER_MS.min(left_ms / 2);
            self.last_ms = NonZero::new(last_ms);
        }
    }

    /// No other try follows to the same backend.
    pub(crate) fn is_last_try(&mut self, last_ms: u64) {
        self.deadline_ms = last_ms;
        self.last_ms = None;
    }

    /// Until when a dial without an answer may be tried once more, under the source address that is left; none: it may not.
    pub(crate) fn second_try(&mut self) -> Option<u64> {
        let last_ms = self.last_ms.take()?;
        if self.route.source_address == SourceAddress::PreferTransparent {
            self.source = Seen::Snat(Some(SnatReason::NoAnswer));
        }
        Some(last_ms.get())
    }
}

/// A socket that connects to the connection's backend, as was decided; if that turns out not to work, as is decided then.
pub(crate) fn dial(network: &NetworkView, connection: &mut Connection) -> Result<OwnedFd, Failed> {
    let Some(backend) = &connection.backend else {
        return Err(Failed::Backend);
    };
    let address = backend.key.address;
    let mark = network.mark(address.ip());
    if connection.source == Seen::Transparent {
        let imitation = Imitation {
            source: connection.peer.ip().to_canonical(),
            ports: network.ports,
        };
        let reason = match socket::connect(address, Some(imitation), mark) {
            Ok(dial) => return Ok(dial),
            Err(Errno::ADDRNOTAVAIL | Errno::ADDRINUSE) => SnatReason::PortsExhausted,
            Err(Errno::PERM | Errno::ACCESS) => SnatReason::NoPrivilege,
            Err(_) => return Err(Failed::Backend),
        };
        connection.source = reason.meets(connection.route.source_address);
        if let Seen::Impossible(_) = connection.source {
            return Err(Failed::Imitation);
        }
    }
    socket::connect(address, None, mark).map_err(|_| Failed::Backend)
}
