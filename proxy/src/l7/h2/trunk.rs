//! A connection to a backend in HTTP/2, shared by the requests that a worker has for it; knows no worker.

use super::carried::{Carried, End, Towards};
use super::line::{Carrier, Line};
use crate::l4::bell::Bell;
use crate::l4::sealed::HandshakeFailed;
use crate::l4::socket::Socket;
use crate::l4::stream::{self, Feeder, Shared, Stream};
use crate::lb::backend::BackendRuntime;
use crate::proxy_header;
use crate::tls::backend::BackendRules;
use crate::tls::listener::H2;
use crate::tls::session::Session;
use crate::worker::slab::Key;
use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use http::uri::Scheme;
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Requests that one connection has at once, where the backend allows as many.
const STREAMS: usize = 100;
/// Bytes of one answer that may be on their way unasked.
const STREAM_WINDOW: u32 = 64 << 10;
/// The same of all answers of a connection together.
const WINDOW: u32 = 1 << 20;
/// Bytes that an answer's head may have.
const MAX_HEAD: u32 = 60 << 10;
/// Bytes of one request that the protocol machine takes before it has sent them.
const SEND_BUFFER: usize = 64 << 10;
/// The same of all requests of a connection together.
const SEND_BUDGET: usize = 256 << 10;
/// Times that protocol and streams have their turn before other connections do.
const ROUNDS: usize = 16;
/// How long a connection without requests is kept. A backend that ends it before says so, and loses nothing.
const IDLE_MS: u64 = 60_000;
/// Silence after which a request that was given up takes its connection with it: it may be dead.
const SILENCE_MS: u64 = 1_000;

/// Where a connection leads.
pub(crate) struct To {
    pub(crate) backend: Arc<BackendRuntime>,
    /// The client that it may serve, where the backend sees the client's address.
    pub(crate) client: Option<SocketAddr>,
    /// How the backend is spoken to over TLS.
    pub(crate) tls: Option<BackendRules>,
    /// What it is told of the client before anything else.
    pub(crate) header: Option<proxy_header::Header>,
}

/// One connection to a backend.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact by itself")]
pub(crate) struct Trunk {
    pub(crate) line: Rc<RefCell<Line>>,
    pub(crate) to: To,
    shared: Rc<Shared>,
    requests: SendRequest<Bytes>,
    /// None: it has ended, and what it has brought is still being read.
    connection: Option<Connection<Carrier, Bytes>>,
    scheme: Scheme,
    authority: String,
    streams: Vec<Option<Box<Carried>>>,
    wakers: Vec<Waker>,
    under_way: usize,
    unsent: usize,
    starving: Vec<usize>,
    /// It is being connected.
    is_dialing: bool,
    /// Nobody has asked yet whether it was just connected.
    is_new: bool,
    /// It takes no further requests.
    is_retired: bool,
    /// A request waits for the protocol to let it begin.
    is_full: bool,
    /// When bytes last came, and how many had.
    heard_ms: u64,
    heard: u64,
    idle_since_ms: u64,
}

impl fmt::Debug for Trunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trunk")
            .field("backend", &self.to.backend.key)
            .field("under_way", &self.under_way)
            .finish_non_exhaustive()
    }
}

/// What came of a turn.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Requests whose conversations have something new, by what the engine knows them by.
    pub(crate) keys: Vec<Key>,
    /// There is more to do, but others have their turn first.
    pub(crate) is_tired: bool,
}

impl Trunk {
    /// A connection over a socket that is being connected; nothing: it cannot be begun.
    pub(crate) fn new(dial: Socket, to: To, bell: Bell, now_ms: u64) -> Option<Self> {
        let is_secure = to.tls.is_some();
        let line = Rc::new(RefCell::new(Line::new(dial, Bytes::new(), None)));
        let waker = bell.waker();
        let handshake = Builder::new()
            .enable_push(false)
            .initial_max_send_streams(STREAMS)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_header_list_size(MAX_HEAD)
            .max_send_buffer_size(SEND_BUFFER)
            .handshake(Carrier(Rc::clone(&line)));
        // What it says stands in memory until the socket is connected, so it need not wait.
        let Poll::Ready(Ok((requests, connection))) =
            pin!(handshake).poll(&mut Context::from_waker(&waker))
        else {
            return None;
        };
        Some(Self {
            line,
            authority: to.backend.key.address.to_string(),
            to,
            shared: Shared::new(bell, is_secure, None, None),
            requests,
            connection: Some(connection),
            scheme: if is_secure {
                Scheme::HTTPS
            } else {
                Scheme::HTTP
            },
            streams: Vec::new(),
            wakers: Vec::new(),
            under_way: 0,
            unsent: 0,
            starving: Vec::new(),
            is_dialing: true,
            is_new: true,
            is_retired: false,
            is_full: false,
            heard_ms: now_ms,
            heard: 0,
            idle_since_ms: now_ms,
        })
    }

    /// Whether another request may be given to it.
    /// One that speaks TLS otherwise than `tls` says takes no more.
    pub(crate) fn has_room(&mut self, tls: Option<&BackendRules>) -> bool {
        self.is_retired |= self.to.tls.as_ref() != tls;
        let most = STREAMS.min(self.requests.current_max_send_streams());
        if self.is_retired || self.connection.is_none() || self.under_way >= most {
            return false;
        }
        let waker = self.shared.bell.waker();
        let ready = self.requests.poll_ready(&mut Context::from_waker(&waker));
        self.is_full |= ready.is_pending();
        matches!(ready, Poll::Ready(Ok(())))
    }

    /// Whether it was just connected; said once.
    pub(crate) fn take_new(&mut self) -> bool {
        std::mem::take(&mut self.is_new)
    }

    /// It is being connected.
    pub(crate) fn is_dialing(&self) -> bool {
        self.is_dialing
    }

    /// Requests under way.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way
    }

    /// Whether it is worth keeping.
    pub(crate) fn is_kept(&self, now_ms: u64) -> bool {
        self.under_way > 0
            || !self.is_retired
                && self.connection.is_some()
                && now_ms < self.idle_since_ms + IDLE_MS
    }

    /// It takes no further requests.
    pub(crate) fn retire(&mut self) {
        self.is_retired = true;
    }

    /// The ends of another request, and its place.
    pub(crate) fn stream(&mut self) -> (Stream, Feeder, usize) {
        let free = self.streams.iter().position(Option::is_none);
        let slot = free.unwrap_or(self.streams.len());
        if free.is_none() {
            self.streams.push(None);
            self.wakers.push(self.shared.bell.waker_of(slot));
        }
        let (stream, mut feeder) = stream::pair(&self.shared, slot);
        feeder.hold_up(self.is_dialing);
        (stream, feeder, slot)
    }

    /// The request at `slot` is what the engine knows by `key`.
    pub(crate) fn begin(&mut self, slot: usize, feeder: Feeder, key: Key, now_ms: u64) {
        self.streams[slot] = Some(Box::new(Carried::new(key, feeder, now_ms)));
        self.under_way += 1;
        self.shared.bell.ring(slot);
    }

    /// Goes on with connecting, as far as that has come: those who waited for it have something new.
    pub(crate) fn begin_if_connected(&mut self, now_ms: u64) -> Vec<Key> {
        if !self.is_dialing {
            return Vec::new();
        }
        let begun = self.begin_line();
        match begun {
            Ok(()) => {}
            Err(HandshakeFailed::NotYet) => return Vec::new(),
            Err(HandshakeFailed::Left) => return self.on_gone(Feeder::reset),
            Err(HandshakeFailed::Refused(error)) => {
                tracing::debug!(%error, "no TLS to a backend");
                return self.on_gone(Feeder::refuse);
            }
        }
        self.is_dialing = false;
        self.heard_ms = now_ms;
        let streams = self.streams.iter_mut().flatten();
        let told = streams.map(|stream| {
            stream.feeder.hold_up(false);
            stream.key
        });
        told.collect()
    }

    /// Tells the backend of the client, and shakes hands.
    fn begin_line(&mut self) -> Result<(), HandshakeFailed> {
        let socket = &mut self.line.borrow_mut().socket;
        if socket.gone().is_some() {
            return Err(HandshakeFailed::Left);
        }
        if socket.is_plain() {
            if !socket.writable() {
                return Err(HandshakeFailed::NotYet);
            }
            if let Some(header) = self.to.header.take() {
                let header = header.as_bytes();
                // An empty socket takes it at once, or something is wrong.
                if socket.write(header, false) != Ok(header.len()) {
                    return Err(HandshakeFailed::Left);
                }
            }
            if let Some(tls) = &self.to.tls {
                let session = tls.session(self.to.backend.key.address.ip());
                socket.secure(session.ok_or(HandshakeFailed::Left)?);
            }
        }
        socket.shake_hands()?;
        // Who agrees to nothing gets what was configured.
        match socket.session().and_then(Session::protocol) {
            Some(protocol) if protocol != H2 => Err(HandshakeFailed::Left),
            _ => Ok(()),
        }
    }

    /// It is gone: all of its requests are lost.
    fn on_gone(&mut self, tell: fn(&mut Feeder)) -> Vec<Key> {
        self.connection = None;
        self.under_way = 0;
        let streams = self.streams.drain(..).flatten();
        let told = streams.map(|mut stream| {
            tell(&mut stream.feeder);
            stream.key
        });
        told.collect()
    }

    /// A turn begins.
    pub(crate) fn begin_turn(&mut self) {
        self.shared.bell.begin_turn();
        self.line.borrow_mut().begin_turn();
    }

    /// The turn is over.
    pub(crate) fn end_turn(&mut self) {
        self.shared.bell.end_turn();
    }

    /// It is to have another turn.
    pub(crate) fn ring(&self) {
        self.shared.bell.ring_for_connection();
    }

    /// Drives the protocol and the streams as far as they go.
    pub(crate) fn turn(&mut self, now_ms: u64) -> Told {
        let mut told = Told::default();
        if !self.is_dialing {
            self.line.borrow_mut().flush();
        }
        for _ in 0..ROUNDS {
            self.drive(now_ms);
            self.settle();
            while let Some(slot) = self.shared.bell.next() {
                self.pump(slot, now_ms, &mut told.keys);
            }
            if self.connection.is_none() || !self.shared.bell.is_connection_woken() {
                told.is_tired = !self.is_dialing && self.line.borrow().has_more();
                return told;
            }
        }
        told.is_tired = true;
        told
    }

    fn drive(&mut self, now_ms: u64) {
        self.shared.bell.take_connection();
        if self.is_dialing {
            return;
        }
        let waker = self.shared.bell.waker();
        let Some(connection) = &mut self.connection else {
            return;
        };
        let ended = pin!(connection).poll(&mut Context::from_waker(&waker));
        let heard = self.line.borrow().moved.0;
        if heard != self.heard {
            (self.heard, self.heard_ms) = (heard, now_ms);
        }
        if let Poll::Ready(end) = ended {
            if let Err(error) = end {
                let backend = self.to.backend.key.address;
                tracing::debug!(%backend, %error, "HTTP/2 is broken off");
            }
            self.connection = None;
        }
        // Whatever an ended one has brought is still there; and who begins next is not said to the one that waits.
        if self.connection.is_none() || std::mem::take(&mut self.is_full) {
            let streams = self.streams.iter().enumerate();
            for (slot, _) in streams.filter(|(_, stream)| stream.is_some()) {
                self.shared.bell.ring(slot);
            }
        }
    }

    fn pump(&mut self, slot: usize, now_ms: u64, told: &mut Vec<Key>) {
        let Some(stream) = self.streams.get_mut(slot).and_then(Option::as_mut) else {
            return;
        };
        let waker = self.shared.bell.waker();
        let mut towards = Towards {
            requests: &mut self.requests,
            waker: &waker,
            scheme: &self.scheme,
            authority: &self.authority,
        };
        let mut budget = SEND_BUDGET.saturating_sub(self.unsent);
        let before = budget;
        let context = &mut Context::from_waker(&self.wakers[slot]);
        let end = stream.pump(&mut towards, context, &mut budget);
        self.unsent += before - budget;
        match end {
            End::Full => self.is_full = true,
            End::Waits | End::Done | End::Dropped => {}
            End::Starves => self.starving.push(slot),
            End::Lost => stream.feeder.reset(),
            End::Refused => stream.feeder.refuse(),
        }
        if stream.feeder.take_news() {
            told.push(stream.key);
        }
        if matches!(end, End::Waits | End::Full | End::Starves) {
            return;
        }
        let is_silent = now_ms >= self.heard_ms.max(stream.began_ms) + SILENCE_MS;
        self.streams[slot] = None;
        self.under_way -= 1;
        // Nobody waits for it any more, or it may be dead.
        self.is_retired |=
            end == End::Dropped && (is_silent || self.is_dialing && self.under_way == 0);
        self.idle_since_ms = now_ms;
    }

    /// Everything that the protocol had was gathered: takes in how much of it could be sent.
    fn settle(&mut self) {
        if self.is_dialing {
            return; // before the handshake nothing else may be said
        }
        let mut line = self.line.borrow_mut();
        line.flush();
        if !line.is_blocked() {
            self.unsent = 0;
            for slot in self.starving.drain(..) {
                self.shared.bell.ring(slot);
            }
        }
    }
}
