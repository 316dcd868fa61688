//! What one proxy tells of single backends that somebody asks about: when they were first probed and connected to, and how
//! their drains end. Pure: time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use podline_api::v1::change::Action;
use podline_api::v1::drained::Stage;
use podline_api::v1::watch_response::Event;
use podline_api::{BackendKey, Name, v1};

use crate::timeline::skew::Skew;
use crate::timeline::{Told, Wanted, What};

/// One proxy.
#[derive(Debug)]
pub(super) struct Firsts {
    proxy: Arc<str>,
    clock: Skew,
    /// What was asked and is not answered. No more than what Pods that come ask for.
    wanted: BTreeMap<Name, Question>,
    told: Vec<Told>,
}

#[derive(Debug, Default)]
struct Question {
    backends: BTreeSet<BackendKey>,
    /// Answers that are still listened to: one may have been on its way before this was asked.
    answers: u8,
}

impl Firsts {
    /// Nothing is known of the proxy of this name.
    pub(super) fn new(proxy: &str) -> Self {
        Self {
            proxy: proxy.into(),
            clock: Skew::default(),
            wanted: BTreeMap::new(),
            told: Vec::new(),
        }
    }

    /// The next answer about these sets is to be passed on, as far as it is about these backends.
    pub(super) fn want(&mut self, wanted: &Wanted) {
        for (set, backends) in wanted {
            let known = self.wanted.entry(set.clone()).or_default();
            known.backends.extend(backends.iter().cloned());
            known.answers = 2;
        }
    }

    /// Takes in an event that came at `now`.
    pub(super) fn on(&mut self, event: &Event, now: Timestamp) {
        match event {
            Event::Drained(drained) => {
                let what = match drained.stage() {
                    Stage::Closed => What::Closed(now),
                    Stage::Empty => What::Empty(now),
                    Stage::Unspecified => return,
                };
                self.tell(&drained.set, drained.backend.clone(), what);
            }
            Event::Override(changed) if changed.ended => {
                if let Some(status) = &changed.status {
                    self.tell(&status.set, status.backend.clone(), What::Reopened);
                }
            }
            Event::Applied(applied) => {
                let gone = applied
                    .changes
                    .iter()
                    .filter(|c| c.action() == Action::Removed);
                for set in gone.filter_map(|change| change.what.strip_prefix("set/")) {
                    self.wanted.remove(set);
                }
            }
            _ => {}
        }
    }

    /// Takes in an answer that came at `now`, so long after it was asked for. A proxy that does not tell its time is not
    /// believed in anything about it.
    pub(super) fn answered(&mut self, state: &v1::GetResponse, now: Timestamp, took: Duration) {
        let Some(theirs) = state.now.and_then(timestamp) else {
            return;
        };
        self.clock.measure(theirs, now, took);
        let ours =
            |time: Option<prost_types::Timestamp>| self.clock.correct(timestamp(time?)?, now);
        let Some(started) = ours(state.started) else {
            return;
        };
        for status in &state.backend_sets {
            let name = status.set.as_ref().map(|set| set.name.as_str());
            let Some((set, mut wanted)) = name.and_then(|name| self.wanted.remove_entry(name))
            else {
                continue;
            };
            for backend in &status.backends {
                let Some(key) = key(backend.backend.clone()) else {
                    continue;
                };
                let (probe, connection) =
                    (ours(backend.first_probe), ours(backend.first_connection));
                if wanted.backends.contains(&key) && (probe.is_some() || connection.is_some()) {
                    self.told.push(Told {
                        proxy: Arc::clone(&self.proxy),
                        set: set.clone(),
                        backend: key,
                        what: What::Firsts {
                            started,
                            probe,
                            connection,
                        },
                    });
                }
            }
            wanted.answers -= 1;
            if wanted.answers > 0 {
                self.wanted.insert(set, wanted);
            }
        }
    }

    /// What there is to pass on.
    pub(super) fn take(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }

    fn tell(&mut self, set: &str, backend: Option<v1::Backend>, what: What) {
        if let Ok(set) = Name::try_from(set)
            && let Some(backend) = key(backend)
        {
            let proxy = Arc::clone(&self.proxy);
            self.told.push(Told {
                proxy,
                set,
                backend,
                what,
            });
        }
    }
}

fn key(wire: Option<v1::Backend>) -> Option<BackendKey> {
    BackendKey::try_from(wire?).ok()
}

/// A moment on the wire; absent if it is none.
fn timestamp(wire: prost_types::Timestamp) -> Option<Timestamp> {
    Timestamp::new(wire.seconds, wire.nanos).ok()
}
