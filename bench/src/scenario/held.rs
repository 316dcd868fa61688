//! Connections that are open and do nothing: some while others are measured, some to be measured.

use std::time::{Duration, Instant};

use super::cell::{Counted, Path};
use crate::load::{self, Pace, Plan, Stop, Work};

/// Idle connections beside those whose memory is measured: what a process takes once, for the first of them, is not what
/// each of them takes.
pub(super) const OTHERS: u32 = 1_000;
/// How long connections have to open of which there are to be many, and how long they stay at most.
pub(super) const OPENING: Duration = Duration::from_secs(20);
const HELD: Duration = Duration::from_hours(24);
/// How often it is looked whether they are open.
const STEP: Duration = Duration::from_millis(5);

/// How many connections a work has that do nothing; `None` for other work.
pub(super) const fn count(work: Work) -> Option<u32> {
    match work {
        Work::Idle { connections } | Work::IdleHttp { connections } => Some(connections),
        _ => None,
    }
}

/// By how many KiB a process has grown for each connection; it may have given some back meanwhile.
pub(super) fn per_connection(
    before: Option<u64>,
    after: Option<u64>,
    connections: u32,
) -> Option<f64> {
    let grown = after? as f64 - before? as f64;
    Some(grown / f64::from(connections.max(1)))
}

impl Path<'_> {
    /// Opens so many connections as those of `like`, and waits until each was answered once.
    ///
    /// # Errors
    /// Not all of them were made.
    pub(super) fn hold(&self, like: Work, connections: u32, stop: &Stop) -> Result<Held, String> {
        let work = match like {
            Work::IdleHttp { .. } => Work::IdleHttp { connections },
            _ => Work::Idle { connections },
        };
        let plan = Plan {
            work,
            pace: Pace::Closed,
            target: self.running.entry.of(work),
            ports: self.running.entry.ports,
            tls: self.tls.clone(),
            duration: HELD,
            patience: OPENING,
        };
        let before = self.stage.stats();
        let held = Held {
            load: load::spawn(self.stage.client(), &plan),
            connections,
        };
        let deadline = Instant::now() + OPENING;
        while !self.are_held(work, &before) {
            if held.load.is_over() || stop.is_stopped() || Instant::now() >= deadline {
                held.release()?;
                return Err("idle connections were not answered".to_owned());
            }
            std::thread::park_timeout(STEP); // nobody wakes it
        }
        Ok(held)
    }

    /// Whether all connections of a work that does nothing were answered once, since Pods had counted `before`.
    pub(super) fn are_held(&self, work: Work, before: &Counted) -> bool {
        let answered =
            |counted: &Counted| -> u64 { counted.values().map(|pod| pod.requests).sum() };
        let now = answered(&self.stage.stats());
        count(work).is_some_and(|count| now >= answered(before) + u64::from(count))
    }
}

/// Connections that are open and do nothing. They end with this.
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
