//! Datagrams between clients and backends: received, decided upon and sent on in batches, without a copy.
//!
//! What becomes of each is [`crate::lb::flow`]'s to say; here are the real sockets. A turn takes a bounded number of
//! datagrams from one socket. Replies of many sockets are gathered before they are sent, as most of those sockets have
//! one reply at a time.

use crate::lb::SetId;
use crate::lb::flow::sockets::{Row, SocketNumber};
use crate::lb::flow::{Door, Dropped, FlowKey, Flows, Local, Way, World};
use crate::lb::network::{NetworkView, SnatReason};
use crate::lb::pick::Cursor;
use crate::lb::table::RouteTable;
use crate::net::epoll::{Epoll, Readiness};
use crate::net::udp::{self, Batch, Outgoing, SLOTS};
use crate::worker::Shared;
use crate::worker::connection::Source;
use crate::worker::mailbox::HeldUdp;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

/// Batches taken from one socket before others have their turn.
const TURN: usize = 4;
/// Replies asked of a socket of flows at once. Most have one; more are asked for while they come.
const REPLIES: usize = 8;
/// Errors taken from a socket before others have their turn.
const ERRORS: usize = 64;
/// A worker's flows at most: some hundred bytes each.
const MOST_FLOWS: usize = 1 << 18;

/// A listener's socket of this worker.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) held: Arc<HeldUdp>,
    pub(crate) door: Door,
    pub(crate) closing: Option<Closing>,
}

/// A listener that is being removed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closing {
    pub(crate) since_ms: u64,
    /// Flows that had begun by then.
    pub(crate) begun: u64,
    /// Nobody took the address over: no flow begins any more.
    pub(crate) is_settled: bool,
}

/// What a worker has beside its datagrams.
pub(crate) struct Around<'a> {
    pub(crate) number: usize,
    pub(crate) shared: &'a Shared,
    pub(crate) table: &'a RouteTable,
    pub(crate) cursors: &'a mut HashMap<SetId, Cursor>,
    pub(crate) epoll: &'a Epoll,
    pub(crate) now_ms: u64,
}

/// A reply that waits to be sent.
#[derive(Debug)]
struct Reply {
    place: u32,
    flow: u32,
    outgoing: Outgoing,
}

/// All of a worker's UDP.
#[derive(Debug)]
pub(crate) struct Udp {
    pub(crate) flows: Flows,
    pub(crate) posts: Vec<Option<Post>>,
    sockets: Sockets,
    batch: Batch,
    /// Datagrams on their way to backends.
    ways: Vec<(Way, usize)>,
    outgoing: Vec<Outgoing>,
    replies: Vec<Reply>,
    /// Slots of the batch that replies have.
    used: usize,
    lost: Vec<(Outgoing, Errno)>,
}

/// The sockets towards backends, by number.
#[derive(Debug, Default)]
struct Sockets([Vec<Option<Upstream>>; 3]);

#[derive(Debug)]
struct Upstream {
    fd: OwnedFd,
    /// Whom it imitates towards whom, if that is at the client's own port.
    imitated: Option<(SocketAddr, SocketAddr)>,
}

impl Sockets {
    fn get(&self, socket: SocketNumber) -> Option<&OwnedFd> {
        let row = &self.0[socket.row as usize];
        Some(&row.get(socket.number as usize)?.as_ref()?.fd)
    }

    fn put(&mut self, socket: SocketNumber, upstream: Upstream) {
        let row = &mut self.0[socket.row as usize];
        let number = socket.number as usize;
        if row.len() <= number {
            row.resize_with(number + 1, || None);
        }
        row[number] = Some(upstream);
    }

    fn open(&mut self, socket: SocketNumber, shared: &Shared, epoll: &Epoll) -> bool {
        if !shared.descriptors.take_for_flows(false) {
            return false;
        }
        let opened = udp::upstream(socket.row == Row::V6).and_then(|fd| {
            epoll.add_datagrams(&fd, Source::Flows(socket).token())?;
            Ok(fd)
        });
        let Ok(fd) = opened else {
            shared.descriptors.give_back_of_flows();
            return false;
        };
        let imitated = None;
        self.put(socket, Upstream { fd, imitated });
        true
    }

    /// Opens a socket that imitates `client` towards `to`. Another listener's flow may be at its own port already: from
    /// there two to one backend could not be told apart.
    fn imitate(
        &mut self,
        socket: SocketNumber,
        (client, to): (SocketAddr, SocketAddr),
        network: &NetworkView,
        (shared, epoll): (&Shared, &Epoll),
    ) -> Result<(), SnatReason> {
        if !shared.descriptors.take_for_flows(true) {
            return Err(SnatReason::TooManyFlows);
        }
        let is_own = imitated(shared).insert((client, to));
        let mark = network.mark(to.ip());
        let opened = udp::imitating(client, to, is_own, network.ports, mark).and_then(|fd| {
            epoll.add_datagrams(&fd, Source::Flows(socket).token())?;
            Ok(fd)
        });
        let pair = is_own.then_some((client, to));
        match opened {
            Ok(fd) => {
                let imitated = pair;
                self.put(socket, Upstream { fd, imitated });
                Ok(())
            }
            Err(error) => {
                if let Some(pair) = pair {
                    imitated(shared).remove(&pair);
                }
                shared.descriptors.give_back_of_flows();
                Err(match error {
                    Errno::PERM | Errno::ACCESS => SnatReason::NoPrivilege,
                    Errno::ADDRNOTAVAIL | Errno::ADDRINUSE => SnatReason::PortsExhausted,
                    _ => SnatReason::NoAnswer,
                })
            }
        }
    }

    fn close(&mut self, socket: SocketNumber, shared: &Shared) {
        let row = &mut self.0[socket.row as usize];
        let found = row.get_mut(socket.number as usize).and_then(Option::take);
        let Some(Upstream { fd, imitated: pair }) = found else {
            return;
        };
        drop(fd);
        shared.descriptors.give_back_of_flows();
        if let Some(pair) = pair {
            imitated(shared).remove(&pair);
        }
    }
}

/// Who is imitated towards whom, by all workers.
fn imitated(shared: &Shared) -> std::sync::MutexGuard<'_, HashSet<(SocketAddr, SocketAddr)>> {
    let all = shared.imitated.lock();
    all.unwrap_or_else(PoisonError::into_inner)
}

impl Udp {
    pub(crate) fn new(keeps_ended: bool) -> Self {
        let seed = RandomState::new().hash_one(0);
        Self {
            flows: Flows::new(MOST_FLOWS, seed, keeps_ended),
            posts: Vec::new(),
            sockets: Sockets::default(),
            batch: Batch::new(),
            ways: Vec::with_capacity(SLOTS),
            outgoing: Vec::with_capacity(SLOTS),
            replies: Vec::with_capacity(SLOTS),
            used: 0,
            lost: Vec::new(),
        }
    }

    /// Forwards what clients sent to a listener's socket, a turn's worth at most.
    pub(crate) fn on_listener(&mut self, number: usize, place: u32, around: &mut Around<'_>) {
        self.flush(around);
        for _ in 0..TURN {
            let Some(post) = self.posts.get_mut(place as usize).and_then(Option::as_mut) else {
                return;
            };
            let socket = &post.held.sockets[number];
            let count = match self
                .batch
                .receive(socket, 0, SLOTS, post.held.is_everywhere)
            {
                Ok(count) => count,
                Err(Errno::AGAIN) => return,
                Err(_) => 0, // of a datagram that was sent earlier
            };
            self.decide(place, count, around);
            self.send_to_backends(around);
            if count < SLOTS {
                return;
            }
        }
    }

    /// What becomes of the datagrams in the first slots.
    fn decide(&mut self, place: u32, count: usize, around: &mut Around<'_>) {
        let Some(post) = self.posts.get_mut(place as usize).and_then(Option::as_mut) else {
            return;
        };
        let takes_flows = post.takes_flows(around.table);
        let Self {
            flows,
            sockets,
            batch,
            ways,
            ..
        } = self;
        let (shared, epoll) = (around.shared, around.epoll);
        let network = &*around.table.network;
        let sockets = RefCell::new(sockets);
        let mut world = World {
            table: around.table,
            cursors: around.cursors,
            seed: (around.number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            memory: &shared.memory,
            now_ms: around.now_ms,
            open: &mut |socket| sockets.borrow_mut().open(socket, shared, epoll),
            imitate: &mut |socket, client, to| {
                let mut sockets = sockets.borrow_mut();
                sockets.imitate(socket, (client, to), network, (shared, epoll))
            },
        };
        for slot in 0..count {
            let Some(client) = batch.from(slot).filter(|from| from.port() != 0) else {
                continue;
            };
            let local = batch.to(slot);
            let local = local.map(|(address, interface)| Local { address, interface });
            let key = FlowKey {
                place,
                client,
                local,
            };
            let door = takes_flows.then_some(&post.door);
            match flows.on_datagram(&key, batch.len(slot), door, &mut world) {
                Ok(way) => ways.push((way, slot)),
                Err(why) => {
                    post.door.count_dropped(why, 1);
                    if let Dropped::Limit(shed) = why {
                        let Door { route, counters } = &post.door;
                        crate::accept::count_shed(client, route, counters, shed, around.now_ms);
                    }
                }
            }
        }
    }

    /// Sends what was decided, socket by socket; those of one flow stay in their order.
    fn send_to_backends(&mut self, around: &Around<'_>) {
        let mut ways = std::mem::take(&mut self.ways);
        let network = &around.table.network;
        if ways
            .windows(2)
            .any(|pair| pair[0].0.socket != pair[1].0.socket)
        {
            ways.sort_by_key(|(way, _)| way.socket);
        }
        for group in ways.chunk_by(|a, b| a.0.socket == b.0.socket) {
            let socket = group[0].0.socket;
            let Some(fd) = self.sockets.get(socket) else {
                continue;
            };
            self.outgoing.clear();
            self.outgoing
                .extend(group.iter().map(|(way, slot)| Outgoing {
                    slot: *slot,
                    to: way.to,
                    from: None,
                    mark: network.mark(way.to.ip()),
                }));
            let lost = &mut self.lost;
            self.batch
                .send(fd, socket.row == Row::Own, &self.outgoing, |one, why| {
                    lost.push((*one, why));
                });
            self.count_lost(group, socket, around);
        }
        ways.clear();
        self.ways = ways;
    }

    fn count_lost(&mut self, group: &[(Way, usize)], socket: SocketNumber, around: &Around<'_>) {
        for (outgoing, why) in std::mem::take(&mut self.lost) {
            let way = group.iter().find(|(_, slot)| *slot == outgoing.slot);
            if let Some(flow) = way.and_then(|(way, _)| self.flows.get(way.flow)) {
                flow.door.count_dropped(Dropped::NotSent, 1);
            }
            let is_full = matches!(why, Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM);
            if !is_full && why != Errno::MSGSIZE {
                self.on_error(socket, outgoing.to, around);
            }
        }
    }

    fn on_error(&mut self, socket: SocketNumber, to: SocketAddr, around: &Around<'_>) {
        if let Some(backend) = self.flows.on_error(socket, to, around.table) {
            around.shared.failing.tell(backend);
        }
    }

    /// Takes errors and replies from a socket of flows, a turn's worth at most.
    pub(crate) fn on_flows(
        &mut self,
        socket: SocketNumber,
        readiness: Readiness,
        around: &mut Around<'_>,
    ) {
        if readiness.error() {
            self.take_errors(socket, around);
        }
        let is_empty = self.take_replies(socket, around);
        // An error ends a batch early: behind it may be more.
        if (!is_empty || readiness.error())
            && let Some(fd) = self.sockets.get(socket)
        {
            around.epoll.look_again(fd, Source::Flows(socket).token());
        }
    }

    /// Whether nothing was left of a socket's replies.
    fn take_replies(&mut self, socket: SocketNumber, around: &mut Around<'_>) -> bool {
        for _ in 0..TURN * SLOTS / REPLIES {
            if self.used == SLOTS {
                self.flush(around);
            }
            let Some(fd) = self.sockets.get(socket) else {
                return true;
            };
            let asked = REPLIES.min(SLOTS - self.used);
            let count = match self.batch.receive(fd, self.used, asked, false) {
                Ok(count) => count,
                Err(Errno::AGAIN) => return true,
                Err(_) => {
                    // An error was pending, which the queue of errors tells more of.
                    self.take_errors(socket, around);
                    continue;
                }
            };
            self.decide_replies(socket, count, around);
            if count < asked {
                return true;
            }
        }
        false
    }

    fn take_errors(&mut self, socket: SocketNumber, around: &Around<'_>) {
        for _ in 0..ERRORS {
            let Some(fd) = self.sockets.get(socket) else {
                return;
            };
            match udp::undelivered(fd) {
                Err(_) => return,
                Ok(Some(told)) if told.why != Errno::MSGSIZE => {
                    self.on_error(socket, told.to, around);
                }
                Ok(_) => {}
            }
        }
    }

    fn decide_replies(&mut self, socket: SocketNumber, count: usize, around: &mut Around<'_>) {
        let world = World {
            table: around.table,
            cursors: around.cursors,
            seed: 0,
            memory: &around.shared.memory,
            now_ms: around.now_ms,
            open: &mut |_| false,
            imitate: &mut |_, _, _| Err(SnatReason::TooManyFlows),
        };
        let first = self.used;
        for slot in first..first + count {
            let flow = self.batch.from(slot).and_then(|from| {
                self.flows
                    .on_reply(socket, from, self.batch.len(slot), &world)
            });
            let Some((id, flow)) = flow.and_then(|id| Some((id, self.flows.get(id)?))) else {
                around.shared.strays.fetch_add(1, Relaxed);
                continue;
            };
            let FlowKey {
                place,
                client,
                local,
            } = flow.key;
            self.replies.push(Reply {
                place,
                flow: id,
                outgoing: Outgoing {
                    slot,
                    to: client,
                    from: local.map(|local| (local.address, local.interface)),
                    mark: None,
                },
            });
        }
        self.used += count;
    }

    /// Sends the replies that were gathered.
    pub(crate) fn flush(&mut self, around: &Around<'_>) {
        if std::mem::take(&mut self.used) == 0 {
            return;
        }
        let mut replies = std::mem::take(&mut self.replies);
        replies.sort_by_key(|reply| reply.place);
        for group in replies.chunk_by(|a, b| a.place == b.place) {
            let Some(post) = self
                .posts
                .get(group[0].place as usize)
                .and_then(Option::as_ref)
            else {
                continue;
            };
            self.outgoing.clear();
            self.outgoing
                .extend(group.iter().map(|reply| reply.outgoing));
            let flows = &self.flows;
            self.batch.send(
                &post.held.sockets[around.number],
                false,
                &self.outgoing,
                |one, _| {
                    let reply = group.iter().find(|reply| reply.outgoing.slot == one.slot);
                    if let Some(flow) = reply.and_then(|reply| flows.get(reply.flow)) {
                        flow.door.count_dropped(Dropped::NotSent, 1);
                    }
                },
            );
        }
        replies.clear();
        self.replies = replies;
    }

    /// Closes the sockets that no flow has any more.
    pub(crate) fn close_empty_sockets(&mut self, shared: &Shared) {
        for socket in self.flows.take_empty_sockets() {
            self.sockets.close(socket, shared);
        }
    }

    /// Whether a listener is being removed.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing().next().is_some()
    }

    /// Listeners that are being removed.
    pub(crate) fn closing(&self) -> impl Iterator<Item = Closing> {
        self.posts.iter().flatten().filter_map(|post| post.closing)
    }
}

impl Post {
    /// Whether flows may begin here. The route is the table's, as long as that knows the listener.
    fn takes_flows(&mut self, table: &RouteTable) -> bool {
        if self.closing.is_some_and(|closing| closing.is_settled) {
            return false;
        }
        if let Some(route) = table.listener(self.door.route.id)
            && !Arc::ptr_eq(route, &self.door.route)
        {
            self.door.route = Arc::clone(route);
        }
        true
    }
}
