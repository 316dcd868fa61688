//! One request, from its head to the end of its answer: where it goes, and its bytes both ways.

use super::answer;
use super::conversation::{Asked, Conversation, Exchange, Stage};
use super::engine::Flow;
use super::fault::Fault;
use super::forward::{self, From, Onward};
use super::h1::body::{Body, Passed};
use super::h1::framing::{self, Length, RequestFacts, ResponseFacts};
use super::h1::head::{self, Request, Version};
use super::h2::frames::PREFACE;
use super::pool::IDLE_MS;
use super::redirect;
use super::retry::REPLAY;
use crate::lb::http::HttpRules;
use crate::lb::routes::Found;
use crate::worker::Worker;
use crate::worker::slab::Key;
use rustix::io::Errno;

/// Bytes that one direction may move before the other has its turn.
const TURN: usize = 128 << 10;
/// Bytes that a backend's head may have.
const MAX_ANSWER_HEAD: usize = 60 << 10;
/// The longest that a backend's own word is believed of how long it keeps an idle connection.
const MAX_IDLE_MS: u64 = 60_000;

impl Worker {
    /// Reads a request's head, or a part of it.
    pub(super) fn read_head(&mut self, key: Key, talk: &mut Conversation) -> Flow {
        let mut room = std::mem::take(&mut self.room.scratch);
        let read = match talk.next_head(&mut room) {
            Ok(read) => read,
            Err(flow) => {
                self.room.scratch = room;
                return flow;
            }
        };
        let flow = self.on_head(key, talk, &room[..read]);
        self.room.scratch = room;
        flow
    }

    fn on_head(&mut self, key: Key, talk: &mut Conversation, bytes: &[u8]) -> Flow {
        let Some((rules, is_removed)) = self.rules(key) else {
            return Flow::Cut("no HTTP listener");
        };
        let mut fields = head::fields();
        match head::request(bytes, &mut fields, rules.max_head_bytes) {
            Ok(Some(head)) => {
                talk.is_in_head = false;
                let rest = &bytes[head.length..];
                let begun = self.begin_exchange(key, talk, &rules, is_removed, &head, rest);
                begun.unwrap_or_else(Flow::Refuse)
            }
            Ok(None) => {
                talk.begin_head(self.now_ms);
                talk.keep_ahead(bytes);
                Flow::On
            }
            Err(fault) => match self.look_for_http2(talk, bytes) {
                Some(flow) => flow,
                None => Flow::Refuse(fault),
            },
        }
    }

    /// What is no request may be how HTTP/2 begins, or a part of that. Over TLS it is agreed on before.
    fn look_for_http2(&self, talk: &mut Conversation, bytes: &[u8]) -> Option<Flow> {
        let n = bytes.len().min(PREFACE.len());
        if talk.has_served || !talk.client.is_plain() || bytes[..n] != PREFACE[..n] {
            return None;
        }
        talk.keep_ahead(bytes);
        if n == PREFACE.len() {
            return Some(Flow::Multiplex);
        }
        talk.begin_head(self.now_ms);
        Some(Flow::On)
    }

    /// Decides what is done with a request.
    fn begin_exchange(
        &mut self,
        key: Key,
        talk: &mut Conversation,
        rules: &HttpRules,
        is_removed: bool,
        head: &Request<'_, '_>,
        rest: &[u8],
    ) -> Result<Flow, Fault> {
        let facts = framing::request(head)?;
        let Some(connection) = self.connections.get_mut(key) else {
            return Ok(Flow::Close("closed"));
        };
        let now_ms = self.now_ms;
        let is_old = rules
            .max_age_ms
            .is_some_and(|most| now_ms >= connection.opened_ms + most);
        let via = connection.via.as_ref();
        let from = From {
            client: connection.peer,
            port: via.map_or(rules.port, |via| via.destination.port()),
            is_tls: connection.route.tls.is_some(),
            is_trusted: rules.trusts(via.map_or(connection.peer, |via| via.peer).ip()),
        };
        let mut exchange = Exchange::new(Asked::new(head.version, &facts), now_ms);
        exchange.max_body = rules.max_body_bytes;
        exchange.close = !facts.keep_alive || is_removed || is_old || rules.keep_alive_ms == 0;
        if self.shared.access_log {
            let line = format!("{} {}{}", head.method, facts.host, facts.path_and_query);
            exchange.line = Some(line.into());
        }
        exchange.request.reserve(head.length + 256 + rest.len());
        forward::request_head(&mut exchange.request, head, &facts, &from);
        exchange.up = Body::new(facts.length, true);
        let is_too_long = matches!(facts.length, Length::Exactly(n) if n > rules.max_body_bytes);
        let body = pass(
            &mut exchange.up,
            rest,
            &mut exchange.request,
            exchange.max_body,
        );
        let tls = connection.route.tls.as_ref();
        let is_misdirected = talk
            .client
            .shown()
            .is_some_and(|shown| tls.is_some_and(|tls| tls.is_misdirected(shown, facts.host)));
        let found = rules.routes.find(facts.host, facts.path_and_query);
        if let Some(Found::Forward(set)) = found {
            exchange.set = Some(set);
            (exchange.goes_by_cookie, exchange.held) = self.held_by_cookie(set, head);
        }
        talk.keep_ahead(&rest[*body.as_ref().unwrap_or(&0)..]);
        talk.stage = Stage::Exchange(Box::new(exchange));
        body?;
        match found {
            _ if is_misdirected => Err(Fault::Misdirected),
            _ if is_too_long => Err(Fault::BodyTooLarge),
            None => Err(Fault::NoRoute),
            Some(Found::Forward(_)) => Ok(Flow::On),
            Some(Found::Redirect { to, matched }) => {
                Ok(self.send_elsewhere(key, talk, &facts, to, matched))
            }
        }
    }

    /// Answers with a redirect.
    fn send_elsewhere(
        &mut self,
        key: Key,
        talk: &mut Conversation,
        facts: &RequestFacts<'_>,
        to: &podline_api::Redirect,
        matched: usize,
    ) -> Flow {
        let Some(exchange) = talk.exchange() else {
            return Flow::Wait;
        };
        let close = exchange.close || !exchange.up.is_done();
        exchange.status = to.status;
        let asked = redirect::Asked {
            host: facts.host,
            path_and_query: facts.path_and_query,
            is_tls: talk.client.is_secure(),
            matched,
        };
        let Some(location) = redirect::location(to, &asked) else {
            return Flow::Refuse(Fault::BadHost);
        };
        self.http.out.clear();
        answer::redirect(
            &mut self.http.out,
            to.status,
            &location,
            close,
            facts.is_head,
        );
        self.give_answer(key, talk, None, close)
    }

    /// Carries bytes both ways, as far as they go.
    pub(super) fn carry(&mut self, key: Key, talk: &mut Conversation) -> Flow {
        let mut room = std::mem::take(&mut self.room.scratch);
        let mut out = std::mem::take(&mut self.http.out);
        let up = self.send_up(talk, &mut room);
        let flow = match up {
            Flow::Wait | Flow::On => match self.bring_down(key, talk, &mut room, &mut out) {
                Flow::Wait => up,
                flow => flow,
            },
            flow => flow,
        };
        self.room.scratch = room;
        self.http.out = out;
        flow
    }

    /// Sends what the backend takes of the request. [`Flow::On`]: there may be more.
    fn send_up(&mut self, talk: &mut Conversation, room: &mut [u8]) -> Flow {
        let mut budget = TURN;
        loop {
            let Some(exchange) = talk.exchange() else {
                return Flow::Wait;
            };
            let Some(upstream) = exchange
                .upstream
                .and_then(|key| self.http.pool.get_mut(key))
            else {
                return Flow::Wait;
            };
            if exchange.is_cut || !exchange.write_to(&mut upstream.socket) || exchange.up.is_done()
            {
                return Flow::Wait;
            }
            if exchange.request.len() >= REPLAY {
                exchange.is_whole = false;
            }
            if !exchange.is_whole {
                exchange.request.clear();
                exchange.sent = 0;
            }
            let most = upstream.socket.room().min(room.len());
            if !talk.client.readable() || most == 0 {
                return Flow::Wait;
            }
            if budget == 0 {
                return Flow::On;
            }
            let before = talk.ahead.len();
            let end = room.len().min(before + most);
            let n = match talk.read(&mut room[..end]) {
                Ok(0) => return Flow::Cut("client left"),
                Ok(n) => n,
                Err(Errno::AGAIN) => return Flow::Wait,
                Err(_) => return Flow::Cut("client left"),
            };
            budget = budget.saturating_sub(n);
            let Stage::Exchange(exchange) = &mut talk.stage else {
                return Flow::Wait;
            };
            let most = exchange.max_body;
            match pass(&mut exchange.up, &room[..n], &mut exchange.request, most) {
                Ok(consumed) => talk.keep_ahead(&room[consumed..n]),
                Err(fault) => return Flow::Refuse(fault),
            }
        }
    }

    /// Brings the client what it takes of the answer.
    fn bring_down(
        &mut self,
        key: Key,
        talk: &mut Conversation,
        room: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Flow {
        let mut budget = TURN;
        loop {
            let most = talk.client.room();
            if !talk.owed.is_empty() || most == 0 {
                return Flow::Wait;
            }
            let Some(exchange) = talk.exchange() else {
                return Flow::Wait;
            };
            let Some(upstream) = exchange
                .upstream
                .and_then(|key| self.http.pool.get_mut(key))
            else {
                return Flow::Wait;
            };
            if !upstream.socket.readable() {
                return match upstream.socket.gone() {
                    Some(_) => self.on_lost(key, talk),
                    None => Flow::Wait,
                };
            }
            if budget == 0 {
                return Flow::On;
            }
            let before = exchange.partial.len();
            let end = room.len().min(before.saturating_add(most));
            let n = match upstream.socket.read(&mut room[before..end]) {
                Ok((0, _)) => return self.on_answer_end(key, talk, out),
                Ok((n, _)) => n,
                Err(Errno::AGAIN) => return Flow::Wait,
                Err(_) => return self.on_lost(key, talk),
            };
            room[..before].copy_from_slice(&exchange.partial);
            exchange.partial.clear();
            exchange.is_answered = true;
            budget = budget.saturating_sub(n);
            out.clear();
            let flow = self.on_answer(key, talk, &room[..before + n], out);
            if flow != Flow::On || !matches!(talk.stage, Stage::Exchange(_)) {
                return flow;
            }
        }
    }

    /// Takes in bytes of an answer.
    fn on_answer(
        &mut self,
        key: Key,
        talk: &mut Conversation,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Flow {
        let mut bytes = bytes;
        loop {
            let Some(exchange) = talk.exchange() else {
                return Flow::Wait;
            };
            if exchange.down.is_some() {
                return self.on_answer_body(key, talk, bytes, out);
            }
            let mut fields = head::fields();
            let head = match head::response(bytes, &mut fields, MAX_ANSWER_HEAD) {
                Ok(Some(head)) => head,
                Ok(None) => {
                    exchange.partial.extend_from_slice(bytes);
                    return talk.tell(out);
                }
                Err(fault) => return Flow::Refuse(fault),
            };
            let asked = exchange.asked;
            let facts = match framing::response(&head, asked.is_head, asked.upgrade) {
                Ok(facts) => facts,
                Err(fault) => return Flow::Refuse(fault),
            };
            bytes = &bytes[head.length..];
            if facts.is_interim {
                if asked.version == Version::Http11 {
                    let onward = Onward {
                        version: asked.version,
                        close: false,
                    };
                    forward::response_head(out, &head, &facts, onward, b"");
                }
                if bytes.is_empty() {
                    return talk.tell(out);
                }
                continue;
            }
            exchange.expect_body(&facts, head.status);
            let onward = Onward {
                version: asked.version,
                close: exchange.close,
            };
            let cookie = self.cookie_to_set(key, talk);
            forward::response_head(out, &head, &facts, onward, &cookie);
            if facts.switches {
                out.extend_from_slice(bytes);
                return match talk.tell(out) {
                    Flow::On => Flow::Switch,
                    flow => flow,
                };
            }
        }
    }

    /// Takes in bytes of an answer's body; its head, if it has just come, stands in `out`.
    fn on_answer_body(
        &mut self,
        key: Key,
        talk: &mut Conversation,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Flow {
        let Stage::Exchange(exchange) = &mut talk.stage else {
            return Flow::Wait;
        };
        let Some(down) = &mut exchange.down else {
            return Flow::Wait;
        };
        let is_told = out.is_empty();
        let passed = if down.is_done() {
            Ok(Passed::AsTheyAre(0))
        } else {
            down.take(bytes, out, u64::MAX)
        };
        let (consumed, as_they_are) = match passed {
            Ok(Passed::AsTheyAre(n)) => (n, n),
            Ok(Passed::Rewritten(n)) => (n, 0),
            Err(_) if is_told => return Flow::Cut("bad response"),
            // Its head has not been sent, so there can still be another answer.
            Err(_) => {
                exchange.down = None;
                return Flow::Refuse(Fault::BadResponse);
            }
        };
        let (is_done, is_last) = (down.is_done(), exchange.close && exchange.is_sent());
        if is_done && consumed < bytes.len() {
            exchange.reuse_ms = None; // nobody asked for what comes after
        } else {
            exchange.partial.extend_from_slice(&bytes[consumed..]);
        }
        let written = if out.is_empty() {
            talk.write(&bytes[..as_they_are], is_done && is_last)
        } else {
            out.extend_from_slice(&bytes[..as_they_are]);
            talk.write(out, is_done && is_last)
        };
        if written.is_err() {
            return Flow::Cut("client left");
        }
        if is_done {
            return self.finish(key, talk);
        }
        Flow::On
    }

    /// The backend has ended its connection.
    fn on_answer_end(&mut self, key: Key, talk: &mut Conversation, out: &mut Vec<u8>) -> Flow {
        out.clear();
        let Some(exchange) = talk.exchange() else {
            return Flow::Wait;
        };
        exchange.reuse_ms = None;
        let Some(down) = &mut exchange.down else {
            return self.on_lost(key, talk);
        };
        if !down.end(out) {
            return Flow::Cut("backend left");
        }
        match talk.tell(out) {
            Flow::On => self.finish(key, talk),
            flow => flow,
        }
    }

    /// The answer is whole, and with the client or owed to it.
    fn finish(&mut self, key: Key, talk: &mut Conversation) -> Flow {
        let Some(exchange) = talk.exchange() else {
            return Flow::Wait;
        };
        let is_sent = exchange.is_sent();
        if !is_sent {
            exchange.reuse_ms = None;
        }
        let close = exchange.close || !is_sent;
        self.end_exchange(key, talk, None);
        // A close with unread bytes in the queue would be a reset, and could overtake the answer.
        let is_quiet = is_sent && talk.ahead.is_empty() && !talk.client.readable();
        if close && is_quiet && !talk.owes() {
            return Flow::Close("closed");
        }
        self.begin_stage(talk, close)
    }
}

impl Conversation {
    /// A part of a head is there.
    fn begin_head(&mut self, now_ms: u64) {
        if !std::mem::replace(&mut self.is_in_head, true) {
            self.since_ms = now_ms;
        }
    }

    /// Brings what may be a head into `room`; how long it is.
    fn next_head(&mut self, room: &mut [u8]) -> Result<usize, Flow> {
        if !self.is_in_head && !self.ahead.is_empty() {
            let ahead = std::mem::take(&mut self.ahead);
            room[..ahead.len()].copy_from_slice(&ahead);
            return Ok(ahead.len());
        }
        if !self.client.readable() {
            return Err(Flow::Wait);
        }
        match self.read(room) {
            Ok(0) => Err(Flow::Close("closed")),
            Ok(read) => Ok(read),
            Err(Errno::AGAIN) => Err(Flow::Wait),
            Err(_) => Err(Flow::Cut("client left")),
        }
    }

    /// Writes `bytes` to the client, if there are any.
    fn tell(&mut self, bytes: &[u8]) -> Flow {
        if !bytes.is_empty() && self.write(bytes, false).is_err() {
            return Flow::Cut("client left");
        }
        Flow::On
    }
}

impl Exchange {
    /// Writes what stands there of the request. Whether all of it was taken.
    fn write_to(&mut self, socket: &mut crate::l4::socket::Socket) -> bool {
        if self.sent == self.request.len() {
            return true;
        }
        if !socket.writable() {
            return false;
        }
        match socket.write(&self.request[self.sent..], false) {
            Ok(sent) => self.sent += sent,
            Err(Errno::AGAIN) => return false,
            Err(_) => {
                // It may have answered before it went away.
                self.is_cut = true;
                socket.suspect_readable();
                return false;
            }
        }
        self.sent == self.request.len()
    }

    /// The head of the answer is there.
    fn expect_body(&mut self, facts: &ResponseFacts, status: u16) {
        let as_chunks = self.asked.version == Version::Http11;
        let has_end = matches!(facts.length, Length::None | Length::Exactly(_));
        self.status = status;
        self.close |= !self.is_sent() || !(as_chunks || has_end);
        self.reuse_ms = facts.keep_alive.then(|| {
            let told = facts
                .idle_timeout_s
                .map(|seconds| u64::from(seconds) * 1_000);
            // A part of what it says, so that its end does not cross a request.
            told.map_or(IDLE_MS, |told| (told / 5 * 4).min(MAX_IDLE_MS))
        });
        self.down = Some(Body::new(facts.length, as_chunks));
    }
}

/// Takes in bytes of a body and appends them to `out` as they go on; how many were consumed.
fn pass(body: &mut Body, bytes: &[u8], out: &mut Vec<u8>, most: u64) -> Result<usize, Fault> {
    if body.is_done() {
        return Ok(0);
    }
    match body.take(bytes, out, most)? {
        Passed::AsTheyAre(n) => {
            out.extend_from_slice(&bytes[..n]);
            Ok(n)
        }
        Passed::Rewritten(n) => Ok(n),
    }
}
