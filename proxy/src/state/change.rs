//! What a transaction changes, as its answer tells it; and what it would change, for a dry run. Changes nothing.

use super::check::Removals;
use super::engine::Engine;
use super::entry::SetEntry;
use podline_api::{Apply, Backend, BackendChange, Name, v1};
use std::collections::HashSet;
use std::net::SocketAddr;

impl Engine {
    /// The changes that `apply` would make.
    pub(super) fn preview(&self, apply: &Apply, removals: &Removals) -> Vec<v1::Change> {
        use v1::change::Action::{Added, Changed, Removed};
        let mut changes: Vec<_> = self.networks.preview(apply).into_iter().collect();
        changes.extend(
            removals
                .listeners
                .iter()
                .map(|name| change_of("listener", name, Removed)),
        );
        for wanted in &apply.backend_sets {
            let Some(entry) = self.sets.get(&wanted.name) else {
                let mut change = change_of("set", &wanted.name, Added);
                change.backends_added = count(wanted.backends.len());
                changes.push(change);
                continue;
            };
            let (removed, upserted) = set_difference(entry, &wanted.backends);
            let settings = entry.settings != wanted.settings;
            changes.extend(set_change(
                entry,
                &wanted.name,
                settings,
                &removed,
                &upserted,
            ));
        }
        for change in &apply.backend_changes {
            if let Some(entry) = self.sets.get(&change.set) {
                let upserted: Vec<&Backend> = changed_backends(entry, &change.upsert).collect();
                let removed = removed_backends(change);
                changes.extend(set_change(entry, &change.set, false, &removed, &upserted));
            }
        }
        for wanted in &apply.listeners {
            match self.listeners.get(&wanted.name) {
                None => changes.push(change_of("listener", &wanted.name, Added)),
                Some(entry) if entry.wanted != *wanted => {
                    changes.push(change_of("listener", &wanted.name, Changed));
                }
                Some(_) => {}
            }
        }
        changes.extend(
            removals
                .sets
                .iter()
                .filter_map(|name| Some(set_removed(name, self.sets.get(name)?))),
        );
        changes
    }
}

pub(super) fn change_of(kind: &str, name: &Name, action: v1::change::Action) -> v1::Change {
    v1::Change {
        what: format!("{kind}/{name}"),
        action: action.into(),
        ..v1::Change::default()
    }
}

/// The answer's line for a set that goes with all its backends.
pub(super) fn set_removed(name: &Name, entry: &SetEntry) -> v1::Change {
    v1::Change {
        backends_removed: count(entry.backends.len()),
        ..change_of("set", name, v1::change::Action::Removed)
    }
}

/// The backends of `wanted` that are new or different.
pub(super) fn changed_backends<'a>(
    entry: &'a SetEntry,
    wanted: &'a [Backend],
) -> impl Iterator<Item = &'a Backend> {
    wanted.iter().filter(|b| {
        entry
            .backends
            .get(&b.key.address)
            .is_none_or(|known| known.differs(b))
    })
}

/// The addresses that `change` empties. One that it also fills is not among them: whoever else is there goes anyway.
pub(super) fn removed_backends(change: &BackendChange) -> Vec<SocketAddr> {
    let filled: HashSet<SocketAddr> = change.upsert.iter().map(|b| b.key.address).collect();
    let addresses = change.remove.iter().map(|key| key.address);
    addresses.filter(|a| !filled.contains(a)).collect()
}

/// What turns a set's backends into `wanted`: addresses to remove, backends to add or change.
pub(super) fn set_difference<'a>(
    entry: &'a SetEntry,
    wanted: &'a [Backend],
) -> (Vec<SocketAddr>, Vec<&'a Backend>) {
    let kept: HashSet<SocketAddr> = wanted.iter().map(|b| b.key.address).collect();
    let removed = entry
        .backends
        .keys()
        .filter(|address| !kept.contains(address))
        .copied()
        .collect();
    (removed, changed_backends(entry, wanted).collect())
}

/// The answer's line for a changed set, or nothing where nothing differs.
pub(super) fn set_change(
    entry: &SetEntry,
    name: &Name,
    settings: bool,
    removed: &[SocketAddr],
    upserted: &[&Backend],
) -> Option<v1::Change> {
    if !settings && removed.is_empty() && upserted.is_empty() {
        return None;
    }
    let known = |b: &&&Backend| {
        entry
            .backends
            .get(&b.key.address)
            .is_some_and(|k| k.runtime.key == b.key)
    };
    let changed = upserted.iter().filter(known).count();
    let replaced = upserted
        .iter()
        .filter(|b| entry.backends.contains_key(&b.key.address))
        .count()
        - changed;
    Some(v1::Change {
        backends_added: count(upserted.len() - changed),
        backends_changed: count(changed),
        backends_removed: count(removed.len() + replaced),
        ..change_of("set", name, v1::change::Action::Changed)
    })
}

pub(super) fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
