//! HTTP/2 on a worker: a turn of a client's connection, and its streams as connections of the engine.

use super::as_h1;
use super::flows::Fate;
use super::turn::{Asked, Multiplex};
use crate::l4::bell::{Bell, Owner};
use crate::l4::socket::Socket;
use crate::l4::stream::{self, Shared};
use crate::l7::conversation::Conversation;
use crate::net::epoll::Readiness;
use crate::worker::Worker;
use crate::worker::connection::{Connection, Phase};
use crate::worker::slab::Key;
use bytes::Bytes;
use h2::Reason;
use http::Method;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

/// Times that the protocol and the streams have their turn before other connections do.
const ROUNDS: usize = 16;
/// How often those who rang are looked at before the kernel is.
const PASSES: usize = 4;
/// How long a client may take to hear out the end of its connection.
const LINGER_MS: u64 = 2_000;
/// A list of fields is longer than the head that it becomes by 32 bytes a field; it is the head that is refused, with a
/// reason. This is where reading lists ends.
const MORE_THAN_HEAD: usize = 4 << 10;

impl Worker {
    /// Begins to serve a client in HTTP/2.
    pub(crate) fn begin_http2(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        match std::mem::replace(&mut connection.phase, Phase::Moving) {
            Phase::Waiting(client) => self.begin_multiplex(key, client, Bytes::new()),
            other => connection.phase = other,
        }
    }

    /// The same with a client of which `before` was read already.
    pub(in crate::l7) fn begin_multiplex(&mut self, key: Key, client: Socket, before: Bytes) {
        let max_head = self.rules(key).map_or(0, |(rules, _)| rules.max_head_bytes);
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.counters.http.http2.fetch_add(1, Relaxed);
        let bell = Bell::new(Owner::Client(key), Rc::clone(&self.http.rung));
        let (shown, local) = (client.shown().cloned(), client.local_address());
        let shared = Shared::new(bell, client.is_secure(), shown, local);
        let max_list = max_head + MORE_THAN_HEAD;
        let multiplex = Multiplex::new(client, before, shared, max_list, self.now_ms);
        connection.phase = Phase::Http2(Box::new(multiplex));
        self.multiplex(key);
    }

    /// The client of such a connection is ready.
    pub(crate) fn on_http2_client(&mut self, key: Key, readiness: Readiness) {
        if let Some(connection) = self.connections.get_mut(key)
            && let Phase::Http2(multiplex) = &mut connection.phase
        {
            let socket = &mut multiplex.line.borrow_mut().socket;
            socket.note(readiness);
            if socket.gone().is_none() {
                connection.active_ms = self.now_ms;
            }
        }
        self.multiplex(key);
    }

    /// Those have their turn whom others rang.
    pub(crate) fn answer_bells(&mut self) {
        for _ in 0..PASSES {
            let rung = std::mem::take(&mut *self.http.rung.borrow_mut());
            if rung.is_empty() {
                return;
            }
            for owner in rung {
                match owner {
                    Owner::Client(key) => self.multiplex(key),
                    Owner::Backend(key) => self.drive_trunk(key),
                }
            }
        }
    }

    /// A turn of a connection with all of its streams.
    pub(crate) fn multiplex(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        match std::mem::replace(&mut connection.phase, Phase::Moving) {
            Phase::Http2(mut multiplex) => {
                multiplex.shared.bell.begin_turn();
                multiplex.line.borrow_mut().begin_turn();
                let is_tired = self.take_rounds(key, &mut multiplex);
                multiplex.shared.bell.end_turn();
                self.conclude_turn(key, multiplex, is_tired);
            }
            other => connection.phase = other,
        }
    }

    /// Lets the protocol and the streams go on as far as they can. True: they could still.
    fn take_rounds(&mut self, key: Key, multiplex: &mut Multiplex) -> bool {
        multiplex.flush();
        for _ in 0..ROUNDS {
            while let Some(asked) = multiplex.drive(self.now_ms) {
                self.open_stream(key, multiplex, asked);
            }
            multiplex.settle(self.now_ms);
            if multiplex.is_ending() {
                return false;
            }
            while let Some(slot) = multiplex.shared.bell.next() {
                self.on_slot(multiplex, slot);
            }
            if !multiplex.shared.bell.is_connection_woken() {
                return multiplex.line.borrow().has_more();
            }
        }
        true
    }

    /// A request of its own connection, as far as the engine is concerned.
    fn open_stream(&mut self, key: Key, multiplex: &mut Multiplex, (request, mut answer): Asked) {
        let Some(parent) = self.connections.get_mut(key) else {
            return;
        };
        let slot = multiplex.free_slot();
        let Some(slot) = slot.filter(|_| self.shared.descriptors.take()) else {
            return answer.send_reset(Reason::REFUSED_STREAM);
        };
        let (head, body) = request.into_parts();
        let (stream, mut feeder) = stream::pair(&multiplex.shared, slot);
        let has_body = !body.is_end_stream();
        let fed = feeder.feed(|out| as_h1::request_head(out, &head, has_body));
        let Ok(form) = fed else {
            self.shared.descriptors.give_back();
            return answer.send_reset(Reason::PROTOCOL_ERROR);
        };
        let talk = Conversation::new(Socket::stream(stream), self.now_ms);
        let connection = Connection::of_stream(parent, talk, self.now_ms);
        let stream = (self.connections.insert(connection), feeder);
        let is_head = head.method == Method::HEAD;
        multiplex.begin(slot, stream, (body, form), answer, is_head);
    }

    /// A stream has its turn.
    fn on_slot(&mut self, multiplex: &mut Multiplex, slot: usize) {
        let Some((key, fate, is_news)) = multiplex.pump(slot) else {
            return;
        };
        match fate {
            Fate::Waits | Fate::Starves if is_news => self.on_stream(key),
            Fate::Waits | Fate::Starves => {}
            Fate::Done => {
                self.close(key, "closed");
                multiplex.forget(slot, self.now_ms);
            }
            Fate::Left | Fate::Broken => {
                self.on_stream(key);
                self.cut(key, "client left");
                multiplex.forget(slot, self.now_ms);
            }
        }
    }

    fn conclude_turn(&mut self, key: Key, mut multiplex: Box<Multiplex>, is_tired: bool) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.active_ms = self.now_ms;
        if !multiplex.is_ending() {
            connection.phase = Phase::Http2(multiplex);
            if is_tired {
                self.queue(key);
            }
            return;
        }
        if let Some(flood) = multiplex.counted {
            let counters = &connection.counters.http;
            counters.floods[flood as usize].fetch_add(1, Relaxed);
            let (client, listener) = (connection.peer, &connection.route.name);
            tracing::debug!(%listener, %client, reason = flood.reason(), "a client floods");
        }
        if std::mem::take(&mut multiplex.is_at_fault) {
            let counters = &connection.counters.http;
            counters.http2_errors.fetch_add(1, Relaxed);
            let (client, listener) = (connection.peer, &connection.route.name);
            tracing::debug!(%listener, %client, "a client breaks the protocol");
        }
        let streams = multiplex.take_streams();
        let goes_on = multiplex.deliver(&mut self.room.scratch);
        multiplex.counted = None;
        connection.phase = Phase::Http2(multiplex);
        for stream in streams {
            self.cut(stream, "client left");
        }
        if !goes_on {
            self.close(key, "closed");
        }
    }

    /// Looks whether the time of a connection is over, once a second.
    pub(crate) fn look_at_multiplex(&mut self, key: Key) {
        let Some((rules, is_removed)) = self.rules(key) else {
            return self.cut(key, "no HTTP listener");
        };
        let now_ms = self.now_ms;
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let Phase::Http2(multiplex) = &mut connection.phase else {
            return;
        };
        let since_ms = now_ms.saturating_sub(multiplex.since_ms);
        let is_old = rules
            .max_age_ms
            .is_some_and(|most| now_ms >= connection.opened_ms + most);
        let is_idle = multiplex.under_way == 0;
        let patience_ms = match multiplex.has_served {
            _ if multiplex.is_ending() || multiplex.is_leaving => LINGER_MS,
            true => rules.keep_alive_ms,
            false => rules.request_timeout_ms,
        };
        if multiplex.stuck_ms(now_ms) >= rules.response_timeout_ms {
            self.cut(key, "client does not read");
        } else if is_idle && since_ms >= patience_ms && multiplex.is_leaving
            || multiplex.is_ending() && since_ms >= LINGER_MS
        {
            self.close(key, "idle");
        } else if multiplex.midway_ms(now_ms) >= rules.request_timeout_ms {
            multiplex.stop(Reason::ENHANCE_YOUR_CALM, now_ms);
            self.multiplex(key);
        } else if !multiplex.is_leaving
            && (is_removed || is_old || is_idle && since_ms >= patience_ms)
        {
            if is_idle {
                multiplex.since_ms = now_ms;
            }
            multiplex.leave(now_ms);
            self.multiplex(key);
        }
    }
}
