//! One test of one subject, once: a load, what it cost, what Pods saw.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use podline_lab::kube_proxy::KubeProxy;

use super::{Event, Test, events, held};
use crate::account::{self, Meter};
use crate::load::{self, Outcome, Pace, Plan, Stop, Trust, Work};
use crate::pod;
use crate::result::Round;
use crate::stage::Stage;
use crate::subject::{Running, Subject};

/// An answer that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(2);
/// The time to live that machines send with, the kernel's default.
const FIRST_TTL: u8 = 64;
/// How often what happens meanwhile looks at the time.
const STEP: Duration = Duration::from_millis(5);
/// Memory is looked at after so much of the load; that of idle connections, so much of it after all were opened.
const LOOK_AT: f64 = 0.75;
const SETTLED_AFTER: f64 = 0.25;

/// A subject that runs, with the network around it.
pub(super) struct Path<'a> {
    pub(super) stage: &'a Stage,
    pub(super) subject: Subject,
    pub(super) running: Running<'a>,
    /// kube-proxy's rules, where there are any.
    pub(super) rules: Vec<KubeProxy<'a>>,
    /// Whom clients trust, where they speak TLS.
    pub(super) tls: Option<Trust>,
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
        // Who cannot hold the others cannot hold those that are counted either.
        let others =
            held::count(test.work).and_then(|_| self.hold(test.work, held::OTHERS, stop).ok());
        let kib_before = account::pss_kib(&pids);
        let before = self.stage.stats();
        let meter = Meter::begin(&pids);
        let load = load::spawn(self.stage.client(), &plan);
        let begun = Instant::now();
        let mut story = events::Story::new(test.event, duration);
        let (mut proxy_kib, mut tracked, mut failed) = (None, None, None);
        let mut look_at = match held::count(test.work) {
            Some(_) => None,
            None => Some(duration.mul_f64(LOOK_AT)),
        };
        while !load.is_over() {
            if stop.is_stopped() {
                load.stop();
            }
            if failed.is_none() {
                failed = story.go_on(self, begun.elapsed()).err();
            }
            if look_at.is_none() && self.are_held(test.work, &before) {
                look_at = Some(begun.elapsed() + duration.mul_f64(SETTLED_AFTER));
            }
            if proxy_kib.is_none() && look_at.is_some_and(|at| begun.elapsed() >= at) {
                proxy_kib = account::pss_kib(&self.running.pids());
                tracked = self.stage.tracked();
            }
            std::thread::park_timeout(STEP); // nobody wakes it
        }
        let outcome = load.finish();
        let cost = meter.end();
        drop(others);
        self.running.check()?;
        if let Some(failed) = failed {
            return Err(failed);
        }
        let after = self.stage.stats();
        let outcome = outcome?;
        let seen = Seen::between(&before, &after, self.stage, test.work);
        let has_proxy = !pids.is_empty();
        let kib_per_connection = held::count(test.work)
            .and_then(|count| held::per_connection(kib_before, proxy_kib, count));
        let answered = match test.work {
            Work::Bulk { .. } => outcome.bytes,
            Work::UdpBulk { .. } => seen.datagrams,
            _ => outcome.answered,
        };
        Ok(Round {
            units: answered as f64 / test.of,
            seconds: outcome.elapsed.as_secs_f64(),
            proxy_cpu: cost.proxy_cpu,
            // At its ticks the kernel misses a machine that sleeps between the requests of a calm load.
            machine_cpu: match test.pace {
                Pace::Closed => cost.machine_cpu,
                Pace::Open(_) => cost.machine_awake,
            },
            proxy_kib,
            kib_per_connection,
            latency: outcome.curve(),
            failures: failures(&outcome),
            suites: suites(&outcome),
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
            tls: self.tls.clone(),
            duration: order.duration,
            patience: match held::count(work) {
                Some(_) => held::OPENING,
                None => PATIENCE,
            },
        }
    }
}

fn failures(outcome: &Outcome) -> BTreeMap<String, u64> {
    let all = outcome.failures.iter();
    all.map(|(failure, count)| (failure.as_str().to_owned(), *count))
        .collect()
}

fn suites(outcome: &Outcome) -> BTreeMap<String, u64> {
    let all = outcome.suites.iter();
    all.map(|(suite, count)| ((*suite).to_owned(), *count))
        .collect()
}

fn pieces(outcome: &Outcome) -> Vec<(u64, u64, u64)> {
    let pieces = outcome.pieces.iter();
    pieces
        .map(|piece| (piece.answered, piece.failed, piece.slowest))
        .collect()
}

pub(super) type Counted = BTreeMap<u32, pod::Stats>;

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
