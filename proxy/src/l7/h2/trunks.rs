//! A worker's connections to backends in HTTP/2: which one takes a request, and how they come and go.

use super::trunk::{To, Trunk};
use crate::connect::source;
use crate::l4::bell::{Bell, Owner};
use crate::l4::socket::Socket;
use crate::l7::conversation::{Conversation, Step};
use crate::l7::pool::{Place, Upstream};
use crate::l7::seek::Reached;
use crate::lb::backend::BackendRuntime;
use crate::lb::set::Set;
use crate::net::epoll::Readiness;
use crate::tls::backend::BackendRules;
use crate::worker::Worker;
use crate::worker::connection::Source;
use crate::worker::slab::{Key, Slab};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// All of them.
#[derive(Debug)]
pub(crate) struct Trunks {
    all: Slab<Box<Trunk>>,
    by_place: HashMap<Place, Vec<Key>>,
}

impl Trunks {
    /// None.
    pub(crate) fn new() -> Self {
        Self {
            all: Slab::new(),
            by_place: HashMap::new(),
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// The one with this key.
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut Trunk> {
        self.all.get_mut(key).map(|trunk| &mut **trunk)
    }

    /// Whether it was just connected; said once.
    pub(in crate::l7) fn is_new(&mut self, key: Key) -> bool {
        self.get_mut(key).is_some_and(Trunk::take_new)
    }

    fn with_room(&mut self, place: Place, tls: Option<&BackendRules>) -> Option<Key> {
        let (keys, all) = (self.by_place.get(&place)?, &mut self.all);
        let has_room = |key: &&Key| all.get_mut(**key).is_some_and(|trunk| trunk.has_room(tls));
        keys.iter().find(has_room).copied()
    }

    fn insert(&mut self, make: impl FnOnce(Key) -> Option<Trunk>) -> Option<Key> {
        let key = self.all.next_key();
        let trunk = make(key)?;
        let place = Place::new(&trunk.to.backend, trunk.to.client);
        let inserted = self.all.insert(Box::new(trunk));
        debug_assert!(inserted == key, "nothing was inserted between");
        self.by_place.entry(place).or_default().push(inserted);
        Some(inserted)
    }

    /// Takes one out; dropping it closes it.
    pub(crate) fn remove(&mut self, key: Key) -> Option<Box<Trunk>> {
        let trunk = self.all.remove(key)?;
        let place = Place::new(&trunk.to.backend, trunk.to.client);
        if let Some(keys) = self.by_place.get_mut(&place) {
            keys.retain(|other| *other != key);
            if keys.is_empty() {
                self.by_place.remove(&place);
            }
        }
        Some(trunk)
    }

    /// Closes those without requests that are not worth keeping, or whose backends take no new work.
    pub(crate) fn sweep(&mut self, now_ms: u64, spare: bool) {
        if self.all.len() == 0 {
            return;
        }
        for key in self.all.keys() {
            let Some(trunk) = self.all.get_mut(key) else {
                continue;
            };
            if trunk.to.backend.closed.load(Relaxed) || !spare {
                trunk.retire();
            }
            if !trunk.is_kept(now_ms) {
                self.remove(key);
            }
        }
    }
}

impl Worker {
    /// Gives a request to a connection to its backend, which may have to be made.
    pub(in crate::l7) fn join_trunk(
        &mut self,
        key: Key,
        talk: &mut Conversation,
        set: &Set,
        (backend, client): (&Arc<BackendRuntime>, Option<SocketAddr>),
        last_ms: u64,
    ) -> Reached {
        let wants_fresh = talk.exchange().is_some_and(|it| it.wants_fresh);
        let there = Place::new(backend, client);
        let there = self.http.trunks.with_room(there, set.tls.as_ref());
        let there = there.filter(|_| !wants_fresh);
        let is_new = there.is_none();
        let trunk = match there {
            Some(trunk) => trunk,
            None => match self.dial_trunk(key, &talk.client, set, (backend, client)) {
                Ok(trunk) => trunk,
                Err(source::Failed::Backend) => return Reached::Failed,
                Err(source::Failed::Imitation) => return Reached::Impossible,
            },
        };
        let now_ms = self.now_ms;
        let (Some(found), Some(exchange)) = (self.http.trunks.get_mut(trunk), talk.exchange())
        else {
            return Reached::Failed;
        };
        let (is_dialing, is_idle) = (found.is_dialing(), found.under_way() == 0);
        let (stream, feeder, slot) = found.stream();
        let socket = Socket::stream(stream);
        let upstream = Upstream::new(socket, Arc::clone(backend), client, None, key);
        let upstream = self.http.pool.insert(upstream.over(trunk));
        found.begin(slot, feeder, upstream, now_ms);
        exchange.upstream = Some(upstream);
        exchange.is_reused = !is_new && !is_dialing && is_idle;
        if !is_dialing {
            exchange.step = Step::Open;
            self.forget_deadline(key);
            return Reached::Open;
        }
        if let Some(connection) = self.connections.get_mut(key) {
            connection.is_dialed(now_ms, last_ms);
        }
        exchange.step = Step::Dialing;
        self.watch_deadline(key);
        Reached::Dialing
    }

    fn dial_trunk(
        &mut self,
        key: Key,
        client_socket: &Socket,
        set: &Set,
        (backend, client): (&Arc<BackendRuntime>, Option<SocketAddr>),
    ) -> Result<Key, source::Failed> {
        let header = self.header_of(key, client_socket);
        let Some(connection) = self.connections.get_mut(key) else {
            return Err(source::Failed::Backend);
        };
        let dial = source::dial(&self.table.network, connection)?;
        let (rung, now_ms) = (Rc::clone(&self.http.rung), self.now_ms);
        let trunk = self.http.trunks.insert(|trunk| {
            let bell = Bell::new(Owner::Backend(trunk), rung);
            let to = To {
                backend: Arc::clone(backend),
                client,
                tls: set.tls.clone(),
                header,
            };
            Trunk::new(Socket::connecting(dial), to, bell, now_ms)
        });
        let trunk = trunk.ok_or(source::Failed::Backend)?;
        let watched = self.http.trunks.get_mut(trunk).map(|made| {
            let socket = &made.line.borrow().socket;
            self.epoll.add_socket(socket, Source::Trunk(trunk).token())
        });
        if watched.is_none_or(|watched| watched.is_err()) {
            self.http.trunks.remove(trunk);
            return Err(source::Failed::Backend);
        }
        Ok(trunk)
    }

    /// Such a connection is ready.
    pub(crate) fn on_trunk(&mut self, key: Key, readiness: Readiness) {
        let now_ms = self.now_ms;
        let Some(trunk) = self.http.trunks.get_mut(key) else {
            return;
        };
        trunk.line.borrow_mut().socket.note(readiness);
        let told = trunk.begin_if_connected(now_ms);
        self.tell(told);
        self.drive_trunk(key);
    }

    /// A turn of such a connection with all of its requests.
    pub(crate) fn drive_trunk(&mut self, key: Key) {
        let now_ms = self.now_ms;
        if let Some(trunk) = self.http.trunks.get_mut(key) {
            trunk.begin_turn();
        }
        let mut is_tired = false;
        for _ in 0..TURNS {
            let Some(trunk) = self.http.trunks.get_mut(key) else {
                return;
            };
            let told = trunk.turn(now_ms);
            is_tired = told.is_tired;
            if told.keys.is_empty() {
                break;
            }
            is_tired = true;
            self.tell(told.keys);
        }
        let Some(trunk) = self.http.trunks.get_mut(key) else {
            return;
        };
        trunk.end_turn();
        if is_tired {
            trunk.ring();
        }
        if !trunk.is_kept(now_ms) {
            self.http.trunks.remove(key);
        }
    }

    /// Lets the conversations of these requests go on.
    fn tell(&mut self, upstreams: Vec<Key>) {
        for upstream in upstreams {
            let owner = self.http.pool.get_mut(upstream).and_then(|it| it.owner);
            if let Some(owner) = owner {
                self.converse(owner);
            }
        }
    }
}

/// Times that a connection has its turn, and those whom it told theirs, before others do.
const TURNS: usize = 4;
