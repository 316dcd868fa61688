//! Random snapshots against a model that refuses at random: at rest the proxy has what is wanted but for what it
//! refuses, and all of it once it refuses nothing.

use podline_api::BackendSet;

use super::model::{BAD_RETRIES, BAD_WEIGHT, Bench, same_set};
use super::{Build, Random, at, backend, key, listener, name, set};
use crate::push::Reign;
use crate::push::sync::Step;
use crate::snapshot::Snapshot;

const RUNS: u64 = 400;
const STEPS: u64 = 60;

fn random_set(random: &mut Random, text: &str) -> BackendSet {
    let mut set = set(text, []);
    for n in 1..=8 {
        if random.one_in(2) {
            let mut one = backend(n, 10 * (1 + u32::try_from(random.below(2)).unwrap()));
            if random.one_in(4) {
                one.key.id = key(100 + n).id; // another behind the same address
            }
            if random.one_in(60) {
                one = backend(n, BAD_WEIGHT.into());
            }
            set.backends.push(one);
        }
    }
    set.settings.connect_retries = match random.below(24) {
        0 => BAD_RETRIES,
        1..=3 => 1,
        _ => 2,
    };
    set
}

/// The next snapshot: one or some things are other than before.
fn change(random: &mut Random, before: &Snapshot) -> Snapshot {
    let mut next = before.next();
    for _ in 0..=random.below(3) {
        let text = format!("s{}", random.below(4));
        let port = 80 + u16::try_from(random.below(4)).unwrap();
        match random.below(4) {
            0 | 1 => next = next.with_set(random_set(random, &text)),
            2 if next.sets.contains_key(&name(&text)) => {
                let other = format!("l{}", random.below(4));
                let is_taken = next.listeners.values().any(|l| l.address == at(port));
                if !is_taken {
                    next = next.with(listener(&other, port, &text));
                }
            }
            2 => {}
            _ if random.one_in(2) => next = next.without(&format!("l{}", random.below(4))),
            _ => {
                next.listeners.retain(|_, l| !l.leads_to(&name(&text)));
                next = next.without_set(&text);
            }
        }
    }
    if random.one_in(3) {
        let nodes = ["n1", "n2", "n3"];
        let most = usize::try_from(random.below(4)).unwrap();
        next = next.with_nodes(&nodes[..most]);
    }
    let pods = 1 + u8::try_from(random.below(8)).unwrap();
    next.ended([pods, pods + 1])
}

fn disturb(random: &mut Random, bench: &mut Bench) {
    let port = 80 + u16::try_from(random.below(4)).unwrap();
    let text = name(&format!("s{}", random.below(4)));
    let model = &mut bench.model;
    if random.one_in(4) {
        model.bad_node = random.one_in(2).then(|| name("n2"));
    }
    match random.below(6) {
        // Not where one of ours is already.
        0 if !model.listeners.values().any(|l| l.address == at(port)) => {
            model.taken.insert(at(port));
        }
        1 => model.taken.clear(),
        2 if !model.sets.contains_key(&text) => drop(model.foreign.insert(text)),
        3 => model.foreign.clear(),
        4 if model.sets.contains_key(&text) => drop(model.used.insert(text)),
        5 => model.used.clear(),
        _ => {}
    }
}

/// At rest: what is not refused is as it is wanted, and what is refused is not something that never was.
fn check_at_rest(bench: &Bench, wanted: &Snapshot, seed: u64) {
    let refused = bench.sync.refused_words();
    for (name, set) in &wanted.sets {
        if !refused.contains_key(name) {
            let (found, _) = &bench.model.sets[name];
            assert!(
                same_set(found, set),
                "seed {seed}: {name} {found:?}\n{set:?}"
            );
        }
    }
    for (name, listener) in &wanted.listeners {
        if !refused.contains_key(name) {
            assert_eq!(
                bench.model.listeners.get(name),
                Some(&**listener),
                "seed {seed}"
            );
        }
    }
    let extra = bench
        .model
        .sets
        .keys()
        .filter(|n| !wanted.sets.contains_key(*n));
    for name in extra {
        assert!(
            refused.contains_key(name),
            "seed {seed}: {name} is left over"
        );
    }
    let mut extra = bench.model.listeners.keys();
    assert!(
        extra.all(|name| wanted.listeners.contains_key(name)),
        "seed {seed}: a listener is left over"
    );
    if bench.sync.blocked().is_none() && wanted.version > 0 {
        assert_eq!(bench.sync.acked(), wanted.version, "seed {seed}");
    }
}

fn run(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut bench = Bench::new();
    let (mut wanted, mut epoch) = (Snapshot::default(), 1);
    for _ in 0..STEPS {
        match random.below(12) {
            0..=5 => {
                wanted = change(&mut random, &wanted);
                bench.want(&wanted);
            }
            6 => disturb(&mut random, &mut bench),
            7 => {
                bench.sync.disconnected();
                if random.one_in(3) {
                    bench.model.listeners.clear();
                    bench.model.sets.clear();
                }
                bench.connect(&super::FEATURES);
            }
            8 => {
                epoch += 1;
                bench.sync.reign(Reign::Leader { epoch }, bench.now_ms);
            }
            9 => {
                // Something new is wanted while a request is under way.
                if let Step::Send(request) = bench.sync.poll(bench.now_ms) {
                    wanted = change(&mut random, &wanted);
                    bench.want(&wanted);
                    let answer = bench.model.apply(*request);
                    bench.answer(&answer);
                } else {
                    bench.sync.disconnected();
                    bench.connect(&super::FEATURES);
                }
            }
            10 => drop(bench.step()),
            _ => {
                bench.run();
                check_at_rest(&bench, &wanted, seed);
                bench.pass(random.below(12_000));
            }
        }
    }
    bench.model.taken.clear();
    bench.model.foreign.clear();
    bench.model.used.clear();
    bench.model.bad_node = None;
    for set in wanted.sets.clone().into_values() {
        let mut set = (*set).clone();
        set.settings.connect_retries = 3;
        for backend in &mut set.backends {
            *backend = super::backend(
                backend.key.address.ip().to_string()[7..].parse().unwrap(),
                20,
            );
        }
        wanted = wanted.with_set(set);
    }
    wanted = wanted.next();
    bench.want(&wanted);
    bench.pass(70_000);
    bench.model.check_is(&wanted);
    assert_eq!(bench.refused(), [], "seed {seed}");
    let network = bench.model.network.unwrap_or_default();
    assert_eq!(network, *wanted.network, "seed {seed}");
    assert_eq!(bench.sync.acked(), wanted.version, "seed {seed}");
}

#[test]
fn a_proxy_comes_to_what_is_wanted_whatever_it_refuses() {
    for seed in 1..=RUNS {
        run(seed);
    }
}
