//! What probe outcomes make of a backend: a state machine without a clock.

use podline_api::HealthCheck;
use std::time::Duration;

/// A backend's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// New, without a verdict.
    Detecting,
    /// Passed enough probes in a row.
    Healthy,
    /// Failed enough probes in a row.
    Unhealthy,
    /// Not checked.
    Disabled,
}

/// What one probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// The backend answered.
    Passed,
    /// It did not, or not in time.
    Failed,
}

/// A change of health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// What it was.
    pub from: Health,
    /// What it is.
    pub to: Health,
}

/// How often a backend without a verdict is probed at least: a verdict that takes as long as the ordinary interval
/// would keep a new backend idle for many seconds. Three probes in a row are over after 330 ms, jitter included, so that
/// a new Pod has traffic within half a second.
const DETECTING_INTERVAL: Duration = Duration::from_millis(150);
/// What the pause of one that has never passed grows by, with every failure in a row, up to the ordinary interval: a Pod
/// that takes a few seconds to accept is in service soon after, and one that never will costs little.
const NEWCOMER_STEP: Duration = Duration::from_millis(150);

/// One backend's health and what counts towards its next change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthState {
    health: Health,
    /// Equal outcomes in a row that speak against `health`.
    streak: u8,
    last: Option<ProbeOutcome>,
    /// The verdict is from an earlier life of the process: the first probe decides.
    provisional: bool,
    /// It was never healthy.
    is_newcomer: bool,
}

impl HealthState {
    /// A backend that was not probed yet; without a check it stays as it is.
    pub fn new(check: Option<&HealthCheck>) -> Self {
        let health = if check.is_some() {
            Health::Detecting
        } else {
            Health::Disabled
        };
        Self {
            health,
            streak: 0,
            last: None,
            provisional: false,
            is_newcomer: check.is_some(),
        }
    }

    /// A backend whose verdict was known before the process was restarted; the first probe decides.
    pub fn restored(check: Option<&HealthCheck>, was_healthy: bool) -> Self {
        let mut state = Self::new(check);
        if check.is_some() {
            state.provisional = true;
            state.is_newcomer = false;
            state.health = if was_healthy {
                Health::Healthy
            } else {
                Health::Unhealthy
            };
        }
        state
    }

    /// Its health now.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Nothing that probes know speaks against it.
    pub fn in_service(&self) -> bool {
        matches!(self.health, Health::Healthy | Health::Disabled)
    }

    /// Takes in a probe's outcome. `first_in_set`: no backend of the set was ever healthy, so one passed probe admits.
    pub fn on_probe(
        &mut self,
        check: &HealthCheck,
        outcome: ProbeOutcome,
        first_in_set: bool,
    ) -> Option<Transition> {
        self.streak = if self.last == Some(outcome) {
            self.streak.saturating_add(1)
        } else {
            1
        };
        self.last = Some(outcome);
        let provisional = std::mem::take(&mut self.provisional);
        let (to, needed) = match outcome {
            ProbeOutcome::Passed if first_in_set && self.health == Health::Detecting => {
                (Health::Healthy, 1)
            }
            ProbeOutcome::Passed if provisional => (Health::Healthy, 1),
            ProbeOutcome::Failed if provisional => (Health::Unhealthy, 1),
            ProbeOutcome::Passed => (Health::Healthy, check.healthy_threshold),
            ProbeOutcome::Failed => (Health::Unhealthy, check.unhealthy_threshold),
        };
        if self.health == Health::Disabled || self.health == to || self.streak < needed {
            return None;
        }
        self.is_newcomer &= to != Health::Healthy;
        let from = std::mem::replace(&mut self.health, to);
        Some(Transition { from, to })
    }

    /// Adopts a change of the check. Switched off, there is no verdict; otherwise it stands, and one that was not
    /// checked so far stays in service until probes speak against it: a setting takes nobody out.
    pub fn on_check_changed(&mut self, check: Option<&HealthCheck>) -> Option<Transition> {
        let to = match (check, self.health) {
            (None, _) => Health::Disabled,
            (Some(_), Health::Disabled) => Health::Healthy,
            (Some(_), verdict) => verdict,
        };
        let from = self.health;
        if from == to {
            return None;
        }
        *self = Self {
            health: to,
            streak: 0,
            last: None,
            provisional: false,
            is_newcomer: false,
        };
        Some(Transition { from, to })
    }

    /// What holds after every step: without a check there is no verdict and no count, and a verdict that is due was given.
    #[cfg(test)]
    fn check_invariants(self, check: Option<&HealthCheck>) {
        assert_eq!(check.is_none(), self.health == Health::Disabled);
        assert_eq!(self.streak == 0, self.last.is_none());
        let Some(check) = check else {
            assert_eq!(self.last, None);
            return;
        };
        match self.last {
            Some(ProbeOutcome::Passed) if self.streak >= check.healthy_threshold => {
                assert_eq!(self.health, Health::Healthy);
            }
            Some(ProbeOutcome::Failed) if self.streak >= check.unhealthy_threshold => {
                assert_eq!(self.health, Health::Unhealthy);
            }
            _ => {}
        }
    }

    /// How long to wait before the next probe, spread by `seed` over a tenth either way.
    pub fn next_probe_in(&self, check: &HealthCheck, seed: u64) -> Duration {
        let interval = match (self.health, self.last) {
            (Health::Detecting, _) => check.interval.min(DETECTING_INTERVAL),
            (Health::Unhealthy, Some(ProbeOutcome::Passed)) if self.is_newcomer => {
                check.interval.min(DETECTING_INTERVAL)
            }
            (Health::Unhealthy, _) if self.is_newcomer && self.streak < u8::MAX => {
                check.interval.min(NEWCOMER_STEP * u32::from(self.streak))
            }
            _ => check.interval,
        };
        let share = u32::try_from(seed % 200).unwrap_or(100);
        interval * (900 + share) / 1_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Health::{Detecting, Healthy, Unhealthy};
    use ProbeOutcome::{Failed, Passed};
    use podline_api::CheckKind;

    const CHECK: HealthCheck = HealthCheck {
        kind: CheckKind::Tcp,
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
        healthy_threshold: 3,
        unhealthy_threshold: 2,
        port: None,
        source_address: None,
    };

    fn run(outcomes: &[(ProbeOutcome, bool)]) -> Vec<Health> {
        let mut state = HealthState::new(Some(&CHECK));
        outcomes
            .iter()
            .map(|(outcome, first)| {
                let before = state.health();
                let change = state.on_probe(&CHECK, *outcome, *first);
                assert_eq!(change.is_some(), before != state.health());
                state.health()
            })
            .collect()
    }

    #[test]
    fn thresholds_count_outcomes_in_a_row() {
        let p = (Passed, false);
        let f = (Failed, false);
        assert_eq!(run(&[p, p, p]), [Detecting, Detecting, Healthy]);
        assert_eq!(
            run(&[p, p, f, p, p, p]),
            [
                Detecting, Detecting, Detecting, Detecting, Detecting, Healthy
            ]
        );
        assert_eq!(
            run(&[f, f, p, p, p]),
            [Detecting, Unhealthy, Unhealthy, Unhealthy, Healthy]
        );
        assert_eq!(
            run(&[p, p, p, f, p, f, f]),
            [
                Detecting, Detecting, Healthy, Healthy, Healthy, Healthy, Unhealthy
            ]
        );
    }

    #[test]
    fn the_first_backend_of_a_set_is_admitted_by_one_probe() {
        assert_eq!(run(&[(Failed, true), (Passed, true)]), [Detecting, Healthy]);
        assert_eq!(
            run(&[(Failed, true), (Failed, true), (Passed, true)]),
            [Detecting, Unhealthy, Unhealthy]
        );
    }

    #[test]
    fn without_a_check_nothing_changes() {
        let mut state = HealthState::new(None);
        assert_eq!(state.on_probe(&CHECK, Failed, false), None);
        assert_eq!(state.on_probe(&CHECK, Failed, false), None);
        assert_eq!(state.health(), Health::Disabled);
    }

    #[test]
    fn a_changed_check_keeps_the_verdict_and_a_new_one_takes_nobody_out() {
        let mut state = HealthState::new(None);
        assert_eq!(
            state.on_check_changed(Some(&CHECK)).map(|t| t.to),
            Some(Healthy)
        );
        assert_eq!(state.on_probe(&CHECK, Failed, false), None);
        assert_eq!(
            state.on_check_changed(Some(&HealthCheck {
                healthy_threshold: 9,
                ..CHECK
            })),
            None
        );
        assert_eq!(
            state.on_check_changed(None).map(|t| t.to),
            Some(Health::Disabled)
        );
    }

    #[test]
    fn after_a_restart_the_first_probe_decides() {
        let check = |was_healthy, outcome| {
            let mut state = HealthState::restored(Some(&CHECK), was_healthy);
            state.on_probe(&CHECK, outcome, false);
            state.health()
        };
        assert_eq!(check(true, Failed), Unhealthy);
        assert_eq!(check(true, Passed), Healthy);
        assert_eq!(check(false, Passed), Healthy);
        assert_eq!(check(false, Failed), Unhealthy);
        let mut state = HealthState::restored(Some(&CHECK), true);
        state.on_probe(&CHECK, Passed, false);
        assert_eq!(
            state.on_probe(&CHECK, Failed, false),
            None,
            "only the first"
        );
        assert_eq!(
            HealthState::restored(None, false).health(),
            Health::Disabled
        );
    }

    #[test]
    fn a_new_backend_is_probed_often() {
        let mut state = HealthState::new(Some(&CHECK));
        assert!(state.next_probe_in(&CHECK, 199) < Duration::from_millis(166));
        state.on_probe(&CHECK, Passed, true);
        let spread: Vec<_> = (0..200)
            .map(|seed| state.next_probe_in(&CHECK, seed))
            .collect();
        assert!(
            spread
                .iter()
                .all(|d| (4_500..5_500).contains(&d.as_millis()))
        );
    }

    /// One that accepts 3 s after it was bound is in service half a second later, and one that never does is probed ever
    /// less often.
    #[test]
    fn a_backend_that_was_never_healthy_is_not_waited_for_longer_than_it_takes() {
        let mut state = HealthState::new(Some(&CHECK));
        let mut at = Duration::ZERO;
        while state.health() != Healthy {
            at += state.next_probe_in(&CHECK, 199);
            let outcome = if at < Duration::from_secs(3) {
                Failed
            } else {
                Passed
            };
            state.on_probe(&CHECK, outcome, false);
        }
        assert!(at < Duration::from_millis(4_500), "{at:?}");
        // From then on it is as any other.
        state.on_probe(&CHECK, Failed, false);
        state.on_probe(&CHECK, Failed, false);
        assert_eq!(state.health(), Unhealthy);
        assert!(state.next_probe_in(&CHECK, 100) >= CHECK.interval);

        let mut state = HealthState::new(Some(&CHECK));
        let mut pauses = vec![];
        for _ in 0..300 {
            state.on_probe(&CHECK, Failed, false);
            pauses.push(state.next_probe_in(&CHECK, 100));
        }
        assert!(pauses.is_sorted(), "{pauses:?}");
        assert!(pauses[40..].iter().all(|pause| *pause == CHECK.interval));
    }

    /// Random outcomes against the whole history of outcomes, which the machine does not keep.
    #[test]
    fn random_outcomes_agree_with_their_history() {
        let mut random = crate::lb::pick::SplitMix(3);
        for _ in 0..200 {
            let mut threshold = || u8::try_from(1 + random.next() % 10).unwrap();
            let check = HealthCheck {
                healthy_threshold: threshold(),
                unhealthy_threshold: threshold(),
                ..CHECK
            };
            let mut state = HealthState::new(Some(&check));
            let mut history = Vec::new();
            let mut expected = Detecting;
            for _ in 0..200 {
                let outcome = if random.next().is_multiple_of(7) {
                    history.last().map_or(Passed, |last| match last {
                        Passed => Failed,
                        Failed => Passed,
                    })
                } else {
                    history.last().copied().unwrap_or(Failed)
                };
                history.push(outcome);
                let first_in_set = random.next().is_multiple_of(5);
                let in_a_row = history.iter().rev().take_while(|o| **o == outcome).count();
                let (verdict, needed) = match outcome {
                    Passed if first_in_set && expected == Detecting => (Healthy, 1),
                    Passed => (Healthy, check.healthy_threshold),
                    Failed => (Unhealthy, check.unhealthy_threshold),
                };
                let from = expected;
                if in_a_row >= needed.into() {
                    expected = verdict;
                }
                let change = (from != expected).then_some(Transition { from, to: expected });
                assert_eq!(state.on_probe(&check, outcome, first_in_set), change);
                assert_eq!(state.health(), expected);
                state.check_invariants(Some(&check));
            }
        }
    }
}
