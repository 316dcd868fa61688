//! Where requests come from: a schedule, whoever is free, or one for each connection. Times are nanoseconds since the load's
//! start, and arguments; it must not know of clocks and sockets.

use std::collections::VecDeque;
use std::time::Duration;

use super::Pace;
use super::pace::{Schedule, nanoseconds};

/// Says when a request is due.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// By a schedule.
    Open(Schedule),
    /// Whenever one can be sent, before this time.
    Closed(u64),
    /// One for each of these slots.
    Each(VecDeque<usize>),
    /// None, until this time.
    Quiet(u64),
    /// None.
    Nothing,
}

impl Source {
    /// The requests of a plan, or of the part of it that this thread has.
    pub(crate) fn new(pace: Pace, duration: Duration, parts: u32) -> Self {
        match pace {
            Pace::Open(rate) => Self::Open(Schedule::new(rate / f64::from(parts), duration)),
            Pace::Closed => Self::Closed(nanoseconds(duration)),
        }
    }

    /// Takes a request if one is due: when it was.
    pub(crate) fn take(&mut self, now: u64) -> Option<u64> {
        match self {
            Self::Open(schedule) => schedule.take(now),
            Self::Closed(end) => (now < *end).then_some(now),
            Self::Each(_) | Self::Quiet(_) | Self::Nothing => None,
        }
    }

    /// When the next request is due, or something else ends.
    pub(crate) fn next_at(&self) -> Option<u64> {
        match self {
            Self::Open(schedule) => schedule.next_at(),
            Self::Quiet(end) => Some(*end),
            Self::Closed(_) | Self::Each(_) | Self::Nothing => None,
        }
    }

    /// Whether no request will come any more.
    pub(crate) fn is_over(&self, now: u64) -> bool {
        match self {
            Self::Open(schedule) => schedule.next_at().is_none(),
            Self::Closed(end) | Self::Quiet(end) => now >= *end,
            Self::Each(left) => left.is_empty(),
            Self::Nothing => true,
        }
    }

    /// Takes the requests that nobody would still wait for: how many.
    pub(crate) fn give_up(&mut self, now: u64, patience: u64) -> u64 {
        match self {
            Self::Open(schedule) => schedule.give_up(now, patience),
            _ => 0,
        }
    }

    /// Takes all that are left: how many.
    pub(crate) fn give_up_all(&mut self) -> u64 {
        match self {
            Self::Open(schedule) => schedule.give_up_all(),
            Self::Each(left) => std::mem::take(left).len() as u64,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_source_has_requests_until_its_end() {
        let mut source = Source::new(Pace::Closed, Duration::from_nanos(10), 1);
        assert_eq!((source.take(9), source.take(10)), (Some(9), None));
        assert!(!source.is_over(9) && source.is_over(10));
    }

    #[test]
    fn an_open_source_is_split_among_threads() {
        let mut source = Source::new(Pace::Open(2000.0), Duration::from_secs(1), 2);
        assert_eq!(source.give_up_all(), 1000);
        assert!(source.is_over(0));
    }

    #[test]
    fn each_is_asked_once() {
        let mut source = Source::Each([1, 2].into());
        assert_eq!(source.take(5), None);
        assert!(!source.is_over(5));
        assert_eq!(source.give_up_all(), 2);
        assert!(source.is_over(5));
    }

    #[test]
    fn quiet_ends_by_itself() {
        let source = Source::Quiet(7);
        assert_eq!(source.next_at(), Some(7));
        assert!(!source.is_over(6) && source.is_over(7));
    }
}
