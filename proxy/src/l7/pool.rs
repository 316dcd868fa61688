//! A worker's connections to backends of HTTP sets: one request at a time each, kept for the next for a while.

use crate::l4::socket::Socket;
use crate::lb::backend::BackendRuntime;
use crate::tls::backend::BackendRules;
use crate::worker::slab::{Key, Slab};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Idle connections kept for each backend. There are never more than there were requests at once within [`IDLE_MS`], as
/// the one used last is taken first and the others grow old; with a cap of 8, requests that come in batches of 32 made
/// every fourth dial (1.35 of nginx's CPU for a request, instead of below it).
const PER_BACKEND: usize = 256;
/// How long one is kept where its backend says nothing else. Many servers close theirs after 5 s: who reuses it then
/// loses a race.
pub(crate) const IDLE_MS: u64 = 4_000;

/// One connection to a backend.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) socket: Socket,
    pub(crate) backend: Arc<BackendRuntime>,
    /// The client that it may serve, where the backend sees the client's address.
    client: Option<SocketAddr>,
    /// How its backend is spoken to over TLS.
    pub(crate) tls: Option<BackendRules>,
    /// The connection whose request it carries; nobody's while idle.
    pub(crate) owner: Option<Key>,
    idle_until_ms: u64,
    /// The connection in HTTP/2 that it is one stream of.
    pub(crate) trunk: Option<Key>,
}

impl Upstream {
    /// A connection that is being made for `owner`.
    pub(crate) fn new(
        socket: Socket,
        backend: Arc<BackendRuntime>,
        client: Option<SocketAddr>,
        tls: Option<BackendRules>,
        owner: Key,
    ) -> Self {
        Self {
            socket,
            backend,
            client,
            tls,
            owner: Some(owner),
            idle_until_ms: 0,
            trunk: None,
        }
    }

    /// The same as one stream of `trunk`.
    pub(crate) fn over(self, trunk: Key) -> Self {
        Self {
            trunk: Some(trunk),
            ..self
        }
    }

    /// Whether it looks as if it could carry a request: nothing was said on it, and it has not ended.
    fn is_quiet(&self) -> bool {
        !self.socket.read_closed() && !self.socket.readable() && self.socket.gone().is_none()
    }

    fn place(&self) -> Place {
        Place::new(&self.backend, self.client)
    }
}

/// Who shares idle connections. The backend's address in memory: it lives as long as a connection to it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    backend: usize,
    client: Option<SocketAddr>,
}

impl Place {
    /// Of connections to `backend` that serve `client`, or all.
    pub(crate) fn new(backend: &Arc<BackendRuntime>, client: Option<SocketAddr>) -> Self {
        Self {
            backend: Arc::as_ptr(backend) as usize,
            client,
        }
    }
}

/// All of a worker's connections to backends of HTTP sets.
#[derive(Debug)]
pub(crate) struct Pool {
    all: Slab<Upstream>,
    idle: HashMap<Place, Vec<Key>>,
    idle_count: usize,
    /// Idle ones in all.
    most_idle: usize,
}

impl Pool {
    /// A pool that keeps `most_idle` connections at most.
    pub(crate) fn new(most_idle: usize) -> Self {
        Self {
            all: Slab::new(),
            idle: HashMap::new(),
            idle_count: 0,
            most_idle,
        }
    }

    /// Idle connections.
    pub(crate) fn idle(&self) -> usize {
        self.idle_count
    }

    /// Adds a connection; its key.
    pub(crate) fn insert(&mut self, upstream: Upstream) -> Key {
        self.all.insert(upstream)
    }

    /// The connection with this key.
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut Upstream> {
        self.all.get_mut(key)
    }

    /// An idle connection to `backend` for `owner`, the one that was used last. Those that speak TLS otherwise than `tls`
    /// says are closed.
    pub(crate) fn reuse(
        &mut self,
        backend: &Arc<BackendRuntime>,
        client: Option<SocketAddr>,
        tls: Option<&BackendRules>,
        owner: Key,
    ) -> Option<Key> {
        let place = Place::new(backend, client);
        while let Some(key) = self.idle.get_mut(&place).and_then(Vec::pop) {
            self.idle_count -= 1;
            if let Some(upstream) = self.all.get_mut(key) {
                if upstream.is_quiet() && upstream.tls.as_ref() == tls {
                    upstream.owner = Some(owner);
                    return Some(key);
                }
                self.all.remove(key);
            }
        }
        None
    }

    /// A request is done with; the connection waits for another for `reuse_ms`, or is closed where there are enough.
    pub(crate) fn give_back(&mut self, key: Key, reuse_ms: u64, now_ms: u64) {
        let Some(upstream) = self.all.get_mut(key) else {
            return;
        };
        let fits = self.idle_count < self.most_idle
            && upstream.trunk.is_none()
            && upstream.is_quiet()
            && !upstream.backend.closed.load(Relaxed);
        if fits {
            upstream.owner = None;
            upstream.idle_until_ms = now_ms + reuse_ms;
            let idle = self.idle.entry(upstream.place()).or_default();
            if idle.len() < PER_BACKEND {
                idle.push(key);
                self.idle_count += 1;
                return;
            }
        }
        self.all.remove(key);
    }

    /// Takes a connection out; dropping it closes it.
    pub(crate) fn remove(&mut self, key: Key) -> Option<Upstream> {
        let upstream = self.all.remove(key)?;
        if upstream.owner.is_none()
            && let Some(idle) = self.idle.get_mut(&upstream.place())
        {
            let before = idle.len();
            idle.retain(|other| *other != key);
            self.idle_count -= before - idle.len();
        }
        Some(upstream)
    }

    /// Closes idle connections whose time is over, all of them where `spare` is false, and those to backends that
    /// take no new work.
    pub(crate) fn sweep(&mut self, now_ms: u64, spare: bool) {
        if self.idle_count == 0 {
            return;
        }
        let (all, count) = (&mut self.all, &mut self.idle_count);
        self.idle.retain(|_, keys| {
            keys.retain(|key| {
                let stays = spare
                    && all.get_mut(*key).is_some_and(|upstream| {
                        now_ms < upstream.idle_until_ms && !upstream.backend.closed.load(Relaxed)
                    });
                if !stays {
                    all.remove(*key);
                    *count -= 1;
                }
                stays
            });
            !keys.is_empty()
        });
    }
}
