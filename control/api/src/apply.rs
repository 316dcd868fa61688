//! One transaction that changes a proxy's state. What it says about itself is checked here; whether it fits the state
//! of a proxy, there.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use crate::backend_set::distinct_backends;
use crate::document::{distinct_listeners, distinct_sets, refuse_same_names};
use crate::invalid::Checks;
use crate::{
    Backend, BackendKey, BackendSet, Document, Invalid, Listener, Name, Network, Owner, duration,
    v1,
};

/// One transaction by one owner: taken whole or refused whole. Nothing is named twice in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Apply {
    /// Who owns what this names.
    pub owner: Owner,
    /// Added or replaced.
    pub listeners: Vec<Listener>,
    /// Added or replaced, with all their backends.
    pub backend_sets: Vec<BackendSet>,
    /// Removed; not among `listeners`.
    pub remove_listeners: Vec<Name>,
    /// Removed; not among `backend_sets`.
    pub remove_backend_sets: Vec<Name>,
    /// Changes of single backends, in sets that the rest does not name.
    pub backend_changes: Vec<BackendChange>,
    /// This is the owner's full state: what it owns and does not name here is removed.
    pub replace_owned: bool,
    /// Check only, change nothing.
    pub validate_only: bool,
    /// Refuse unless the proxy is at this version.
    pub if_version: Option<u64>,
    /// Which reign of the owner this is; refused if lower than the owner's highest so far.
    pub epoch: Option<u64>,
    /// The owner's part of the network, whole; absent: stays, but with `replace_owned` goes.
    pub network: Option<Network>,
}

/// Changes of single backends of one set, without sending the whole set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendChange {
    /// The set.
    pub set: Name,
    /// Refuse unless the set is at this version.
    pub if_version: Option<u64>,
    /// Added, or changed in weight; no address twice.
    pub upsert: Vec<Backend>,
    /// Removed; nothing twice, and nothing that `upsert` holds.
    pub remove: Vec<BackendKey>,
    /// How long connections live on of what this removes; absent: as the set says. 0 to 24 h.
    pub drain_timeout: Option<Duration>,
}

impl Apply {
    /// A transaction of `owner` that changes nothing yet.
    pub const fn new(owner: Owner) -> Self {
        Self {
            owner,
            listeners: Vec::new(),
            backend_sets: Vec::new(),
            remove_listeners: Vec::new(),
            remove_backend_sets: Vec::new(),
            backend_changes: Vec::new(),
            replace_owned: false,
            validate_only: false,
            if_version: None,
            epoch: None,
            network: None,
        }
    }

    /// Everything in `document` is added or replaced.
    pub fn document(owner: Owner, document: Document) -> Self {
        Self {
            listeners: document.listeners,
            backend_sets: document.backend_sets,
            network: document.network,
            ..Self::new(owner)
        }
    }
}

impl TryFrom<v1::ApplyRequest> for Apply {
    type Error = Invalid;

    fn try_from(wire: v1::ApplyRequest) -> Result<Self, Invalid> {
        let mut checks = Checks::default();
        let owner = checks.take("owner", Owner::try_from(wire.owner));
        let listeners = distinct_listeners(&mut checks, wire.listeners);
        let sets = distinct_sets(&mut checks, wire.backend_sets);
        let gone_listeners = names(&mut checks, "removeListeners", wire.remove_listeners);
        let gone_sets = names(&mut checks, "removeBackendSets", wire.remove_backend_sets);
        let changes = checks.each(
            "backendChanges",
            wire.backend_changes,
            BackendChange::try_from,
        );
        let in_changes = || changes.iter().map(|(i, change)| (*i, &change.set));
        refuse_same_names(&mut checks, "backendChanges", ".set", in_changes());

        let kept: HashSet<&Name> = listeners.iter().map(|listener| &listener.name).collect();
        refuse_both(
            &mut checks,
            "removeListeners",
            "",
            "listeners",
            &kept,
            indexed(&gone_listeners),
        );
        let kept: HashSet<&Name> = sets.iter().map(|set| &set.name).collect();
        refuse_both(
            &mut checks,
            "removeBackendSets",
            "",
            "backendSets",
            &kept,
            indexed(&gone_sets),
        );
        refuse_both(
            &mut checks,
            "backendChanges",
            ".set",
            "backendSets",
            &kept,
            in_changes(),
        );
        let gone: HashSet<&Name> = gone_sets.iter().map(|(_, name)| name).collect();
        refuse_both(
            &mut checks,
            "backendChanges",
            ".set",
            "removeBackendSets",
            &gone,
            in_changes(),
        );

        let network = wire.network.map(Network::try_from).transpose();
        let network = checks.take("network", network);
        checks.finish(owner.zip(network).map(|(owner, network)| Self {
            owner,
            listeners,
            backend_sets: sets,
            remove_listeners: without_index(gone_listeners),
            remove_backend_sets: without_index(gone_sets),
            backend_changes: without_index(changes),
            replace_owned: wire.replace_owned,
            validate_only: wire.validate_only,
            if_version: wire.if_version,
            epoch: wire.epoch,
            network,
        }))
    }
}

impl TryFrom<v1::BackendChange> for BackendChange {
    type Error = Invalid;

    fn try_from(wire: v1::BackendChange) -> Result<Self, Invalid> {
        let mut checks = Checks::default();
        let set = checks.take("set", Name::try_from(wire.set));
        let upsert = distinct_backends(&mut checks, "upsert", wire.upsert);
        let remove = checks.each("remove", wire.remove, BackendKey::try_from);
        let mut seen: HashSet<&BackendKey> = upsert.iter().map(|backend| &backend.key).collect();
        let mut removed: HashSet<SocketAddr> = HashSet::new();
        for (i, key) in &remove {
            if !seen.insert(key) || !removed.insert(key.address) {
                checks.refuse(
                    format_args!("remove[{i}]"),
                    format!("{key} is named twice in this change"),
                );
            }
        }
        let remove = without_index(remove);
        let drain_timeout = wire.drain_timeout.map(|timeout| {
            duration::from_wire(Some(timeout), Duration::ZERO, duration::DRAIN_RANGE)
        });
        let drain_timeout = checks.take("drainTimeout", drain_timeout.transpose());
        checks.finish(set.zip(drain_timeout).map(|(set, drain_timeout)| Self {
            set,
            if_version: wire.if_version,
            upsert,
            remove,
            drain_timeout,
        }))
    }
}

fn names(checks: &mut Checks, list: &str, wire: Vec<String>) -> Vec<(usize, Name)> {
    let names = checks.each(list, wire, Name::try_from);
    refuse_same_names(checks, list, "", indexed(&names));
    names
}

/// Refuses the names of `list` that `other` holds too.
fn refuse_both<'a>(
    checks: &mut Checks,
    list: &str,
    field: &str,
    other: &str,
    held: &HashSet<&Name>,
    names: impl Iterator<Item = (usize, &'a Name)>,
) {
    for (i, name) in names.filter(|(_, name)| held.contains(name)) {
        checks.refuse(
            format_args!("{list}[{i}]{field}"),
            format!("{name} stands in {other} too: send one or the other"),
        );
    }
}

fn indexed(names: &[(usize, Name)]) -> impl Iterator<Item = (usize, &Name)> {
    names.iter().map(|(i, name)| (*i, name))
}

fn without_index<T>(list: Vec<(usize, T)>) -> Vec<T> {
    list.into_iter().map(|(_, value)| value).collect()
}

impl From<&Apply> for v1::ApplyRequest {
    fn from(apply: &Apply) -> Self {
        Self {
            owner: (&apply.owner).into(),
            listeners: apply.listeners.iter().map(Into::into).collect(),
            backend_sets: apply.backend_sets.iter().map(Into::into).collect(),
            remove_listeners: apply.remove_listeners.iter().map(Into::into).collect(),
            remove_backend_sets: apply.remove_backend_sets.iter().map(Into::into).collect(),
            backend_changes: apply.backend_changes.iter().map(Into::into).collect(),
            replace_owned: apply.replace_owned,
            validate_only: apply.validate_only,
            if_version: apply.if_version,
            epoch: apply.epoch,
            network: apply.network.as_ref().map(Into::into),
        }
    }
}

impl From<&BackendChange> for v1::BackendChange {
    fn from(change: &BackendChange) -> Self {
        Self {
            set: (&change.set).into(),
            if_version: change.if_version,
            upsert: change.upsert.iter().map(Into::into).collect(),
            remove: change.remove.iter().map(Into::into).collect(),
            drain_timeout: change.drain_timeout.map(duration::to_wire),
        }
    }
}
