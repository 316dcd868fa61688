//! What moves on its own between transactions: health, drains, and listeners that could not be bound.

use super::engine::Engine;
use super::entry::BackendEntry;
use super::ports::{DataPlane, ForceClose};
use super::view;
use crate::lb::drain::{DrainAction, DrainState};
use crate::lb::health::ProbeOutcome;
use crate::probe::finding::Finding;
use crate::probe::schedule::Target;
use podline_api::{Name, v1};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};
use v1::watch_response::Event;

/// One look at the drain of a backend, removed or overridden.
pub(super) struct Step<'a> {
    pub(super) plane: &'a dyn DataPlane,
    /// Every worker acts on the version that closed the backend.
    pub(super) acknowledged: bool,
    pub(super) now_ms: u64,
}

impl Step<'_> {
    /// Moves a drain on and says what happened; whether it is over.
    pub(super) fn drain(
        &self,
        set: &Name,
        backend: &BackendEntry,
        drain: &mut DrainState,
        events: &mut Vec<Event>,
    ) -> bool {
        let runtime = &backend.runtime;
        let mut event = |stage: v1::drained::Stage| {
            events.push(Event::Drained(v1::Drained {
                set: set.to_string(),
                backend: Some((&backend.backend()).into()),
                stage: stage.into(),
                forced: runtime.forced.load(Relaxed),
            }));
        };
        if self.acknowledged && drain.on_closed() {
            event(v1::drained::Stage::Closed);
        }
        match drain.on_tick(self.now_ms, u64::from(runtime.active.load(Relaxed))) {
            DrainAction::Wait => false,
            DrainAction::Force => {
                self.plane
                    .force_close(ForceClose::Backend(Arc::clone(runtime)));
                false
            }
            DrainAction::Done => {
                event(v1::drained::Stage::Empty);
                true
            }
        }
    }
}

impl Engine {
    /// Takes in a probe's outcome for everybody it concerns and says when to probe again.
    pub(super) fn on_probe(&mut self, id: u64, outcome: ProbeOutcome, finding: Finding) {
        let now_ms = self.plane.now_ms();
        let mut delay: Option<Duration> = None;
        for target in self.probes.targets(id) {
            let wish = self.on_probe_of(target, outcome, finding, id ^ now_ms);
            if outcome == ProbeOutcome::Passed
                && self.ejected.contains(&(target.set, target.address))
            {
                self.readmit_probed(target);
            }
            delay = wish.map_or(delay, |wish| Some(delay.map_or(wish, |d| d.min(wish))));
        }
        if let Some(delay) = delay {
            self.probes.again(id, now_ms, delay);
        }
    }

    /// Keeps what the last probe came to, for whoever asks, where it says nothing of the backends.
    pub(super) fn note_probe(&mut self, id: u64, finding: Finding) {
        for target in self.probes.targets(id) {
            if let Some(name) = self.set_names.get(&target.set)
                && let Some(set) = self.sets.get_mut(name)
                && let Some(backend) = set.backends.get_mut(&target.address)
            {
                backend.last_probe = Some(finding);
            }
        }
    }

    fn on_probe_of(
        &mut self,
        target: Target,
        outcome: ProbeOutcome,
        finding: Finding,
        seed: u64,
    ) -> Option<Duration> {
        let name = self.set_names.get(&target.set)?;
        let set = self.sets.get_mut(name)?;
        let check = set.settings.health_check.as_ref()?;
        let backend = set.backends.get_mut(&target.address)?;
        backend.last_probe = Some(finding);
        backend.first_probe.get_or_insert_with(SystemTime::now);
        if let Some(change) = backend.health.on_probe(check, outcome, !set.was_healthy) {
            backend.since = SystemTime::now();
            set.was_healthy |= outcome == ProbeOutcome::Passed;
            if let Some(members) = self.table.set_mut(set.id) {
                members.was_healthy = set.was_healthy;
            }
            self.health_changes.push(v1::HealthChanged {
                set: name.to_string(),
                backend: Some((&backend.backend()).into()),
                from: view::health(change.from).into(),
                to: view::health(change.to).into(),
                reason: finding.to_string(),
                version: 0,
            });
            let next = backend.health.next_probe_in(check, seed);
            let name = name.clone();
            self.update_member(&name, target.address);
            return Some(next);
        }
        Some(backend.health.next_probe_in(check, seed))
    }

    fn readmit_probed(&mut self, target: Target) {
        if let Some(name) = self.set_names.get(&target.set).cloned() {
            self.readmit(&name, target.address, "a probe passed");
        }
    }

    /// What happened by the last publish, and was not told yet.
    pub(super) fn take_events(&mut self) -> Vec<Event> {
        let version = self.version();
        let changes = std::mem::take(&mut self.health_changes);
        let changes = changes
            .into_iter()
            .map(|change| Event::Health(v1::HealthChanged { version, ..change }));
        changes.chain(std::mem::take(&mut self.notes)).collect()
    }

    /// The oldest version that a drain waits for, and the newest.
    pub(super) fn draining_version(&self) -> Option<u64> {
        let backends = self.draining_backends.values().map(|d| d.version);
        let overrides = self.overrides.values().filter_map(|o| Some(o.drain?.1));
        backends
            .chain(overrides)
            .chain(self.draining_listeners.iter().map(|d| d.version))
            .max()
    }

    /// Moves drains on: those of `acknowledged` or an earlier version are closed, and end or are forced when due.
    pub(super) fn move_drains(&mut self, acknowledged: u64) -> Vec<Event> {
        let now_ms = self.plane.now_ms();
        let plane = Arc::clone(&self.plane);
        let mut events = self.move_override_drains(acknowledged, now_ms);
        self.draining_backends.retain(|_, draining| {
            let step = Step {
                plane: &*plane,
                acknowledged: draining.version <= acknowledged,
                now_ms,
            };
            let (entry, drain) = (&draining.entry, &mut draining.drain);
            !step.drain(&draining.set, entry, drain, &mut events)
        });
        self.draining_listeners.retain_mut(|draining| {
            if draining.version <= acknowledged {
                draining.drain.on_closed();
            }
            match draining.drain.on_tick(now_ms, draining.active()) {
                DrainAction::Wait => true,
                DrainAction::Force => {
                    plane.force_close(ForceClose::Listener(draining.entry.id));
                    true
                }
                DrainAction::Done => false,
            }
        });
        events
    }

    /// Tries again to bind listeners that failed; what changed.
    pub(super) fn retry_listeners(&mut self) -> Vec<Event> {
        if self.stopping.is_some() {
            return Vec::new();
        }
        let changed: Vec<Name> = self
            .failed_listeners()
            .into_iter()
            .filter(|name| self.bind(name))
            .collect();
        if !changed.is_empty() {
            self.update_routes();
        }
        changed
            .iter()
            .filter_map(|name| self.listener_event(name))
            .collect()
    }

    /// Listeners that are not bound.
    pub(super) fn failed_listeners(&self) -> Vec<Name> {
        self.listeners
            .iter()
            .filter(|(_, l)| l.failure.is_some())
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// How a listener stands now, as an event.
    pub(super) fn listener_event(&self, name: &Name) -> Option<Event> {
        let status = view::listener(self.listeners.get(name)?);
        let (state, reason) = (status.state, status.reason);
        Some(Event::Listener(v1::ListenerChanged {
            name: name.to_string(),
            state,
            reason,
        }))
    }
}
