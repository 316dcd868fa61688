//! Random transactions against a naive model: what the model allows is taken and leads to what the model says; what it
//! refuses leaves no trace.

use super::{Bench, by, change, key, key_of, listener, name, set, weighing};
use crate::lb::SetId;
use crate::lb::backend::BackendRuntime;
use crate::lb::pick::SplitMix;
use podline_api::{Apply, Backend, BackendChange, BackendKey, BackendSet, Listener, Name};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

const OWNERS: [&str; 2] = ["east", "west"];

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    sets: BTreeMap<String, (String, BTreeMap<SocketAddr, Backend>)>,
    listeners: BTreeMap<String, (String, Listener)>,
}

impl Model {
    /// What `apply` makes of it, if it may.
    fn after(&self, apply: &Apply) -> Option<Self> {
        let owner = apply.owner.to_string();
        let mut next = self.clone();
        if apply.replace_owned {
            let changed: HashSet<String> = apply
                .backend_changes
                .iter()
                .map(|c| c.set.to_string())
                .collect();
            next.listeners.retain(|_, (by, _)| *by != owner);
            next.sets
                .retain(|name, (by, _)| *by != owner || changed.contains(name));
        }
        for name in &apply.remove_listeners {
            self.listeners
                .get(name.as_str())
                .filter(|(by, _)| *by == owner)?;
            next.listeners.remove(name.as_str());
        }
        for name in &apply.remove_backend_sets {
            self.sets
                .get(name.as_str())
                .filter(|(by, _)| *by == owner)?;
            next.sets.remove(name.as_str());
        }
        for wanted in &apply.backend_sets {
            let backends = wanted
                .backends
                .iter()
                .map(|b| (b.key.address, b.clone()))
                .collect();
            let entry = (owner.clone(), backends);
            self.sets
                .get(wanted.name.as_str())
                .is_none_or(|(by, _)| *by == owner)
                .then_some(())?;
            next.sets.insert(wanted.name.to_string(), entry);
        }
        for change in &apply.backend_changes {
            next.change(&owner, change)?;
        }
        for wanted in &apply.listeners {
            self.listeners
                .get(wanted.name.as_str())
                .is_none_or(|(by, _)| *by == owner)
                .then_some(())?;
            next.listeners
                .insert(wanted.name.to_string(), (owner.clone(), wanted.clone()));
        }
        next.is_sound().then_some(next)
    }

    fn change(&mut self, owner: &str, change: &BackendChange) -> Option<()> {
        let (_, backends) = self
            .sets
            .get_mut(change.set.as_str())
            .filter(|(by, _)| by == owner)?;
        for key in &change.remove {
            let there = backends.get(&key.address)?;
            (key.id.is_none() || there.key.id == key.id).then_some(())?;
        }
        change
            .remove
            .iter()
            .for_each(|key| drop(backends.remove(&key.address)));
        backends.extend(change.upsert.iter().map(|b| (b.key.address, b.clone())));
        Some(())
    }

    fn is_sound(&self) -> bool {
        let addresses: HashSet<_> = self.listeners.values().map(|(_, l)| l.address).collect();
        let there = |l: &Listener| self.sets.contains_key(l.backend_set.as_str());
        addresses.len() == self.listeners.len() && self.listeners.values().all(|(_, l)| there(l))
    }
}

struct Dice {
    random: SplitMix,
    /// Whose transaction it is.
    owner: u32,
}

impl Dice {
    fn below(&mut self, n: u32) -> u32 {
        u32::try_from(self.random.next() % u64::from(n)).unwrap()
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    /// Nothing half of the time.
    fn some<T>(&mut self, most: u32, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = if self.one_in(2) {
            0
        } else {
            1 + self.below(most)
        };
        (0..count).map(|_| make(self)).collect()
    }

    /// A name that is mostly the owner's.
    fn name(&mut self, kind: char) -> Name {
        let owner = if self.one_in(15) {
            1 - self.owner
        } else {
            self.owner
        };
        name(&format!("{kind}{}", 3 * owner + self.below(3)))
    }

    fn key(&mut self) -> BackendKey {
        let n = self.below(40);
        match self.below(4) {
            0 => key_of(n, "x"),
            1 => key_of(n, "y"),
            _ => key(n),
        }
    }

    fn backends(&mut self, most: u32) -> Vec<Backend> {
        let mut seen = HashSet::new();
        let mut all = self.some(most, |dice| {
            weighing(dice.key(), u8::try_from(dice.below(4) * 10).unwrap())
        });
        all.retain(|b| seen.insert(b.key.address));
        all
    }

    fn set(&mut self) -> BackendSet {
        BackendSet {
            name: self.name('s'),
            backends: self.backends(12),
            ..set("s", [])
        }
    }

    fn listener(&mut self) -> Listener {
        let port = 80 + u16::try_from(self.below(30)).unwrap();
        Listener {
            name: self.name('l'),
            backend_set: self.name('s'),
            ..listener("l", port, "s")
        }
    }

    fn change(&mut self, model: &Model) -> BackendChange {
        let set = self.name('s');
        let upsert = self.backends(5);
        let there = model.sets.get(set.as_str()).map(|(_, backends)| backends);
        let mut seen: HashSet<SocketAddr> = HashSet::new();
        let mut remove = self.some(2, |dice| {
            let nth = usize::try_from(dice.below(12)).unwrap();
            match there.and_then(|backends| backends.values().nth(nth)) {
                Some(backend) if dice.one_in(2) => backend.key.clone(),
                Some(backend) => BackendKey {
                    id: None,
                    ..backend.key
                },
                None => dice.key(),
            }
        });
        remove.retain(|key| {
            seen.insert(key.address) && upsert.iter().all(|backend| backend.key != *key)
        });
        change(set.as_str(), &upsert, &remove)
    }

    /// A transaction as the API lets through: nothing is named twice in it.
    fn apply(&mut self, model: &Model) -> Apply {
        self.owner = self.below(2);
        let mut apply = by(OWNERS[self.owner as usize]);
        apply.backend_sets = self.some(3, Self::set);
        apply.listeners = self.some(2, Self::listener);
        apply.backend_changes = self.some(2, |dice| dice.change(model));
        apply.remove_backend_sets = self.some(1, |dice| dice.name('s'));
        apply.remove_listeners = self.some(1, |dice| dice.name('l'));
        apply.replace_owned = self.one_in(20);
        let mut names = HashSet::new();
        apply.backend_sets.retain(|s| names.insert(s.name.clone()));
        apply
            .backend_changes
            .retain(|c| names.insert(c.set.clone()));
        apply
            .remove_backend_sets
            .retain(|s| names.insert(s.clone()));
        let (mut names, mut addresses) = (HashSet::new(), HashSet::new());
        apply
            .listeners
            .retain(|l| names.insert(l.name.clone()) && addresses.insert(l.address));
        apply.remove_listeners.retain(|l| names.insert(l.clone()));
        apply
    }
}

/// What the workers see and what the engine believes are what the model says.
fn check_invariants(bench: &Bench, model: &Model) {
    let engine = bench.state.engine();
    let table = bench.fake.table();
    assert!(
        engine
            .sets
            .keys()
            .map(ToString::to_string)
            .eq(model.sets.keys().cloned())
    );
    let mut targets = 0;
    for (name, (owner, backends)) in &model.sets {
        let entry = &engine.sets[&super::name(name)];
        assert_eq!(entry.owner.as_ref(), owner.as_str());
        let set = table.set(entry.id).unwrap();
        assert_eq!(
            (set.len(), entry.backends.len()),
            (backends.len(), backends.len())
        );
        for wanted in backends.values() {
            let member = set.member(&wanted.key).unwrap();
            assert_eq!(member.weight, wanted.weight.get());
            assert!(!member.runtime.closed.load(Relaxed));
            assert!(
                !engine
                    .draining_backends
                    .contains_key(&(entry.id, wanted.key.clone()))
            );
        }
        targets += backends.len();
    }
    assert!(
        engine
            .listeners
            .keys()
            .map(ToString::to_string)
            .eq(model.listeners.keys().cloned())
    );
    for (name, (owner, wanted)) in &model.listeners {
        let entry = &engine.listeners[&super::name(name)];
        assert_eq!(
            (entry.owner.as_ref(), &entry.wanted),
            (owner.as_str(), wanted)
        );
        let route = table.listener(entry.id).unwrap();
        assert_eq!(table.set(route.set).unwrap().name, wanted.backend_set);
    }
    let draining = engine.draining_backends.values();
    assert!(
        draining
            .into_iter()
            .all(|d| d.entry.runtime.closed.load(Relaxed))
    );
    let asked = bench.fake.asked();
    assert_eq!(
        asked.bound.len() - asked.unbound.len(),
        engine.listeners.len()
    );
    assert!(
        engine.probes.is_empty()
            && targets
                == engine
                    .sets
                    .values()
                    .map(|s| s.backends.len())
                    .sum::<usize>()
    );
}

type Runtimes = HashMap<(SetId, BackendKey), Arc<BackendRuntime>>;

/// Every backend that is configured or draining. Every third one has a connection that never ends.
fn runtimes(bench: &Bench) -> Runtimes {
    let engine = bench.state.engine();
    let live = engine.sets.values().flat_map(|set| {
        let backends = set.backends.values();
        backends.map(|b| ((set.id, b.runtime.key.clone()), Arc::clone(&b.runtime)))
    });
    let draining = engine.draining_backends.iter();
    let draining = draining.map(|(key, d)| (key.clone(), Arc::clone(&d.entry.runtime)));
    let all: Runtimes = live.chain(draining).collect();
    for ((_, key), runtime) in &all {
        let busy = matches!(key.address.ip(), IpAddr::V4(ip) if ip.octets()[3].is_multiple_of(3));
        runtime.active.store(u32::from(busy), Relaxed);
    }
    all
}

#[tokio::test(start_paused = true)]
async fn random_transactions_lead_where_a_naive_model_leads() {
    for seed in 0..8 {
        let mut dice = Dice {
            random: SplitMix(seed),
            owner: 0,
        };
        let bench = Bench::still();
        let (mut model, mut known) = (Model::default(), Runtimes::new());
        let (mut taken, mut refused) = (0, 0);
        for _ in 0..400 {
            let apply = dice.apply(&model);
            let before = bench.get().version;
            let foretold = bench
                .state
                .apply(Apply {
                    validate_only: true,
                    ..apply.clone()
                })
                .await;
            let answer = bench.state.apply(apply.clone()).await;
            match (model.after(&apply), answer) {
                (Some(next), Ok(answer)) => {
                    assert_eq!(foretold.unwrap().changes, answer.changes);
                    assert_eq!(
                        answer.version > before,
                        next != model || !answer.changes.is_empty()
                    );
                    model = next;
                    taken += 1;
                }
                (None, Err(rejected)) => {
                    assert_eq!(foretold.unwrap_err(), rejected);
                    assert_eq!(bench.get().version, before);
                    refused += 1;
                }
                (expected, answer) => {
                    panic!("seed {seed}: {apply:#?}\nled to {answer:?}, not {expected:?}")
                }
            }
            check_invariants(&bench, &model);
            let now = runtimes(&bench);
            let stays =
                |(who, was): (_, &Arc<_>)| now.get(who).is_none_or(|is| Arc::ptr_eq(is, was));
            assert!(
                known.iter().all(stays),
                "a backend that stayed lost what it had"
            );
            known = now;
        }
        assert!(
            taken > 50 && refused > 50,
            "{taken} taken, {refused} refused"
        );
    }
}
