//! When requests are due. Times are nanoseconds since the load's start, and arguments; it must not know of clocks and sockets.
//!
//! An open load has a schedule: its n-th request is due at n / rate, whatever became of those before. One that finds no free
//! connection waits in line, and its latency counts from when it was due; one that waited longer than a client would is
//! given up unsent.

use std::time::Duration;

const SECOND: f64 = 1e9;

/// A duration as nanoseconds; the largest value stands for more than 584 years.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Requests at equal distances.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    rate: f64,
    taken: u64,
    total: u64,
}

impl Schedule {
    /// `rate` a second for `duration`, the first at once. A rate that is no positive number has no requests.
    pub(crate) fn new(rate: f64, duration: Duration) -> Self {
        let rate = if rate.is_finite() { rate.max(0.0) } else { 0.0 };
        Self {
            rate,
            taken: 0,
            total: whole((rate * duration.as_secs_f64()).ceil()),
        }
    }

    /// When the next request is due; `None` if there is no further one.
    pub(crate) fn next_at(&self) -> Option<u64> {
        (self.taken < self.total).then(|| self.at(self.taken))
    }

    /// Takes the next request if it is due: when it was.
    pub(crate) fn take(&mut self, now: u64) -> Option<u64> {
        let at = self.next_at().filter(|at| *at <= now)?;
        self.taken += 1;
        Some(at)
    }

    /// Takes those that nobody would still wait for, due more than `patience` ago: how many.
    pub(crate) fn give_up(&mut self, now: u64, patience: u64) -> u64 {
        let before = self.taken;
        while self.next_at().is_some_and(|at| at + patience < now) {
            self.taken += 1;
        }
        self.taken - before
    }

    /// Takes all that are left: how many.
    pub(crate) fn give_up_all(&mut self) -> u64 {
        let left = self.total - self.taken;
        self.taken = self.total;
        left
    }

    fn at(&self, index: u64) -> u64 {
        whole(index as f64 / self.rate * SECOND)
    }
}

/// How many connections, each with one request under way, carry `rate` a second when an answer takes `latency`, with half
/// as many again for what comes unevenly (Little's law).
pub fn connections_needed(rate: f64, latency: Duration) -> u32 {
    let under_way = (rate * latency.as_secs_f64() * 1.5).ceil();
    u32::try_from(whole(under_way)).unwrap_or(u32::MAX).max(1)
}

/// How many threads send `rate` a second: one, and a second above what one is known to send.
pub(crate) fn threads(rate: Option<f64>, slots: u32) -> u32 {
    /// Requests a second that one thread sends with room to spare.
    const ONE_THREAD: f64 = 100_000.0;
    if rate.is_some_and(|rate| rate > ONE_THREAD) && slots > 1 {
        2
    } else {
        1
    }
}

/// The part of `whole` that the `index`-th of `parts` gets; the parts differ by at most one.
pub(crate) fn share(whole: u32, index: u32, parts: u32) -> u32 {
    whole / parts + u32::from(index < whole % parts)
}

fn whole(value: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` clamps to the range, which is what is wanted"
    )]
    let clamped = value as u64;
    clamped
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    fn all(schedule: &mut Schedule, now: u64) -> Vec<u64> {
        std::iter::from_fn(|| schedule.take(now)).collect()
    }

    #[test]
    fn requests_are_due_at_equal_distances() {
        let mut schedule = Schedule::new(1000.0, Duration::from_millis(5));
        assert_eq!(schedule.next_at(), Some(0));
        assert_eq!(all(&mut schedule, 0), [0]);
        assert_eq!(schedule.next_at(), Some(MILLI));
        assert_eq!(all(&mut schedule, MILLI - 1), [0; 0]);
        let behind = all(&mut schedule, 100 * MILLI);
        assert_eq!(behind, [MILLI, 2 * MILLI, 3 * MILLI, 4 * MILLI]);
        assert_eq!(schedule.next_at(), None);
    }

    #[test]
    fn a_schedule_does_not_drift() {
        let mut schedule = Schedule::new(3.0, Duration::from_secs(1000));
        let times = all(&mut schedule, u64::MAX);
        assert_eq!(times.len(), 3000);
        assert_eq!(times[2997], 999_000_000_000);
    }

    #[test]
    fn what_nobody_waits_for_is_given_up() {
        let mut schedule = Schedule::new(1000.0, Duration::from_millis(10));
        assert_eq!(schedule.give_up(3 * MILLI, 3 * MILLI), 0);
        assert_eq!(schedule.give_up(5 * MILLI, 3 * MILLI), 2);
        assert_eq!(schedule.take(5 * MILLI), Some(2 * MILLI));
        assert_eq!(schedule.give_up_all(), 7);
        assert_eq!(schedule.give_up_all() + schedule.give_up(u64::MAX, 0), 0);
    }

    #[test]
    fn no_rate_is_no_request() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let schedule = Schedule::new(rate, Duration::from_secs(1));
            assert_eq!(schedule.next_at(), None, "{rate}");
        }
    }

    #[test]
    fn connections_follow_from_rate_and_latency() {
        assert_eq!(connections_needed(10_000.0, Duration::from_millis(1)), 15);
        assert_eq!(connections_needed(1.0, Duration::from_millis(1)), 1);
        assert_eq!(connections_needed(f64::NAN, Duration::MAX), 1);
    }

    #[test]
    fn shares_add_up() {
        for (whole, parts) in [(64, 2), (65, 2), (1, 1), (3, 2), (0, 2)] {
            let sum: u32 = (0..parts).map(|index| share(whole, index, parts)).sum();
            assert_eq!(sum, whole);
        }
        assert_eq!((threads(Some(2e5), 64), threads(Some(2e5), 1)), (2, 1));
        assert_eq!((threads(Some(1e4), 64), threads(None, 64)), (1, 1));
    }
}
