//! Random transactions of two owners, probes and connections against a plain model: after each step the published
//! table, the answers and what the API shows must agree with it.

use super::*;
use crate::lb::backend::BackendRuntime;
use crate::lb::pick::SplitMix;
use podline_api::{Http, HttpRoute, PathMatch, RouteAction};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::Ordering::Acquire;

const OWNERS: [&str; 2] = ["file", "k8s/a"];

/// What owners want, as accepted.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    sets: BTreeMap<String, (String, BTreeMap<u16, u32>)>,
    /// With every set that they lead to.
    listeners: BTreeMap<String, (String, u16, BTreeSet<String>)>,
}

struct Random(SplitMix);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0.next() % limit
    }

    fn number(&mut self, limit: u16) -> u16 {
        u16::try_from(self.below(limit.into())).unwrap()
    }

    fn one_of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[usize::try_from(self.below(words.len() as u64)).unwrap()]
    }

    fn backends(&mut self, limit: u64) -> BTreeMap<u16, u32> {
        let count = self.below(limit);
        (0..count)
            .map(|_| (1 + self.number(12), u32::from(self.number(4)) * 10))
            .collect()
    }
}

fn to_backends(numbers: &BTreeMap<u16, u32>) -> Vec<Backend> {
    numbers
        .iter()
        .map(|(n, weight)| backend(*n, *weight))
        .collect()
}

/// A transaction that may or may not fit, and what the model is after it if it does.
fn transaction(random: &mut Random, model: &Model) -> (Apply, Model) {
    let owner = random.one_of(&OWNERS);
    let mut apply = owned(owner);
    let mut after = model.clone();
    apply.replace_owned = random.below(12) == 0;
    apply.validate_only = random.below(6) == 0;
    if apply.replace_owned {
        after.sets.retain(|_, (o, _)| o != owner);
        after.listeners.retain(|_, (o, ..)| o != owner);
    }
    // Most owners know what they do; the others have most of their transactions refused.
    let is_careful = random.below(4) > 0;
    for name_of in ["s1", "s2", "s3", "s4"] {
        let known = model.sets.get(name_of);
        let is_foreign = known.is_some_and(|(o, _)| o != owner);
        if !(is_careful && is_foreign) {
            edit_set(random, &mut apply, &mut after, name_of, is_careful, known);
        }
    }
    for name_of in ["l1", "l2", "l3"] {
        let known = model.listeners.get(name_of);
        let is_foreign = known.is_some_and(|(o, ..)| o != owner);
        if !(is_careful && is_foreign) {
            edit_listener(random, &mut apply, &mut after, name_of, is_careful);
        }
    }
    (apply, after)
}

fn edit_set(
    random: &mut Random,
    apply: &mut Apply,
    after: &mut Model,
    name_of: &str,
    is_careful: bool,
    known: Option<&(String, BTreeMap<u16, u32>)>,
) {
    match random.below(8) {
        0 | 1 => {
            let backends = random.backends(8);
            let wanted = checked(name_of, &to_backends(&backends));
            apply.backend_sets.push(wanted);
            let owner = apply.owner.to_string();
            after.sets.insert(name_of.into(), (owner, backends));
        }
        2 if known.is_some() || !is_careful => {
            apply.remove_backend_sets.push(name(name_of));
            after.sets.remove(name_of);
        }
        3..=5 if known.is_some() || !is_careful => {
            let upsert = random.backends(3);
            let mut remove = vec![1 + random.number(12)];
            let is_there = |n: &u16| known.is_some_and(|(_, backends)| backends.contains_key(n));
            remove.retain(|n| !upsert.contains_key(n) && (is_there(n) || !is_careful));
            let edit = change(name_of, &to_backends(&upsert), &remove);
            apply.backend_changes.push(edit);
            if let Some(known) = known {
                let set = after.sets.entry(name_of.into()).or_insert(known.clone());
                set.1.retain(|n, _| !remove.contains(n));
                set.1.extend(upsert);
            }
        }
        _ => {}
    }
}

fn edit_listener(
    random: &mut Random,
    apply: &mut Apply,
    after: &mut Model,
    name_of: &str,
    is_careful: bool,
) {
    match random.below(6) {
        0 | 1 => {
            let port = 80 + random.number(4);
            let wanted = some_listener(random, name_of, port);
            let sets = wanted.sets().into_iter().map(Name::to_string);
            let sets: BTreeSet<_> = sets.collect();
            // The request's own conversion refuses an address that stands in it twice.
            let is_twice = apply.listeners.iter().any(|l| l.address.port() == port);
            let is_taken = after
                .listeners
                .iter()
                .any(|(n, l)| l.1 == port && n != name_of);
            let fits = !is_taken && sets.iter().all(|set| after.sets.contains_key(set));
            if !is_twice && (fits || !is_careful) {
                apply.listeners.push(wanted);
                let wanted = (apply.owner.to_string(), port, sets);
                after.listeners.insert(name_of.into(), wanted);
            }
        }
        2 if after.listeners.contains_key(name_of) || !is_careful => {
            apply.remove_listeners.push(name(name_of));
            after.listeners.remove(name_of);
        }
        _ => {}
    }
}

/// For connections, or for requests with routes to up to two sets.
fn some_listener(random: &mut Random, name_of: &str, port: u16) -> Listener {
    const SETS: [&str; 4] = ["s1", "s2", "s3", "s4"];
    let plain = listener(name_of, port, random.one_of(&SETS));
    if random.below(2) == 0 {
        return plain;
    }
    let mut route = |path: &str| HttpRoute {
        hosts: Vec::new(),
        path: PathMatch::Exact(path.to_owned()),
        action: RouteAction::Forward(name(random.one_of(&SETS))),
    };
    let routes = vec![route("/a"), route("/b")];
    Listener {
        protocol: Protocol::Http,
        backend_set: plain.backend_set.clone().filter(|_| random.below(2) == 0),
        http: Some(Http {
            routes,
            ..Http::default()
        }),
        ..plain
    }
}

/// Whether the model can be: what an accepted transaction must leave behind.
fn check_model(model: &Model) {
    let mut ports: Vec<u16> = model.listeners.values().map(|l| l.1).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(
        ports.len(),
        model.listeners.len(),
        "two listeners at one address"
    );
    for set in model.listeners.values().flat_map(|(_, _, sets)| sets) {
        assert!(model.sets.contains_key(set), "a listener without its set");
    }
}

fn shown(state: &State) -> Model {
    let shown = state.get(&v1::GetRequest::default());
    let sets = shown.backend_sets.into_iter().map(|status| {
        let backends = status.backends.iter().filter(|b| !b.draining);
        let backends = backends.map(|b| {
            let backend = b.backend.clone().unwrap();
            let address: SocketAddr = backend.address.parse().unwrap();
            (address.port(), backend.weight.unwrap())
        });
        (status.set.unwrap().name, (status.owner, backends.collect()))
    });
    let draining = i32::from(v1::listener_status::State::Draining);
    let listeners = shown.listeners.into_iter().filter(|l| l.state != draining);
    let listeners = listeners.map(|status| {
        let listener = Listener::try_from(status.listener.unwrap()).unwrap();
        let sets = listener.sets().into_iter().map(Name::to_string).collect();
        let name = listener.name.to_string();
        (name, (status.owner, listener.address.port(), sets))
    });
    Model {
        sets: sets.collect(),
        listeners: listeners.collect(),
    }
}

type Runtimes = HashMap<(u32, u16), Arc<BackendRuntime>>;

/// The published table against the engine, and the identities against those of the step before.
fn check_invariants(fake: &Fake, state: &State, before: &Runtimes) -> Runtimes {
    let engine = state.engine();
    let mut now = Runtimes::new();
    if fake.publishes() == 0 {
        return now;
    }
    let table = fake.table();
    for (set_name, entry) in &engine.sets {
        let set = table.set(entry.id).unwrap();
        assert_eq!((&set.name, set.len()), (set_name, entry.backends.len()));
        for (address, backend) in &entry.backends {
            let member = set.member(&backend.runtime.key).unwrap();
            assert!(Arc::ptr_eq(&member.runtime, &backend.runtime));
            assert!(
                !member.runtime.closed.load(Acquire),
                "work for a closed backend"
            );
            assert_eq!((member.weight, member.tier), {
                let wanted = backend.member(entry.ejections.keeps(address));
                (wanted.weight, wanted.tier)
            });
            now.insert((entry.id.0, address.port()), Arc::clone(&backend.runtime));
        }
    }
    for (known, runtime) in before {
        match now.get(known) {
            Some(same) => assert!(
                Arc::ptr_eq(same, runtime),
                "a surviving backend started anew"
            ),
            None => assert!(runtime.closed.load(Acquire), "a removed backend is open"),
        }
    }
    let mut bound: Vec<SocketAddr> = lock(&fake.bound).values().copied().collect();
    let mut wanted: Vec<SocketAddr> = engine
        .listeners
        .values()
        .map(|l| l.wanted.address)
        .collect();
    bound.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(bound, wanted);
    now
}

async fn simulate(seed: u64) -> (usize, usize) {
    let (fake, state) = running();
    let mut random = Random(SplitMix(seed));
    let mut model = Model::default();
    let mut runtimes = Runtimes::new();
    let (mut taken, mut refused) = (0, 0);
    for step in 0..150 {
        let (apply, after) = transaction(&mut random, &model);
        let context = format!("seed {seed}, step {step}: {apply:?}");
        let preview = Apply {
            validate_only: true,
            ..apply.clone()
        };
        let preview = state.apply(preview).await;
        assert_eq!(shown(&state), model, "a check changed something, {context}");
        let validate_only = apply.validate_only;
        match state.apply(apply).await {
            Ok(answer) => {
                let sorted = |answer: v1::ApplyResponse| {
                    let mut changes = answer.changes;
                    changes.sort_by(|a, b| a.what.cmp(&b.what).then(a.action.cmp(&b.action)));
                    changes
                };
                assert_eq!(sorted(preview.unwrap()), sorted(answer), "{context}");
                if !validate_only {
                    check_model(&after);
                    model = after;
                    taken += 1;
                }
            }
            Err(rejected) => {
                assert_eq!(preview.unwrap_err(), rejected, "{context}");
                refused += 1;
            }
        }
        assert_eq!(shown(&state), model, "{context}");
        runtimes = check_invariants(&fake, &state, &runtimes);
        if random.below(2) == 0 {
            let failing = 1 + random.number(12);
            probe(&state, |a| {
                if a.port() == failing {
                    ProbeOutcome::Failed
                } else {
                    ProbeOutcome::Passed
                }
            });
        }
        // Long enough for a batch of health changes.
        tokio::time::sleep(Duration::from_millis(3 + random.below(2_000))).await;
        assert_eq!(
            shown(&state),
            model,
            "probes changed configuration, {context}"
        );
        runtimes = check_invariants(&fake, &state, &runtimes);
    }
    (taken, refused)
}

#[tokio::test(start_paused = true)]
async fn random_transactions_agree_with_a_plain_model() {
    let (mut taken, mut refused) = (0, 0);
    for seed in 0..30 {
        let counts = simulate(seed).await;
        taken += counts.0;
        refused += counts.1;
    }
    assert!(
        taken > 300 && refused > 300,
        "{taken} taken, {refused} refused"
    );
}
