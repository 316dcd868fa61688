//! A worker: one thread with its own sockets, its own connections and no locks.
//!
//! Start with `Worker::run`: wait for events, act on each, give busy connections another turn, look at the clock.
//! Accepting is in `accept`, finding and reaching a backend in `connect`, moving bytes in `l4`. Others reach a worker
//! only through its `mailbox::Mailbox` and through the published route table. After accept a connection never leaves
//! its worker.

pub mod clock;
pub(crate) mod connection;
pub(crate) mod descriptors;
mod detach;
pub(crate) mod failing;
pub mod fleet;
pub(crate) mod mailbox;
mod shared;
pub(crate) mod slab;
mod timing;
mod udp;

use crate::accept::Listening;
use crate::l4::connection::{LAST_DELIVERY_MS, Next};
use crate::l4::direction::Room;
use crate::l4::ends::Side;
use crate::l4::udp::Udp;
use crate::l7::engine::Http;
use crate::lb::SetId;
use crate::lb::pick::Cursor;
use crate::lb::table::RouteTable;
use crate::net::epoll::{Epoll, Readiness};
use crate::net::pipe::PipePool;
use crate::state::ports::ForceClose;
use connection::{Connection, Phase, Source};
use mailbox::Command;
pub use shared::Shared;
use slab::{Key, Slab};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};

/// Events taken from the kernel at once: few enough that those behind do not wait for long.
const BATCH: usize = 128;
/// Bytes copied at once.
const SCRATCH: usize = 64 << 10;

/// One worker's whole state. Nobody else sees it.
pub(crate) struct Worker {
    pub(crate) number: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) table: Arc<RouteTable>,
    pub(crate) epoll: Epoll,
    pub(crate) room: Room,
    pub(crate) connections: Slab<Connection>,
    pub(crate) listeners: Vec<Option<Listening>>,
    pub(crate) cursors: HashMap<SetId, Cursor>,
    /// Connections with a deadline of their own: waiting, dialing, delivering their last bytes.
    pub(crate) unfinished: Vec<Key>,
    pub(crate) now_ms: u64,
    /// Accepting stopped because descriptors ran out.
    pub(crate) accept_paused: bool,
    /// Listeners that are being removed.
    pub(crate) closing: usize,
    /// Up to when this worker has spent its right to hand connections over.
    pub(crate) handovers_spent_ms: u64,
    /// The unique id that the last PROXY header had.
    pub(crate) last_id: u128,
    /// What it has for HTTP.
    pub(crate) http: Http,
    /// Its UDP listeners and flows, from the first such listener on.
    udp: Option<Box<Udp>>,
    again: VecDeque<Key>,
    /// Long streams whose bytes the kernel gathers.
    gathering: Vec<Key>,
    timing: timing::Timing,
    stopped: bool,
}

impl Worker {
    /// A worker without listeners.
    pub(crate) fn new(number: usize, shared: Arc<Shared>) -> std::io::Result<Self> {
        let epoll = Epoll::new(BATCH)?;
        epoll.add_source(&shared.mailboxes[number].wake, Source::Mailbox.token())?;
        let pipes = shared.descriptors.pipes() / shared.mailboxes.len();
        Ok(Self {
            number,
            table: shared.table.load_full(),
            epoll,
            room: Room {
                scratch: vec![0; SCRATCH].into(),
                pipes: PipePool::new(pipes),
            },
            connections: Slab::new(),
            listeners: Vec::new(),
            cursors: HashMap::new(),
            unfinished: Vec::new(),
            now_ms: clock::monotonic_ms(),
            accept_paused: false,
            closing: 0,
            handovers_spent_ms: 0,
            last_id: random_id(),
            http: Http::new(shared.descriptors.idle_upstreams() / shared.mailboxes.len()),
            udp: None,
            again: VecDeque::new(),
            gathering: Vec::new(),
            timing: timing::Timing::default(),
            stopped: false,
            shared,
        })
    }

    /// Works until told to stop.
    pub(crate) fn run(mut self) {
        while !self.stopped {
            let timeout = if self.again.is_empty() && !self.http.is_rung() {
                self.next_look()
            } else {
                Some(std::time::Duration::ZERO)
            };
            let ready = match self.epoll.wait(timeout) {
                Ok(n) => n,
                Err(error) => {
                    tracing::error!(worker = self.number, %error, "epoll failed; the worker ends");
                    return;
                }
            };
            self.now_ms = clock::monotonic_ms();
            for index in 0..ready {
                let (token, readiness) = self.epoll.event(index);
                self.dispatch(Source::of(token), readiness);
            }
            self.finish_datagrams();
            for _ in 0..self.again.len() {
                let Some(key) = self.again.pop_front() else {
                    break;
                };
                if let Some(connection) = self.connections.get_mut(key) {
                    connection.queued = false;
                    self.advance(key);
                }
            }
            self.answer_bells();
            self.look_at_clock();
        }
    }

    fn dispatch(&mut self, source: Source, readiness: Readiness) {
        match source {
            Source::Client(key) => self.on_ready(key, Side::Client, readiness),
            Source::Backend(key, attempt) => {
                let current = self.connections.get_mut(key).map(|c| c.attempt);
                if current == Some(attempt) {
                    self.on_ready(key, Side::Backend, readiness);
                }
            }
            Source::Upstream(upstream) => self.on_upstream(upstream, readiness),
            Source::Trunk(trunk) => self.on_trunk(trunk, readiness),
            Source::Listener(place) => {
                self.accept(place);
            }
            Source::Mailbox => self.on_mail(),
            Source::UdpListener(place) => self.on_udp_listener(place),
            Source::Flows(socket) => self.on_flows(socket, readiness),
        }
    }

    fn on_ready(&mut self, key: Key, side: Side, readiness: Readiness) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        match (&mut connection.phase, side) {
            (Phase::Forwarding(forwarding), _) => {
                forwarding.note(side, readiness);
                self.advance(key);
            }
            (Phase::Http(_), _) => self.on_http_client(key, readiness),
            (Phase::Http2(_), _) => self.on_http2_client(key, readiness),
            (Phase::Announcing(client), _) => {
                client.note(readiness);
                if client.gone().is_some() {
                    self.close(key, "client left");
                } else if client.readable() {
                    self.look_for_header(key);
                }
            }
            (Phase::Securing(client), _) => {
                client.note(readiness);
                self.shake_hands(key);
            }
            (Phase::Waiting(client) | Phase::Dialing { client, .. }, Side::Client) => {
                client.note(readiness);
                let is_gone = client.gone().is_some();
                if is_gone || client.read_closed() {
                    self.on_client_gives_up(key);
                }
                if is_gone {
                    self.close(key, "client left");
                }
            }
            (Phase::Dialing { dial, .. }, Side::Backend) => {
                dial.note(readiness);
                self.on_dialed(key);
            }
            _ => {}
        }
    }

    /// Moves a connection's bytes and acts on what comes of it.
    pub(crate) fn advance(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let forwarding = match &mut connection.phase {
            Phase::Forwarding(forwarding) => forwarding,
            Phase::Http(_) => return self.converse(key),
            Phase::Http2(_) => return self.multiplex(key),
            _ => return,
        };
        connection.active_ms = self.now_ms;
        match forwarding.advance(&mut self.room) {
            Next::Wait => {
                if forwarding.gathering() && !std::mem::replace(&mut connection.gathering, true) {
                    self.gathering.push(key);
                }
            }
            Next::Again => self.queue(key),
            Next::Deliver => {
                if connection.unfinished_at.is_none() {
                    connection.deadline_ms = self.now_ms + LAST_DELIVERY_MS;
                    self.watch_deadline(key);
                }
            }
            Next::Close => self.close(key, "closed"),
        }
    }

    /// Gives a connection another turn after the others had theirs.
    pub(crate) fn queue(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && !std::mem::replace(&mut connection.queued, true)
        {
            self.again.push_back(key);
        }
    }

    /// Drops a connection and everything that is counted of it.
    pub(crate) fn close(&mut self, key: Key, why: &'static str) {
        self.forget_deadline(key);
        let Some(mut connection) = self.connections.remove(key) else {
            return;
        };
        connection.report_bytes();
        let is_http = matches!(connection.phase, Phase::Http(_) | Phase::Http2(_)); // whose requests have lines
        if self.shared.access_log && !is_http {
            self.log_access(&connection, why);
        }
        let client = connection.counted_client();
        match std::mem::replace(&mut connection.phase, Phase::Moving) {
            Phase::Forwarding(mut forwarding) => forwarding.release_pipes(&mut self.room, true),
            Phase::Http(mut talk) => self.abandon(&connection, &mut talk, why),
            Phase::Http2(mut multiplex) => {
                for stream in multiplex.take_streams() {
                    self.cut(stream, why);
                }
            }
            _ => {}
        }
        connection.unassign();
        if !connection.is_stream {
            connection::leave(&connection.route, &connection.counters, client);
        }
        drop(connection);
        self.shared.descriptors.give_back();
        self.count_connections();
    }

    /// Drops a connection with a reset to both sides.
    pub(crate) fn cut(&mut self, key: Key, why: &'static str) {
        if let Some(connection) = self.connections.get_mut(key) {
            match &mut connection.phase {
                Phase::Forwarding(forwarding) => forwarding.cut(),
                Phase::Http(talk) => talk.client.reset_on_close(),
                Phase::Http2(multiplex) => multiplex.reset_on_close(),
                Phase::Announcing(client) | Phase::Securing(client) | Phase::Waiting(client) => {
                    client.reset_on_close();
                }
                Phase::Dialing { client, dial } => {
                    client.reset_on_close();
                    dial.reset_on_close();
                }
                Phase::Moving => {}
            }
        }
        self.close(key, why);
    }

    /// Tells the others how many connections this worker has.
    pub(crate) fn count_connections(&self) {
        let count = u32::try_from(self.connections.len()).unwrap_or(u32::MAX);
        self.shared.mailboxes[self.number]
            .connections
            .store(count, Relaxed);
    }

    fn log_access(&self, connection: &Connection, why: &'static str) {
        let (received, sent) = connection.moved();
        let backend = connection.backend.as_ref().map(|b| b.key.address);
        let via = connection.via.as_ref().map(|via| via.peer);
        tracing::info!(
            target: "podline::access",
            listener = %connection.route.name,
            client = %connection.peer,
            via = via.map(tracing::field::display),
            backend = backend.map(tracing::field::display),
            source = connection::source_name(connection.source),
            received,
            sent,
            milliseconds = self.now_ms - connection.opened_ms,
            end = why,
        );
    }

    /// Commands first, then the new table: a removed listener's queue is served by the table it was filled under. What
    /// others hand over comes last: whoever accepted it may know a newer table than this worker did.
    fn on_mail(&mut self) {
        let mailbox = &self.shared.mailboxes[self.number];
        mailbox.wake.clear();
        let is_adoption = |command: &Command| matches!(command, Command::Adopt { .. });
        let (adoptions, commands): (Vec<_>, Vec<_>) =
            mailbox.take().into_iter().partition(is_adoption);
        for command in commands {
            self.obey(command);
        }
        let table = self.shared.table.load_full();
        if table.version != self.table.version {
            self.table = table;
            self.redo_dials();
            self.forget_old_cursors();
            self.http.pool.sweep(self.now_ms, true);
            self.http.trunks.sweep(self.now_ms, true);
            let table = &self.table;
            self.http
                .unlistened
                .retain(|id| table.listener(*id).is_some());
        }
        self.shared.mailboxes[self.number]
            .acknowledged
            .store(self.table.version, Release);
        self.shared.acknowledged.notify_waiters();
        for adoption in adoptions {
            self.obey(adoption);
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Listen(listener) => self.listen(listener),
            Command::ListenUdp(listener) => self.listen_udp(listener),
            Command::Unlisten(id) => {
                self.unlisten(id);
                self.http.unlistened.push(id);
                self.unlisten_udp(id);
            }
            Command::Adopt {
                socket,
                peer,
                route,
                counters,
            } => self.adopt(socket, peer, route, counters),
            Command::Detach(id, ipv6) => self.detach(id, ipv6),
            Command::ForceClose(what) => {
                self.force_close(&what);
                self.end_flows(&what);
            }
            // Who asked may have given up meanwhile.
            Command::Answer(sender) => drop(sender.send(())),
            Command::Stop => {
                for key in self.connections.keys() {
                    self.cut(key, "shutdown");
                }
                self.end_flows(&ForceClose::Everything);
                self.stopped = true;
            }
        }
    }
}

/// Where a worker's unique ids begin: too far from where others' do, in this process or another, for them to meet.
fn random_id() -> u128 {
    let random = || u128::from(RandomState::new().hash_one(()));
    random() << 64 | random()
}
