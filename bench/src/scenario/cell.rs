//! One test of one subject, once: a load, what it cost, what Pods saw.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use podline_lab::kube_proxy::KubeProxy;

use super::{Event, Test, events};
use crate::account::{self, Meter};
use crate::load::{self, Outcome, Pace, Plan, Stop, Work};
use crate::pod;
use crate::result::Round;
use crate::stage::Stage;
use crate::subject::{Running, Subject};

/// An answer that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(2);
/// Idle connections beside those whose memory is measured, and how long they have to open.
const OTHERS: u32 = 1_000;
const OPENING: Duration = Duration::from_secs(2);
/// How long connections have to open of which there are to be many, and how long they stay at most.
const OPENING_ALL: Duration = Duration::from_secs(20);
const HELD: Duration = Duration::from_hours(24);
/// The time to live that machines send with, the kernel's default.
const FIRST_TTL: u8 = 64;
/// How often what happens meanwhile looks at the time.
const STEP: Duration = Duration::from_millis(5);
/// Memory is looked at after so much of the load.
const LOOK_AT: f64 = 0.75;

/// A subject that runs, with the network around it.
pub(super) struct Path<'a> {
    pub(super) stage: &'a Stage,
    pub(super) subject: Subject,
    pub(super) running: Running<'a>,
    /// kube-proxy's rules, where there are any.
    pub(super) rules: Vec<KubeProxy<'a>>,
}

/// What a load was asked to do, and when to give up.
#[derive(Clone, Copy)]
pub(super) struct Order<'a> {
    pub(super) test: &'a Test,
    pub(super) duration: Duration,
    pub(super) stop: &'a Stop,
}

impl Path<'_> {
    /// Measures.
    ///
    /// # Errors
    /// The figures would mean nothing: the client's machine refused, or a process of the subject died.
    pub(super) fn measure(&mut self, order: Order<'_>) -> Result<Round, String> {
        let Order { test, stop, .. } = order;
        let (plan, duration) = (self.plan(order), order.duration);
        let pids = self.running.pids();
        let others = match test.work {
            Work::Idle { .. } => Some(self.hold_others(plan)),
            _ => None,
        };
        let kib_before = account::pss_kib(&pids);
        let before = self.stage.stats();
        let meter = Meter::begin(&pids);
        let load = load::spawn(self.stage.client(), &plan);
        let begun = Instant::now();
        let mut story = events::Story::new(test.event, duration);
        let (mut proxy_kib, mut tracked, mut failed) = (None, None, None);
        while !load.is_over() {
            if stop.is_stopped() {
                load.stop();
            }
            if failed.is_none() {
                failed = story.go_on(self, begun.elapsed()).err();
            }
            if proxy_kib.is_none() && begun.elapsed() >= duration.mul_f64(LOOK_AT) {
                proxy_kib = account::pss_kib(&self.running.pids());
                tracked = self.stage.tracked();
            }
            std::thread::park_timeout(STEP); // nobody wakes it
        }
        let outcome = load.finish();
        drop(others);
        let cost = meter.end();
        self.running.check()?;
        if let Some(failed) = failed {
            return Err(failed);
        }
        let after = self.stage.stats();
        let outcome = outcome?;
        let seen = Seen::between(&before, &after, self.stage, test.work);
        let has_proxy = !pids.is_empty();
        let kib_per_connection = match test.work {
            Work::Idle { connections } => per_connection(kib_before, proxy_kib, connections),
            _ => None,
        };
        let answered = match test.work {
            Work::Bulk { .. } => outcome.bytes,
            Work::UdpBulk { .. } => seen.datagrams,
            _ => outcome.answered,
        };
        Ok(Round {
            units: answered as f64 / test.of,
            seconds: outcome.elapsed.as_secs_f64(),
            proxy_cpu: cost.proxy_cpu,
            // The kernel samples at its ticks, and misses a machine that sleeps between the requests of a calm load.
            machine_cpu: match test.pace {
                Pace::Closed => cost.machine_cpu,
                Pace::Open(_) => 0.0,
            },
            proxy_kib,
            kib_per_connection,
            latency: outcome.curve(),
            failures: failures(&outcome),
            begun: outcome.begun,
            pods: outcome.pods.clone(),
            tracked,
            hops: seen.routers.map(|routers| routers + u32::from(has_proxy)),
            sources: seen.sources,
            pieces: if test.event == Event::None {
                Vec::new()
            } else {
                pieces(&outcome)
            },
            marks: story.marks,
        })
    }
}

impl Path<'_> {
    fn plan(&self, order: Order<'_>) -> Plan {
        let Test { work, pace, .. } = *order.test;
        Plan {
            work,
            pace,
            target: self.running.entry.of(work),
            ports: self.running.entry.ports,
            duration: order.duration,
            patience: PATIENCE,
        }
    }

    /// Connections that are there before those that are measured: what a process takes once, for the first of them, is
    /// not what each of them takes. They end with what is returned.
    fn hold_others(&self, plan: Plan) -> load::Handle {
        let others = Plan {
            work: Work::Idle {
                connections: OTHERS,
            },
            duration: plan.duration + OPENING + plan.patience,
            ..plan
        };
        let held = load::spawn(self.stage.client(), &others);
        let opened = Instant::now() + OPENING;
        while Instant::now() < opened && !held.is_over() {
            std::thread::park_timeout(STEP);
        }
        held
    }
}

impl Path<'_> {
    /// Opens connections that do nothing, and waits until each was answered once.
    ///
    /// # Errors
    /// Not all of them were made.
    pub(super) fn hold(&self, connections: u32, stop: &Stop) -> Result<Held, String> {
        let work = Work::Idle { connections };
        let plan = Plan {
            work,
            pace: Pace::Closed,
            target: self.running.entry.of(work),
            ports: self.running.entry.ports,
            duration: HELD,
            patience: OPENING_ALL,
        };
        let answered = || -> u64 { self.stage.stats().values().map(|pod| pod.requests).sum() };
        let before = answered();
        let held = Held {
            load: load::spawn(self.stage.client(), &plan),
            connections,
        };
        let deadline = Instant::now() + OPENING_ALL;
        while answered() - before < u64::from(connections) {
            if held.load.is_over() || stop.is_stopped() || Instant::now() >= deadline {
                held.release()?;
                return Err("idle connections were not answered".to_owned());
            }
            std::thread::park_timeout(STEP); // nobody wakes it
        }
        Ok(held)
    }
}

/// Connections that are open and do nothing.
pub(super) struct Held {
    load: load::Handle,
    connections: u32,
}

impl Held {
    /// Ends them.
    ///
    /// # Errors
    /// Some were not made, or did not last: how many, and why.
    pub(super) fn release(self) -> Result<(), String> {
        self.load.stop();
        let outcome = self.load.finish()?;
        let Some((why, count)) = outcome.failures.iter().max_by_key(|(_, count)| **count) else {
            return Ok(());
        };
        Err(format!(
            "of {} idle connections {count} failed: {}",
            self.connections,
            why.as_str()
        ))
    }
}

/// By how many KiB a process has grown for each connection; it may have given some back meanwhile.
fn per_connection(before: Option<u64>, after: Option<u64>, connections: u32) -> Option<f64> {
    let grown = after? as f64 - before? as f64;
    Some(grown / f64::from(connections.max(1)))
}

fn failures(outcome: &Outcome) -> BTreeMap<String, u64> {
    let all = outcome.failures.iter();
    all.map(|(failure, count)| (failure.as_str().to_owned(), *count))
        .collect()
}

fn pieces(outcome: &Outcome) -> Vec<(u64, u64, u64)> {
    let pieces = outcome.pieces.iter();
    pieces
        .map(|piece| (piece.answered, piece.failed, piece.slowest))
        .collect()
}

type Counted = BTreeMap<u32, pod::Stats>;

/// What Pods saw during a load.
struct Seen {
    datagrams: u64,
    sources: BTreeMap<String, u64>,
    /// Between who sent the packets last and the Pod.
    routers: Option<u32>,
}

impl Seen {
    fn between(before: &Counted, after: &Counted, stage: &Stage, work: Work) -> Self {
        let is_udp = matches!(work, Work::UdpFlows { .. } | Work::UdpBulk { .. });
        let mut seen = Self {
            datagrams: 0,
            sources: BTreeMap::new(),
            routers: None,
        };
        for (index, stats) in after {
            let earlier = before.get(index);
            seen.datagrams += stats.datagrams - earlier.map_or(0, |earlier| earlier.datagrams);
            for (address, count) in &stats.sources {
                let known = earlier.and_then(|earlier| earlier.sources.get(address));
                let more = count - known.copied().unwrap_or(0);
                if more > 0 {
                    *seen.sources.entry(stage.whose(*address)).or_default() += more;
                }
            }
            let ttl = if is_udp { stats.udp_ttl } else { stats.tcp_ttl };
            let routers = ttl.and_then(|ttl| FIRST_TTL.checked_sub(ttl));
            seen.routers = seen.routers.max(routers.map(u32::from));
        }
        seen
    }
}
