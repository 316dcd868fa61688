//! Between accept and pick: the PROXY header of a peer that has to send one. It is looked at in the kernel's queue and
//! taken out once it is whole, so a connection that waits for one costs no buffer, and what follows it is forwarded
//! from where it is.

use crate::net::io;
use crate::proxy_header::{Announced, MAX_LENGTH, Parsed, parse};
use crate::worker::Worker;
use crate::worker::connection::{Phase, Via};
use crate::worker::slab::Key;
use rustix::io::Errno;
use std::sync::atomic::Ordering::Relaxed;

impl Worker {
    /// Makes a new connection wait for its header.
    pub(super) fn expect_header(&mut self, key: Key, within_ms: u64) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.phase = match std::mem::replace(&mut connection.phase, Phase::Moving) {
            Phase::Waiting(client) => Phase::Announcing(client),
            other => other,
        };
        connection.deadline_ms = self.now_ms.saturating_add(within_ms);
        self.watch_deadline(key);
    }

    /// More of a header may have come.
    pub(crate) fn look_for_header(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let Phase::Announcing(client) = &connection.phase else {
            return;
        };
        let room = &mut self.room.scratch[..MAX_LENGTH];
        let seen = match io::peek(client, room) {
            Err(Errno::AGAIN) => return,
            // Nothing was said that could be refused: so end checks that a port is open.
            Ok(0) | Err(_) => return self.close(key, "client left"),
            Ok(seen) => seen,
        };
        match parse(&room[..seen]) {
            Parsed::NeedMore if client.read_closed() => self.refuse_header(key, "cut short"),
            Parsed::NeedMore => {}
            Parsed::Refused(refusal) => self.refuse_header(key, refusal.name()),
            // It is in the queue whole, so it is read whole.
            Parsed::Done { length, announced } => match io::read(client, &mut room[..length]) {
                Ok(read) if read == length => self.on_header(key, announced),
                _ => self.cut(key, "client left"),
            },
        }
    }

    /// Goes on with a connection whose client is known now.
    fn on_header(&mut self, key: Key, announced: Option<Announced>) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if let Some(announced) = announced {
            let peer = std::mem::replace(&mut connection.peer, announced.client);
            let destination = announced.destination;
            connection.via = Some(Box::new(Via { peer, destination }));
        }
        let (route, counters) = (&connection.route, &connection.counters);
        if let Some(limiter) = &route.limiter
            && let Err(shed) = limiter.admit_known(connection.peer, self.now_ms)
        {
            super::count_shed(connection.peer, route, counters, shed, self.now_ms);
            return self.cut(key, "limit");
        }
        counters.accepted.fetch_add(1, Relaxed);
        connection.phase = match std::mem::replace(&mut connection.phase, Phase::Moving) {
            Phase::Announcing(client) => Phase::Waiting(client),
            other => other,
        };
        self.forget_deadline(key);
        self.serve(key);
    }

    /// Resets a connection that has to begin with a header and does not. The log has a line a minute for each listener.
    pub(crate) fn refuse_header(&mut self, key: Key, why: &'static str) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let counters = &connection.counters;
        let count = counters.headers_refused.fetch_add(1, Relaxed) + 1;
        if super::is_due(&counters.headers_told_ms, self.now_ms) {
            let (listener, peer) = (&connection.route.name, connection.peer);
            tracing::warn!(%listener, %peer, why, count, "PROXY headers are refused and their connections reset");
        }
        self.cut(key, "no PROXY header");
    }
}
