//! What a state is made of, without sockets and threads: what is written down before a restart and put back after it.

use super::State;
use super::engine::{Engine, millis};
use super::entry::Held;
use super::overrides::OverrideEntry;
use crate::lb::health::Health;
use podline_api::{
    Apply, Backend, BackendKey, BackendSet, Listener, Name, Network, Override, OverrideAction,
    Owner,
};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

/// Verdicts that are older say nothing any more.
const VERDICT_AGE: Duration = Duration::from_mins(1);

/// A state as it can be written down.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SavedState {
    /// The version of the route table.
    pub version: u64,
    /// What each owner has.
    pub owners: Vec<SavedOwner>,
    /// What operators said.
    pub overrides: Vec<SavedOverride>,
    /// Backends that probes have judged; true means healthy.
    pub verdicts: Vec<(Name, BackendKey, bool)>,
}

/// What one owner has.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedOwner {
    /// Who.
    pub owner: Owner,
    /// The highest epoch so far.
    pub epoch: Option<u64>,
    /// Its listeners.
    pub listeners: Vec<Listener>,
    /// Its sets, with their backends.
    pub backend_sets: Vec<BackendSet>,
    /// What it says of the network.
    pub network: Option<Network>,
}

/// An override that held.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedOverride {
    /// What was asked for; `lasts` is what was left of it. Never [`OverrideAction::Undrain`].
    pub request: Override,
    /// Who asked for it.
    pub by: String,
    /// When.
    pub since: SystemTime,
}

/// Verdicts from before a restart, for backends that are still to appear.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    known: HashMap<(Name, BackendKey), bool>,
    until_ms: u64,
}

impl Verdicts {
    /// Whether a backend that appears now was healthy before the restart; nothing if that is not known any more.
    pub(super) fn take(&mut self, set: &Name, key: &BackendKey, now_ms: u64) -> Option<bool> {
        if self.known.is_empty() {
            return None;
        }
        if now_ms >= self.until_ms {
            self.known = HashMap::new();
            return None;
        }
        self.known.remove(&(set.clone(), key.clone()))
    }
}

impl Engine {
    /// All that would have to be put back.
    fn saved(&self) -> SavedState {
        let mut owners: BTreeMap<Owner, SavedOwner> = BTreeMap::new();
        for owner in self.owners.with_epoch() {
            self.saved_owner(&mut owners, owner);
        }
        for listener in self.listeners.values() {
            let owner = self.saved_owner(&mut owners, &listener.owner);
            owner.listeners.push(listener.wanted.clone());
        }
        for (owner, network) in &self.networks.by_owner {
            self.saved_owner(&mut owners, owner).network = Some(network.clone());
        }
        let mut verdicts = Vec::new();
        for (name, set) in &self.sets {
            let backends: Vec<Backend> = set
                .backends
                .values()
                .map(super::entry::BackendEntry::backend)
                .collect();
            let judged = set.backends.values().filter_map(|backend| {
                let was_healthy = match backend.health.health() {
                    Health::Healthy => true,
                    Health::Unhealthy => false,
                    Health::Detecting | Health::Disabled => return None,
                };
                Some((name.clone(), backend.runtime.key.clone(), was_healthy))
            });
            verdicts.extend(judged);
            let owner = self.saved_owner(&mut owners, &set.owner);
            owner.backend_sets.push(BackendSet {
                name: name.clone(),
                settings: set.settings.clone(),
                backends,
            });
        }
        SavedState {
            version: self.version(),
            owners: owners.into_values().collect(),
            overrides: self.saved_overrides(),
            verdicts,
        }
    }

    fn saved_owner<'a>(
        &self,
        owners: &'a mut BTreeMap<Owner, SavedOwner>,
        owner: &Owner,
    ) -> &'a mut SavedOwner {
        owners.entry(owner.clone()).or_insert_with(|| SavedOwner {
            owner: owner.clone(),
            epoch: self.owners.get(owner).epoch,
            listeners: Vec::new(),
            backend_sets: Vec::new(),
            network: None,
        })
    }

    fn saved_overrides(&self) -> Vec<SavedOverride> {
        let now_ms = self.plane.now_ms();
        let saved = |((set, key), entry): (&(Name, BackendKey), &OverrideEntry)| SavedOverride {
            request: Override {
                set: set.clone(),
                backend: key.clone(),
                action: match entry.held {
                    Held::Drained => OverrideAction::Drain {
                        timeout: entry.drain_timeout,
                    },
                    Held::Weight(weight) => OverrideAction::Weight(weight),
                },
                lasts: entry
                    .until
                    .map(|(at, _)| Duration::from_millis(at.saturating_sub(now_ms))),
                note: entry.note.clone(),
            },
            by: entry.by.clone(),
            since: entry.since,
        };
        self.overrides.iter().map(saved).collect()
    }

    /// Puts back what was saved `age` ago. What does not fit any more is left out and told.
    fn restore(&mut self, saved: SavedState, age: Duration) {
        self.table.version = self.table.version.max(saved.version);
        let now_ms = self.plane.now_ms();
        if let Some(left) = VERDICT_AGE.checked_sub(age) {
            let known = saved.verdicts.into_iter();
            self.verdicts = Verdicts {
                known: known
                    .map(|(set, key, healthy)| ((set, key), healthy))
                    .collect(),
                until_ms: now_ms + millis(left),
            };
        }
        for SavedOverride { request, by, since } in saved.overrides {
            let left = request.lasts.map(|lasts| lasts.saturating_sub(age));
            let (held, drain_timeout) = match request.action {
                OverrideAction::Drain { timeout } => (Held::Drained, timeout),
                OverrideAction::Weight(weight) => (Held::Weight(weight), None),
                OverrideAction::Undrain => continue,
            };
            if left.is_some_and(|left| left.is_zero()) {
                continue;
            }
            let entry = OverrideEntry {
                held,
                since,
                until: left.map(|left| (now_ms + millis(left), SystemTime::now() + left)),
                note: request.note,
                by,
                drain_timeout,
                drain: None,
            };
            self.overrides.insert((request.set, request.backend), entry);
        }
        self.waiting_owners = saved.owners;
    }

    /// All sets come first: a listener may lead to another owner's. Who has spoken meanwhile has said what counts now.
    fn restore_owners(&mut self) {
        let mut reigns = Vec::new();
        let mut listeners = Vec::new();
        for saved in std::mem::take(&mut self.waiting_owners) {
            if self.owners.get(&saved.owner).applied.is_some() {
                continue;
            }
            reigns.push((saved.owner.clone(), saved.epoch));
            let network = saved.network.map(|mut network| {
                // Another may hold them by now: they are asked for, unless they are on the link still.
                for address in &mut network.addresses {
                    (address.take_over, address.predecessor) = (false, None);
                }
                network
            });
            let nothing = Apply {
                epoch: saved.epoch,
                ..Apply::new(saved.owner)
            };
            listeners.push(Apply {
                listeners: saved.listeners,
                ..nothing.clone()
            });
            self.put_back(&Apply {
                backend_sets: saved.backend_sets,
                network,
                ..nothing
            });
        }
        for apply in &listeners {
            self.put_back(apply);
        }
        // What was deposed stays so, whether or not the rest fits, and none of this is a change of theirs.
        for (owner, epoch) in reigns {
            self.owners.restore(&owner, epoch);
        }
    }

    /// The whole or, if something of it does not fit any more, what does.
    fn put_back(&mut self, apply: &Apply) {
        if self.apply(apply).is_ok() {
            return;
        }
        let nothing = Apply {
            epoch: apply.epoch,
            ..Apply::new(apply.owner.clone())
        };
        let sets = apply.backend_sets.iter().map(|set| Apply {
            backend_sets: vec![set.clone()],
            ..nothing.clone()
        });
        let listeners = apply.listeners.iter().map(|listener| Apply {
            listeners: vec![listener.clone()],
            ..nothing.clone()
        });
        let network = apply.network.iter().map(|network| Apply {
            network: Some(network.clone()),
            ..nothing.clone()
        });
        for one in network.chain(sets).chain(listeners) {
            if let Err(rejected) = self.apply(&one) {
                let owner = &apply.owner;
                tracing::warn!(%owner, %rejected, "this of what the owner had before the restart does not fit any more");
            }
        }
    }
}

impl State {
    /// All that would have to be put back after a restart.
    pub fn saved(&self) -> SavedState {
        let mut saved = self.engine().saved();
        // The same state is the same text; others need not wait for the sorting.
        for owner in &mut saved.owners {
            for set in &mut owner.backend_sets {
                set.backends
                    .sort_unstable_by_key(|backend| backend.key.address);
            }
        }
        saved.verdicts.sort_unstable();
        saved
    }

    /// Makes known what was saved `age` ago, before anything is applied: the version, overrides and verdicts at once;
    /// what owners had waits for [`Self::restore_owners`].
    pub fn restore(&self, saved: SavedState, age: Duration) {
        self.engine().restore(saved, age);
    }

    /// Puts back what owners had, after the configuration file had its say: where they want the same, the file wins.
    /// Listeners that cannot be bound are retried, as ever.
    pub fn restore_owners(&self) {
        let mut engine = self.engine();
        if engine.waiting_owners.is_empty() {
            return;
        }
        engine.restore_owners();
        let events = engine.take_events();
        self.emit(&engine, events);
        drop(engine);
        self.ring();
    }

    /// Resolves when what [`Self::saved`] gives may differ from what it gave when this resolved last.
    ///
    /// # Cancel safety
    /// A change that was not told yet is told to the next call.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }
}
