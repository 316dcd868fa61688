//! What happens to Pods and backends during a load: which step is due when, and doing it. It must not know what is sent.

use std::time::Duration;

use super::Event;
use super::cell::Path;
use crate::stage::Behaviour;
use crate::subject::Backend;

/// A new Pod accepts only so long after its start.
const SLOW_START: Duration = Duration::from_millis(300);
/// Its readiness probe has seen it so long after that.
const PROBED: Duration = Duration::from_millis(100);
/// A Pod that is asked to end accepts nothing any more after so long, and ends what is open.
const LAST_CALL: Duration = Duration::from_millis(20);
/// A Pod that was asked to end has ended after so long.
const GRACE: Duration = Duration::from_millis(1_500);
/// A new Pod takes traffic for so long before an old one is asked to end.
const SETTLE: Duration = Duration::from_secs(1);

/// What is to happen, and what did.
pub(super) struct Story {
    event: Event,
    duration: Duration,
    /// The step that is next, and when it is due.
    step: u32,
    due: Duration,
    /// What happened, with its second.
    pub(super) marks: Vec<(f64, String)>,
    /// Pods to be replaced, the oldest last.
    old: Vec<u32>,
    /// Whom the subject forwards to.
    backends: Vec<Backend>,
}

impl Story {
    pub(super) fn new(event: Event, duration: Duration) -> Self {
        let due = match event {
            Event::None => Duration::MAX,
            Event::Churn(_) => Duration::ZERO,
            Event::Rollout => Duration::from_secs(2),
            Event::Failover => duration / 4,
        };
        Self {
            event,
            duration,
            step: 0,
            due,
            marks: Vec::new(),
            old: Vec::new(),
            backends: Vec::new(),
        }
    }

    /// Does what is due after `elapsed`.
    ///
    /// # Errors
    /// The subject or a Pod did not do what it was told.
    pub(super) fn go_on(&mut self, path: &mut Path<'_>, elapsed: Duration) -> Result<(), String> {
        if elapsed < self.due || elapsed > self.duration {
            return Ok(());
        }
        match self.event {
            Event::None => {}
            Event::Churn(a_second) => self.churn(path, elapsed, a_second)?,
            Event::Rollout => self.replace(path, elapsed)?,
            Event::Failover => self.cut(path, elapsed)?,
        }
        self.step += 1;
        Ok(())
    }

    fn mark(&mut self, elapsed: Duration, what: String) {
        self.marks.push((elapsed.as_secs_f64(), what));
    }

    /// Takes the last backend out, or puts it back.
    fn churn(
        &mut self,
        path: &mut Path<'_>,
        elapsed: Duration,
        a_second: u32,
    ) -> Result<(), String> {
        let mut backends = path.stage.backends();
        if self.step.is_multiple_of(2) {
            backends.pop();
        }
        path.forward_to(&backends)?;
        self.due = elapsed + Duration::from_secs(1) / a_second.max(1);
        Ok(())
    }

    /// A new Pod, traffic for it, the end of an old one, and so on: as a Deployment with maxUnavailable 0 and maxSurge 1
    /// does, whose Pods have a readiness probe.
    fn replace(&mut self, path: &mut Path<'_>, elapsed: Duration) -> Result<(), String> {
        if self.step == 0 {
            self.backends = path.stage.backends();
            let oldest_last = self.backends.iter().rev();
            self.old = oldest_last.map(|backend| backend.index).collect();
        }
        let Some(old) = self.old.last().copied() else {
            self.due = Duration::MAX;
            return Ok(());
        };
        let many = u32::try_from(self.backends.len()).unwrap_or(u32::MAX / 2);
        self.due = elapsed
            + match self.step % 4 {
                0 => {
                    let behaviour = Behaviour {
                        accept_after: SLOW_START,
                        stop_accepting_after: LAST_CALL,
                        end_after: GRACE,
                    };
                    let new = path.stage.start_pod(old + many, behaviour)?;
                    self.backends.push(new);
                    self.mark(elapsed, format!("Pod {} starts", new.index));
                    // It is ready when it accepts.
                    SLOW_START + PROBED
                }
                1 => {
                    path.forward_to(&self.backends)?;
                    SETTLE
                }
                2 => {
                    self.end(path, old)?;
                    self.mark(elapsed, format!("Pod {old} ends"));
                    GRACE
                }
                _ => {
                    path.stage.remove_pod(old);
                    self.old.pop();
                    Duration::ZERO
                }
            };
        Ok(())
    }

    /// Where the load balancer can be asked to drain a Pod it is, before SIGTERM; else both begin together.
    fn end(&mut self, path: &mut Path<'_>, old: u32) -> Result<(), String> {
        let is_leaving = |backend: &Backend| backend.index == old;
        if let Some(leaving) = self.backends.iter().copied().find(is_leaving)
            && path.running.can_drain()
        {
            path.running.drain(&leaving)?;
        }
        self.backends.retain(|backend| !is_leaving(backend));
        path.stage.terminate_pod(old);
        path.forward_to(&self.backends)
    }

    /// The first Pod's link fails, and is mended after four fifths.
    fn cut(&mut self, path: &mut Path<'_>, elapsed: Duration) -> Result<(), String> {
        let victim = path
            .stage
            .backends()
            .first()
            .map_or(0, |backend| backend.index);
        let is_cut = self.step == 0;
        path.stage.cut_pod(victim, is_cut)?;
        let what = if is_cut { "loses its power" } else { "is back" };
        self.mark(elapsed, format!("Pod {victim} {what}"));
        self.due = if is_cut {
            self.duration / 5 * 4
        } else {
            Duration::MAX
        };
        Ok(())
    }
}

impl Path<'_> {
    /// Has the subject, and the nodes' rules if there are any, forward to these Pods.
    fn forward_to(&mut self, backends: &[Backend]) -> Result<(), String> {
        if let Some(rules) = self.stage.rules(self.subject, backends) {
            for (installed, rules) in self.rules.iter_mut().zip(&rules) {
                installed.replace(rules).map_err(|error| error.chain())?;
            }
        }
        self.running.change(backends)
    }
}
