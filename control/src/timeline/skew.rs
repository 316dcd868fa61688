//! What a proxy's clock says, in our time. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// A better measurement counts for so long; clocks drift.
const FRESH: SignedDuration = SignedDuration::from_secs(60);

/// How far a proxy's clock is from ours, by the answers that it gave.
#[derive(Clone, Copy, Debug, Default)]
pub struct Skew(Option<Measured>);

#[derive(Clone, Copy, Debug)]
struct Measured {
    /// Ours less the proxy's.
    offset: SignedDuration,
    /// The question's way and the answer's together: half of it is the most that `offset` can be wrong by.
    took: Duration,
    at: Timestamp,
}

impl Skew {
    /// An answer that was written at `theirs` came at `ours`, so long after it was asked for. The quickest answer of the
    /// last minute counts.
    pub fn measure(&mut self, theirs: Timestamp, ours: Timestamp, took: Duration) {
        let is_better = self
            .0
            .is_none_or(|known| took <= known.took || ours.duration_since(known.at).abs() > FRESH);
        let half = SignedDuration::try_from(took / 2).unwrap_or_default();
        let written = ours.checked_sub(half);
        if let Ok(written) = written
            && is_better
        {
            self.0 = Some(Measured {
                offset: written.duration_since(theirs),
                took,
                at: ours,
            });
        }
    }

    /// A moment of the proxy's clock in our time; never later than `now`. Absent while nothing was measured.
    pub fn correct(&self, theirs: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let measured = self.0?;
        let ours = theirs.checked_add(measured.offset).ok()?;
        Some(ours.min(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    const NOW: i64 = 1_000_000;

    #[test]
    fn a_clock_that_is_ahead_or_behind_is_corrected() {
        for ahead in [-86_400_000, -3, 0, 7, 3_600_000] {
            let mut skew = Skew::default();
            assert_eq!(skew.correct(at(NOW), at(NOW)), None);
            skew.measure(at(NOW - 5 + ahead), at(NOW), Duration::from_millis(10));
            let corrected = skew.correct(at(NOW - 100 + ahead), at(NOW));
            assert_eq!(corrected, Some(at(NOW - 100)), "{ahead}");
        }
    }

    #[test]
    fn the_quickest_answer_of_a_minute_counts() {
        let mut skew = Skew::default();
        let is = |skew: &Skew, ms| assert_eq!(skew.correct(at(0), at(NOW)), Some(at(ms)));
        skew.measure(at(NOW - 10), at(NOW), Duration::from_millis(2));
        is(&skew, 9);
        skew.measure(at(NOW), at(NOW + 900), Duration::from_secs(1));
        is(&skew, 9);
        skew.measure(at(NOW), at(NOW + 8), Duration::from_millis(2));
        is(&skew, 7);
        skew.measure(
            at(NOW + 70_000),
            at(NOW + 70_020),
            Duration::from_millis(30),
        );
        is(&skew, 5);
    }

    #[test]
    fn nothing_is_later_than_when_it_was_heard_of() {
        let mut skew = Skew::default();
        skew.measure(at(NOW), at(NOW), Duration::ZERO);
        assert_eq!(skew.correct(at(NOW + 50), at(NOW + 1)), Some(at(NOW + 1)));
        skew.measure(Timestamp::MIN, Timestamp::MAX, Duration::MAX);
        assert_eq!(skew.correct(at(NOW), at(NOW)), Some(at(NOW)), "not taken");
    }
}
