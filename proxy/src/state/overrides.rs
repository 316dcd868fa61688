//! What operators say about single backends, beside their owners: drained, or another weight, for a time.
//!
//! An override is kept by set and backend, apart from both: it survives every publish, and outlives a backend that goes
//! and comes back.

use super::engine::{Engine, millis};
use super::entry::Held;
use super::progress::Step;
use super::view;
use crate::lb::drain::DrainState;
use podline_api::{BackendKey, Invalid, Name, Override, OverrideAction, Rejected, v1};
use std::sync::atomic::Ordering::Release;
use std::time::{Duration, SystemTime};
use v1::watch_response::Event;

/// Overrides that can hold at once.
const MOST: usize = 4_096;

/// One override that holds.
#[derive(Clone, Debug)]
pub(super) struct OverrideEntry {
    pub(super) held: Held,
    pub(super) since: SystemTime,
    /// When it ends by itself: by the workers' clock, and for display.
    pub(super) until: Option<(u64, SystemTime)>,
    pub(super) note: String,
    /// Who asked for it.
    pub(super) by: String,
    /// How long connections live on; absent: as the set says.
    pub(super) drain_timeout: Option<Duration>,
    /// How far the drain has come, and the version that closed the backend. None when there is nothing to wait for.
    pub(super) drain: Option<(DrainState, u64)>,
}

/// What an accepted override did.
pub(super) struct Overridden {
    pub(super) version: u64,
    pub(super) status: Option<v1::OverrideStatus>,
    pub(super) changed: bool,
}

impl Engine {
    /// Makes an override hold, or ends one, and publishes.
    pub(super) fn override_backend(
        &mut self,
        request: &Override,
        by: &str,
    ) -> Result<Overridden, Rejected> {
        let key = self.overridden_key(request)?;
        let id = (request.set.clone(), key);
        let held = match request.action {
            OverrideAction::Undrain => None,
            OverrideAction::Drain { .. } => Some(Held::Drained),
            OverrideAction::Weight(weight) => Some(Held::Weight(weight)),
        };
        let changed = match held {
            None => self.end_override(&id),
            Some(held) => {
                if self.overrides.len() >= MOST && !self.overrides.contains_key(&id) {
                    let problem = format!("{MOST} overrides hold already: undo some of them");
                    return Err(Invalid::one("", problem).into());
                }
                let entry = self.new_override(request, held, by);
                self.hold(&id, entry);
                true
            }
        };
        self.publish();
        let status = self
            .overrides
            .get(&id)
            .map(|entry| self.override_status(&id, entry));
        Ok(Overridden {
            version: self.version(),
            status,
            changed,
        })
    }

    fn new_override(&self, request: &Override, held: Held, by: &str) -> OverrideEntry {
        let until = request.lasts.map(|lasts| {
            (
                self.plane.now_ms() + millis(lasts),
                SystemTime::now() + lasts,
            )
        });
        let drain_timeout = match request.action {
            OverrideAction::Drain { timeout } => timeout,
            _ => None,
        };
        OverrideEntry {
            held,
            since: SystemTime::now(),
            until,
            note: request.note.clone(),
            by: by.to_owned(),
            drain_timeout,
            drain: None,
        }
    }

    /// Whom a request means: a backend of the set, or one that an override still remembers.
    fn overridden_key(&self, request: &Override) -> Result<BackendKey, Rejected> {
        let missing = |path: &str, problem: String| Rejected::NotFound {
            path: path.to_owned(),
            problem,
        };
        let wanted = &request.backend;
        let is_meant = |key: &BackendKey| {
            key.address == wanted.address && (wanted.id.is_none() || wanted.id == key.id)
        };
        let set = self.sets.get(&request.set);
        let present = set
            .and_then(|set| set.backends.get(&wanted.address))
            .map(|backend| &backend.runtime.key)
            .filter(|key| is_meant(key));
        let remembered = || {
            let of_set = self.overrides.keys().filter(|(set, _)| *set == request.set);
            of_set.map(|(_, key)| key).find(|key| is_meant(key))
        };
        let found = match request.action {
            OverrideAction::Undrain => remembered().or(present),
            _ => present.or_else(remembered),
        };
        if let Some(key) = found {
            return Ok(key.clone());
        }
        Err(match set {
            None => missing(
                "set",
                format!("there is no backend set \"{}\"", request.set),
            ),
            Some(_) => missing("backend", format!("{wanted} is not in the set")),
        })
    }

    /// Lets an override hold from now on, in the place of an earlier one.
    pub(super) fn hold(&mut self, id: &(Name, BackendKey), entry: OverrideEntry) {
        let was_drained = self
            .overrides
            .get(id)
            .is_some_and(|old| old.held == Held::Drained);
        let old_drain = self.overrides.get(id).and_then(|old| old.drain);
        let held = entry.held;
        self.overrides.insert(id.clone(), entry);
        self.apply_hold(id, Some(held));
        if was_drained && held == Held::Drained {
            // It goes on where it was: a later word does not give connections another turn.
            if let Some(entry) = self.overrides.get_mut(id) {
                entry.drain = old_drain;
            }
        }
        self.note_override(id, false);
    }

    /// Ends an override; whether there was one.
    fn end_override(&mut self, id: &(Name, BackendKey)) -> bool {
        if !self.overrides.contains_key(id) {
            return false;
        }
        self.apply_hold(id, None);
        self.note_override(id, true);
        self.overrides.remove(id);
        true
    }

    /// Brings the backend, if it is there, in line with what holds for it.
    pub(super) fn apply_hold(&mut self, id: &(Name, BackendKey), held: Option<Held>) {
        let (name, key) = id;
        let version = self.version() + 1;
        let now_ms = self.plane.now_ms();
        let Some(set) = self.sets.get_mut(name) else {
            return;
        };
        let timeout = set.settings.drain_timeout;
        let Some(backend) = set
            .backends
            .get_mut(&key.address)
            .filter(|b| b.runtime.key == *key)
        else {
            return;
        };
        backend.held = held;
        let drained = held == Some(Held::Drained);
        backend.runtime.closed.store(drained, Release);
        if let Some(entry) = self.overrides.get_mut(id) {
            let timeout = millis(entry.drain_timeout.unwrap_or(timeout));
            entry.drain = drained.then(|| (DrainState::new(now_ms, timeout), version));
        }
        self.update_member(name, key.address);
    }

    fn note_override(&mut self, id: &(Name, BackendKey), ended: bool) {
        if let Some(entry) = self.overrides.get(id) {
            let status = Some(self.override_status(id, entry));
            self.notes
                .push(Event::Override(v1::OverrideChanged { status, ended }));
        }
    }

    /// Ends the overrides whose time has come; whether there were any.
    pub(super) fn end_due_overrides(&mut self, now_ms: u64) {
        let is_due = |entry: &OverrideEntry| entry.until.is_some_and(|(at, _)| at <= now_ms);
        let due: Vec<_> = self
            .overrides
            .iter()
            .filter(|(_, entry)| is_due(entry))
            .map(|(id, _)| id.clone())
            .collect();
        for id in due {
            self.end_override(&id);
        }
    }

    /// Moves the drains of overrides on, as [`Self::move_drains`] does those of removals.
    pub(super) fn move_override_drains(&mut self, acknowledged: u64, now_ms: u64) -> Vec<Event> {
        let mut events = Vec::new();
        for ((name, key), over) in &mut self.overrides {
            let Some((drain, version)) = &mut over.drain else {
                continue;
            };
            let backend = self
                .sets
                .get(name)
                .and_then(|set| set.backends.get(&key.address));
            let Some(backend) = backend.filter(|backend| backend.runtime.key == *key) else {
                continue;
            };
            let step = Step {
                plane: &*self.plane,
                acknowledged: *version <= acknowledged,
                now_ms,
            };
            if step.drain(name, backend, drain, &mut events) {
                over.drain = None;
            }
        }
        events
    }

    /// An override in the words of the API.
    pub(super) fn override_status(
        &self,
        (set, key): &(Name, BackendKey),
        entry: &OverrideEntry,
    ) -> v1::OverrideStatus {
        use v1::override_request::Action;
        let (action, weight) = match entry.held {
            Held::Drained => (Action::Drain, None),
            Held::Weight(weight) => (Action::Weight, Some(weight.get().into())),
        };
        let present = self
            .sets
            .get(set)
            .and_then(|set| set.backends.get(&key.address))
            .is_some_and(|backend| backend.runtime.key == *key);
        v1::OverrideStatus {
            set: set.to_string(),
            backend: Some(key.into()),
            action: action.into(),
            weight,
            since: Some(view::timestamp(entry.since)),
            until: entry.until.map(|(_, at)| view::timestamp(at)),
            note: entry.note.clone(),
            by: entry.by.clone(),
            present,
        }
    }
}
