//! A backend for a request: picked, its connection taken from the pool or made, and another where that fails.

use super::conversation::{Conversation, Exchange, Step};
use super::cookie;
use super::engine::Flow;
use super::fault::Fault;
use super::h1::head::Request;
use super::pool::Upstream;
use super::retry::Lost;
use crate::connect::{millis, source};
use crate::l4::sealed::HandshakeFailed;
use crate::l4::socket::Socket;
use crate::lb::SetId;
use crate::lb::backend::BackendRuntime;
use crate::lb::network;
use crate::lb::set::{Pick, Set};
use crate::worker::Worker;
use crate::worker::connection::{Connection, Source};
use crate::worker::slab::Key;
use podline_api::BackendHttp;
use std::net::SocketAddr;
use std::sync::Arc;

/// What came of an attempt to reach a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// The request can be sent.
    Open,
    /// It is being connected to.
    Dialing,
    /// It cannot be reached.
    Failed,
    /// It cannot be reached for this client alone.
    Impossible,
}

impl Worker {
    /// Goes on with a request that has no backend yet, or not its connection.
    pub(super) fn exchange(&mut self, key: Key, talk: &mut Conversation) -> Flow {
        match talk.exchange().map(|exchange| exchange.step) {
            Some(Step::Seeking) => self.seek(key, talk, false),
            Some(Step::Dialing) => self.on_request_dialed(key, talk),
            Some(Step::Open) => self.carry(key, talk),
            Some(Step::Waiting) | None => Flow::Wait,
        }
    }

    /// Finds a backend; `settles`: one without a verdict will do.
    pub(super) fn seek(&mut self, key: Key, talk: &mut Conversation, settles: bool) -> Flow {
        loop {
            let Some(exchange) = talk.exchange() else {
                return Flow::Wait;
            };
            let Some((set, picked)) = self.pick_for_request(key, exchange, settles) else {
                return Flow::Refuse(Fault::NoBackend);
            };
            let backend = match picked {
                Pick::Backend(backend) => backend,
                Pick::Wait => {
                    exchange.step = Step::Waiting;
                    self.give_up_within(key, millis(set.settings.connect_timeout));
                    return Flow::Wait;
                }
                Pick::Empty => {
                    let unreached = exchange.unreached;
                    return Flow::Refuse(self.nobody(key, unreached));
                }
            };
            match self.reach(key, talk, &set, &backend) {
                Reached::Open => return Flow::On,
                Reached::Dialing => return Flow::Wait,
                Reached::Failed => self.blame(key),
                Reached::Impossible => self.skip(key),
            }
            if !self.may_try_on(key, &set) {
                return Flow::Refuse(Fault::ConnectFailed);
            }
        }
    }

    /// Nobody is left: why the last one could not be reached, if there was one.
    fn nobody(&mut self, key: Key, unreached: Option<Fault>) -> Fault {
        let connection = self.connections.get_mut(key);
        if connection.is_some_and(|connection| !connection.tried.is_empty()) {
            unreached.unwrap_or(Fault::ConnectFailed)
        } else {
            Fault::NoBackend
        }
    }

    fn pick_for_request(
        &mut self,
        key: Key,
        exchange: &Exchange,
        settles: bool,
    ) -> Option<(Arc<Set>, Pick)> {
        let held = exchange.held;
        self.pick_in(key, exchange.set?, |set, cursor, asking| {
            if let Some(backend) = held.and_then(|host| set.pick_held(host, asking)) {
                return Pick::Backend(backend);
            }
            if settles {
                set.pick_detecting(cursor, asking)
            } else {
                set.pick(cursor, asking)
            }
        })
    }

    /// Takes a kept connection to `backend`, or begins to make one.
    fn reach(
        &mut self,
        key: Key,
        talk: &mut Conversation,
        set: &Set,
        backend: &Arc<BackendRuntime>,
    ) -> Reached {
        if !self.aim(key, Arc::clone(backend)) {
            return Reached::Impossible;
        }
        let Some(connection) = self.connections.get_mut(key) else {
            return Reached::Dialing;
        };
        let client = seen_client(connection);
        let last_ms = self.now_ms + millis(set.settings.connect_timeout);
        if set.settings.http_version == BackendHttp::Http2 {
            return self.join_trunk(key, talk, set, (backend, client), last_ms);
        }
        let Some(exchange) = talk.exchange() else {
            return Reached::Dialing;
        };
        while !exchange.wants_fresh {
            let kept = self.http.pool.reuse(backend, client, set.tls.as_ref(), key);
            let Some(kept) = kept else {
                break;
            };
            // What must not be sent twice is not sent to somebody who has just hung up.
            if !exchange.asked.is_idempotent && self.has_hung_up(kept) {
                self.http.pool.remove(kept);
                continue;
            }
            exchange.upstream = Some(kept);
            exchange.is_reused = true;
            exchange.step = Step::Open;
            self.forget_deadline(key);
            return Reached::Open;
        }
        self.dial_for_request(key, exchange, client, last_ms)
    }

    fn has_hung_up(&mut self, kept: Key) -> bool {
        let Some(upstream) = self.http.pool.get_mut(kept) else {
            return true;
        };
        upstream.socket.has_spoken()
    }

    /// Begins to connect to the connection's backend; it gives up at `last_ms`.
    fn dial_for_request(
        &mut self,
        key: Key,
        exchange: &mut Exchange,
        client: Option<SocketAddr>,
        last_ms: u64,
    ) -> Reached {
        let Some(connection) = self.connections.get_mut(key) else {
            return Reached::Dialing;
        };
        let dial = match source::dial(&self.table.network, connection) {
            Ok(dial) => Socket::connecting(dial),
            Err(source::Failed::Backend) => return Reached::Failed,
            Err(source::Failed::Imitation) => return Reached::Impossible,
        };
        let Some(backend) = connection.backend.clone() else {
            return Reached::Failed;
        };
        connection.is_dialed(self.now_ms, last_ms);
        let tls = self.table.set(backend.set).and_then(|set| set.tls.clone());
        let upstream = self
            .http
            .pool
            .insert(Upstream::new(dial, backend, client, tls, key));
        let Some(made) = self.http.pool.get_mut(upstream) else {
            return Reached::Failed;
        };
        let token = Source::Upstream(upstream).token();
        if self.epoll.add_socket(&made.socket, token).is_err() {
            self.http.pool.remove(upstream);
            return Reached::Failed;
        }
        exchange.upstream = Some(upstream);
        exchange.is_reused = false;
        exchange.step = Step::Dialing;
        self.watch_deadline(key);
        Reached::Dialing
    }

    /// A dial for a request may have come to an end.
    fn on_request_dialed(&mut self, key: Key, talk: &mut Conversation) -> Flow {
        let Some(exchange) = talk.exchange() else {
            return Flow::Wait;
        };
        let dial = exchange
            .upstream
            .and_then(|key| self.http.pool.get_mut(key));
        let Some(dial) = dial else {
            return Flow::Refuse(Fault::ConnectFailed);
        };
        if dial.socket.gone().is_some() {
            let fault = if dial.socket.is_refused() {
                Fault::TlsFailed
            } else {
                Fault::ConnectFailed
            };
            return self.on_request_dial_failed(key, talk, fault);
        }
        if let Some(trunk) = dial.trunk {
            return self.on_trunk_joined(key, exchange, trunk);
        }
        if dial.socket.is_plain() {
            if !dial.socket.writable() {
                return Flow::Wait;
            }
            if !self.announce_for_request(key, talk) {
                return self.on_request_dial_failed(key, talk, Fault::ConnectFailed);
            }
        }
        match self.secure_for_request(talk) {
            Ok(()) => {}
            Err(HandshakeFailed::NotYet) => return Flow::Wait,
            Err(HandshakeFailed::Left) => {
                return self.on_request_dial_failed(key, talk, Fault::ConnectFailed);
            }
            Err(HandshakeFailed::Refused(error)) => {
                tracing::debug!(%error, "no TLS to a backend");
                return self.on_request_dial_failed(key, talk, Fault::TlsFailed);
            }
        }
        if let Some(exchange) = talk.exchange() {
            exchange.step = Step::Open;
        }
        self.on_reached(key);
        Flow::On
    }

    /// A connection in HTTP/2 that a request was given to may have come to be.
    fn on_trunk_joined(&mut self, key: Key, exchange: &mut Exchange, trunk: Key) -> Flow {
        let upstream = exchange.upstream.and_then(|it| self.http.pool.get_mut(it));
        if !upstream.is_some_and(|it| it.socket.is_connected()) {
            return Flow::Wait;
        }
        exchange.step = Step::Open;
        if self.http.trunks.is_new(trunk) {
            self.on_reached(key);
        } else {
            // Another request has had it made, and counted.
            self.forget_deadline(key);
        }
        Flow::On
    }

    /// A connection was made for a request.
    fn on_reached(&mut self, key: Key) {
        self.forget_deadline(key);
        self.count_source(key);
        if let Some(connection) = self.connections.get_mut(key)
            && let Some(backend) = &connection.backend
        {
            backend.count_connection(self.now_ms);
        }
    }

    /// Goes on with the handshake with a backend that is spoken to over TLS.
    fn secure_for_request(&mut self, talk: &mut Conversation) -> Result<(), HandshakeFailed> {
        let upstream = talk.exchange().and_then(|exchange| exchange.upstream);
        let upstream = upstream.and_then(|key| self.http.pool.get_mut(key));
        let upstream = upstream.ok_or(HandshakeFailed::Left)?;
        if let Some(tls) = &upstream.tls
            && upstream.socket.is_plain()
        {
            let session = tls.session(upstream.backend.key.address.ip());
            upstream
                .socket
                .secure(session.ok_or(HandshakeFailed::Left)?);
        }
        upstream.socket.shake_hands()
    }

    /// Writes the PROXY header that the backend is to be told by, if there is one.
    fn announce_for_request(&mut self, key: Key, talk: &mut Conversation) -> bool {
        let Some(header) = self.header_of(key, &talk.client) else {
            return true;
        };
        let upstream = talk.exchange().and_then(|exchange| exchange.upstream);
        let Some(upstream) = upstream.and_then(|key| self.http.pool.get_mut(key)) else {
            return false;
        };
        let header = header.as_bytes();
        upstream.socket.write(header, false) == Ok(header.len())
    }

    /// A dial for a request has waited long enough.
    pub(super) fn on_request_dial_timeout(&mut self, key: Key, talk: &mut Conversation) -> Flow {
        let Some(connection) = self.connections.get_mut(key) else {
            return Flow::Wait;
        };
        let Some(last_ms) = connection.second_try() else {
            return self.on_request_dial_failed(key, talk, Fault::ConnectTimeout);
        };
        let client = seen_client(connection);
        let Some(exchange) = talk.exchange() else {
            return Flow::Wait;
        };
        if let Some(before) = exchange.upstream.take() {
            self.http.pool.remove(before);
        }
        let set = exchange.set.and_then(|set| self.table.set(set)).cloned();
        let again = match (set, &connection.backend) {
            (Some(set), Some(backend)) if set.settings.http_version == BackendHttp::Http2 => {
                exchange.wants_fresh = true;
                let backend = Arc::clone(backend);
                self.join_trunk(key, talk, &set, (&backend, client), last_ms)
            }
            _ => self.dial_for_request(key, exchange, client, last_ms),
        };
        match again {
            Reached::Dialing => {
                if let Some(connection) = self.connections.get_mut(key) {
                    connection.is_last_try(last_ms);
                }
                Flow::Wait
            }
            _ => self.on_request_dial_failed(key, talk, Fault::ConnectTimeout),
        }
    }

    /// An attempt to connect failed: the next backend, or the answer that there is none.
    fn on_request_dial_failed(&mut self, key: Key, talk: &mut Conversation, fault: Fault) -> Flow {
        let Some(exchange) = talk.exchange() else {
            return Flow::Wait;
        };
        if let Some(upstream) = exchange.upstream.take() {
            self.http.pool.remove(upstream);
        }
        exchange.step = Step::Seeking;
        exchange.unreached = Some(fault);
        let set = exchange.set.and_then(|set| self.table.set(set).cloned());
        self.blame(key);
        match set {
            Some(set) if self.may_try_on(key, &set) => Flow::On,
            _ => Flow::Refuse(fault),
        }
    }

    /// The connection to the backend is gone before the answer was whole.
    pub(super) fn on_lost(&mut self, key: Key, talk: &mut Conversation) -> Flow {
        let Some(exchange) = talk.exchange() else {
            return Flow::Wait;
        };
        if exchange.down.is_some() {
            return Flow::Cut("backend left");
        }
        let upstream = exchange.upstream.take();
        let upstream = upstream.and_then(|upstream| self.http.pool.remove(upstream));
        // Once is enough: a backend that always refuses has failed.
        let is_refused = upstream.is_some_and(|it| it.socket.is_refused()) && !exchange.wants_fresh;
        let lost = Lost {
            is_answered: exchange.is_answered,
            is_begun: exchange.sent > 0 && !is_refused,
            is_idempotent: exchange.asked.is_idempotent,
            is_whole: exchange.is_whole,
        };
        let set = exchange.set.and_then(|set| self.table.set(set).cloned());
        if exchange.is_reused || is_refused {
            // It ended an idle connection at that moment, which is its right.
            exchange.wants_fresh = true;
            if let Some(connection) = self.connections.get_mut(key) {
                connection.unassign();
            }
        } else {
            exchange.unreached = Some(Fault::BackendClosed);
            self.blame(key);
        }
        match set {
            Some(set) if lost.may_be_sent_again() && self.may_try_on(key, &set) => {
                exchange.start_over();
                Flow::On
            }
            _ => Flow::Refuse(Fault::BackendClosed),
        }
    }

    /// The backend failed the connection's request: it counts against it, and others are tried.
    pub(super) fn blame(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let Some(backend) = connection.unassign() else {
            return;
        };
        if !connection.is_counted
            && let Some(set) = self.table.set(backend.set)
        {
            self.shared.count_failure(&backend, set, true);
        }
        connection.tried.push(backend);
    }

    fn may_try_on(&mut self, key: Key, set: &Set) -> bool {
        let retries = usize::from(set.settings.connect_retries);
        let connection = self.connections.get_mut(key);
        connection.is_some_and(|connection| connection.tried.len() <= retries)
    }

    /// Whether a set keeps clients by cookies, and the host that the request's cookie names.
    pub(super) fn held_by_cookie(&self, set: SetId, head: &Request<'_, '_>) -> (bool, Option<u64>) {
        match self.table.set(set).and_then(|set| set.cookie()) {
            Some(wanted) => (true, cookie::read(head.fields, &wanted.name)),
            None => (false, None),
        }
    }

    /// The cookie field for an answer; empty where the client has it, or the set does not go by cookies.
    pub(super) fn cookie_to_set(&mut self, key: Key, talk: &mut Conversation) -> Vec<u8> {
        let mut field = Vec::new();
        let Some(exchange) = talk.exchange() else {
            return field;
        };
        if !exchange.goes_by_cookie {
            return field;
        }
        let (held, set) = (exchange.held, exchange.set);
        if let Some(set) = set.and_then(|set| self.table.set(set))
            && let Some(wanted) = set.cookie()
            && let Some(connection) = self.connections.get_mut(key)
            && let Some(backend) = &connection.backend
        {
            let host = set.host_of(backend);
            if held != Some(host) || wanted.max_age_s.is_some() {
                let is_secure = connection.route.tls.is_some();
                cookie::write(&mut field, &wanted.name, host, wanted.max_age_s, is_secure);
            }
        }
        field
    }
}

impl Exchange {
    /// Nothing of the request was sent.
    fn start_over(&mut self) {
        self.step = Step::Seeking;
        self.sent = 0;
        self.is_cut = false;
        self.partial.clear();
    }
}

/// Whose address the backend sees, where that decides who may share a connection to it.
fn seen_client(connection: &Connection) -> Option<SocketAddr> {
    let headers = connection.route.headers.as_ref();
    if headers.is_some_and(|rules| rules.send.is_some()) {
        return Some(connection.peer);
    }
    let is_imitated = connection.source == network::Source::Transparent;
    is_imitated.then(|| SocketAddr::new(connection.peer.ip(), 0))
}
