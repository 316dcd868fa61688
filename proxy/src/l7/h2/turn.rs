//! A client's connection of HTTP/2 with all of its streams, as far as it knows no worker: what it may have, and how far it
//! has come.

use super::as_h1::Form;
use super::flows::Fate;
use super::frames::{Flood, Frames};
use super::line::{Carrier, Line};
use super::reply::Exchanged;
use crate::l4::bell::SLOTS;
use crate::l4::socket::Socket;
use crate::l4::stream::{Feeder, Shared};
use crate::worker::slab::Key;
use bytes::Bytes;
use h2::server::{Builder, Connection, Handshake, SendResponse};
use h2::{Reason, RecvStream};
use rustix::io::Errno;
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Requests that a client may have under way at once.
const STREAMS: u32 = 100;
/// Bytes of one request's body that may be on their way unasked.
const STREAM_WINDOW: u32 = 64 << 10;
/// The same of all requests of a connection together.
const WINDOW: u32 = 1 << 20;
/// Bytes of one answer that the protocol machine takes before it has sent them.
const SEND_BUFFER: usize = 64 << 10;
/// The same of all answers of a connection together. With what waits in streams it makes 1 MiB.
const SEND_BUDGET: usize = 256 << 10;
/// Requests that a client took back before anybody has seen them.
const UNSEEN_RESETS: usize = 20;
/// Streams that the client made the protocol machine reset.
const FAULTY_RESETS: usize = 100;

/// A request as it comes.
pub(super) type Asked = (http::Request<RecvStream>, SendResponse<Bytes>);

/// One client's connection.
pub(crate) struct Multiplex {
    pub(super) line: Rc<RefCell<Line>>,
    pub(super) shared: Rc<Shared>,
    stage: Stage,
    streams: Vec<Option<Box<Exchanged>>>,
    /// By slot.
    wakers: Vec<Waker>,
    /// Streams under way.
    pub(super) under_way: usize,
    /// Bytes of answers that the protocol machine has, and that were not sent.
    unsent: usize,
    /// Slots whose streams wait for that to become less.
    starving: Vec<usize>,
    /// What the client does too much of, once it was counted.
    pub(super) counted: Option<Flood>,
    /// The client broke the protocol, which was not counted yet.
    pub(super) is_at_fault: bool,
    /// It was told to ask no more.
    pub(super) is_leaving: bool,
    /// It has had a request.
    pub(super) has_served: bool,
    /// When its stage began, or its last stream ended.
    pub(super) since_ms: u64,
    /// Bytes that the client has taken, and since when it takes no more of what waits for it.
    taken: u64,
    stuck_since_ms: Option<u64>,
    /// The frame or head that the client is in the middle of, and since when.
    midway: Option<(u64, u64)>,
}

enum Stage {
    Greeting(Box<Handshake<Carrier, Bytes>>),
    Open(Box<Connection<Carrier, Bytes>>),
    /// The last bytes are being delivered.
    Ending {
        has_ended: bool,
    },
}

impl fmt::Debug for Multiplex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Multiplex")
            .field("line", &self.line)
            .field("under_way", &self.under_way)
            .finish_non_exhaustive()
    }
}

impl Multiplex {
    /// A connection that begins, of which `before` was read already; lists of fields may have `max_list` bytes.
    pub(super) fn new(
        socket: Socket,
        before: Bytes,
        shared: Rc<Shared>,
        max_list: usize,
        now_ms: u64,
    ) -> Self {
        let line = Line::new(socket, before, Some(Frames::new()));
        let line = Rc::new(RefCell::new(line));
        let handshake = Builder::new()
            .max_concurrent_streams(STREAMS)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_header_list_size(u32::try_from(max_list).unwrap_or(u32::MAX))
            .max_send_buffer_size(SEND_BUFFER)
            .max_pending_accept_reset_streams(UNSEEN_RESETS)
            .max_local_error_reset_streams(Some(FAULTY_RESETS))
            .handshake(Carrier(Rc::clone(&line)));
        Self {
            line,
            shared,
            stage: Stage::Greeting(Box::new(handshake)),
            streams: Vec::new(),
            wakers: Vec::new(),
            under_way: 0,
            unsent: 0,
            starving: Vec::new(),
            counted: None,
            is_at_fault: false,
            is_leaving: false,
            has_served: false,
            since_ms: now_ms,
            taken: 0,
            stuck_since_ms: None,
            midway: None,
        }
    }

    /// Bytes from and to the client.
    pub(crate) fn moved(&self) -> (u64, u64) {
        self.line.borrow().moved
    }

    /// From here on it needs no address of this host.
    ///
    /// # Errors
    /// As [`Socket::detach`].
    pub(crate) fn detach(&self, ipv6: bool) -> Result<(), Errno> {
        self.line.borrow().socket.detach(ipv6)
    }

    /// Makes the coming close a reset.
    pub(crate) fn reset_on_close(&self) {
        self.line.borrow_mut().socket.reset_on_close();
    }

    /// Drives the protocol: the next request, if one has come whole.
    pub(super) fn drive(&mut self, now_ms: u64) -> Option<Asked> {
        let shared = Rc::clone(&self.shared);
        let bell = &shared.bell;
        let has_room = self.under_way < SLOTS;
        loop {
            bell.take_connection();
            let waker = bell.waker();
            let context = &mut Context::from_waker(&waker);
            let flood = self.line.borrow().flood;
            let end = match &mut self.stage {
                Stage::Greeting(_) if flood.is_some() => None,
                Stage::Greeting(handshake) => match Pin::new(handshake).poll(context) {
                    Poll::Ready(Ok(connection)) => {
                        self.stage = Stage::Open(Box::new(connection));
                        continue;
                    }
                    Poll::Ready(Err(error)) => Some(error),
                    Poll::Pending => return None,
                },
                Stage::Open(connection) if has_room => match connection.poll_accept(context) {
                    Poll::Ready(Some(Ok(asked))) => return Some(asked),
                    Poll::Ready(Some(Err(error))) => Some(error),
                    Poll::Ready(None) => None,
                    Poll::Pending => return self.on_pending(),
                },
                Stage::Open(connection) => match connection.poll_closed(context) {
                    Poll::Ready(closed) => closed.err(),
                    Poll::Pending => return self.on_pending(),
                },
                Stage::Ending { .. } => return None,
            };
            self.end(end.as_ref(), now_ms);
        }
    }

    /// The protocol has nothing more to do: a flood is answered before it goes on.
    fn on_pending(&mut self) -> Option<Asked> {
        if let Some(flood) = self.line.borrow().flood
            && self.counted.replace(flood).is_none()
            && let Stage::Open(connection) = &mut self.stage
        {
            connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            self.shared.bell.waker().wake();
        }
        None
    }

    fn end(&mut self, error: Option<&h2::Error>, now_ms: u64) {
        if let Some(error) = error {
            tracing::debug!(%error, "HTTP/2 is broken off");
            let line = self.line.borrow();
            match error.reason().filter(|_| !error.is_remote()) {
                Some(Reason::ENHANCE_YOUR_CALM) => {
                    let suspect = line.frames.as_ref().map(Frames::suspect);
                    self.counted = self.counted.or(suspect);
                }
                reason => self.is_at_fault = reason.is_some_and(|why| why != Reason::NO_ERROR),
            }
        }
        self.since_ms = now_ms;
        self.stage = Stage::Ending { has_ended: false };
    }

    /// Asks the client for no more requests.
    pub(super) fn leave(&mut self, now_ms: u64) {
        self.is_leaving = true;
        match &mut self.stage {
            Stage::Open(connection) => connection.graceful_shutdown(),
            Stage::Greeting(_) => self.end(None, now_ms),
            Stage::Ending { .. } => {}
        }
    }

    /// Breaks the connection off, with `reason`.
    pub(super) fn stop(&mut self, reason: Reason, now_ms: u64) {
        match &mut self.stage {
            Stage::Open(connection) => connection.abrupt_shutdown(reason),
            Stage::Greeting(_) => self.end(None, now_ms),
            Stage::Ending { .. } => {}
        }
    }

    /// Nothing but the last bytes is left of it.
    pub(super) fn is_ending(&self) -> bool {
        matches!(self.stage, Stage::Ending { .. })
    }

    /// Delivers the last bytes. False: that is over.
    pub(super) fn deliver(&mut self, room: &mut [u8]) -> bool {
        let mut line = self.line.borrow_mut();
        line.flush();
        if let Stage::Ending { has_ended } = &mut self.stage
            && line.is_flushed()
            && !std::mem::replace(has_ended, true)
        {
            line.socket.end_writing();
        }
        // Whoever floods is not heard out.
        self.counted.is_none() && line.discard(room)
    }

    /// A slot for another stream.
    pub(super) fn free_slot(&mut self) -> Option<usize> {
        let free = self.streams.iter().position(Option::is_none);
        let slot = free.unwrap_or(self.streams.len());
        if slot >= SLOTS {
            return None;
        }
        if free.is_none() {
            self.streams.push(None);
            self.wakers.push(self.shared.bell.waker_of(slot));
        }
        Some(slot)
    }

    /// A request is under way, at `slot`.
    pub(super) fn begin(
        &mut self,
        slot: usize,
        (key, feeder): (Key, Feeder),
        body: (RecvStream, Form),
        answer: SendResponse<Bytes>,
        is_head: bool,
    ) {
        let stream = Exchanged::new(key, feeder, body, answer, is_head);
        self.streams[slot] = Some(Box::new(stream));
        self.under_way += 1;
        self.has_served = true;
        self.shared.bell.ring(slot);
    }

    /// Moves the bytes of the stream at `slot`: its key, what becomes of it, and whether the engine has to be told.
    pub(super) fn pump(&mut self, slot: usize) -> Option<(Key, Fate, bool)> {
        let stream = self.streams.get_mut(slot)?.as_mut()?;
        let mut budget = SEND_BUDGET.saturating_sub(self.unsent);
        let (before, was_answered) = (budget, stream.is_answered());
        let fate = stream.pump(&mut Context::from_waker(&self.wakers[slot]), &mut budget);
        let sent = before - budget;
        self.unsent += sent;
        let mut line = self.line.borrow_mut();
        if let Some(frames) = &mut line.frames {
            frames.earn(u64::from(sent > 0));
            if !was_answered && (stream.is_answered() || fate == Fate::Done) {
                frames.answer();
            }
        }
        match fate {
            Fate::Starves => self.starving.push(slot),
            Fate::Left => stream.feeder.reset(),
            Fate::Broken => stream.reset(Reason::INTERNAL_ERROR),
            Fate::Waits | Fate::Done => {}
        }
        Some((stream.key, fate, stream.feeder.take_news()))
    }

    /// The stream at `slot` is over.
    pub(super) fn forget(&mut self, slot: usize, now_ms: u64) {
        if self.streams[slot].take().is_some() {
            self.under_way -= 1;
            self.since_ms = now_ms;
        }
    }

    /// The engine's connections of all streams, which are forgotten.
    pub(crate) fn take_streams(&mut self) -> Vec<Key> {
        self.under_way = 0;
        let streams = self.streams.drain(..).flatten();
        let keys = streams.map(|stream| stream.key).collect();
        self.wakers.clear();
        keys
    }

    /// Sends what was gathered.
    pub(super) fn flush(&self) {
        self.line.borrow_mut().flush();
    }

    /// Everything that the protocol had was gathered: takes in how much of it could be sent. Streams that waited for that
    /// have their turn.
    pub(super) fn settle(&mut self, now_ms: u64) {
        self.flush();
        let line = self.line.borrow();
        let is_stuck = line.is_blocked() && line.moved.1 == self.taken;
        self.taken = line.moved.1;
        self.stuck_since_ms = is_stuck.then(|| self.stuck_since_ms.unwrap_or(now_ms));
        if !line.is_blocked() {
            self.unsent = 0;
            for slot in self.starving.drain(..) {
                self.shared.bell.ring(slot);
            }
        }
        let midway = line.frames.as_ref().and_then(Frames::midway);
        self.midway = match (midway, self.midway) {
            (Some(now), Some((before, since_ms))) if now == before => Some((before, since_ms)),
            (Some(now), _) => Some((now, now_ms)),
            (None, _) => None,
        };
    }

    /// For how long the client has taken nothing of what waits for it.
    pub(super) fn stuck_ms(&self, now_ms: u64) -> u64 {
        let since_ms = self.stuck_since_ms;
        since_ms.map_or(0, |since_ms| now_ms.saturating_sub(since_ms))
    }

    /// For how long the client has been in the middle of one frame, or of one head.
    pub(super) fn midway_ms(&self, now_ms: u64) -> u64 {
        let since_ms = self.midway.map(|(_, since_ms)| since_ms);
        since_ms.map_or(0, |since_ms| now_ms.saturating_sub(since_ms))
    }
}
