//! A proxy as far as pushing sees one: checks and takes requests by the rules of the real one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;

use podline_api::{
    Apply, BackendChange, BackendSet, Invalid, Listener, Name, Network, Rejected, Violation, v1,
};

use super::owner;
use crate::push::Reign;
use crate::push::sync::{Step, Sync};
use crate::snapshot::Snapshot;

/// A set with this many retries, or with a backend of this weight, is refused.
pub(super) const BAD_RETRIES: u8 = 9;
pub(super) const BAD_WEIGHT: u8 = 13;

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) version: u64,
    pub(super) listeners: BTreeMap<Name, Listener>,
    /// With the version of their last change.
    pub(super) sets: BTreeMap<Name, (BackendSet, u64)>,
    /// Addresses that another owner's listeners have, and sets that they use.
    pub(super) taken: BTreeSet<SocketAddr>,
    pub(super) used: BTreeSet<Name>,
    /// Sets of another owner.
    pub(super) foreign: BTreeSet<Name>,
    pub(super) epoch: Option<u64>,
    /// Everything is refused with these words.
    pub(super) stubborn: Option<String>,
    pub(super) silent_workers: Vec<u32>,
    pub(super) network: Option<Network>,
    /// It tells the time, and of first connections.
    pub(super) has_clock: bool,
    /// A network with a node of this name is refused.
    pub(super) bad_node: Option<Name>,
}

impl Model {
    pub(super) fn apply(&mut self, request: v1::ApplyRequest) -> v1::ApplyResponse {
        let taken = Apply::try_from(request)
            .map_err(Rejected::from)
            .and_then(|apply| self.take(&apply));
        match taken {
            Ok(changes) => v1::ApplyResponse {
                version: self.version,
                changes,
                silent_workers: self.silent_workers.clone(),
                ..Default::default()
            },
            Err(rejected) => v1::ApplyResponse {
                version: self.version,
                refusal: Some(rejected.into()),
                ..Default::default()
            },
        }
    }

    fn take(&mut self, apply: &Apply) -> Result<Vec<v1::Change>, Rejected> {
        let gone_listeners = self.gone(&apply.remove_listeners, apply.replace_owned, |name| {
            apply.listeners.iter().any(|l| l.name == *name)
        });
        let gone_sets: BTreeSet<Name> = if apply.replace_owned {
            let kept = |name: &&Name| !apply.backend_sets.iter().any(|s| s.name == **name);
            self.sets.keys().filter(kept).cloned().collect()
        } else {
            apply.remove_backend_sets.iter().cloned().collect()
        };
        self.check(apply, &gone_listeners, &gone_sets)?;
        self.epoch = self.epoch.max(apply.epoch);
        let version = self.version + 1;
        let mut changes = Vec::new();
        if apply.network.is_some() || apply.replace_owned {
            self.network.clone_from(&apply.network);
        }
        let mut note = |what: String, action: v1::change::Action| {
            changes.push(v1::Change {
                what,
                action: action.into(),
                ..Default::default()
            });
        };
        for name in gone_listeners {
            self.listeners.remove(&name);
            note(format!("listener/{name}"), v1::change::Action::Removed);
        }
        for set in &apply.backend_sets {
            let known = self.sets.get(&set.name);
            if known.is_none_or(|(known, _)| !same_set(known, set)) {
                self.sets.insert(set.name.clone(), (set.clone(), version));
                note(format!("set/{}", set.name), v1::change::Action::Changed);
            }
        }
        for change in &apply.backend_changes {
            let (set, of) = self.sets.get_mut(&change.set).unwrap();
            let before = set.clone();
            edit(set, change);
            if before != *set {
                *of = version;
                note(format!("set/{}", change.set), v1::change::Action::Changed);
            }
        }
        for listener in &apply.listeners {
            let name = listener.name.clone();
            if self.listeners.insert(name, listener.clone()).as_ref() != Some(listener) {
                let what = format!("listener/{}", listener.name);
                note(what, v1::change::Action::Changed);
            }
        }
        for name in gone_sets {
            self.sets.remove(&name);
            note(format!("set/{name}"), v1::change::Action::Removed);
        }
        self.version += u64::from(!changes.is_empty());
        Ok(changes)
    }

    fn gone(&self, named: &[Name], is_full: bool, stays: impl Fn(&Name) -> bool) -> BTreeSet<Name> {
        if !is_full {
            return named.iter().cloned().collect();
        }
        let mine = self.listeners.keys();
        mine.filter(|name| !stays(name)).cloned().collect()
    }

    fn check(
        &self,
        apply: &Apply,
        gone_listeners: &BTreeSet<Name>,
        gone_sets: &BTreeSet<Name>,
    ) -> Result<(), Rejected> {
        if self.epoch > apply.epoch {
            return Err(Rejected::StaleEpoch {
                owner: apply.owner.clone(),
                epoch: apply.epoch,
                current: self.epoch.unwrap_or_default(),
            });
        }
        if let Some(problem) = self.stubborn.clone() {
            return Err(Rejected::Forbidden { problem });
        }
        let conflict = |path: String, problem: &str| {
            let problem = problem.to_owned();
            Err(Rejected::Conflict { path, problem })
        };
        for (i, set) in apply.backend_sets.iter().enumerate() {
            if self.foreign.contains(&set.name) {
                return conflict(format!("backendSets[{i}].name"), "belongs to another");
            }
        }
        for (i, listener) in apply.listeners.iter().enumerate() {
            let is_replaced = |name: &Name| apply.listeners.iter().any(|l| l.name == *name);
            let ours = self.listeners.values().any(|l| {
                l.address == listener.address
                    && !is_replaced(&l.name)
                    && !gone_listeners.contains(&l.name)
            });
            if ours || self.taken.contains(&listener.address) {
                return conflict(format!("listeners[{i}].address"), "is taken");
            }
        }
        let mut violations = Vec::new();
        let mut add = |path: String, problem: &str| {
            let problem = problem.to_owned();
            violations.push(Violation { path, problem });
        };
        self.check_network(apply, &mut add);
        check_sets(apply, &mut add);
        for (i, name) in apply.remove_listeners.iter().enumerate() {
            if !self.listeners.contains_key(name) {
                add(format!("removeListeners[{i}]"), "is not there");
            }
        }
        for name in gone_sets {
            let kept = self.listeners.values().filter(|l| {
                !gone_listeners.contains(&l.name)
                    && !apply.listeners.iter().any(|new| new.name == l.name)
            });
            let mut kept = kept.chain(&apply.listeners);
            let index = apply.remove_backend_sets.iter().position(|n| n == name);
            let path = index.map_or("backendSets".to_owned(), |i| {
                format!("removeBackendSets[{i}]")
            });
            if self.used.contains(name) || kept.any(|l| l.leads_to(name)) {
                add(path, "is still used");
            } else if !self.sets.contains_key(name) {
                add(path, "is not there");
            }
        }
        for (i, listener) in apply.listeners.iter().enumerate() {
            for (field, set) in listener.named_sets() {
                let comes = apply.backend_sets.iter().any(|s| s.name == *set);
                if !comes && (!self.sets.contains_key(set) || gone_sets.contains(set)) {
                    add(format!("listeners[{i}].{field}"), "is not there");
                }
            }
        }
        for (i, change) in apply.backend_changes.iter().enumerate() {
            self.check_change(i, change, &mut add)?;
        }
        if violations.is_empty() {
            Ok(())
        } else {
            Err(Invalid { violations }.into())
        }
    }

    fn check_network(&self, apply: &Apply, add: &mut impl FnMut(String, &str)) {
        let nodes = apply.network.iter().flat_map(|network| &network.nodes);
        for (i, node) in nodes.enumerate() {
            if self.bad_node.as_ref() == Some(&node.name) {
                add(format!("network.nodes[{i}].name"), "is bad");
            }
        }
    }

    fn check_change(
        &self,
        i: usize,
        change: &BackendChange,
        add: &mut impl FnMut(String, &str),
    ) -> Result<(), Rejected> {
        let Some((set, version)) = self.sets.get(&change.set) else {
            add(format!("backendChanges[{i}].set"), "is not there");
            return Ok(());
        };
        if let Some(wanted) = change.if_version.filter(|wanted| wanted != version) {
            return Err(Rejected::SetVersion {
                set: change.set.clone(),
                wanted,
                actual: *version,
            });
        }
        for (j, key) in change.remove.iter().enumerate() {
            if !set.backends.iter().any(|b| b.key == *key) {
                add(format!("backendChanges[{i}].remove[{j}]"), "is not there");
            }
        }
        for (j, backend) in change.upsert.iter().enumerate() {
            if backend.weight.get() == BAD_WEIGHT {
                add(format!("backendChanges[{i}].upsert[{j}].weight"), "is bad");
            }
        }
        Ok(())
    }

    /// What its clock says, if it has one: an hour more than ours.
    fn clock(&self) -> Option<prost_types::Timestamp> {
        let hour = std::time::Duration::from_hours(1);
        self.has_clock
            .then(|| (std::time::SystemTime::now() + hour).into())
    }

    /// What a Get answers.
    pub(super) fn state(&self) -> v1::GetResponse {
        let owner = owner().to_string();
        let of = || owner.clone();
        let (listeners, sets) = (self.listeners.values(), self.sets.values());
        let listeners = listeners.map(|listener| v1::ListenerStatus {
            listener: Some(listener.shown()),
            owner: of(),
            state: v1::listener_status::State::Listening.into(),
            ..Default::default()
        });
        let sets = sets.map(|(set, version)| {
            let backends = set.backends.iter().map(|backend| v1::BackendStatus {
                backend: Some(backend.into()),
                health: v1::Health::Disabled.into(),
                first_connection: self.clock(),
                ..Default::default()
            });
            v1::BackendSetStatus {
                set: Some(set.settings.to_wire(&set.name)),
                owner: of(),
                version: *version,
                backends: backends.collect(),
                ..Default::default()
            }
        });
        let network = self.network.as_ref();
        v1::GetResponse {
            network: network.map(|network| v1::NetworkStatus {
                network: Some(network.into()),
                addresses: self.addresses(),
                ..Default::default()
            }),
            version: self.version,
            ready: true,
            now: self.clock(),
            started: self.clock(),
            listeners: listeners.collect(),
            backend_sets: sets.collect(),
            owners: vec![v1::OwnerStatus {
                owner,
                epoch: self.epoch,
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    /// How it does with virtual addresses: it holds what it is to hold.
    pub(super) fn addresses(&self) -> Vec<v1::AddressStatus> {
        use v1::address_status::State;
        let told = self.network.iter().flat_map(|network| &network.addresses);
        let status = |told: &podline_api::VirtualAddress| {
            let state = if told.held {
                State::Holding
            } else {
                State::Standby
            };
            v1::AddressStatus {
                address: told.address.to_string(),
                state: state.into(),
                epoch: told.epoch,
                ..Default::default()
            }
        };
        told.map(status).collect()
    }

    /// Whether it has exactly what `snapshot` says.
    pub(super) fn check_is(&self, snapshot: &Snapshot) {
        let listeners: Vec<_> = snapshot.listeners.values().map(|l| (**l).clone()).collect();
        assert_eq!(
            self.listeners.values().cloned().collect::<Vec<_>>(),
            listeners
        );
        assert_eq!(
            self.sets.keys().collect::<Vec<_>>(),
            snapshot.sets.keys().collect::<Vec<_>>()
        );
        for (set, _) in self.sets.values() {
            let wanted = &snapshot.sets[&set.name];
            assert!(same_set(set, wanted), "{set:?}\nis not\n{wanted:?}");
        }
    }
}

fn check_sets(apply: &Apply, add: &mut impl FnMut(String, &str)) {
    for (i, set) in apply.backend_sets.iter().enumerate() {
        if set.settings.connect_retries == BAD_RETRIES {
            add(format!("backendSets[{i}].connectRetries"), "is bad");
        }
        let bad = |b: &podline_api::Backend| b.weight.get() == BAD_WEIGHT;
        if let Some(j) = set.backends.iter().position(bad) {
            add(format!("backendSets[{i}].backends[{j}].weight"), "is bad");
        }
    }
}

pub(super) fn same_set(one: &BackendSet, other: &BackendSet) -> bool {
    let sorted = |set: &BackendSet| {
        let mut backends = set.backends.clone();
        backends.sort_by_key(|b| b.key.address);
        backends
    };
    one.settings == other.settings && sorted(one) == sorted(other)
}

fn edit(set: &mut BackendSet, change: &BackendChange) {
    let filled: BTreeSet<_> = change.upsert.iter().map(|b| b.key.address).collect();
    set.backends
        .retain(|b| !change.remove.contains(&b.key) && !filled.contains(&b.key.address));
    set.backends.extend(change.upsert.iter().cloned());
    set.backends.sort_by_key(|b| b.key.address);
}

/// A machine, a model, and a line between them.
pub(super) struct Bench {
    pub(super) sync: Sync,
    pub(super) model: Model,
    pub(super) now_ms: u64,
    /// What was sent.
    pub(super) sent: Vec<v1::ApplyRequest>,
    pub(super) reads: usize,
}

impl Bench {
    /// A leader of epoch 1 and a proxy that was just connected.
    pub(super) fn new() -> Self {
        let mut bench = Self::apart();
        bench.sync.reign(Reign::Leader { epoch: 1 }, 0);
        bench.connect(&super::FEATURES);
        bench
    }

    pub(super) fn apart() -> Self {
        Self {
            sync: Sync::new(owner()),
            model: Model::default(),
            now_ms: 0,
            sent: Vec::new(),
            reads: 0,
        }
    }

    /// In step with `snapshot`, and everything that was sent until then forgotten.
    pub(super) fn with(snapshot: &Snapshot) -> Self {
        let mut bench = Self::new();
        bench.want(snapshot);
        bench.run();
        bench.model.check_is(snapshot);
        bench.sent.clear();
        bench
    }

    pub(super) fn connect(&mut self, features: &[&str]) {
        let features = features.iter().map(ToString::to_string).collect();
        self.sync.connected(3, Arc::new(features), self.now_ms);
    }

    pub(super) fn want(&mut self, snapshot: &Snapshot) {
        self.sync.want(Arc::new(snapshot.clone()), self.now_ms);
    }

    /// One step; breaks with when to wake if there was nothing to do.
    pub(super) fn step(&mut self) -> ControlFlow<Option<u64>> {
        match self.sync.poll(self.now_ms) {
            Step::Wait(at) => return ControlFlow::Break(at),
            Step::Read => {
                self.reads += 1;
                self.sync.read(self.model.state());
            }
            Step::Send(request) => {
                self.sent.push((*request).clone());
                let answer = self.model.apply(*request);
                self.answer(&answer);
            }
            Step::Lost => panic!("lost"),
        }
        ControlFlow::Continue(())
    }

    pub(super) fn answer(&mut self, answer: &v1::ApplyResponse) {
        match &answer.refusal {
            Some(refusal) => self.sync.refused(refusal, self.now_ms),
            None => drop(self.sync.answered(answer, self.now_ms)),
        }
    }

    /// Until there is nothing to do at this time; when to wake.
    pub(super) fn run(&mut self) -> Option<u64> {
        for _ in 0..1_000 {
            if let ControlFlow::Break(at) = self.step() {
                return at;
            }
        }
        panic!("it never rests: {:?}", self.sent.last());
    }

    /// Lets time pass, doing what is due.
    pub(super) fn pass(&mut self, ms: u64) {
        let until = self.now_ms + ms;
        loop {
            let wake = self.run().filter(|at| *at <= until);
            let Some(at) = wake else { break };
            assert!(at > self.now_ms, "it waits for the past");
            self.now_ms = at;
        }
        self.now_ms = until;
        self.run();
    }

    pub(super) fn refused(&self) -> Vec<(String, String)> {
        let words = self.sync.refused_words().into_iter();
        words
            .map(|(name, words)| (name.to_string(), words))
            .collect()
    }
}
