//! What a worker keeps of one connection: which phase it is in, whose it is, and what has been counted of it.

use super::slab::Key;
use crate::l4::connection::Forwarding;
use crate::l4::socket::Socket;
use crate::l7::conversation::Conversation;
use crate::l7::h2::Multiplex;
use crate::lb::backend::{BackendRuntime, ListenerCounters};
use crate::lb::flow::sockets::{Row, SocketNumber};
use crate::lb::network;
use crate::lb::table::ListenerRoute;
use crate::net::epoll::Token;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// How far a connection has come.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Accepted from a peer that has to tell in a PROXY header who its client is; the client is not counted yet.
    Announcing(Socket),
    /// In the handshake of TLS.
    Securing(Socket),
    /// Every backend that could serve it is new and has no verdict yet.
    Waiting(Socket),
    /// Connecting to a backend.
    Dialing { client: Socket, dial: Socket },
    /// Connected on both sides.
    Forwarding(Forwarding),
    /// Served in HTTP, request by request.
    Http(Box<Conversation>),
    /// The same in HTTP/2, many requests at once: each has a connection of its own, in [`Phase::Http`].
    Http2(Box<Multiplex>),
    /// Between two phases; never seen from outside a step.
    Moving,
}

/// The way of a connection whose client was announced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Via {
    /// Who connected.
    pub(crate) peer: SocketAddr,
    /// What the client connected to.
    pub(crate) destination: SocketAddr,
}

/// One connection.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact by itself")]
pub(crate) struct Connection {
    pub(crate) phase: Phase,
    /// The client: who connected or, once a PROXY header has told it, on whose behalf.
    pub(crate) peer: SocketAddr,
    /// What a PROXY header changed, if one did.
    pub(crate) via: Option<Box<Via>>,
    pub(crate) route: Arc<ListenerRoute>,
    pub(crate) counters: Arc<ListenerCounters>,
    /// Whom it is, or is being, connected to. Holding one counts as active there.
    pub(crate) backend: Option<Arc<BackendRuntime>>,
    /// Backends that could not be reached, so that the next pick avoids them.
    pub(crate) tried: Vec<Arc<BackendRuntime>>,
    /// Which source address the backend sees, or why it could not be the client's.
    pub(crate) source: network::Source,
    /// When the phase gives up: a dial, a wait, or the last delivery.
    pub(crate) deadline_ms: u64,
    /// When a dial that may be tried again gives up for good; none: it may not.
    pub(crate) last_ms: Option<std::num::NonZero<u64>>,
    pub(crate) opened_ms: u64,
    /// When bytes last moved or, before that, when its dial began.
    pub(crate) active_ms: u64,
    /// Where the worker's list of unfinished connections has it, if it does.
    pub(crate) unfinished_at: Option<u32>,
    /// Attempts to reach a backend so far, modulo [`ATTEMPTS`].
    pub(crate) attempt: u8,
    /// It is in the queue of those that get another turn.
    pub(crate) queued: bool,
    /// It is in the list of streams whose bytes the kernel gathers.
    pub(crate) gathering: bool,
    /// The attempt to reach its backend has been counted as failed, though it goes on.
    pub(crate) is_counted: bool,
    /// It is one stream of a client's connection, which is what the listener counts.
    pub(crate) is_stream: bool,
    reported: (u64, u64),
}

impl Connection {
    /// A connection that begins with `phase`, and is counted by its listener.
    pub(crate) fn new(
        phase: Phase,
        peer: SocketAddr,
        route: Arc<ListenerRoute>,
        counters: Arc<ListenerCounters>,
        now_ms: u64,
    ) -> Self {
        Self {
            phase,
            peer,
            via: None,
            route,
            counters,
            backend: None,
            tried: Vec::new(),
            source: network::Source::Snat(None),
            deadline_ms: 0,
            last_ms: None,
            opened_ms: now_ms,
            active_ms: now_ms,
            unfinished_at: None,
            attempt: 0,
            queued: false,
            gathering: false,
            is_counted: false,
            is_stream: false,
            reported: (0, 0),
        }
    }

    /// One stream of a client's connection.
    pub(crate) fn of_stream(parent: &Self, talk: Conversation, now_ms: u64) -> Self {
        let phase = Phase::Http(Box::new(talk));
        let (route, counters) = (Arc::clone(&parent.route), Arc::clone(&parent.counters));
        Self {
            via: parent.via.clone(),
            source: parent.source,
            is_stream: true,
            ..Self::new(phase, parent.peer, route, counters, now_ms)
        }
    }

    /// Counts the connection as `backend`'s.
    pub(crate) fn assign(&mut self, backend: Arc<BackendRuntime>) {
        backend.active.fetch_add(1, Relaxed);
        self.backend = Some(backend);
        self.is_counted = false;
    }

    /// Takes it off its backend's count.
    pub(crate) fn unassign(&mut self) -> Option<Arc<BackendRuntime>> {
        let backend = self.backend.take()?;
        backend.active.fetch_sub(1, Relaxed);
        Some(backend)
    }

    /// Adds the bytes moved since the last report to the listener's and the backend's counters.
    pub(crate) fn report_bytes(&mut self) {
        self.report_moved(self.moved());
    }

    /// The same with what was moved in all.
    pub(crate) fn report_moved(&mut self, (up, down): (u64, u64)) {
        let (more_up, more_down) = (up - self.reported.0, down - self.reported.1);
        if more_up == 0 && more_down == 0 {
            return;
        }
        self.reported = (up, down);
        if !self.is_stream {
            self.counters.received_bytes.fetch_add(more_up, Relaxed);
            self.counters.sent_bytes.fetch_add(more_down, Relaxed);
        }
        if let Some(backend) = &self.backend {
            backend.sent_bytes.fetch_add(more_up, Relaxed);
            backend.received_bytes.fetch_add(more_down, Relaxed);
        }
    }

    /// What moves from here on is counted from 0.
    pub(crate) fn count_anew(&mut self) {
        self.reported = (0, 0);
    }

    /// The client, once it counts as one of its listener's.
    pub(crate) fn counted_client(&self) -> Option<SocketAddr> {
        let is_known = !matches!(&self.phase, Phase::Announcing(_));
        is_known.then_some(self.peer)
    }

    /// Bytes moved: client to backend, backend to client.
    pub(crate) fn moved(&self) -> (u64, u64) {
        match &self.phase {
            Phase::Forwarding(forwarding) => forwarding.moved(),
            Phase::Http(talk) => talk.moved,
            Phase::Http2(multiplex) => multiplex.moved(),
            _ => (0, 0),
        }
    }

    /// How long nothing may move before the connection is cut.
    pub(crate) fn silence_limit_ms(&self) -> u64 {
        let half_closed = matches!(&self.phase, Phase::Forwarding(f) if f.half_closed());
        let limit = if half_closed {
            self.route.half_closed_timeout
        } else {
            self.route.idle_timeout
        };
        u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Whose address the backend sees, for the access log.
pub(crate) fn source_name(source: network::Source) -> &'static str {
    match source {
        network::Source::Transparent => "client",
        network::Source::Snat(_) | network::Source::Impossible(_) => "proxy",
    }
}

/// Takes a connection off its listener's count, and off its client's if that was counted.
pub(crate) fn leave(
    route: &ListenerRoute,
    counters: &ListenerCounters,
    client: Option<SocketAddr>,
) {
    counters.active.fetch_sub(1, Relaxed);
    if let (Some(limiter), Some(client)) = (&route.limiter, client) {
        limiter.release(client);
    }
}

/// What an epoll token stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A connection's client.
    Client(Key),
    /// A connection's backend, with the number of the attempt to reach one (modulo [`ATTEMPTS`]): an event for a dial
    /// that was given up must not pass for one of its successor.
    Backend(Key, u8),
    /// A connection to a backend of an HTTP set.
    Upstream(Key),
    /// A connection to a backend in HTTP/2.
    Trunk(Key),
    /// A listener, by its place in the worker's list.
    Listener(u32),
    /// The worker's mailbox.
    Mailbox,
    /// A UDP listener's socket, by its place among them.
    UdpListener(u32),
    /// A socket of UDP flows.
    Flows(SocketNumber),
}

/// Attempts that a token tells apart.
pub(crate) const ATTEMPTS: u8 = 4;
const KIND_BITS: u32 = 3;
const CLIENT: u32 = 0;
/// Without a generation: or else a trunk, whose generation is one more, so that 0 stands for none.
const LISTENER: u32 = 1;
const UPSTREAM: u32 = 2;
/// One of the following, which stands in the generation's place.
const OTHER: u32 = 3;
const MAILBOX: u32 = 1;
const UDP_LISTENER: u32 = 0;
const FLOWS_V4: u32 = 4;
const FLOWS_V6: u32 = 6;
const FLOWS_OWN: u32 = 8;
const BACKEND: u32 = 4;

impl Source {
    /// The token that stands for it: generation, index, kind.
    pub(crate) fn token(self) -> Token {
        let (generation, index, kind) = match self {
            Self::Client(key) => (key.generation, key.index, CLIENT),
            Self::Backend(key, attempt) => {
                let kind = BACKEND + u32::from(attempt % ATTEMPTS);
                (key.generation, key.index, kind)
            }
            Self::Listener(index) => (0, index, LISTENER),
            Self::Trunk(key) => (key.generation.wrapping_add(1), key.index, LISTENER),
            Self::Upstream(key) => (key.generation, key.index, UPSTREAM),
            Self::Mailbox => (MAILBOX, 0, OTHER),
            Self::UdpListener(place) => (UDP_LISTENER, place, OTHER),
            Self::Flows(socket) => {
                let row = match socket.row {
                    Row::V4 => FLOWS_V4,
                    Row::V6 => FLOWS_V6,
                    Row::Own => FLOWS_OWN,
                };
                (row, socket.number, OTHER)
            }
        };
        Token(u64::from(generation) << 32 | u64::from(index << KIND_BITS | kind))
    }

    /// What `token` stands for.
    pub(crate) fn of(token: Token) -> Self {
        let low = u32::try_from(token.0 & u64::from(u32::MAX)).expect("masked to 32 bits");
        let generation = u32::try_from(token.0 >> 32).expect("shifted to 32 bits");
        let key = Key {
            index: low >> KIND_BITS,
            generation,
        };
        match low & ((1 << KIND_BITS) - 1) {
            CLIENT => Self::Client(key),
            LISTENER if generation == 0 => Self::Listener(key.index),
            LISTENER => Self::Trunk(Key {
                generation: generation - 1,
                ..key
            }),
            UPSTREAM => Self::Upstream(key),
            OTHER if generation == MAILBOX => Self::Mailbox,
            OTHER if generation == UDP_LISTENER => Self::UdpListener(key.index),
            OTHER => Self::Flows(SocketNumber {
                row: match generation {
                    FLOWS_V4 => Row::V4,
                    FLOWS_V6 => Row::V6,
                    _ => Row::Own,
                },
                number: key.index,
            }),
            kind => Self::Backend(key, u8::try_from(kind - BACKEND).unwrap_or(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_as_what_they_stand_for() {
        let key = Key {
            index: 123_456,
            generation: u32::MAX,
        };
        for source in [
            Source::Client(key),
            Source::Backend(key, 0),
            Source::Backend(key, ATTEMPTS - 1),
            Source::Upstream(key),
            Source::Listener(7),
            Source::Trunk(Key {
                index: 9,
                generation: 0,
            }),
            Source::Mailbox,
            Source::UdpListener(3),
            Source::Flows(SocketNumber {
                row: Row::V4,
                number: 9_000,
            }),
            Source::Flows(SocketNumber {
                row: Row::V6,
                number: 0,
            }),
            Source::Flows(SocketNumber {
                row: Row::Own,
                number: 1,
            }),
        ] {
            assert_eq!(Source::of(source.token()), source);
        }
    }

    #[test]
    fn a_connection_stays_small() {
        assert!(
            size_of::<Connection>() <= 320,
            "{}",
            size_of::<Connection>()
        );
    }
}
