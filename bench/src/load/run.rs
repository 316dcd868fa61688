//! Loads on their threads: how many, in which namespace, and their outcomes as one.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use podline_lab::Namespace;

use super::dialect::Dialect;
use super::exchange::{Exchange, Life, Shape};
use super::pace::{self, nanoseconds};
use super::socket::{Transport, raise_descriptors};
use super::source::Source;
use super::stop::Stop;
use super::trust::HTTP1;
use super::{Outcome, Pace, Plan, Work};
use super::{bulk, connections, grpc, http1, http2, idle, rr, udp_bulk, udp_flows};

/// What a load may take beyond its duration and patience.
const SLACK: u64 = 800_000_000;
/// The shortest wait for answers after the last request, when the connections took all of the patience.
const SHORTEST_WAIT: u64 = 200_000_000;

const PANICKED: &str = "a thread of the load panicked; its message is on standard error";

/// The part of a plan that a thread has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    /// Which, from 0.
    pub(crate) index: u32,
    /// Of how many.
    pub(crate) parts: u32,
}

impl Part {
    /// This part of so many.
    pub(crate) fn of(self, whole: u32) -> u32 {
        pace::share(whole, self.index, self.parts)
    }

    /// The first number of its requests; no other part comes to have it.
    pub(crate) fn first(self) -> u64 {
        u64::from(self.index) << 48
    }
}

/// A load that runs; dropping it ends it early.
#[derive(Debug)]
pub struct Handle {
    stop: Stop,
    threads: Vec<JoinHandle<io::Result<Outcome>>>,
}

impl Handle {
    /// Ends it early; [`Self::finish`] then tells what was seen.
    pub fn stop(&self) {
        self.stop.stop();
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Waits for its end, at most its duration and patience and a second. An error says what the client's machine refused.
    pub fn finish(mut self) -> Result<Outcome, String> {
        let mut sum: Option<Outcome> = None;
        let mut failed = None;
        for thread in std::mem::take(&mut self.threads) {
            match thread.join() {
                Ok(Ok(outcome)) => match &mut sum {
                    Some(sum) => sum.merge(&outcome),
                    None => sum = Some(outcome),
                },
                Ok(Err(error)) => failed = Some(format!("the client's machine refused: {error}")),
                Err(_) => failed = Some(PANICKED.to_owned()),
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(sum.unwrap_or_else(Outcome::empty)),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.stop.stop();
        }
    }
}

/// Runs a load in the client's namespace, and waits for its end.
///
/// # Errors
/// What the client's machine refused. Failed requests are no errors but counted.
pub fn run(client: &Namespace, plan: &Plan, stop: &Stop) -> Result<Outcome, String> {
    start(Some(client), plan, stop).finish()
}

/// As [`run`], in the calling thread's namespace.
pub fn run_here(plan: &Plan, stop: &Stop) -> Result<Outcome, String> {
    start(None, plan, stop).finish()
}

/// Starts a load in the client's namespace.
pub fn spawn(client: &Namespace, plan: &Plan) -> Handle {
    start(Some(client), plan, &Stop::default())
}

/// As [`spawn`], in the calling thread's namespace.
pub fn spawn_here(plan: &Plan) -> Handle {
    start(None, plan, &Stop::default())
}

fn start(client: Option<&Namespace>, plan: &Plan, stop: &Stop) -> Handle {
    raise_descriptors();
    let parts = parts(plan);
    let one = |index| {
        let (plan, stop) = (plan.clone(), stop.clone());
        let work = move || work(&plan, Part { index, parts }, &stop);
        match client {
            Some(client) => client.thread(work),
            None => thread::spawn(work),
        }
    };
    Handle {
        stop: stop.clone(),
        threads: (0..parts).map(one).collect(),
    }
}

/// How many threads a plan has.
fn parts(plan: &Plan) -> u32 {
    let rate = match plan.pace {
        Pace::Open(rate) => Some(rate),
        Pace::Closed => None,
    };
    match plan.work {
        Work::RequestResponse { connections, .. }
        | Work::Http1 { connections, .. }
        | Work::Http2 { connections, .. }
        | Work::Grpc { connections, .. } => pace::threads(rate, connections),
        Work::Connections { concurrency } => pace::threads(rate, concurrency),
        Work::UdpFlows { flows, .. } => pace::threads(rate, flows),
        Work::Bulk { .. } | Work::UdpBulk { .. } | Work::Idle { .. } | Work::IdleHttp { .. } => 1,
    }
}

fn work(plan: &Plan, part: Part, stop: &Stop) -> io::Result<Outcome> {
    match plan.work {
        Work::Bulk { streams, upload } => bulk::run(plan, streams, upload, stop),
        Work::RequestResponse { connections, bytes } => {
            rr::run(plan, part, connections, bytes, stop)
        }
        Work::Connections { concurrency } => connections::run(plan, part, concurrency, stop),
        Work::UdpFlows { flows, bytes } => udp_flows::run(plan, part, flows, bytes, stop),
        Work::UdpBulk { bytes } => udp_bulk::run(plan, bytes, stop),
        Work::Http1 {
            connections,
            bytes,
            close,
        } => http1::run(plan, part, (connections, bytes, close), stop),
        Work::Http2 {
            connections,
            streams,
            bytes,
        } => http2::run(plan, part, (connections, streams, bytes), stop),
        Work::Grpc {
            connections,
            streams,
        } => grpc::run(plan, part, (connections, streams), stop),
        Work::Idle { connections } => idle::of_frames(plan, connections, stop),
        Work::IdleHttp { connections } => idle::of_http(plan, connections, stop),
    }
}

/// Requests of one dialect over so many connections or flows, by the plan's pace.
pub(crate) fn exchange<D: Dialect>(
    plan: &Plan,
    part: Part,
    dialect: D,
    (transport, life, slots): (Transport, Life, u32),
    stop: &Stop,
) -> io::Result<Outcome> {
    let shape = shape(plan, part, (transport, life, part.of(slots)));
    let patience = shape.patience;
    let mut exchange = Exchange::new(dialect, shape)?;
    let opening = match life {
        Life::One => exchange.restart(),
        Life::Stays | Life::MustStay => exchange.open_all(stop)?,
    };
    let mut source = Source::new(plan.pace, plan.duration, part.parts);
    let limit = limit(plan.duration, patience, opening);
    exchange.drive(&mut source, limit, stop)?;
    let (tally, end) = exchange.into_tally();
    Ok(tally.finish(end))
}

/// A load's shape, of which this part has `slots`.
pub(crate) fn shape(
    plan: &Plan,
    part: Part,
    (transport, life, slots): (Transport, Life, u32),
) -> Shape {
    Shape {
        target: plan.target,
        ports: plan.ports.max(1),
        transport,
        tls: plan.tls.as_ref().map(|trust| trust.speaking(HTTP1)),
        life,
        slots,
        patience: nanoseconds(plan.patience),
        first: part.first(),
    }
}

/// When a load must end, in nanoseconds after its clock's start, if its connections took `opening` before that: they may
/// take the patience, and the whole no more than duration, patience and a second.
pub(crate) fn limit(duration: Duration, patience: u64, opening: u64) -> u64 {
    let wait = (patience.saturating_add(SLACK))
        .saturating_sub(opening)
        .clamp(SHORTEST_WAIT.min(patience), patience);
    nanoseconds(duration).saturating_add(wait)
}
