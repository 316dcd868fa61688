//! From an accepted client to a connected backend: pick, dial, try another, give up.
//!
//! A client whose backends are all unreachable is reset, never accepted and then ended: it learns at once that there
//! is nobody. While all backends are new and none has a verdict, the client waits for the first one.

mod abandoned;
pub(crate) mod source;

use crate::l4::connection::Forwarding;
use crate::l4::socket::Socket;
use crate::lb::SetId;
use crate::lb::backend::BackendRuntime;
use crate::lb::headers::HeaderRules;
use crate::lb::network;
use crate::lb::pick::Cursor;
use crate::lb::set::{Asking, Client, Pick, Set};
use crate::proxy_header::{self, Announced};
use crate::worker::Worker;
use crate::worker::connection::{Phase, Via};
use crate::worker::slab::Key;
use abandoned::Turn;
use podline_api::SourceAddress;
use source::Failed;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Cursors of removed sets that a worker keeps before it looks for them.
const SPARE_CURSORS: usize = 64;

impl Worker {
    /// Picks a backend and starts to connect; on failure tries others as often as the set allows.
    pub(crate) fn dial(&mut self, key: Key) {
        loop {
            let Some((set, picked)) = self.pick_for(key, Set::pick) else {
                return self.refuse(key);
            };
            match picked {
                Pick::Backend(backend) => {
                    if self.dial_backend(key, &set, backend) {
                        return;
                    }
                }
                Pick::Wait => return self.wait_for_verdict(key, &set),
                Pick::Empty => return self.refuse(key),
            }
        }
    }

    /// What the set that the connection's listener leads to picks for it; nothing if there is no such set.
    fn pick_for(
        &mut self,
        key: Key,
        pick: fn(&Set, &mut Cursor, &Asking<'_>) -> Pick,
    ) -> Option<(Arc<Set>, Pick)> {
        let connection = self.connections.get_mut(key)?;
        let route = self
            .table
            .listener(connection.route.id)
            .unwrap_or(&connection.route);
        let set = route.set?;
        self.pick_in(key, set, pick)
    }

    /// What the set `id` picks for the connection; nothing if there is no such set.
    pub(crate) fn pick_in(
        &mut self,
        key: Key,
        id: SetId,
        pick: impl Fn(&Set, &mut Cursor, &Asking<'_>) -> Pick,
    ) -> Option<(Arc<Set>, Pick)> {
        let connection = self.connections.get_mut(key)?;
        let set = Arc::clone(self.table.set(id)?);
        let seed = (self.number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let cursor = self
            .cursors
            .entry(set.id)
            .or_insert_with(|| Cursor::seeded(seed));
        let asking = Asking {
            client: Client {
                address: connection.peer,
                listener: connection.route.name.as_str(),
            },
            tried: &connection.tried,
            memory: &self.shared.memory,
            remembers: true,
            now_ms: self.now_ms,
        };
        let picked = pick(&set, cursor, &asking);
        Some((set, picked))
    }

    /// Forgets the cursors of sets that are gone, once they could be many.
    pub(crate) fn forget_old_cursors(&mut self) {
        if self.cursors.len() > 2 * self.table.set_count() + SPARE_CURSORS {
            let table = &self.table;
            self.cursors.retain(|id, _| table.set(*id).is_some());
        }
    }

    /// Makes `backend` the connection's, and decides which source address it sees. False: it cannot see the client's, which
    /// is insisted on.
    pub(crate) fn aim(&mut self, key: Key, backend: Arc<BackendRuntime>) -> bool {
        let Some(connection) = self.connections.get_mut(key) else {
            return false;
        };
        let wanted = connection.route.source_address;
        let source = match wanted {
            SourceAddress::Snat => network::Source::Snat(None),
            wanted => {
                let client = connection.peer.ip();
                self.table.network.source(wanted, client, &backend)
            }
        };
        connection.source = source;
        connection.assign(backend);
        !matches!(source, network::Source::Impossible(_))
    }

    /// Starts to connect to `backend`. False: try another; true: settled, one way or the other.
    fn dial_backend(&mut self, key: Key, set: &Set, backend: Arc<BackendRuntime>) -> bool {
        if !self.aim(key, backend) {
            return !self.may_skip(key, set);
        }
        let timeout_ms = millis(set.settings.connect_timeout);
        match self.start_dial(key, self.now_ms + timeout_ms) {
            Ok(()) => true,
            Err(Failed::Backend) => !self.may_try_another(key, set),
            Err(Failed::Imitation) => !self.may_skip(key, set),
        }
    }

    /// Passes over a backend that is unreachable for this client alone, which is not its fault. Whether the set allows
    /// another; if not, the client has been reset.
    fn may_skip(&mut self, key: Key, set: &Set) -> bool {
        self.skip(key);
        self.may_go_on(key, set)
    }

    /// Passes over a backend that is unreachable for this client alone.
    pub(crate) fn skip(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key) {
            let skipped = connection.unassign();
            connection.tried.extend(skipped);
        }
    }

    /// Counts a failed attempt. Whether the set allows another; if not, the client has been reset.
    fn may_try_another(&mut self, key: Key, set: &Set) -> bool {
        let Some(connection) = self.connections.get_mut(key) else {
            return false;
        };
        if let Some(backend) = connection.unassign() {
            if !connection.is_counted {
                self.shared.count_failure(&backend, set, false);
            }
            connection.tried.push(backend);
        }
        self.may_go_on(key, set)
    }

    /// The client of an unfinished connection has left, or has ended its direction and may have: if its dial was
    /// unanswered for long, the attempt counts as a failed one now. A dial whose client may still wait goes on.
    pub(crate) fn on_client_gives_up(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let is_http = matches!(connection.phase, Phase::Http(_));
        let dial = match &connection.phase {
            Phase::Dialing { dial, .. } => Some(dial),
            Phase::Http(talk) => {
                let dial = talk.dial().and_then(|key| self.http.pool.get_mut(key));
                dial.map(|upstream| &upstream.socket)
            }
            _ => None,
        };
        let (Some(dial), Some(backend)) = (dial, &connection.backend) else {
            return;
        };
        let turn = Turn::of(connection.source, connection.last_ms.is_some());
        let unanswered_ms = self.now_ms.saturating_sub(connection.active_ms);
        if connection.is_counted
            || !abandoned::has_failed(turn, unanswered_ms)
            // This process was late: the answer is there, and its event waits behind the client's.
            || dial.is_connected()
        {
            return;
        }
        let Some(set) = self.table.set(backend.set) else {
            return;
        };
        connection.is_counted = true;
        tracing::debug!(backend = %backend.key.address, why = "client gave up", "connect failed");
        self.shared.count_failure(backend, set, is_http);
    }

    fn may_go_on(&mut self, key: Key, set: &Set) -> bool {
        let Some(connection) = self.connections.get_mut(key) else {
            return false;
        };
        if connection.tried.len() > usize::from(set.settings.connect_retries) {
            self.refuse(key);
            return false;
        }
        true
    }

    /// The dial's socket reported something: connected, or failed.
    pub(crate) fn on_dialed(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let Phase::Dialing { dial, .. } = &connection.phase else {
            return;
        };
        if dial.gone().is_some() {
            return self.on_dial_failed(key, "refused");
        }
        if !dial.writable() {
            return;
        }
        if !self.announce(key) {
            return self.on_dial_failed(key, "took no PROXY header");
        }
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if let Phase::Dialing { client, dial } =
            std::mem::replace(&mut connection.phase, Phase::Moving)
        {
            connection.phase = Phase::Forwarding(Forwarding::new(client, dial));
        }
        if let Some(backend) = &connection.backend {
            backend.count_connection(self.now_ms);
            backend.count_success();
        }
        connection.tried = Vec::new();
        self.count_source(key);
        self.forget_deadline(key);
        self.advance(key);
    }

    /// Writes the PROXY header that the backend is to be told by, if there is one. The client's bytes come later: a backend
    /// that does not take it has got none of them, and another may.
    ///
    /// An empty socket's buffer takes some thousand bytes at once, and a header has some hundred at most: where the
    /// kernel takes only a part, something is wrong with that backend or this machine.
    fn announce(&mut self, key: Key) -> bool {
        let last_id = &mut self.last_id;
        let Some(connection) = self.connections.get_mut(key) else {
            return false;
        };
        let via = connection.via.as_deref();
        let headers = connection.route.headers.as_deref();
        let Phase::Dialing { client, dial } = &mut connection.phase else {
            return false;
        };
        let Some(header) = header_for(headers, connection.peer, via, client, last_id) else {
            return true;
        };
        let header = header.as_bytes();
        let is_taken = dial.write(header, false) == Ok(header.len());
        if !is_taken {
            dial.reset_on_close();
        }
        is_taken
    }

    /// The PROXY header that the connection's backend is to be told by, if there is one; `client` is its socket.
    pub(crate) fn header_of(&mut self, key: Key, client: &Socket) -> Option<proxy_header::Header> {
        let connection = self.connections.get_mut(key)?;
        let headers = connection.route.headers.as_deref();
        let via = connection.via.as_deref();
        header_for(headers, connection.peer, via, client, &mut self.last_id)
    }

    /// An attempt failed: the next backend, or a reset to the client.
    pub(crate) fn on_dial_failed(&mut self, key: Key, why: &'static str) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let address = connection.backend.as_ref().map(|b| b.key.address);
        tracing::debug!(
            backend = address.map(tracing::field::display),
            why,
            "connect failed"
        );
        let set = connection
            .backend
            .as_ref()
            .and_then(|b| self.table.set(b.set).cloned());
        match set {
            Some(set) => {
                if self.may_try_another(key, &set) {
                    self.dial(key);
                }
            }
            None => self.refuse(key),
        }
    }

    /// After a publish: dials at backends that take no new work any more, and waits, are decided again.
    pub(crate) fn redo_dials(&mut self) {
        for key in self.unfinished.clone() {
            let Some(connection) = self.connections.get_mut(key) else {
                continue;
            };
            match &connection.phase {
                Phase::Waiting(_) => self.dial(key),
                Phase::Http(_) => self.redo_request(key),
                Phase::Dialing { .. }
                    if connection
                        .backend
                        .as_ref()
                        .is_some_and(|b| b.closed.load(Relaxed)) =>
                {
                    connection.unassign();
                    self.dial(key);
                }
                _ => {}
            }
        }
    }

    fn wait_for_verdict(&mut self, key: Key, set: &Set) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.phase = match std::mem::replace(&mut connection.phase, Phase::Moving) {
            Phase::Dialing { client, .. } => Phase::Waiting(client),
            other => other,
        };
        self.give_up_within(key, millis(set.settings.connect_timeout));
    }

    /// The connection's phase gives up in `within_ms`, if it has no limit yet.
    pub(crate) fn give_up_within(&mut self, key: Key, within_ms: u64) {
        if let Some(connection) = self.connections.get_mut(key)
            && connection.unfinished_at.is_none()
        {
            connection.deadline_ms = self.now_ms + within_ms;
            self.watch_deadline(key);
        }
    }

    /// No verdict came in time: backends without one are better than none.
    pub(crate) fn stop_waiting(&mut self, key: Key) {
        let Some((set, picked)) = self.pick_for(key, Set::pick_detecting) else {
            return self.refuse(key);
        };
        match picked {
            Pick::Backend(backend) => {
                if !self.dial_backend(key, &set, backend) {
                    self.dial(key);
                }
            }
            _ => self.refuse(key),
        }
    }

    /// Nobody can take this client: it is reset.
    fn refuse(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.counters.refused.fetch_add(1, Relaxed);
            if let network::Source::Impossible(reason) = connection.source {
                connection.counters.snat[reason as usize].fetch_add(1, Relaxed);
            }
            if let Phase::Waiting(client) | Phase::Dialing { client, .. } = &mut connection.phase {
                client.reset_on_close();
            }
        }
        self.close(key, "no backend");
    }
}

/// The PROXY header that a connection's backend is to be told by, if there is one.
fn header_for(
    rules: Option<&HeaderRules>,
    peer: SocketAddr,
    via: Option<&Via>,
    client: &Socket,
    last_id: &mut u128,
) -> Option<proxy_header::Header> {
    let form = rules?.send?;
    let destination = match via {
        Some(via) => Some(via.destination),
        None => client.local_address(),
    };
    let ends = destination.map(|to| Announced::new(peer, to));
    *last_id = last_id.wrapping_add(1);
    Some(proxy_header::write(form, ends, *last_id))
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
