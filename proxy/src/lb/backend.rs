//! What outlives a publish: the counters of one backend and of one listener.

use super::SetId;
use super::network::{NodeId, SnatReason};
use super::requests::RequestCounters;
use podline_api::{BackendKey, PassiveCheck};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

/// One backend of one set for as long as its identity lasts. Workers write the counters; the control side reads them.
#[derive(Debug)]
pub struct BackendRuntime {
    /// Who it is; a new identity at the same address is another backend.
    pub key: BackendKey,
    /// The set it belongs to.
    pub set: SetId,
    /// When it joined, in milliseconds of the workers' clock.
    pub added_ms: u64,
    /// Connections now, those being dialed included.
    pub active: AtomicU32,
    /// Connections that were established, and flows.
    pub connections: AtomicU64,
    /// When the first of them was, in milliseconds of the workers' clock; 0: there was none.
    pub first_connection_ms: AtomicU64,
    /// Attempts to connect that failed.
    pub connect_failures: AtomicU64,
    /// Those since the last one that succeeded.
    pub failures_in_a_row: AtomicU32,
    /// Bytes sent to it.
    pub sent_bytes: AtomicU64,
    /// Bytes received from it.
    pub received_bytes: AtomicU64,
    /// Requests that it answered; most backends never get one.
    requests: OnceLock<Box<RequestCounters>>,
    /// Those of its whole set.
    pub requests_of_set: Arc<RequestCounters>,
    /// Connections that were cut at a deadline.
    pub forced: AtomicU64,
    /// No new work may be sent. Written by the publisher before it publishes the table without this backend.
    pub closed: AtomicBool,
    /// The number of the node it runs on, or [`NodeId::NONE`]. Written by the publisher.
    pub node: AtomicU32,
}

impl BackendRuntime {
    /// A backend that has done nothing yet.
    pub fn new(key: BackendKey, set: SetId, added_ms: u64) -> Self {
        Self {
            key,
            set,
            added_ms,
            active: AtomicU32::new(0),
            connections: AtomicU64::new(0),
            first_connection_ms: AtomicU64::new(0),
            connect_failures: AtomicU64::new(0),
            failures_in_a_row: AtomicU32::new(0),
            sent_bytes: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
            requests: OnceLock::new(),
            requests_of_set: Arc::default(),
            forced: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            node: AtomicU32::new(NodeId::NONE),
        }
    }

    /// Counts a request that it answered.
    pub fn count_request(&self, status: u16, took_ms: Option<u64>) {
        self.requests
            .get_or_init(Box::default)
            .count(status, took_ms);
        self.requests_of_set.count(status, took_ms);
    }

    /// Requests that it answered, if there were any.
    pub fn requests(&self) -> Option<&RequestCounters> {
        self.requests.get().map(|requests| &**requests)
    }

    /// Counts a connection that was established, or a flow. Of the first, and only of it, the time is kept: whoever counts
    /// learns for nothing whether it was.
    pub fn count_connection(&self, now_ms: u64) {
        if self.connections.fetch_add(1, Relaxed) == 0 {
            self.first_connection_ms.store(now_ms.max(1), Relaxed);
        }
    }

    /// Counts a failed attempt to reach it; whether those in a row are as many as `check` allows, once a run.
    pub fn count_failure(&self, check: Option<PassiveCheck>) -> bool {
        self.connect_failures.fetch_add(1, Relaxed);
        let in_a_row = self.failures_in_a_row.fetch_add(1, Relaxed) + 1;
        check.is_some_and(|check| in_a_row.is_multiple_of(u32::from(check.failures)))
    }

    /// It could be reached: the run of failures is over.
    pub fn count_success(&self) {
        if self.failures_in_a_row.load(Relaxed) != 0 {
            self.failures_in_a_row.store(0, Relaxed);
        }
    }
}

/// One listener's counters. Workers write them; the control side reads them.
#[derive(Debug, Default)]
pub struct ListenerCounters {
    /// Connections now.
    pub active: AtomicU64,
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Connections that no backend could take.
    pub refused: AtomicU64,
    /// Bytes received from clients.
    pub received_bytes: AtomicU64,
    /// Bytes sent to clients.
    pub sent_bytes: AtomicU64,
    /// Connections that exceeded a limit, by [`Shed`].
    ///
    /// [`Shed`]: super::limits::Shed
    pub shed: [AtomicU64; 5],
    /// When that was last logged, in milliseconds of the workers' clock.
    pub shed_told_ms: [AtomicU64; 5],
    /// PROXY headers that were refused: absent, malformed, or late.
    pub headers_refused: AtomicU64,
    /// When that was last logged, in milliseconds of the workers' clock.
    pub headers_told_ms: AtomicU64,
    /// Datagrams received from clients, dropped ones included.
    pub received_datagrams: AtomicU64,
    /// Datagrams sent to clients.
    pub sent_datagrams: AtomicU64,
    /// Datagrams that were not forwarded, either way, by [`Dropped`].
    ///
    /// [`Dropped`]: super::flow::Dropped
    pub dropped: [AtomicU64; 6],
    /// Connections to backends that imitate the client.
    pub transparent: AtomicU64,
    /// Those that were to imitate it and do not, or were refused for that, by [`SnatReason`].
    pub snat: [AtomicU64; SnatReason::ALL.len()],
    /// Of an HTTP listener.
    pub http: HttpCounters,
    /// Of a listener that speaks TLS.
    pub tls: TlsCounters,
}

/// Reasons for which a handshake comes to nothing.
pub const HANDSHAKE_FAULTS: usize = 8;

/// What is counted of handshakes.
#[derive(Debug, Default)]
pub struct TlsCounters {
    /// Those that ended in a connection: whole ones, and those that resumed an earlier session.
    pub handshakes: [AtomicU64; 2],
    /// Those that did not, by reason.
    pub faults: [AtomicU64; HANDSHAKE_FAULTS],
    /// When that was last logged, in milliseconds of the workers' clock.
    pub told_ms: AtomicU64,
}

/// Reasons for which the proxy answers a request itself.
pub const REASONS: usize = 19;
/// What clients of HTTP/2 can send too much of.
pub const FLOODS: usize = 5;

/// What is counted of an HTTP listener's requests.
#[derive(Debug, Default)]
pub struct HttpCounters {
    /// All that were answered, by the proxy itself too.
    pub requests: RequestCounters,
    /// Requests that the proxy answered itself, by reason.
    pub faults: [AtomicU64; REASONS],
    /// Connections in HTTP/2.
    pub http2: AtomicU64,
    /// Those that were broken off because of a flood, by what it is of.
    pub floods: [AtomicU64; FLOODS],
    /// Those that were broken off because the client broke the protocol.
    pub http2_errors: AtomicU64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_connection_is_timed() {
        let address = "10.0.0.1:80".parse().unwrap();
        let runtime = BackendRuntime::new(BackendKey { id: None, address }, SetId(1), 5);
        assert_eq!(runtime.first_connection_ms.load(Relaxed), 0);
        runtime.count_connection(7);
        runtime.count_connection(9);
        assert_eq!(runtime.connections.load(Relaxed), 2);
        assert_eq!(runtime.first_connection_ms.load(Relaxed), 7);
    }
}
