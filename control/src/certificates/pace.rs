//! How often one Secret may be written: somebody else may keep changing it back, and then we do not fight. Pure.

use std::time::Duration;

/// No more writes than this...
const MOST: usize = 6;
/// ...in this time.
const SPAN: Duration = Duration::from_mins(1);

/// The latest writes, as durations since the start.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace(Vec<Duration>);

impl Pace {
    /// Whether a write may be made at `now`; if so, it counts.
    pub(super) fn allows(&mut self, now: Duration) -> bool {
        self.0.retain(|at| now.saturating_sub(*at) < SPAN);
        let allowed = self.0.len() < MOST;
        if allowed {
            self.0.push(now);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fight_is_slowed_down() {
        let mut pace = Pace::default();
        let allowed = (0..180)
            .filter(|second| pace.allows(Duration::from_secs(*second)))
            .count();
        assert_eq!(allowed, 18);
        assert!(pace.allows(Duration::from_secs(500)));
    }
}
