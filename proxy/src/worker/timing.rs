//! What a worker does because time has passed. Coarse on purpose: no timer per connection, no reset per read.

use super::Worker;
use super::connection::Phase;
use super::slab::Key;
use crate::state::ports::ForceClose;
use crate::tls::fault::HandshakeFault;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// How often deadlines of unfinished connections, closing listeners and a pause of accepting are looked at.
const SOON_MS: u64 = 10;
/// How long bytes that the kernel gathers may wait for company.
const GATHER_MS: u64 = 2;
/// How often a part of all connections is looked at for silence.
const SWEEP_MS: u64 = 250;
/// Parts a sweep of all connections is split into: each connection is looked at once a second.
const SWEEP_PARTS: u32 = 4;
/// Silence after which an empty pipe goes back to the pool.
const PIPE_IDLE_MS: u64 = 1_000;

/// When the clock was last acted upon.
#[derive(Debug, Default)]
pub(super) struct Timing {
    looked_ms: u64,
    swept_ms: u64,
    part: u32,
}

impl Worker {
    /// How long the worker may sleep; `None` when nothing depends on time.
    pub(super) fn next_look(&self) -> Option<Duration> {
        if !self.gathering.is_empty() {
            Some(Duration::from_millis(GATHER_MS))
        } else if !self.unfinished.is_empty()
            || self.accept_paused
            || self.closing_listeners()
            || self.is_udp_closing()
        {
            Some(Duration::from_millis(SOON_MS))
        } else if self.connections.len() > 0 || self.has_flows() || self.http.keeps_any() {
            Some(Duration::from_millis(SWEEP_MS))
        } else {
            None
        }
    }

    /// Acts on what is due.
    pub(super) fn look_at_clock(&mut self) {
        if !self.gathering.is_empty() {
            self.look_for_gathered();
        }
        if self.now_ms >= self.timing.looked_ms + SOON_MS {
            self.timing.looked_ms = self.now_ms;
            self.check_deadlines();
            self.check_closing_listeners();
            self.resume_accepting();
            self.check_closing_udp();
        }
        if self.now_ms >= self.timing.swept_ms + SWEEP_MS {
            self.timing.swept_ms = self.now_ms;
            self.sweep();
            self.sweep_flows();
            let is_ample = self.shared.descriptors.are_ample();
            self.http.pool.sweep(self.now_ms, is_ample);
            self.http.trunks.sweep(self.now_ms, is_ample);
        }
    }

    /// Puts a connection on the list of those with a deadline.
    pub(crate) fn watch_deadline(&mut self, key: Key) {
        let at = u32::try_from(self.unfinished.len()).ok();
        if let Some(connection) = self.connections.get_mut(key)
            && connection.unfinished_at.is_none()
        {
            connection.unfinished_at = at;
            self.unfinished.push(key);
        }
    }

    /// Takes it off that list.
    pub(crate) fn forget_deadline(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let Some(at) = connection.unfinished_at.take() else {
            return;
        };
        self.unfinished.swap_remove(at as usize);
        if let Some(moved) = self.unfinished.get(at as usize).copied()
            && let Some(connection) = self.connections.get_mut(moved)
        {
            connection.unfinished_at = Some(at);
        }
    }

    /// Gives a turn to long streams that have been silent for a moment: their last bytes may be below what is gathered.
    fn look_for_gathered(&mut self) {
        for key in std::mem::take(&mut self.gathering) {
            let Some(connection) = self.connections.get_mut(key) else {
                continue;
            };
            let Phase::Forwarding(forwarding) = &mut connection.phase else {
                continue;
            };
            if !forwarding.gathering() {
                connection.gathering = false;
                continue;
            }
            self.gathering.push(key);
            if self.now_ms >= connection.active_ms + GATHER_MS {
                forwarding.look_for_gathered();
                self.advance(key);
            }
        }
    }

    fn check_deadlines(&mut self) {
        for key in self.unfinished.clone() {
            let Some(connection) = self.connections.get_mut(key) else {
                continue;
            };
            let due = self.now_ms >= connection.deadline_ms;
            match &mut connection.phase {
                Phase::Forwarding(forwarding) => {
                    let over = forwarding.delivered() || forwarding.gives_up(self.now_ms, due);
                    if over {
                        forwarding.close_after_farewell();
                        self.close(key, "other side left");
                    }
                }
                Phase::Http(_) if due => self.on_http_deadline(key),
                Phase::Announcing(_) if due => self.refuse_header(key, "late"),
                Phase::Securing(_) if due => self.refuse_handshake(key, HandshakeFault::Late, None),
                Phase::Dialing { .. } if due => self.on_dial_timeout(key),
                Phase::Waiting(_) if due => self.stop_waiting(key),
                _ => {}
            }
        }
    }

    fn sweep(&mut self) {
        let part = self.timing.part;
        self.timing.part = (part + 1) % SWEEP_PARTS;
        let slots = self.connections.slots().div_ceil(SWEEP_PARTS);
        for index in part * slots..(part + 1) * slots {
            if let Some(key) = self.connections.key_at(index) {
                self.look_at(key);
            }
        }
    }

    fn look_at(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.report_bytes();
        match connection.phase {
            Phase::Http(_) => return self.look_at_talk(key),
            Phase::Http2(_) => return self.look_at_multiplex(key),
            _ => {}
        }
        let silent_ms = self.now_ms.saturating_sub(connection.active_ms);
        if silent_ms >= connection.silence_limit_ms() {
            self.cut(key, "idle");
        } else if silent_ms >= PIPE_IDLE_MS
            && let Phase::Forwarding(forwarding) = &mut connection.phase
        {
            forwarding.release_pipes(&mut self.room, false);
        }
    }

    /// Cuts the connections that `what` names; those of a backend that has said its last word are let finish instead.
    pub(super) fn force_close(&mut self, what: &ForceClose) {
        for key in self.connections.keys() {
            let Some(connection) = self.connections.get_mut(key) else {
                continue;
            };
            let named = match what {
                ForceClose::Backend(backend) => connection
                    .backend
                    .as_ref()
                    .is_some_and(|b| Arc::ptr_eq(b, backend)),
                ForceClose::Listener(id) => connection.route.id == *id,
                ForceClose::Everything => true,
            };
            if let (ForceClose::Backend(_), Phase::Forwarding(forwarding)) =
                (what, &mut connection.phase)
                && named
                && forwarding.finish()
            {
                self.advance(key);
                continue;
            }
            if named {
                if let Some(backend) = &connection.backend {
                    backend.forced.fetch_add(1, Relaxed);
                }
                self.cut(key, "deadline");
            }
        }
    }
}
