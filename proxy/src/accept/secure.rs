//! Between accept and pick of a listener that speaks TLS: the handshake.

use crate::l4::sealed::HandshakeFailed;
use crate::tls::fault::HandshakeFault;
use crate::tls::listener::TlsRules;
use crate::tls::session::Session;
use crate::worker::Worker;
use crate::worker::connection::Phase;
use crate::worker::slab::Key;
use std::sync::atomic::Ordering::Relaxed;

/// From the connection, or its PROXY header, to the end of the handshake.
const LIMIT_MS: u64 = 10_000;

impl Worker {
    /// Begins the handshake with a client that is known.
    pub(super) fn begin_handshake(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let session = connection.route.tls.as_ref().and_then(TlsRules::session);
        let Some(session) = session else {
            return self.cut(key, "no TLS");
        };
        connection.phase = match std::mem::replace(&mut connection.phase, Phase::Moving) {
            Phase::Waiting(mut client) => {
                client.secure(session);
                Phase::Securing(client)
            }
            other => other,
        };
        connection.deadline_ms = self.now_ms + LIMIT_MS;
        self.watch_deadline(key);
        self.shake_hands(key);
    }

    /// More of a handshake may have come.
    pub(crate) fn shake_hands(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let Phase::Securing(client) = &mut connection.phase else {
            return;
        };
        let is_first = client.session().is_none_or(|s| s.version().is_none());
        match client.shake_hands() {
            Err(HandshakeFailed::NotYet) => {}
            Err(HandshakeFailed::Left) => self.refuse_handshake(key, HandshakeFault::Left, None),
            Err(HandshakeFailed::Refused(error)) => {
                let fault = HandshakeFault::of(&error, is_first);
                self.refuse_handshake(key, fault, Some(&error));
            }
            Ok(()) => {
                let session = client.session();
                let is_resumed = session.is_some_and(Session::is_resumed);
                let version = session.and_then(Session::version);
                let protocol = session
                    .and_then(Session::protocol)
                    .map(String::from_utf8_lossy);
                tracing::debug!(client = %connection.peer, ?version, ?protocol, is_resumed, "TLS");
                let counters = &connection.counters.tls;
                counters.handshakes[usize::from(is_resumed)].fetch_add(1, Relaxed);
                connection.phase = match std::mem::replace(&mut connection.phase, Phase::Moving) {
                    Phase::Securing(client) => Phase::Waiting(client),
                    other => other,
                };
                self.forget_deadline(key);
                self.serve_known(key);
            }
        }
    }

    /// Ends a connection whose handshake came to nothing. The log has a line a minute for each listener.
    pub(crate) fn refuse_handshake(
        &mut self,
        key: Key,
        fault: HandshakeFault,
        error: Option<&dyn std::fmt::Display>,
    ) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let counters = &connection.counters.tls;
        let count = counters.faults[fault as usize].fetch_add(1, Relaxed) + 1;
        // Whoever only looks whether the port is open has done nothing wrong.
        if fault != HandshakeFault::Left && super::is_due(&counters.told_ms, self.now_ms) {
            let (listener, client, why) = (&connection.route.name, connection.peer, fault.name());
            let error = error.map(tracing::field::display);
            tracing::warn!(%listener, %client, why, error, count, "TLS handshakes fail");
        }
        // The alert that says why is with the kernel: an end lets the client read it.
        self.close(key, fault.name());
    }
}
