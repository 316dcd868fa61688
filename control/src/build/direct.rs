//! Direct mode: the backends of one port are its Pods. Pure.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use podline_api::{Backend, BackendId, BackendKey, Name, Weight};

use super::endpoints::{Candidate, State};
use crate::cluster::{Gate, Key};

/// The backends that candidates become.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bound {
    /// In the order of their addresses.
    pub(super) backends: Vec<Backend>,
    /// More Pods than the quota.
    pub(super) is_beyond_quota: bool,
    /// Terminating Pods keep their weight until somebody else is healthy.
    pub(super) waits_for_health: bool,
    /// Terminating backends that lost their weight here: they never get it back.
    pub(super) closed: BTreeSet<BackendKey>,
    /// Who has no slot of the quota.
    pub(super) left_out: LeftOut,
    /// Pods that live and have no readiness gate of ours.
    pub(super) without_gate: Vec<Key>,
}

impl Bound {
    /// Takes out those that are closed. For flows: they have no end of their own, and go on elsewhere only once their
    /// backend is gone (K4).
    pub(super) fn leave_closed(&mut self) {
        let closed = &self.closed;
        self.backends
            .retain(|backend| !closed.contains(&backend.key));
    }
}

/// Who is behind a port, and has no slot of the quota.
pub(super) type LeftOut = BTreeSet<BackendKey>;

/// What a port's backends were before.
#[derive(Clone, Copy, Default)]
pub(super) struct Before<'a> {
    /// Who was bound, in the order of their addresses; absent: nobody knows.
    pub(super) backends: Option<&'a [Backend]>,
    /// Who had no slot.
    pub(super) left_out: Option<&'a LeftOut>,
}

impl Before<'_> {
    fn is_bound(&self, key: &BackendKey) -> bool {
        let backends = self.backends.unwrap_or_default();
        let found = backends.binary_search_by_key(&key.address, |backend| backend.key.address);
        found.is_ok_and(|n| backends[n].key == *key)
    }

    fn is_left_out(&self, key: &BackendKey) -> bool {
        self.left_out.is_some_and(|keys| keys.contains(key))
    }
}

/// Binds at most `quota` candidates that are not terminating: those that are ready before others; of these who was bound
/// `before`, so that nobody is put out for a newcomer; then Pods whose gate waits for it; then the oldest.
/// Terminating ones get no new work, unless there is nobody else (K5): `is_healthy` says whether a backend takes traffic
/// on every proxy, `was_closed` whether it lost its weight before.
pub(super) fn bind(
    candidates: Vec<Candidate>,
    quota: usize,
    before: Before<'_>,
    was_closed: impl Fn(&BackendKey) -> bool,
    is_healthy: impl Fn(&BackendKey) -> bool,
) -> Bound {
    let keyed = candidates.into_iter().map(|it| (key(&it), it));
    let mut candidates: Vec<_> = keyed.collect();
    candidates.sort_by_cached_key(|(key, candidate)| order(key, candidate, before));
    let mut bound = Bound::default();
    let mut slots_taken = 0;
    candidates.retain(|(key, candidate)| {
        let is_within = slots_taken < quota;
        let has_one = if candidate.state.is_live() {
            slots_taken += usize::from(is_within);
            bound.is_beyond_quota |= !is_within;
            is_within
        } else {
            // A terminating one takes no slot, but was never bound if it had none, or if as many older ones live.
            before.is_bound(key) || (is_within && !before.is_left_out(key))
        };
        if !has_one {
            bound.left_out.insert(key.clone());
        }
        has_one
    });
    let without_gate = candidates.iter().map(|(_, it)| it);
    let without_gate =
        without_gate.filter(|it| it.state.is_live() && it.gate == Some(Gate::Absent));
    bound.without_gate = without_gate.filter_map(|it| it.pod.clone()).collect();

    let takes_work = |candidate: &Candidate| {
        candidate.state == State::Active && candidate.weight != Weight::NONE
    };
    let mut active = candidates
        .iter()
        .filter(|(_, candidate)| takes_work(candidate));
    let has_active = active.clone().next().is_some();
    let somebody_else = has_active && active.any(|(key, _)| is_healthy(key));
    for (key, candidate) in candidates {
        let weight = match candidate.state {
            State::Active => candidate.weight,
            State::Serving
                if !somebody_else && !was_closed(&key) && candidate.weight != Weight::NONE =>
            {
                bound.waits_for_health |= has_active;
                candidate.weight
            }
            State::Serving | State::Finished => {
                bound.closed.insert(key.clone());
                Weight::NONE
            }
            State::Unready => Weight::NONE,
        };
        bound.backends.push(Backend {
            key,
            weight,
            node: node(&candidate),
        });
    }
    bound.backends.sort_by_key(|backend| backend.key.address);
    bound
}

/// In which order slots are given: unready or not, new or not, gate does not wait or does, age, uid, address.
type Order = (bool, bool, bool, i64, Option<Arc<str>>, SocketAddr);

/// Who gets a slot first: who is ready, who had one, who waits for it, the older, the smaller uid; without Pods the smaller
/// address. Where nobody is known to have had one, nobody is known to have had none either: then the older.
fn order(key: &BackendKey, candidate: &Candidate, before: Before<'_>) -> Order {
    let is_unready = candidate.state == State::Unready;
    let is_new = before.backends.is_some() && !before.is_bound(key);
    let waits = candidate.gate == Some(Gate::Waiting);
    let uid = candidate.uid.clone();
    (
        is_unready,
        is_new,
        is_new && !waits,
        candidate.created,
        uid,
        key.address,
    )
}

/// Who a candidate is to the proxies.
pub(super) fn key(candidate: &Candidate) -> BackendKey {
    BackendKey {
        // The API server makes uids; one that is none is as good as no Pod.
        id: candidate
            .uid
            .as_deref()
            .and_then(|uid| BackendId::try_from(uid).ok()),
        address: SocketAddr::new(candidate.address, candidate.port),
    }
}

/// Where its Pod runs; a slice that names none may claim anything.
fn node(candidate: &Candidate) -> Option<Name> {
    candidate.pod.as_ref()?;
    Name::try_from(candidate.node.as_deref()?).ok()
}

#[cfg(test)]
mod tests;
