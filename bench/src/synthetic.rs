//! Results as a run might leave them, made up for tests from a seed: a machine whose speed drifts, subjects of different
//! cost, rounds with noise and now and then a disturbed one. Nothing here was measured.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of made-up figures, small and not negative"
)]

use std::collections::BTreeMap;
use std::f64::consts::TAU;

use super::result::{Cell, FORMAT, Machine, Round, RunResult, Step};

/// Numbers that look like chance and are the same for a seed (splitmix64).
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// From 0 to 1, 1 excluded.
    pub(crate) fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Of a normal distribution.
    pub(crate) fn normal(&mut self) -> f64 {
        let (first, second) = (1.0 - self.share(), self.share());
        (-2.0 * first.ln()).sqrt() * (TAU * second).cos()
    }

    /// A factor around 1 whose logarithm deviates by `deviation`.
    fn factor(&mut self, deviation: f64) -> f64 {
        (self.normal() * deviation).exp()
    }
}

/// What a run is like.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) scenario: &'static str,
    pub(crate) rounds: usize,
    pub(crate) subjects: &'static [&'static str],
    /// Some of [`TESTS`].
    pub(crate) tests: &'static [&'static str],
    /// What a unit costs Podline, in times of what it did.
    pub(crate) slowed: f64,
    /// How far the logarithm of the machine's speed swings.
    pub(crate) drift: f64,
    /// How far the logarithm of a round's figures deviates.
    pub(crate) noise: f64,
    /// How far the logarithm of a cell's cost deviates from run to run, in all rounds: where things lie in memory.
    pub(crate) habit: f64,
    /// The share of rounds that something else disturbs.
    pub(crate) disturbed: f64,
    /// Whether each round has an order of subjects of its own.
    pub(crate) is_shuffled: bool,
}

pub(crate) const PATHS: &[&str] = &[
    "pod",
    "direct",
    "direct-transparent",
    "nodeport-iptables-cluster",
    "nodeport-iptables-local",
    "nodeport-nftables-cluster",
    "nodeport-nftables-local",
];
pub(crate) const ALL: &[&str] = &[
    "pod",
    "direct",
    "direct-transparent",
    "nodeport-iptables-cluster",
    "nodeport-iptables-local",
    "nodeport-nftables-cluster",
    "nodeport-nftables-local",
    "haproxy",
    "nginx",
    "envoy",
    "traefik",
    "pingora",
];
/// Name, unit, requests in a unit, units a second, CPU seconds of proxy and of the rest for a unit, whether it has
/// latency, whether it has a timeline.
type Test = (&'static str, &'static str, f64, f64, (f64, f64), bool, bool);
pub(crate) const TESTS: &[Test] = &[
    ("bulk", "GB", 1.0, 1.2, (0.32, 0.9), false, false),
    ("rr", "100k requests", 1e5, 0.4, (1.7, 2.6), true, false),
    ("crr", "10k connections", 1e4, 0.6, (0.9, 1.5), true, false),
    ("mid", "100k requests", 1e5, 0.2, (1.9, 3.4), true, false),
    ("udp", "100k datagrams", 1e5, 0.9, (0.5, 0.8), true, false),
    ("http1", "100k requests", 1e5, 0.3, (1.9, 2.2), true, false),
    ("http2", "100k requests", 1e5, 0.35, (1.6, 2.0), true, false),
    ("grpc", "100k calls", 1e5, 0.25, (2.1, 2.9), true, false),
    ("rollout", "10k requests", 1e4, 0.5, (0.2, 0.3), true, true),
    ("failover", "10k requests", 1e4, 0.5, (0.2, 0.3), true, true),
];

/// A run of two loads over a growing number of backends.
pub(crate) fn stepped() -> RunResult {
    let mut all: Option<RunResult> = None;
    for count in [2, 20, 200] {
        let world = World {
            scenario: "scale",
            subjects: &["direct", "haproxy", "nginx"],
            tests: &["crr", "rr"],
            slowed: 1.0 + f64::from(count) / 1e3,
            ..World::headline(u64::from(count))
        };
        let mut run = world.run();
        for cell in &mut run.cells {
            let load = std::mem::take(&mut cell.test);
            cell.test = format!("{load}-backends-{count}");
            cell.step = Some(Step {
                load,
                of: "backends".to_owned(),
                count,
            });
        }
        match &mut all {
            Some(all) => all.cells.append(&mut run.cells),
            None => all = Some(run),
        }
    }
    all.expect("there are steps")
}

impl World {
    /// The headline's scenario on a machine as ours are.
    pub(crate) fn headline(seed: u64) -> Self {
        Self {
            seed,
            scenario: "direct-vs-nodeport",
            rounds: 7,
            subjects: PATHS,
            tests: &["bulk", "rr", "crr"],
            slowed: 1.0,
            drift: 0.35,
            noise: 0.03,
            habit: 0.01,
            disturbed: 0.02,
            is_shuffled: false,
        }
    }

    /// The result of such a run.
    pub(crate) fn run(&self) -> RunResult {
        let mut chance = Chance(self.seed);
        let level = (chance.share() - 0.5) * 2.0 * self.drift;
        let phase = chance.share();
        let slots = (self.rounds * self.subjects.len() * self.tests.len()) as f64;
        let mut walk = 0.0;
        let mut slot = 0.0;
        let mut rounds: BTreeMap<(usize, usize), Vec<Round>> = BTreeMap::new();
        let mut pulse = Vec::new();
        let mut order: Vec<usize> = (0..self.subjects.len()).collect();
        let cells = self.subjects.len() * self.tests.len();
        let habits: Vec<f64> = (0..cells).map(|_| chance.factor(self.habit)).collect();
        for _ in 0..self.rounds {
            if self.is_shuffled {
                order.sort_by_cached_key(|_| chance.next());
            }
            for (nth, s) in order.iter().copied().enumerate() {
                let subject = self.subjects[s];
                for (t, name) in self.tests.iter().enumerate() {
                    walk += chance.normal() * self.drift * 0.01;
                    let swing = (TAU * (phase + 1.3 * slot / slots)).sin();
                    let speed = (level + walk + swing * self.drift / 2.0).exp();
                    slot += 1.0;
                    if nth == 0 && t == 0 {
                        pulse.push(5e8 * speed * chance.factor(0.01));
                    }
                    let habit = habits[s * self.tests.len() + t];
                    let round = self.round(&mut chance, subject, test(name), (speed, habit));
                    rounds.entry((t, s)).or_default().push(round);
                }
            }
        }
        let cells = rounds.into_iter().map(|((t, s), rounds)| Cell {
            step: None,
            test: self.tests[t].to_owned(),
            subject: self.subjects[s].to_owned(),
            unit: test(self.tests[t]).1.to_owned(),
            rounds,
            is_balanced: self.tests[t] != "bulk",
            void: None,
        });
        RunResult {
            format: FORMAT,
            scenario: self.scenario.to_owned(),
            began: "2026-01-02T03:04:05Z".to_owned(),
            seconds: slots * 3.5,
            is_cut_short: false,
            machine: Machine {
                kernel: "6.18.0-made-up".to_owned(),
                processor: "Made-up processor @ 2.00GHz".to_owned(),
                cores: 2,
                memory_mib: 7_900,
                pulse,
                stolen: 0.01,
            },
            versions: versions(self.subjects),
            skipped: BTreeMap::new(),
            cells: cells.collect(),
        }
    }

    fn round(
        &self,
        chance: &mut Chance,
        subject: &str,
        (_, _, requests, rate, (proxy, rest), has_latency, has_pieces): Test,
        (speed, habit): (f64, f64),
    ) -> Round {
        let (own, further) = cost(subject);
        let own = own * habit;
        let noise = self.noise * loudness(subject);
        let slowed = if is_ours(subject) { self.slowed } else { 1.0 };
        let bad = if chance.share() < self.disturbed {
            1.0 + chance.share()
        } else {
            1.0
        };
        let seconds = 3.0 * chance.factor(0.001);
        let whole = (own * proxy * slowed + rest * further) / (proxy + rest);
        let units = rate * seconds * speed / whole / bad * chance.factor(noise);
        let proxy_cpu = own * proxy * slowed * units / speed * chance.factor(noise);
        let rest = rest * further * units / speed * bad.sqrt() * chance.factor(noise);
        let begun = (units * requests).max(1.0) as u64;
        let pods: BTreeMap<u32, u64> = (0..4)
            .map(|pod| (pod, (begun as f64 / 4.0 * chance.factor(0.02)) as u64))
            .collect();
        let seen = match subject {
            "pod" | "direct-transparent" => "client",
            "direct" => "proxy",
            local if local.ends_with("-local") => "proxy",
            cluster if cluster.starts_with("nodeport") => "node",
            _ => "proxy",
        };
        let mut round = Round {
            units,
            seconds,
            proxy_cpu: (own > 0.0).then_some(proxy_cpu),
            machine_cpu: proxy_cpu + rest,
            proxy_kib: (own > 0.0).then_some((9_000.0 * own * chance.factor(0.01)) as u64),
            begun,
            sources: BTreeMap::from([(seen.to_owned(), begun)]),
            pods,
            tracked: Some(if subject.starts_with("nodeport") {
                begun.min(60_000) * 2
            } else {
                0
            }),
            hops: Some(hops(subject)),
            ..Round::default()
        };
        if has_latency {
            let typical = 150_000.0 * whole / speed * bad;
            round.latency = curve(chance, typical, noise);
        }
        if has_pieces {
            pieces(chance, &mut round, is_ours(subject));
        }
        round
    }
}

/// From 0 to five nines, the tail heavier and noisier than the middle.
fn curve(chance: &mut Chance, typical: f64, noise: f64) -> Vec<(f64, u64)> {
    let typical = typical * chance.factor(noise);
    let tail = 0.25 * chance.factor(noise * 4.0);
    let far = 0.02 * chance.factor(noise * 8.0);
    let point = |step: u32| {
        let nines = f64::from(step) / 8.0;
        let slower = 0.7 + nines + tail * nines.powi(2) + far * nines.powi(4);
        let share = 1.0 - 10_f64.powf(-nines);
        (share, (typical * slower) as u64)
    };
    (0..=40).map(point).collect()
}

/// Ten seconds in which a Pod goes after three.
fn pieces(chance: &mut Chance, round: &mut Round, is_smooth: bool) {
    for piece in 0..100 {
        let is_bad = !is_smooth && (30..34).contains(&piece);
        let answered = (500.0 * chance.factor(0.05)) as u64;
        let (answered, failed) = if is_bad {
            (answered / 2, 20)
        } else {
            (answered, 0)
        };
        let slowest = (400_000.0 * chance.factor(0.4)) as u64;
        let slowest = if is_bad { 90_000_000 } else { slowest };
        round.pieces.push((answered, failed, slowest));
        if failed > 0 {
            *round.failures.entry("reset".to_owned()).or_default() += failed;
        }
    }
    round.marks = vec![
        (3.0, "Pod 2 deleted".to_owned()),
        (3.4, "Pod 2 gone from the backends".to_owned()),
        (7.0, "Pod 4 ready".to_owned()),
    ];
}

fn test(name: &str) -> Test {
    let found = TESTS.iter().find(|test| test.0 == name);
    *found.expect("tests ask for tests that exist")
}

/// CPU of the proxy and of the rest, in times of direct's.
fn cost(subject: &str) -> (f64, f64) {
    match subject {
        "pod" => (0.0, 0.6),
        "direct" => (1.0, 1.0),
        "direct-transparent" => (1.03, 1.02),
        "nodeport-iptables-cluster" => (1.01, 1.35),
        "nodeport-iptables-local" => (1.0, 1.2),
        "nodeport-nftables-cluster" => (1.01, 1.3),
        "nodeport-nftables-local" => (1.0, 1.17),
        "haproxy" => (1.08, 1.0),
        "nginx" => (1.2, 1.0),
        "envoy" => (1.7, 1.05),
        "traefik" => (2.4, 1.1),
        _ => (1.4, 1.0),
    }
}

/// Some subjects are noisier than others, in every run.
fn loudness(subject: &str) -> f64 {
    match subject.len() % 3 {
        0 => 0.6,
        1 => 1.0,
        _ => 1.6,
    }
}

fn hops(subject: &str) -> u32 {
    match subject {
        "pod" => 1,
        cluster if cluster.ends_with("-cluster") => 3,
        _ => 2,
    }
}

fn is_ours(subject: &str) -> bool {
    subject.starts_with("direct") || subject.starts_with("nodeport")
}

fn versions(subjects: &[&str]) -> BTreeMap<String, String> {
    let version = |subject: &&str| (subject.to_string(), format!("{subject} 0.0-made-up"));
    let peers = subjects.iter().filter(|s| **s != "pod" && !is_ours(s));
    peers.map(version).collect()
}
