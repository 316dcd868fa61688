//! Direct mode: the backends of one port are its Pods. Pure.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use podline_api::{Backend, BackendId, BackendKey, Name, Weight};

use super::endpoints::{Candidate, State};

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

/// Binds at most `quota` candidates that are not terminating: those that are ready before others, and the oldest first, so
/// that nobody is put out for a newcomer.
/// Terminating ones get no new work, unless there is nobody else (K5): `is_healthy` says whether a backend takes traffic
/// on every proxy, `was_closed` whether it lost its weight before.
pub(super) fn bind(
    mut candidates: Vec<Candidate>,
    quota: usize,
    was_closed: impl Fn(&BackendKey) -> bool,
    is_healthy: impl Fn(&BackendKey) -> bool,
) -> Bound {
    candidates.sort_by(|a, b| order(a).cmp(&order(b)));
    let mut bound = Bound::default();
    let mut slots_taken = 0;
    candidates.retain(|candidate| {
        let is_within = slots_taken < quota;
        if candidate.state.is_live() {
            slots_taken += usize::from(is_within);
            bound.is_beyond_quota |= !is_within;
        }
        // A terminating one takes no slot, but was never bound if as many older ones live.
        is_within
    });

    let mut active = candidates
        .iter()
        .filter(|candidate| candidate.state == State::Active);
    let has_active = active.clone().next().is_some();
    let somebody_else = has_active && active.any(|candidate| is_healthy(&key(candidate)));
    for candidate in &candidates {
        let key = key(candidate);
        let weight = match candidate.state {
            State::Active => Weight::DEFAULT,
            State::Serving if !somebody_else && !was_closed(&key) => {
                bound.waits_for_health |= has_active;
                Weight::DEFAULT
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
            node: node(candidate),
        });
    }
    bound.backends.sort_by_key(|backend| backend.key.address);
    bound
}

/// Who gets a slot first: who is ready, the older, the smaller uid; without Pods the smaller address.
fn order(candidate: &Candidate) -> (bool, i64, Option<&str>, SocketAddr) {
    let address = SocketAddr::new(candidate.address, candidate.port);
    let is_unready = candidate.state == State::Unready;
    let uid = candidate.uid.as_deref();
    (is_unready, candidate.created, uid, address)
}

fn key(candidate: &Candidate) -> BackendKey {
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
