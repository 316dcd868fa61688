//! Accepting: from a listening socket to a connection that looks for a backend, within the descriptor budget.

mod header;
mod secure;

use crate::l4::socket::Socket;
use crate::lb::ListenerId;
use crate::lb::backend::ListenerCounters;
use crate::lb::limits::Shed;
use crate::lb::table::ListenerRoute;
use crate::net::{io, socket};
use crate::tls::listener::H2;
use crate::tls::session::Session;
use crate::worker::Worker;
use crate::worker::connection::{self, Connection, Phase, Source};
use crate::worker::mailbox::{Command, NewListener};
use crate::worker::slab::Key;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Connections accepted from one listener before others have their turn.
const ACCEPT_TURN: usize = 32;
/// A listener being removed is closed after two looks, this far apart, that found its queue empty.
const LAST_LOOKS_MS: u64 = 50;
const LAST_LOOKS: u8 = 2;
/// A worker hands over one connection in so many milliseconds at most, and so many at once: enough to spread long
/// connections, too few to cost short ones anything (unbounded, a quarter of them went over, each with a wake-up).
const HANDOVER_MS: u64 = 10;
const HANDOVERS: u64 = 16;
/// Between two lines of the log about one limit of a listener, or about headers.
const TOLD_EVERY_MS: u64 = 60_000;

/// A worker's own socket of one listener.
#[derive(Debug)]
pub(crate) struct Listening {
    /// Its route serves when the table does not know the listener any more: it is being removed.
    listener: NewListener,
    closing: Option<Closing>,
}

#[derive(Debug)]
struct Closing {
    /// Looks in a row that found the queue empty.
    looks: u8,
    next_ms: u64,
    /// Nothing joins the queue any more, or it need not be waited for: the looks count.
    settled: bool,
}

impl Worker {
    /// Starts to accept from a new listener's socket.
    pub(crate) fn listen(&mut self, listener: NewListener) {
        let place = self
            .listeners
            .iter()
            .position(Option::is_none)
            .unwrap_or_else(|| {
                self.listeners.push(None);
                self.listeners.len() - 1
            });
        let token =
            Source::Listener(u32::try_from(place).expect("fewer listeners than descriptors"))
                .token();
        if !self.accept_paused
            && let Err(error) = self.epoll.add_source(&listener.socket, token)
        {
            tracing::error!(listener = listener.id.0, %error, "cannot watch the listener");
        }
        self.listeners[place] = Some(Listening {
            listener,
            closing: None,
        });
    }

    /// Starts to remove a listener: what is queued is served first.
    pub(crate) fn unlisten(&mut self, id: ListenerId) {
        for place in 0..self.listeners.len() {
            let Some(listening) = self.listeners[place]
                .as_mut()
                .filter(|l| l.listener.id == id)
            else {
                continue;
            };
            self.closing += usize::from(listening.closing.is_none());
            listening.closing = Some(Closing {
                looks: 0,
                next_ms: self.now_ms,
                settled: false,
            });
            self.accept(u32::try_from(place).expect("fewer listeners than descriptors"));
        }
    }

    /// This worker's sockets of a TCP listener.
    pub(crate) fn sockets_of(&self, id: ListenerId) -> impl Iterator<Item = &OwnedFd> {
        let all = self.listeners.iter().flatten().map(|l| &l.listener);
        all.filter(move |listener| listener.id == id)
            .map(|listener| &listener.socket)
    }

    /// Whether a listener is being removed.
    pub(crate) fn closing_listeners(&self) -> bool {
        self.closing > 0
    }

    /// Closes removed listeners whose queue has stayed empty.
    pub(crate) fn check_closing_listeners(&mut self) {
        if !self.closing_listeners() {
            return;
        }
        for place in 0..self.listeners.len() {
            let due = self.listeners[place]
                .as_ref()
                .and_then(|l| l.closing.as_ref())
                .is_some_and(|closing| self.now_ms >= closing.next_ms);
            if !due || self.accept_paused {
                continue; // while accepting pauses, an unseen queue is not an empty one
            }
            self.settle(place);
            let found =
                self.accept(u32::try_from(place).expect("fewer listeners than descriptors"));
            let Some(closing) = self.listeners[place]
                .as_mut()
                .and_then(|l| l.closing.as_mut())
            else {
                continue;
            };
            closing.next_ms = self.now_ms + LAST_LOOKS_MS;
            closing.looks = if found == 0 { closing.looks + 1 } else { 0 };
            if closing.looks >= LAST_LOOKS {
                self.closing -= 1;
                self.listeners[place] = None;
            }
        }
    }

    /// Makes a listener that is being removed deaf to newcomers, unless another one took its address over: those it
    /// serves, too. Newcomers who are not heard try again after a second, when the port is closed.
    fn settle(&mut self, place: usize) {
        let Some(listening) = &self.listeners[place] else {
            return;
        };
        if listening.closing.as_ref().is_none_or(|c| c.settled) {
            return;
        }
        if self.successor(listening.listener.id).is_none() {
            socket::deafen(&listening.listener.socket);
        }
        if let Some(closing) = self.listeners[place]
            .as_mut()
            .and_then(|l| l.closing.as_mut())
        {
            closing.settled = true;
        }
    }

    /// Accepts what is queued, a turn's worth at most, and returns how many that were.
    pub(crate) fn accept(&mut self, place: u32) -> usize {
        for accepted in 0..ACCEPT_TURN {
            let Some(listening) = self.listeners.get(place as usize).and_then(Option::as_ref)
            else {
                return accepted;
            };
            if !self.shared.descriptors.take() {
                self.pause_accepting("the descriptor budget is spent");
                return accepted;
            }
            match socket::accept(&listening.listener.socket) {
                Ok((socket, peer)) => self.place(place, socket, peer),
                Err(error) => {
                    self.shared.descriptors.give_back();
                    match error {
                        Errno::AGAIN => return accepted,
                        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => {
                            self.pause_accepting("the system grants no more descriptors");
                            return accepted;
                        }
                        _ => {} // that client left before it was accepted
                    }
                }
            }
        }
        ACCEPT_TURN
    }

    /// Whether another connection may be handed over now.
    fn may_hand_over(&mut self) -> bool {
        let earned = self.now_ms.saturating_sub(self.handovers_spent_ms) / HANDOVER_MS;
        if earned == 0 {
            return false;
        }
        let oldest = self.now_ms.saturating_sub(HANDOVERS * HANDOVER_MS);
        self.handovers_spent_ms = self.handovers_spent_ms.max(oldest) + HANDOVER_MS;
        true
    }

    /// Serves an accepted connection here, or hands it to a worker that has clearly less to do; or neither, if it
    /// exceeds a limit.
    fn place(&mut self, place: u32, socket: OwnedFd, peer: SocketAddr) {
        let Some(listening) = self.listeners.get(place as usize).and_then(Option::as_ref) else {
            return;
        };
        let listener = &listening.listener;
        let (route, counters) = match self.table.listener(listener.id) {
            Some(current) => (Arc::clone(current), Arc::clone(&listener.counters)),
            None => self
                .successor(listener.id)
                .unwrap_or_else(|| (Arc::clone(&listener.route), Arc::clone(&listener.counters))),
        };
        if !self.enter(&socket, peer, &route, &counters) {
            return;
        }
        match self.less_loaded().filter(|_| self.may_hand_over()) {
            Some(other) => self.shared.mailboxes[other].send(Command::Adopt {
                socket,
                peer,
                route,
                counters,
            }),
            None => self.admit(socket, peer, route, counters),
        }
    }

    /// Counts a connection as its listener's; or resets it, if it exceeds a limit.
    fn enter(
        &self,
        socket: &OwnedFd,
        client: SocketAddr,
        route: &ListenerRoute,
        counters: &ListenerCounters,
    ) -> bool {
        let awaits_header = route.header_within_ms(client).is_some();
        match &route.limiter {
            None => {
                counters.active.fetch_add(1, Relaxed);
            }
            Some(limiter) => {
                let admitted = if awaits_header {
                    limiter.admit_unknown(&counters.active, self.now_ms)
                } else {
                    limiter.admit(client, &counters.active, self.now_ms)
                };
                if let Err(shed) = admitted {
                    io::reset_on_close(socket);
                    self.shared.descriptors.give_back();
                    count_shed(client, route, counters, shed, self.now_ms);
                    return false;
                }
            }
        }
        if !awaits_header {
            counters.accepted.fetch_add(1, Relaxed);
        }
        true
    }

    /// Serves a connection that another worker accepted. Its listener may have been replaced meanwhile.
    pub(crate) fn adopt(
        &mut self,
        socket: OwnedFd,
        peer: SocketAddr,
        route: Arc<ListenerRoute>,
        counters: Arc<ListenerCounters>,
    ) {
        let is_gone = self.table.listener(route.id).is_none();
        let Some((now, counted)) = is_gone.then(|| self.successor(route.id)).flatten() else {
            return self.admit(socket, peer, route, counters);
        };
        let client = route.header_within_ms(peer).is_none().then_some(peer);
        connection::leave(&route, &counters, client);
        if self.enter(&socket, peer, &now, &counted) {
            self.admit(socket, peer, now, counted);
        }
    }

    /// Serves an accepted connection; it is counted already, and so are its descriptors.
    fn admit(
        &mut self,
        socket: OwnedFd,
        peer: SocketAddr,
        route: Arc<ListenerRoute>,
        counters: Arc<ListenerCounters>,
    ) {
        let header_within_ms = route.header_within_ms(peer);
        let fd = Socket::accepted(socket);
        let key = self.connections.insert(Connection::new(
            Phase::Waiting(fd),
            peer,
            route,
            counters,
            self.now_ms,
        ));
        self.count_connections();
        let token = Source::Client(key).token();
        let watched = match self.connections.get_mut(key).map(|c| &c.phase) {
            Some(Phase::Waiting(client)) => self.epoll.add_socket(client, token),
            _ => Ok(()),
        };
        if watched.is_err() {
            return self.cut(key, "epoll is full");
        }
        match header_within_ms {
            None => self.serve(key),
            Some(within_ms) => self.expect_header(key, within_ms),
        }
    }

    /// Begins to serve a client that is known.
    fn serve(&mut self, key: Key) {
        match self.connections.get_mut(key) {
            Some(connection) if connection.route.tls.is_some() => self.begin_handshake(key),
            _ => self.serve_known(key),
        }
    }

    /// Begins to serve a client that can be spoken to.
    fn serve_known(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let is_http2 = match &connection.phase {
            Phase::Waiting(client) => client.session().and_then(Session::protocol) == Some(H2),
            _ => false,
        };
        match connection.route.http {
            Some(_) if is_http2 => self.begin_http2(key),
            Some(_) => self.begin_http(key),
            None => self.dial(key),
        }
    }

    /// Who has the address of a listener that is gone from the table: what still comes to its old socket is theirs.
    fn successor(&self, gone: ListenerId) -> Option<(Arc<ListenerRoute>, Arc<ListenerCounters>)> {
        let mut all = self.listeners.iter().flatten().map(|l| &l.listener);
        let held = &all.clone().find(|listener| listener.id == gone)?.held;
        all.find_map(|listener| {
            let route = self.table.listener(listener.id)?;
            let is_there = Arc::ptr_eq(&listener.held, held);
            is_there.then(|| (Arc::clone(route), Arc::clone(&listener.counters)))
        })
    }

    /// The worker to hand a new connection to, if this one has more than its share. SO_REUSEPORT spreads by hash, which
    /// is uneven for few connections; for many it is even enough, and the slack keeps them here.
    fn less_loaded(&self) -> Option<usize> {
        let loads = &self.shared.mailboxes;
        if loads.len() < 2 {
            return None;
        }
        let mine = self.connections.len() + 1;
        let others = (0..loads.len()).filter(|n| *n != self.number);
        let load = |n: usize| loads[n].connections.load(Relaxed) as usize;
        let total: usize = mine + others.clone().map(load).sum::<usize>();
        let mean = total / loads.len();
        if mine <= mean + mean / 4 + 1 {
            return None;
        }
        let first = others.clone().nth(mine % (loads.len() - 1))?;
        let second = others.clone().nth((mine / 7) % (loads.len() - 1))?;
        Some(if load(first) <= load(second) {
            first
        } else {
            second
        })
    }

    fn pause_accepting(&mut self, why: &'static str) {
        if self.accept_paused {
            return;
        }
        self.accept_paused = true;
        let (used, budget) = self.shared.descriptors.usage();
        tracing::warn!(worker = self.number, used, budget, why, "accepting pauses");
        self.shared.pauses.fetch_add(1, Relaxed);
        for listening in self.listeners.iter().flatten() {
            let _ = self.epoll.remove(&listening.listener.socket);
        }
    }

    /// Accepts again once there is room.
    pub(crate) fn resume_accepting(&mut self) {
        if !self.accept_paused || !self.shared.descriptors.have_room() {
            return;
        }
        self.accept_paused = false;
        tracing::info!(worker = self.number, "accepting goes on");
        for (place, listening) in self.listeners.iter().enumerate() {
            if let Some(listening) = listening {
                let token = Source::Listener(
                    u32::try_from(place).expect("fewer listeners than descriptors"),
                )
                .token();
                let _ = self.epoll.add_source(&listening.listener.socket, token);
            }
        }
    }
}

/// Counts what exceeds a limit. The log has a line a minute for each limit of a listener.
pub(crate) fn count_shed(
    client: SocketAddr,
    route: &ListenerRoute,
    counters: &ListenerCounters,
    shed: Shed,
    now_ms: u64,
) {
    let count = counters.shed[shed as usize].fetch_add(1, Relaxed) + 1;
    if is_due(&counters.shed_told_ms[shed as usize], now_ms) {
        let (listener, limit) = (&route.name, shed.name());
        tracing::warn!(%listener, limit, %client, count, "a limit is exceeded: connections are reset, datagrams dropped");
    }
}

/// Whether [`TOLD_EVERY_MS`] have passed since this was true; `told` is shared by all workers.
fn is_due(told: &AtomicU64, now_ms: u64) -> bool {
    let last = told.load(Relaxed);
    let is_due = last == 0 || now_ms >= last + TOLD_EVERY_MS;
    is_due
        && told
            .compare_exchange(last, now_ms.max(1), Relaxed, Relaxed)
            .is_ok()
}
