//! What changes in a snapshot when Services stand differently, and which backends moved by it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use podline_api::{BackendId, BackendSet, Listener, Name, Protocol};

use super::{Plan, Standing};
use crate::snapshot::Snapshot;

/// Backends that moved, by their ids. Not those of UDP sets: they leave before they have ended, and nothing of theirs is
/// ever to be cut, since flows move on.
#[derive(Default)]
pub(super) struct Moves {
    /// From a set that stays.
    pub(super) left: BTreeSet<BackendId>,
    /// Together with their set.
    pub(super) left_with_set: BTreeSet<BackendId>,
    /// Into a set.
    pub(super) joined: BTreeSet<BackendId>,
}

/// What changes in a snapshot.
#[derive(Default)]
pub(super) struct Delta {
    pub(super) moves: Moves,
    remove_listeners: Vec<Name>,
    remove_sets: Vec<Name>,
    listeners: Vec<Arc<Listener>>,
    sets: Vec<Arc<BackendSet>>,
}

impl Delta {
    /// Takes in that a Service stands differently.
    pub(super) fn take(&mut self, before: Option<&Standing>, now: Option<&Standing>) {
        let plan = |standing: Option<&Standing>| match standing {
            Some(Standing::Ours(plan)) => Some(Arc::clone(plan)),
            _ => None,
        };
        let (before, now) = (plan(before), plan(now));
        self.moves.take(before.as_deref(), now.as_deref());
        if let Some(before) = before {
            self.remove_listeners.extend(
                before
                    .listeners
                    .iter()
                    .map(|listener| listener.name.clone()),
            );
            self.remove_sets
                .extend(before.sets.iter().map(|set| set.name.clone()));
        }
        if let Some(now) = now {
            self.listeners.extend(now.listeners.iter().cloned());
            self.sets.extend(now.sets.iter().cloned());
        }
    }

    /// Whether the snapshot differs now.
    pub(super) fn apply(self, snapshot: &mut Snapshot) -> bool {
        let listeners = self.listeners.into_iter().map(|it| (it.name.clone(), it));
        let sets = self.sets.into_iter().map(|it| (it.name.clone(), it));
        let listeners = update(
            &mut snapshot.listeners,
            &self.remove_listeners,
            listeners.collect(),
        );
        let sets = update(&mut snapshot.sets, &self.remove_sets, sets.collect());
        listeners || sets
    }
}

/// Takes out what `remove` names and `add` has not, and puts `add` in; whether anything differs.
fn update<T: PartialEq>(
    all: &mut BTreeMap<Name, Arc<T>>,
    remove: &[Name],
    add: BTreeMap<Name, Arc<T>>,
) -> bool {
    let mut differs = false;
    for name in remove.iter().filter(|name| !add.contains_key(*name)) {
        differs |= all.remove(name).is_some();
    }
    for (name, value) in add {
        let same = all
            .get(&name)
            .is_some_and(|old| Arc::ptr_eq(old, &value) || *old == value);
        if !same {
            all.insert(name, value);
            differs = true;
        }
    }
    differs
}

impl Moves {
    fn take(&mut self, before: Option<&Plan>, now: Option<&Plan>) {
        let sets = |plan: Option<&Plan>| -> BTreeMap<Name, Arc<BackendSet>> {
            let listeners = plan.into_iter().flat_map(|plan| &plan.listeners);
            let listeners = listeners.filter(|listener| listener.protocol == Protocol::Udp);
            let of_flows: BTreeSet<_> = listeners.flat_map(|listener| listener.sets()).collect();
            let sets = plan.into_iter().flat_map(|plan| &plan.sets);
            let sets = sets.filter(|set| !of_flows.contains(&set.name));
            sets.map(|set| (set.name.clone(), Arc::clone(set)))
                .collect()
        };
        let (before, mut now) = (sets(before), sets(now));
        for (name, before) in before {
            let Some(now) = now.remove(&name) else {
                self.left_with_set.extend(ids(&before).cloned());
                continue;
            };
            if Arc::ptr_eq(&before, &now) {
                continue;
            }
            let (was, is): (BTreeSet<_>, BTreeSet<_>) =
                (ids(&before).collect(), ids(&now).collect());
            self.left.extend(was.difference(&is).copied().cloned());
            self.joined.extend(is.difference(&was).copied().cloned());
        }
        for set in now.values() {
            self.joined.extend(ids(set).cloned());
        }
    }
}

fn ids(set: &BackendSet) -> impl Iterator<Item = &BackendId> {
    let backends = set.backends.iter();
    backends.filter_map(|backend| backend.key.id.as_ref())
}
