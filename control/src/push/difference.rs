//! The request that takes a proxy from what it has to what it is to have, and what it has once that was taken. Pure.
//!
//! A set of which only backends differ goes as a change of those, guarded by the set's version. One change of a set has
//! one drain timeout, and a request one change of a set; so backends that ended, whose connections are cut at once, go
//! before others that leave, in a request of their own.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use podline_api::{Backend, BackendId, BackendKey, BackendSet, Listener, Name, SourceAddress, v1};

use super::holdings::{HeldNetwork, HeldSet, Holdings};

/// What a proxy is to have of our owner's. Every listener's set is among `sets`.
#[derive(Debug)]
pub(super) struct Goal<'a> {
    pub(super) listeners: Cow<'a, BTreeMap<Name, Arc<Listener>>>,
    pub(super) sets: Cow<'a, BTreeMap<Name, Arc<BackendSet>>>,
    /// Absent: it is not told, and what it has stays.
    pub(super) network: Option<HeldNetwork>,
    pub(super) may: May,
}

/// What the proxy can do without which it takes the rest all the same: it is not told of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct May {
    /// It knows that clients can be imitated.
    pub(super) imitate: bool,
    /// It takes backends out by itself.
    pub(super) eject: bool,
}

/// What decides how a difference is sent.
#[derive(Debug)]
pub(super) struct How<'a> {
    /// Backends whose connections are cut as soon as they leave.
    pub(super) ended: &'a BTreeSet<BackendId>,
    /// The proxy knows a drain timeout of a change.
    pub(super) may_cut: bool,
    /// Sets of which the proxy has something else than we know: sent with all their backends.
    pub(super) whole: &'a BTreeSet<Name>,
}

/// A request, still without owner and epoch.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) request: v1::ApplyRequest,
    pub(super) sent: Sent,
    pub(super) effect: Effect,
    /// Another one has to follow.
    pub(super) is_partial: bool,
}

/// Whom the request's lists name, in their order: a refusal refers to them by index.
#[derive(Debug, Default)]
pub(super) struct Sent {
    pub(super) listeners: Vec<Name>,
    pub(super) sets: Vec<Name>,
    pub(super) changes: Vec<Name>,
    pub(super) network: bool,
}

/// What a request changes of a proxy's holdings; `None` is gone.
#[derive(Debug, Default)]
pub(super) struct Effect {
    listeners: Vec<(Name, Option<Arc<Listener>>)>,
    sets: Vec<(Name, Option<Arc<BackendSet>>)>,
    network: Option<HeldNetwork>,
    /// What is not named is gone too.
    is_all: bool,
}

impl Plan {
    /// There is nothing to send.
    pub(super) fn is_empty(&self) -> bool {
        let Effect {
            listeners,
            sets,
            network,
            is_all,
        } = &self.effect;
        listeners.is_empty() && sets.is_empty() && network.is_none() && !is_all
    }

    fn put_network(&mut self, network: HeldNetwork) {
        self.request.network = Some(network.to_wire());
        self.sent.network = true;
        self.effect.network = Some(network);
    }

    fn put_listener(&mut self, listener: &Arc<Listener>, may: May) {
        let name = listener.name.clone();
        let mut wire = v1::Listener::from(&**listener);
        if listener.source_address == SourceAddress::PreferTransparent && !may.imitate {
            wire.source_address = None;
        }
        self.request.listeners.push(wire);
        self.sent.listeners.push(name.clone());
        let effect = (name, Some(Arc::clone(listener)));
        self.effect.listeners.push(effect);
    }

    fn put_set(&mut self, set: &Arc<BackendSet>, may: May) {
        let name = set.name.clone();
        let mut wire = v1::BackendSet::from(&**set);
        if !may.eject {
            wire.passive_check = None;
        }
        self.request.backend_sets.push(wire);
        self.sent.sets.push(name.clone());
        self.effect.sets.push((name, Some(Arc::clone(set))));
    }

    fn change_set(&mut self, held: &HeldSet, edits: &[Edit<'_>], becomes: Arc<BackendSet>) {
        let name = becomes.name.clone();
        let puts = edits.iter().filter_map(|edit| edit.put);
        let removals = edits.iter().filter(|edit| edit.put.is_none());
        self.request.backend_changes.push(v1::BackendChange {
            set: (&name).into(),
            if_version: held.version,
            upsert: puts.map(Into::into).collect(),
            remove: removals
                .filter_map(|edit| edit.gone)
                .map(Into::into)
                .collect(),
            drain_timeout: None,
        });
        self.sent.changes.push(name.clone());
        self.effect.sets.push((name, Some(becomes)));
    }

    /// Cuts the connections of what the last change removes.
    fn cut(&mut self) {
        if let Some(change) = self.request.backend_changes.last_mut() {
            change.drain_timeout = Some(prost_types::Duration::default());
        }
    }
}

impl Effect {
    /// The request was taken, by this answer.
    pub(super) fn take(self, held: &mut Holdings, answer: &v1::ApplyResponse) {
        let of_sets = answer
            .changes
            .iter()
            .filter_map(|change| change.what.strip_prefix("set/"));
        let changed: BTreeSet<&str> = of_sets.collect();
        let mut before = if self.is_all {
            std::mem::take(held)
        } else {
            Holdings::default()
        };
        if self.network.is_some() {
            held.network = self.network;
        }
        for (name, listener) in self.listeners {
            match listener {
                Some(listener) => drop(held.listeners.insert(name, listener)),
                None => drop(held.listeners.remove(&name)),
            }
        }
        for (name, set) in self.sets {
            let known = held
                .sets
                .remove(&name)
                .or_else(|| before.sets.remove(&name));
            let Some(set) = set else { continue };
            let version = if changed.contains(name.as_str()) {
                Some(answer.version)
            } else {
                known.and_then(|known| known.version)
            };
            held.sets.insert(name, HeldSet { set, version });
        }
    }
}

/// Everything: what the proxy has besides is removed, what does not differ stays untouched.
pub(super) fn full(goal: &Goal<'_>) -> Plan {
    let mut plan = Plan::default();
    plan.request.replace_owned = true;
    plan.effect.is_all = true;
    for set in goal.sets.values() {
        plan.put_set(set, goal.may);
    }
    for listener in goal.listeners.values() {
        plan.put_listener(listener, goal.may);
    }
    if let Some(network) = &goal.network {
        plan.put_network(network.clone());
    }
    plan
}

/// What differs. What is equal is shared from now on, so that it need not be compared again.
pub(super) fn difference(held: &mut Holdings, goal: &Goal<'_>, how: &How<'_>) -> Plan {
    let mut plan = Plan::default();
    for (name, wanted) in goal.sets.iter() {
        match held.sets.get_mut(name) {
            Some(held) if !how.whole.contains(name) => set(&mut plan, held, wanted, how, goal.may),
            _ => plan.put_set(wanted, goal.may),
        }
    }
    for (name, wanted) in goal.listeners.iter() {
        match held.listeners.get_mut(name) {
            Some(held) if Arc::ptr_eq(held, wanted) => {}
            Some(held) if held == wanted => *held = Arc::clone(wanted),
            _ => plan.put_listener(wanted, goal.may),
        }
    }
    match (&mut held.network, &goal.network) {
        // Also where it was made anew and is the same: shared from now on.
        (Some(held), Some(wanted)) if held == wanted => held.clone_from(wanted),
        (_, Some(wanted)) => plan.put_network(wanted.clone()),
        (_, None) => {}
    }
    for name in gone(&held.listeners, &goal.listeners) {
        plan.request.remove_listeners.push(name.into());
        plan.effect.listeners.push((name.clone(), None));
    }
    for name in gone(&held.sets, &goal.sets) {
        plan.request.remove_backend_sets.push(name.into());
        plan.effect.sets.push((name.clone(), None));
    }
    plan
}

fn gone<'a, T, U>(
    held: &'a BTreeMap<Name, T>,
    goal: &BTreeMap<Name, U>,
) -> impl Iterator<Item = &'a Name> {
    held.keys().filter(|name| !goal.contains_key(*name))
}

/// What differs of a set that the proxy has.
fn set(plan: &mut Plan, held: &mut HeldSet, wanted: &Arc<BackendSet>, how: &How<'_>, may: May) {
    if Arc::ptr_eq(&held.set, wanted) {
        return;
    }
    let same_settings = held.set.settings == wanted.settings;
    let edits = edits(&held.set.backends, &wanted.backends);
    if edits.is_empty() && same_settings {
        held.set = Arc::clone(wanted);
        return;
    }
    let is_cut = |edit: &Edit<'_>| {
        let id = edit.gone.and_then(|key| key.id.as_ref());
        how.may_cut && id.is_some_and(|id| how.ended.contains(id))
    };
    let (cut, rest): (Vec<Edit<'_>>, Vec<Edit<'_>>) = edits.iter().copied().partition(is_cut);
    if cut.is_empty() {
        if same_settings {
            plan.change_set(held, &rest, Arc::clone(wanted));
        } else {
            plan.put_set(wanted, may);
        }
    } else if same_settings && rest.iter().all(|edit| edit.gone.is_none()) {
        plan.change_set(held, &edits, Arc::clone(wanted));
        plan.cut();
    } else {
        let becomes = Arc::new(edited(&held.set, &cut));
        plan.change_set(held, &cut, becomes);
        plan.cut();
        plan.is_partial = true;
    }
}

/// What happens at one address of a set.
#[derive(Clone, Copy, Debug)]
struct Edit<'a> {
    /// Who is there now, if it differs.
    put: Option<&'a Backend>,
    /// Who is there no longer.
    gone: Option<&'a BackendKey>,
}

/// What turns `held` into `wanted`; neither has an address twice.
fn edits<'a>(held: &'a [Backend], wanted: &'a [Backend]) -> Vec<Edit<'a>> {
    let sorted = |backends: &'a [Backend]| {
        let mut sorted: Vec<&Backend> = backends.iter().collect();
        sorted.sort_by_key(|backend| backend.key.address); // linear where they are sorted already
        sorted
    };
    let (held, wanted) = (sorted(held), sorted(wanted));
    let (mut held, mut wanted) = (held.into_iter().peekable(), wanted.into_iter().peekable());
    let mut edits = Vec::new();
    loop {
        let addresses = (
            held.peek().map(|b| b.key.address),
            wanted.peek().map(|b| b.key.address),
        );
        let (old, new) = match addresses {
            (None, None) => return edits,
            (Some(old), Some(new)) if old == new => (held.next(), wanted.next()),
            (Some(old), Some(new)) if old < new => (held.next(), None),
            (Some(_), None) => (held.next(), None),
            _ => (None, wanted.next()),
        };
        if old == new {
            continue;
        }
        let gone = old.map(|old| &old.key);
        edits.push(Edit {
            put: new,
            gone: gone.filter(|gone| new.is_none_or(|new| new.key != **gone)),
        });
    }
}

fn edited(set: &BackendSet, edits: &[Edit<'_>]) -> BackendSet {
    let by_address = |backend: &Backend| (backend.key.address, backend.clone());
    let mut backends: BTreeMap<SocketAddr, Backend> = set.backends.iter().map(by_address).collect();
    for edit in edits {
        if let Some(gone) = edit.gone {
            backends.remove(&gone.address);
        }
        backends.extend(edit.put.map(by_address));
    }
    BackendSet {
        name: set.name.clone(),
        settings: set.settings.clone(),
        backends: backends.into_values().collect(),
    }
}
