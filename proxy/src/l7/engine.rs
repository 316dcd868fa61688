//! HTTP on a worker: what happens when a socket of a conversation is ready, or its time is over. The one place where an
//! engine for requests meets the worker; [`exchange`](super::exchange) carries one request.

use super::answer;
use super::conversation::{Conversation, Stage, Step};
use super::fault::Fault;
use super::h2::trunks::Trunks;
use super::pool::Pool;
use super::tally;
use crate::l4::bell::Rung;
use crate::lb::ListenerId;
use crate::lb::http::HttpRules;
use crate::net::epoll::Readiness;
use crate::worker::Worker;
use crate::worker::connection::{Connection, Phase};
use crate::worker::slab::Key;
use rustix::io::Errno;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes of a conversation that may move before others have their turn.
const TURN: u64 = 256 << 10;
/// How long a client may take to hear a last answer out.
const LINGER_MS: u64 = 2_000;
/// How long an idle connection of a listener that is being removed may still bring a request.
const LAST_REQUEST_MS: u64 = 2_000;

/// What a worker has for HTTP.
#[derive(Debug)]
pub(crate) struct Http {
    pub(crate) pool: Pool,
    /// Scratch for heads and re-framed bodies.
    pub(crate) out: Vec<u8>,
    /// Listeners that were told to accept no more and are still in the table: the proxy stops.
    pub(crate) unlistened: Vec<ListenerId>,
    /// Connections to backends in HTTP/2.
    pub(crate) trunks: Trunks,
    /// Connections in HTTP/2 whose streams have something for them.
    pub(crate) rung: Rung,
}

impl Http {
    /// Room for `most_idle` idle connections to backends.
    pub(crate) fn new(most_idle: usize) -> Self {
        Self {
            pool: Pool::new(most_idle),
            out: Vec::new(),
            unlistened: Vec::new(),
            trunks: Trunks::new(),
            rung: Rung::default(),
        }
    }

    /// There are connections to backends that have to be looked at.
    pub(crate) fn keeps_any(&self) -> bool {
        self.pool.idle() > 0 || self.trunks.len() > 0
    }

    /// Somebody waits for a turn.
    pub(crate) fn is_rung(&self) -> bool {
        !self.rung.borrow().is_empty()
    }
}

/// What comes of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// Another step.
    On,
    /// Nothing until a socket is ready, or time is over.
    Wait,
    /// Others first.
    Again,
    /// Answer the request with this.
    Refuse(Fault),
    /// The connection is another protocol's from here on.
    Switch,
    /// It is HTTP/2, of which something was read ahead.
    Multiplex,
    /// Done with the connection.
    Close(&'static str),
    /// The same, with resets: what was sent is not whole.
    Cut(&'static str),
}

impl Worker {
    /// Begins to serve a client in HTTP.
    pub(crate) fn begin_http(&mut self, key: Key) {
        let now_ms = self.now_ms;
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.phase = match std::mem::replace(&mut connection.phase, Phase::Moving) {
            Phase::Waiting(client) => Phase::Http(Box::new(Conversation::new(client, now_ms))),
            other => other,
        };
        self.converse(key);
    }

    /// The client of a conversation is ready.
    pub(crate) fn on_http_client(&mut self, key: Key, readiness: Readiness) {
        if let Some(connection) = self.connections.get_mut(key)
            && let Phase::Http(talk) = &mut connection.phase
        {
            talk.client.note(readiness);
        }
        self.on_stream(key);
    }

    /// The client of a conversation may have ended or left, or have said something.
    pub(crate) fn on_stream(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && let Phase::Http(talk) = &mut connection.phase
        {
            let (is_gone, has_ended) = (talk.client.gone().is_some(), talk.client.read_closed());
            if is_gone || has_ended {
                self.on_client_gives_up(key);
            }
            if is_gone {
                return self.cut(key, "client left");
            }
        }
        self.converse(key);
    }

    /// A connection to a backend is ready.
    pub(crate) fn on_upstream(&mut self, upstream: Key, readiness: Readiness) {
        let Some(found) = self.http.pool.get_mut(upstream) else {
            return;
        };
        found.socket.note(readiness);
        match found.owner {
            Some(owner) => self.converse(owner),
            // Nothing was asked, so what it says is its end, or nothing that anybody could use.
            None if found.socket.has_spoken() => {
                self.http.pool.remove(upstream);
            }
            None => {}
        }
    }

    /// Goes on with a conversation as far as it can.
    pub(crate) fn converse(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if !matches!(connection.phase, Phase::Http(_)) {
            return;
        }
        connection.active_ms = self.now_ms;
        if let Phase::Http(mut talk) = std::mem::replace(&mut connection.phase, Phase::Moving) {
            let flow = self.go_on(key, &mut talk);
            self.conclude_talk(key, talk, flow);
        }
    }

    fn go_on(&mut self, key: Key, talk: &mut Conversation) -> Flow {
        let before = talk.moved.0 + talk.moved.1;
        loop {
            let flow = match self.step(key, talk) {
                Flow::Refuse(fault) => self.refuse_request(key, talk, fault),
                flow => flow,
            };
            if flow != Flow::On {
                return flow;
            }
            if talk.moved.0 + talk.moved.1 > before + TURN {
                return Flow::Again;
            }
        }
    }

    fn conclude_talk(&mut self, key: Key, talk: Box<Conversation>, flow: Flow) {
        if flow == Flow::Switch {
            return self.switch_protocol(key, *talk);
        }
        if flow == Flow::Multiplex {
            return self.begin_multiplex(key, talk.client, talk.ahead.into());
        }
        if let Some(connection) = self.connections.get_mut(key) {
            connection.phase = Phase::Http(talk);
        }
        match flow {
            Flow::Close(why) => self.close(key, why),
            Flow::Cut(why) => self.cut(key, why),
            Flow::Again => self.queue(key),
            Flow::On | Flow::Wait | Flow::Refuse(_) | Flow::Switch | Flow::Multiplex => {}
        }
    }

    fn step(&mut self, key: Key, talk: &mut Conversation) -> Flow {
        if talk.owed.flush(&mut talk.client).is_err() {
            return Flow::Cut("client left");
        }
        match talk.stage {
            Stage::Head if !talk.owes() => self.read_head(key, talk),
            Stage::Head => Flow::Wait,
            Stage::Exchange(_) => self.exchange(key, talk),
            Stage::Lingering => self.linger(talk),
        }
    }

    /// Throws away what comes after the last answer, until the client has heard it and ends.
    fn linger(&mut self, talk: &mut Conversation) -> Flow {
        if talk.owes() {
            return Flow::Wait;
        }
        talk.client.end_writing();
        talk.ahead.clear();
        if !talk.client.readable() {
            return Flow::Wait;
        }
        match talk.read(&mut self.room.scratch) {
            Ok(n) if n > 0 => Flow::On,
            Err(Errno::AGAIN) => Flow::Wait,
            Ok(_) | Err(_) => Flow::Close("closed"),
        }
    }

    /// Answers a request in the place of a backend; or cuts, where an answer has begun.
    pub(super) fn refuse_request(
        &mut self,
        key: Key,
        talk: &mut Conversation,
        fault: Fault,
    ) -> Flow {
        let (mut is_head, mut close) = (false, true);
        if let Some(exchange) = talk.exchange() {
            if exchange.down.is_some() {
                return Flow::Cut("backend left");
            }
            is_head = exchange.asked.is_head;
            close = exchange.close || !exchange.asked.keep_alive || !exchange.up.is_done();
            exchange.status = fault.status();
        }
        self.http.out.clear();
        answer::refusal(&mut self.http.out, fault, close, is_head);
        self.give_answer(key, talk, Some(fault), close)
    }

    /// Sends an answer of the proxy's own, which stands in the scratch.
    pub(super) fn give_answer(
        &mut self,
        key: Key,
        talk: &mut Conversation,
        fault: Option<Fault>,
        close: bool,
    ) -> Flow {
        if talk.write(&self.http.out, false).is_err() {
            return Flow::Cut("client left");
        }
        self.end_exchange(key, talk, fault);
        self.begin_stage(talk, close)
    }

    /// What comes after an answer.
    pub(super) fn begin_stage(&mut self, talk: &mut Conversation, close: bool) -> Flow {
        talk.since_ms = self.now_ms;
        talk.has_served = true;
        talk.stage = if close { Stage::Lingering } else { Stage::Head };
        Flow::On
    }

    /// Gives up what a request holds: the connection to its backend, and its place among that one's requests.
    pub(super) fn end_exchange(&mut self, key: Key, talk: &mut Conversation, fault: Option<Fault>) {
        self.forget_deadline(key);
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let exchange = match std::mem::replace(&mut talk.stage, Stage::Head) {
            Stage::Exchange(exchange) => Some(exchange),
            _ => None,
        };
        tally::count(connection, exchange.as_deref(), fault, self.now_ms);
        if self.shared.access_log {
            let reason = fault.map(Fault::reason);
            tally::log(connection, exchange.as_deref(), reason, self.now_ms);
        }
        connection.report_moved(talk.moved);
        connection.unassign();
        connection.tried.clear();
        if let Some(exchange) = exchange
            && let Some(upstream) = exchange.upstream
        {
            match exchange.reuse_ms {
                Some(reuse_ms) if fault.is_none() => {
                    self.http.pool.give_back(upstream, reuse_ms, self.now_ms);
                }
                _ => self.give_up(upstream, exchange.is_sent()),
            }
        }
    }

    /// The connection is dropped, and its request with it.
    pub(crate) fn abandon(&mut self, connection: &Connection, talk: &mut Conversation, why: &str) {
        let Some(exchange) = talk.exchange() else {
            return;
        };
        if self.shared.access_log {
            tally::log(connection, Some(&*exchange), Some(why), self.now_ms);
        }
        if let Some(upstream) = exchange.upstream.take() {
            self.give_up(upstream, false);
        }
    }

    /// Closes a connection to a backend. A request that was not sent whole must not look as if it were.
    fn give_up(&mut self, upstream: Key, is_whole: bool) {
        if let Some(mut upstream) = self.http.pool.remove(upstream)
            && !is_whole
        {
            upstream.socket.reset_on_close();
        }
    }

    /// The rules that a connection's next request goes by.
    /// The second value: its listener takes no new connections.
    pub(super) fn rules(&mut self, key: Key) -> Option<(Arc<HttpRules>, bool)> {
        let route = &self.connections.get_mut(key)?.route;
        let current = self.table.listener(route.id);
        let is_removed = current.is_none() || self.http.unlistened.contains(&route.id);
        let rules = current.unwrap_or(route).http.as_ref()?;
        Some((Arc::clone(rules), is_removed))
    }

    /// Looks whether a conversation's time is over, once a second.
    pub(crate) fn look_at_talk(&mut self, key: Key) {
        let Some((rules, is_removed)) = self.rules(key) else {
            return self.cut(key, "no HTTP listener");
        };
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let silent_ms = self.now_ms.saturating_sub(connection.active_ms);
        let Phase::Http(talk) = &mut connection.phase else {
            return;
        };
        let since_ms = self.now_ms.saturating_sub(talk.since_ms);
        let (has_begun, is_owed) = (!talk.ahead.is_empty(), talk.owes());
        let (stage, is_new) = (talk.overview(), !talk.has_served);
        match stage {
            _ if is_owed && silent_ms >= rules.response_timeout_ms => {
                self.cut(key, "client does not read");
            }
            Overview::Head if has_begun || is_new => {
                let is_over = since_ms >= rules.request_timeout_ms;
                let fault = has_begun.then_some(Fault::HeadTimeout);
                if is_over {
                    self.end_of_patience(key, fault);
                }
            }
            Overview::Head => {
                let limit = if is_removed {
                    LAST_REQUEST_MS
                } else {
                    rules.keep_alive_ms
                };
                if since_ms >= limit {
                    self.close(key, "idle");
                }
            }
            Overview::Receiving if silent_ms >= rules.request_timeout_ms => {
                self.end_of_patience(key, Some(Fault::BodyTimeout));
            }
            Overview::Answering if silent_ms >= rules.response_timeout_ms => {
                self.blame(key);
                self.end_of_patience(key, Some(Fault::ResponseTimeout));
            }
            Overview::Lingering if since_ms >= LINGER_MS => self.close(key, "closed"),
            _ => {}
        }
    }

    /// Ends what a conversation does with `fault`, or without a word.
    fn end_of_patience(&mut self, key: Key, fault: Option<Fault>) {
        let Some(fault) = fault else {
            return self.close(key, "idle");
        };
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let Phase::Http(mut talk) = std::mem::replace(&mut connection.phase, Phase::Moving) else {
            return;
        };
        if let Some(exchange) = talk.exchange() {
            exchange.close = true;
        }
        let flow = match self.refuse_request(key, &mut talk, fault) {
            Flow::On => self.go_on(key, &mut talk),
            flow => flow,
        };
        self.conclude_talk(key, talk, flow);
    }

    /// A dial or a wait of a request is over its time.
    pub(crate) fn on_http_deadline(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let Phase::Http(mut talk) = std::mem::replace(&mut connection.phase, Phase::Moving) else {
            return;
        };
        let flow = match talk.exchange().map(|exchange| exchange.step) {
            Some(Step::Waiting) => self.seek(key, &mut talk, true),
            Some(Step::Dialing) => self.on_request_dial_timeout(key, &mut talk),
            _ => {
                self.forget_deadline(key);
                Flow::Wait
            }
        };
        let flow = match flow {
            Flow::Refuse(fault) => self.refuse_request(key, &mut talk, fault),
            flow => flow,
        };
        let flow = if flow == Flow::On {
            self.go_on(key, &mut talk)
        } else {
            flow
        };
        self.conclude_talk(key, talk, flow);
    }

    /// After a publish: requests that look for a backend look again, and no idle connection leads to one that is gone.
    pub(crate) fn redo_request(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let is_closed = connection
            .backend
            .as_ref()
            .is_some_and(|backend| backend.closed.load(Relaxed));
        let Phase::Http(talk) = &mut connection.phase else {
            return;
        };
        let Some(exchange) = talk.exchange() else {
            return;
        };
        match exchange.step {
            Step::Waiting => {}
            Step::Dialing if is_closed => {
                let upstream = exchange.upstream.take();
                exchange.step = Step::Seeking;
                connection.unassign();
                if let Some(upstream) = upstream {
                    self.http.pool.remove(upstream);
                }
                return self.converse(key);
            }
            _ => return,
        }
        exchange.step = Step::Seeking;
        self.converse(key);
    }
}

/// What a conversation waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overview {
    Head,
    /// The rest of the client's request.
    Receiving,
    /// The backend.
    Answering,
    /// A backend, or its connection, which has a deadline of its own.
    Seeking,
    Lingering,
}

impl Conversation {
    fn overview(&self) -> Overview {
        match &self.stage {
            Stage::Head => Overview::Head,
            Stage::Exchange(exchange) if exchange.step != Step::Open => Overview::Seeking,
            Stage::Exchange(exchange)
                if !exchange.up.is_done()
                    && exchange.sent == exchange.request.len()
                    && exchange.down.is_none() =>
            {
                Overview::Receiving
            }
            Stage::Exchange(_) => Overview::Answering,
            Stage::Lingering => Overview::Lingering,
        }
    }
}
