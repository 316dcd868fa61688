//! What happens to Pods and backends during a load: which step is due when, and doing it. It must not know what is sent.

use std::time::Duration;

use super::Event;
use super::cell::Path;
use crate::stage::Behaviour;
use crate::subject::Backend;

/// A new Pod accepts only so long after its start.
const SLOW_START: Duration = Duration::from_millis(300);
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
    /// Asked to end, and when its place is free.
    ending: Option<u32>,
}

impl Story {
    pub(super) fn new(event: Event, duration: Duration) -> Self {
        let due = match event {
            Event::None => Duration::MAX,
            Event::Churn(_) => Duration::ZERO,
            Event::Rollout => Duration::from_secs(2),
            Event::Failover => duration / 3,
        };
        Self {
            event,
            duration,
            step: 0,
            due,
            marks: Vec::new(),
            old: Vec::new(),
            backends: Vec::new(),
            ending: None,
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

    /// A new Pod, then the end of an old one, and so on: as a Deployment with maxUnavailable 0 and maxSurge 1 does.
    fn replace(&mut self, path: &mut Path<'_>, elapsed: Duration) -> Result<(), String> {
        if self.step == 0 {
            self.backends = path.stage.backends();
            self.old = self
                .backends
                .iter()
                .rev()
                .map(|backend| backend.index)
                .collect();
        }
        if let Some(gone) = self.ending.take() {
            path.stage.remove_pod(gone);
        }
        let Some(old) = self.old.last().copied() else {
            self.due = Duration::MAX;
            return Ok(());
        };
        if self.step.is_multiple_of(2) {
            let new = old + self.backends.len().try_into().unwrap_or(u32::MAX / 2);
            let behaviour = Behaviour {
                accept_after: SLOW_START,
                stop_accepting_after: LAST_CALL,
                end_after: GRACE,
            };
            let backend = path.stage.start_pod(new, behaviour)?;
            self.mark(elapsed, format!("Pod {new} starts"));
            self.backends.push(backend);
            path.forward_to(&self.backends)?;
            self.due = elapsed + SLOW_START + SETTLE;
        } else {
            self.old.pop();
            let leaving = self
                .backends
                .iter()
                .position(|backend| backend.index == old);
            let leaving = leaving.map(|at| self.backends.remove(at));
            // Where the load balancer can be asked, it is, before SIGTERM; else both begin together.
            if let Some(leaving) = leaving.filter(|_| path.running.can_drain()) {
                path.running.drain(&leaving)?;
                path.stage.terminate_pod(old);
                path.forward_to(&self.backends)?;
            } else {
                path.stage.terminate_pod(old);
                path.forward_to(&self.backends)?;
            }
            self.mark(elapsed, format!("Pod {old} ends"));
            self.ending = Some(old);
            self.due = elapsed + GRACE;
        }
        Ok(())
    }

    /// The first Pod's link fails, and is mended after two thirds.
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
            self.duration / 3 * 2
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
