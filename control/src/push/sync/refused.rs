//! What follows from a refusal: what it names is left out and the rest sent again, or the proxy is left alone.
//!
//! Each refusal must bring something new to leave out, or to send in another way; else it would go round in circles.

use std::sync::Arc;

use podline_api::{Name, v1};

use super::super::fits::Needs;
use super::super::quarantine::{Again, Part};
use super::super::refusal::{Blame, blame, words};
use super::{InFlight, Kind, Phase, Sync};
use crate::snapshot::Snapshot;

/// How long to leave a proxy alone that refuses everything; doubles.
const REFUSED_MS: u64 = 1_000;
const REFUSED_MAX_MS: u64 = 30_000;

impl Sync {
    /// The request in flight was refused.
    pub(in super::super) fn refused(&mut self, refusal: &v1::Refusal, now_ms: u64) {
        let Some(flight) = self.in_flight.take() else {
            return;
        };
        self.is_due = true;
        let is_handled = match refusal.reason.as_str() {
            "STALE_EPOCH" => {
                self.phase = Phase::Deposed;
                return;
            }
            "SET_VERSION" => self.distrust(&flight.sent.changes),
            _ => {
                let mut is_handled = false;
                for problem in &refusal.problems {
                    is_handled |= self.leave_out(problem, &flight, now_ms);
                }
                is_handled
            }
        };
        if !is_handled {
            self.strike(refusal.message.clone(), now_ms);
        }
    }

    /// Leaves out what the proxy cannot do, of what it does not have yet.
    pub(super) fn leave_out_unfit(&mut self, desired: &Snapshot) {
        let Some(features) = self.proxy.as_ref().map(|proxy| &proxy.features) else {
            return;
        };
        for (name, set) in &desired.sets {
            let held = self.held.sets.get(name);
            if held.is_none_or(|held| !Arc::ptr_eq(&held.set, set))
                && let Err(words) = set.fits(features)
            {
                let why = (Part::Settings, words);
                self.quarantine
                    .refuse_set(name, desired, why, Again::IfChanged);
            }
        }
        for (name, listener) in &desired.listeners {
            let held = self.held.listeners.get(name);
            if held.is_none_or(|held| !Arc::ptr_eq(held, listener))
                && let Err(words) = listener.fits(features)
            {
                self.quarantine
                    .refuse_listener(name, desired, words, Again::IfChanged);
            }
        }
    }

    /// Does something about one problem of a refusal; whether that gives hope.
    fn leave_out(&mut self, problem: &v1::FieldProblem, flight: &InFlight, now_ms: u64) -> bool {
        let wanted = &flight.snapshot;
        let again = Again::Later { now_ms };
        match blame(&problem.path, &flight.sent, flight.kind == Kind::Full) {
            Blame::Listener(name) => {
                let words = words(problem);
                self.quarantine.refuse_listener(&name, wanted, words, again)
            }
            Blame::Set { name, is_backend } => {
                let part = if is_backend {
                    Part::All
                } else {
                    Part::Settings
                };
                let why = (part, words(problem));
                self.quarantine.refuse_set(&name, wanted, why, again)
            }
            Blame::Change(name) => self.distrust(&[name]),
            Blame::Network => {
                let words = words(problem);
                self.quarantine.refuse_network(wanted, words, again)
            }
            Blame::Leftover => {
                let gone = |name: &&Name| !wanted.sets.contains_key(*name);
                let gone: Vec<Name> = self.held.sets.keys().filter(gone).cloned().collect();
                let words = format!("cannot be removed: {}", problem.problem);
                let mut is_new = false;
                for name in gone {
                    let why = (Part::All, words.clone());
                    is_new |= self.quarantine.refuse_set(&name, wanted, why, again);
                }
                is_new
            }
            Blame::Stale if self.strikes == 0 => {
                self.strikes = 1;
                self.phase = Phase::ToRead { at_ms: now_ms };
                true
            }
            Blame::Stale | Blame::Nothing => false,
        }
    }

    /// The proxy has something else of these sets than we know; whether that is news.
    fn distrust(&mut self, sets: &[Name]) -> bool {
        let known = self.whole.len();
        self.whole.extend(sets.iter().cloned());
        self.whole.len() > known
    }

    fn strike(&mut self, words: String, now_ms: u64) {
        let delay = REFUSED_MS << self.strikes.min(5);
        self.strikes += 1;
        self.blocked = Some(words);
        self.phase = Phase::ToRead {
            at_ms: now_ms + delay.min(REFUSED_MAX_MS),
        };
    }
}
