//! Random events: what is remembered is always what comes of looking at everything (see `World`), and nobody is
//! written to who does not wait. A failure prints its seed.

use std::collections::HashMap;
use std::sync::Arc;

use super::world::{World, waiting};
use crate::build::Options;
use crate::cluster::testing::{endpoint, key, node, port, service, slice};
use crate::cluster::{Change, Gate, Pod, Service};

const RUNS: u64 = 100;
const EVENTS: usize = 150;
const NAMES: u64 = 4;

/// xorshift: the same numbers for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn once_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

fn some_pod(random: &mut Random) -> Pod {
    let n = random.below(NAMES);
    let address = format!("10.0.0.{}", random.below(6));
    let labels = match random.below(3) {
        0 => Arc::default(),
        n => Arc::new([("app".to_owned(), format!("web-{n}"))].into()),
    };
    Pod {
        uid: format!("uid-{n}-{}", random.below(2)).into(),
        created: i64::try_from(random.below(3)).unwrap(),
        gate: match random.below(6) {
            0 => Gate::Absent,
            1 => Gate::Open,
            _ => Gate::Waiting,
        },
        labels,
        containers_ready: !random.once_in(5),
        is_deleting: random.once_in(10),
        has_ended: random.once_in(12),
        is_host_network: random.once_in(10),
        ..waiting(&format!("default/p{n}"), &address)
    }
}

fn some_service(random: &mut Random) -> Service {
    let n = random.below(3);
    let mut made = service(&format!("default/s{n}"));
    made.selector = match random.below(4) {
        0 => [].into(),
        n => [("app".to_owned(), format!("web-{n}"))].into(),
    };
    made.ports = vec![port("", 80 + u16::try_from(random.below(2)).unwrap())];
    made.created = i64::try_from(random.below(3)).unwrap();
    made.is_load_balancer = !random.once_in(6);
    if random.once_in(4) {
        for value in made.annotations.values_mut() {
            "false".clone_into(value);
        }
    }
    if random.once_in(8) {
        made.ports[0].protocol = crate::cluster::Transport::Sctp;
    }
    made
}

fn event(world: &mut World, random: &mut Random) {
    match random.below(12) {
        0..2 => {
            let pod = some_pod(random);
            world.put_pod(&pod);
        }
        2 => {
            let gone = key(&format!("default/p{}", random.below(NAMES)));
            world.change(Change::Pod(gone, None));
        }
        3..5 => {
            let service = some_service(random);
            world.put_service(service);
        }
        5 => {
            let gone = key(&format!("default/s{}", random.below(3)));
            world.change(Change::Service(gone, None));
        }
        6..8 => {
            let mut pods: Vec<_> = (0..NAMES)
                .filter_map(|n| world.cluster.pod(&key(&format!("default/p{n}"))).cloned())
                .filter(|_| !random.once_in(4))
                .collect();
            if random.once_in(3) {
                pods.push(some_pod(random)); // gone, or not seen yet
            }
            let (name, of) = (random.below(3), random.below(3));
            let endpoints = pods.iter().map(endpoint).collect();
            let mut made = slice(&format!("x{name}"), &format!("default/s{of}"), endpoints);
            if random.once_in(6) {
                made.ports.clear();
            }
            let gone = random.once_in(5);
            world.change(Change::Slice(made.key.clone(), (!gone).then_some(made)));
        }
        8 => {
            let mut node = node("node-1", "10.89.0.11");
            node.is_ready = !random.once_in(6);
            world.change(Change::Node(node.name.clone(), Some(node)));
        }
        _ => {
            let name = if random.once_in(2) { "a" } else { "b" };
            if random.once_in(4) {
                let serving = !random.once_in(3);
                world.proxy(name, |proxy| proxy.serving = serving);
            } else {
                world.pass(name);
            }
        }
    }
}

#[test]
fn whatever_happens_gates_are_as_if_they_were_looked_at_for_the_first_time() {
    let mut reasons: HashMap<&str, usize> = HashMap::new();
    for seed in 1..=RUNS {
        println!("seed {seed}");
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut world = World::with(Options {
            quota: 1 + usize::try_from(random.below(3)).unwrap(),
            ..Options::default()
        });
        world.change(Change::Service(key("default/web"), None));
        for _ in 0..EVENTS {
            event(&mut world, &mut random);
            let ms = random.below(3_000);
            for ask in world.after(ms).asks {
                *reasons.entry(ask.said.reason.as_str()).or_default() += 1;
                let pod = world.cluster.pod(&ask.pod).expect("it is there");
                let waits = pod.gate == Gate::Waiting && !pod.is_deleting && !pod.has_ended;
                assert!(waits && pod.uid == ask.uid, "{ask:?}: {pod:?}");
            }
        }
    }
    println!("{reasons:?}");
    for reason in [
        "Healthy",
        "NoLoadBalancer",
        "NodePortMode",
        "BeyondQuota",
        "Probing",
    ] {
        assert!(reasons.contains_key(reason), "{reason} never happens here");
    }
}
