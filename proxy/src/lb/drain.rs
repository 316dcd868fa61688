//! When a removed backend, or a removed listener, is done with: no new work, wait, force. Pure; time is an argument.

/// How far a drain has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Published, not yet acknowledged by every worker.
    Closing,
    /// No new work can reach it.
    Closed,
    /// What was left is being cut.
    Forcing,
    /// Nothing is left.
    Empty,
}

/// What to do about a drain now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainAction {
    /// Nothing yet.
    Wait,
    /// Cut the connections that are left.
    Force,
    /// It is over: say so and forget it.
    Done,
}

/// One drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainState {
    stage: Stage,
    deadline_ms: u64,
}

impl DrainState {
    /// A drain that starts at `now_ms` and may take `timeout_ms`.
    pub fn new(now_ms: u64, timeout_ms: u64) -> Self {
        Self {
            stage: Stage::Closing,
            deadline_ms: now_ms.saturating_add(timeout_ms),
        }
    }

    /// Every worker has acknowledged: no new work can be sent. True the first time.
    pub fn on_closed(&mut self) -> bool {
        let first = self.stage == Stage::Closing;
        if first {
            self.stage = Stage::Closed;
        }
        first
    }

    /// What to do at `now_ms` with `active` connections left.
    pub fn on_tick(&mut self, now_ms: u64, active: u64) -> DrainAction {
        match self.stage {
            Stage::Closed | Stage::Forcing if active == 0 => {
                self.stage = Stage::Empty;
                DrainAction::Done
            }
            Stage::Closed if now_ms >= self.deadline_ms => {
                self.stage = Stage::Forcing;
                DrainAction::Force
            }
            _ => DrainAction::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_over_before_every_worker_has_acknowledged() {
        let mut drain = DrainState::new(0, 100);
        assert_eq!(drain.on_tick(1_000, 0), DrainAction::Wait);
        assert!(drain.on_closed());
        assert!(!drain.on_closed());
        assert_eq!(drain.on_tick(1_000, 0), DrainAction::Done);
        assert_eq!(drain.on_tick(1_001, 0), DrainAction::Wait);
    }

    #[test]
    fn connections_live_to_the_deadline_and_are_cut_once() {
        let mut drain = DrainState::new(0, 100);
        drain.on_closed();
        assert_eq!(drain.on_tick(99, 3), DrainAction::Wait);
        assert_eq!(drain.on_tick(100, 3), DrainAction::Force);
        assert_eq!(drain.on_tick(101, 1), DrainAction::Wait);
        assert_eq!(drain.on_tick(102, 0), DrainAction::Done);
    }

    /// Random times, loads and acknowledgements: closed before anything else, cut at most once and never before the
    /// deadline, over once and only when nothing is left.
    #[test]
    fn random_drains_stop_then_wait_then_force() {
        let mut random = crate::lb::pick::SplitMix(5);
        for _ in 0..500 {
            let timeout = random.next() % 100;
            let mut drain = DrainState::new(1_000, timeout);
            let (mut now_ms, mut is_closed, mut cuts, mut ends) = (1_000, false, 0, 0);
            for _ in 0..60 {
                now_ms += random.next() % 8;
                if random.next().is_multiple_of(10) {
                    assert_eq!(drain.on_closed(), !is_closed && ends == 0);
                    is_closed = true;
                }
                let active = random.next() % 4;
                match drain.on_tick(now_ms, active) {
                    DrainAction::Wait => {
                        let is_due = active == 0 || cuts == 0 && now_ms >= 1_000 + timeout;
                        assert!(!(is_closed && is_due) || ends == 1);
                    }
                    DrainAction::Force => {
                        assert!(is_closed && active > 0 && now_ms >= 1_000 + timeout);
                        cuts += 1;
                    }
                    DrainAction::Done => {
                        assert!(is_closed && active == 0);
                        ends += 1;
                    }
                }
                assert!(cuts <= 1 && ends <= 1);
            }
        }
    }
}
