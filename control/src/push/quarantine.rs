//! What one proxy does not take of the snapshot, so that the rest goes on without it. Pure.
//!
//! Who was refused stays as the proxy last took it, or absent if it never did: a bad change of a set must not end its
//! service. Backends of a set whose settings were refused go on changing. It is tried again when it is wanted
//! otherwise, and after a time.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use podline_api::{BackendSet, Listener, Name, Network, Transport};

use super::difference::{Goal, May};
use super::holdings::{HeldSet, Holdings};
use crate::snapshot::Snapshot;

/// How long until what was refused is tried again though it is wanted as before.
const AGAIN_MS: u64 = 30_000;

/// What one proxy does not take.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    listeners: BTreeMap<Name, Refused<Listener>>,
    sets: BTreeMap<Name, Refused<BackendSet>>,
    network: Option<Refused<Network>>,
}

#[derive(Debug)]
struct Refused<T> {
    /// What was wanted; `None`: that it goes.
    wanted: Option<Arc<T>>,
    words: String,
    part: Part,
    again_ms: u64,
}

/// What of a set was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Backends may go on changing.
    Settings,
    /// Nothing of it may.
    All,
}

/// When to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// Also when this time and a while have passed.
    Later {
        /// Now.
        now_ms: u64,
    },
    /// Only when it is wanted otherwise.
    IfChanged,
}

impl Again {
    fn at_ms(self) -> u64 {
        match self {
            Self::Later { now_ms } => now_ms + AGAIN_MS,
            Self::IfChanged => u64::MAX,
        }
    }
}

impl Quarantine {
    /// The listener is not taken as `snapshot` wants it; whether that is new.
    pub(super) fn refuse_listener(
        &mut self,
        name: &Name,
        snapshot: &Snapshot,
        words: String,
        again: Again,
    ) -> bool {
        let refused = Refused {
            wanted: snapshot.listeners.get(name).cloned(),
            words,
            part: Part::All,
            again_ms: again.at_ms(),
        };
        self.listeners.insert(name.clone(), refused).is_none()
    }

    /// The set is not taken as `snapshot` wants it; whether that is new.
    pub(super) fn refuse_set(
        &mut self,
        name: &Name,
        snapshot: &Snapshot,
        (part, words): (Part, String),
        again: Again,
    ) -> bool {
        let refused = Refused {
            wanted: snapshot.sets.get(name).cloned(),
            words,
            part,
            again_ms: again.at_ms(),
        };
        let before = self.sets.insert(name.clone(), refused);
        before.is_none_or(|before| before.part == Part::Settings && part == Part::All)
    }

    /// The network is not taken as `snapshot` has it; whether that is new.
    pub(super) fn refuse_network(
        &mut self,
        snapshot: &Snapshot,
        words: String,
        again: Again,
    ) -> bool {
        let refused = Refused {
            wanted: Some(Arc::clone(&snapshot.network)),
            words,
            part: Part::All,
            again_ms: again.at_ms(),
        };
        self.network.replace(refused).is_none()
    }

    /// The network is not to be sent.
    pub(super) fn holds_network(&self) -> bool {
        self.network.is_some()
    }

    /// Lets go what is wanted otherwise now, and what may be tried again.
    pub(super) fn lift(&mut self, snapshot: &Snapshot, now_ms: u64) {
        self.listeners.retain(|name, refused| {
            now_ms < refused.again_ms && refused.wanted == snapshot.listeners.get(name).cloned()
        });
        self.network = self.network.take().filter(|refused| {
            now_ms < refused.again_ms && refused.wanted.as_ref() == Some(&snapshot.network)
        });
        self.sets.retain(|name, refused| {
            let same = match (&refused.wanted, snapshot.sets.get(name)) {
                (Some(before), Some(now)) if refused.part == Part::Settings => {
                    before.settings == now.settings
                }
                (before, now) => before.as_ref() == now,
            };
            now_ms < refused.again_ms && same
        });
    }

    /// When something may be tried again, if anything.
    pub(super) fn next_ms(&self) -> Option<u64> {
        let listeners = self.listeners.values().map(|refused| refused.again_ms);
        let sets = self.sets.values().map(|refused| refused.again_ms);
        let network = self.network.iter().map(|refused| refused.again_ms);
        listeners
            .chain(sets)
            .chain(network)
            .min()
            .filter(|at| *at < u64::MAX)
    }

    /// What the proxy is to have then, of listeners and sets.
    pub(super) fn goal<'a>(&self, snapshot: &'a Snapshot, held: &Holdings) -> Goal<'a> {
        if self.listeners.is_empty() && self.sets.is_empty() {
            return Goal {
                listeners: Cow::Borrowed(&snapshot.listeners),
                sets: Cow::Borrowed(&snapshot.sets),
                network: None,
                may: May::default(),
            };
        }
        let mut sets = snapshot.sets.clone();
        for (name, refused) in &self.sets {
            let wanted = sets.remove(name);
            let stays = held.sets.get(name).map(|held| refused.stays(held, wanted));
            sets.extend(stays.map(|set| (name.clone(), set)));
        }
        let mut listeners = snapshot.listeners.clone();
        for name in self.listeners.keys() {
            listeners.remove(name);
        }
        // One that stays as it was gives way where another is to be.
        let taken: BTreeSet<_> = listeners.values().map(|l| place(l)).collect();
        let stays = self.listeners.keys().filter_map(|name| {
            let held = held.listeners.get(name)?;
            (!taken.contains(&place(held))).then(|| (name.clone(), Arc::clone(held)))
        });
        let stays: Vec<_> = stays.collect();
        listeners.extend(stays);
        listeners.retain(|_, listener| {
            let mut needed = listener.sets().into_iter();
            needed.all(|set| sets.contains_key(set))
        });
        Goal {
            listeners: Cow::Owned(listeners),
            sets: Cow::Owned(sets),
            network: None,
            may: May::default(),
        }
    }

    /// Who is not as `snapshot` wants it, and why.
    pub(super) fn words(&self, snapshot: &Snapshot, held: &Holdings) -> BTreeMap<Name, String> {
        let mut words: BTreeMap<Name, String> = BTreeMap::new();
        let mut add = |name: &Name, text: String| {
            let entry = words.entry(name.clone());
            entry
                .and_modify(|all| *all = format!("{all}; {text}"))
                .or_insert(text);
        };
        for (name, refused) in &self.listeners {
            add(name, refused.words.clone());
        }
        for (name, refused) in &self.sets {
            add(name, refused.words.clone());
        }
        if let Some(refused) = &self.network
            && let Ok(name) = Name::try_from("network")
        {
            add(&name, refused.words.clone());
        }
        let absent = |set: &Name| self.sets.contains_key(set) && !held.sets.contains_key(set);
        if !self.sets.is_empty() {
            for (name, listener) in &snapshot.listeners {
                for set in listener.sets().into_iter().filter(|set| absent(set)) {
                    add(name, format!("its backend set \"{set}\" was refused"));
                }
            }
        }
        words
    }
}

fn place(listener: &Listener) -> (Transport, SocketAddr) {
    (listener.protocol.transport(), listener.address)
}

impl Refused<BackendSet> {
    /// What stays of a set that the proxy has.
    fn stays(&self, held: &HeldSet, wanted: Option<Arc<BackendSet>>) -> Arc<BackendSet> {
        match wanted {
            Some(wanted) if self.part == Part::Settings && wanted.backends != held.set.backends => {
                Arc::new(BackendSet {
                    name: wanted.name.clone(),
                    settings: held.set.settings.clone(),
                    backends: wanted.backends.clone(),
                })
            }
            _ => Arc::clone(&held.set),
        }
    }
}
