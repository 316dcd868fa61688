//! What concerns many flows at once: their backend is forced, or their listener goes or is replaced.

use super::{Door, Flow, Flows, LIVE_MS, leave};
use crate::lb::ListenerId;
use crate::lb::backend::BackendRuntime;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

impl Flows {
    /// Ends the flows that `is_meant` names, as forced; how many.
    pub fn force(&mut self, is_meant: impl Fn(&Flow, &Arc<BackendRuntime>) -> bool) -> usize {
        let meant = self.which(is_meant);
        for id in &meant {
            if let Some(backend) = self.backend(*id) {
                backend.forced.fetch_add(1, Relaxed);
            }
            self.end(*id, "deadline", false);
        }
        meant.len()
    }

    /// Ends the flows of a socket that began when `begun` had: nobody came to take them over.
    pub fn end_since(&mut self, place: u32, begun: u64) {
        for id in self.which(|flow, _| flow.key.place == place && flow.born > begun) {
            self.end(id, "listener removed", false);
        }
    }

    /// All flows of a listener's socket are `door`'s from now on: its listener took the address over.
    pub fn hand_over(&mut self, place: u32, door: &Door) {
        for id in self.which(|flow, _| flow.key.place == place) {
            self.report(id);
            let Some(flow) = self.flow_mut(id) else {
                continue;
            };
            let before = std::mem::replace(&mut flow.door, door.clone());
            let client = flow.key.client;
            match &door.route.limiter {
                Some(limiter) => limiter.take_over(client, &door.counters.active),
                None => _ = door.counters.active.fetch_add(1, Relaxed),
            }
            leave(&before, client);
        }
    }

    fn which(&self, is_meant: impl Fn(&Flow, &Arc<BackendRuntime>) -> bool) -> Vec<u32> {
        let ids = self.by_key.values().copied();
        ids.filter(|id| {
            let flow = self.get(*id).zip(self.backend(*id));
            flow.is_some_and(|(flow, backend)| is_meant(flow, backend))
        })
        .collect()
    }

    /// Flows of a socket of a listener.
    pub fn at_place(&self, place: u32) -> usize {
        let keys = self.by_key.keys();
        keys.filter(|key| key.place == place).count()
    }

    /// Flows that heard something within the last second.
    pub fn live(&self, now_ms: u64) -> usize {
        let flows = self.slots.iter().filter_map(|slot| slot.flow.as_ref());
        flows.filter(|flow| now_ms < flow.seen_ms + LIVE_MS).count()
    }
}

/// Whether a flow is a listener's.
pub fn is_of(flow: &Flow, listener: ListenerId) -> bool {
    flow.door.route.id == listener
}
