//! Keeps the log readable when the same thing goes wrong again and again: the first of each kind is worth a line, the
//! rest one line a minute. Pure: time is an argument. Must not know what goes wrong.

use std::collections::HashSet;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// How often the rest is summed up.
const EVERY: Duration = Duration::from_mins(1);
/// Kinds that are remembered. Whoever makes up new ones for ever makes us forget, not grow.
const MOST_KINDS: usize = 1024;
/// New kinds that get a line of their own between two summaries.
const MOST_LINES: u32 = 20;

/// Decides which events get a line of their own.
#[derive(Debug)]
pub(crate) struct Quiet<K> {
    told: HashSet<K>,
    /// Lines since the last summary, or since the minute began.
    lines: u32,
    /// Events without a line since then.
    silent: u64,
    /// When the minute began.
    since: Option<Instant>,
}

impl<K> Default for Quiet<K> {
    fn default() -> Self {
        Self {
            told: HashSet::new(),
            lines: 0,
            silent: 0,
            since: None,
        }
    }
}

impl<K: Eq + Hash> Quiet<K> {
    /// Takes in an event of a kind; whether it is to be told by a line of its own.
    pub(crate) fn is_worth_a_line(&mut self, kind: K, now: Instant) -> bool {
        self.since.get_or_insert(now);
        if self.told.len() >= MOST_KINDS && !self.told.contains(&kind) {
            self.told.clear();
        }
        let line = self.lines < MOST_LINES && self.told.insert(kind);
        if line {
            self.lines += 1;
        } else {
            self.silent += 1;
        }
        line
    }

    /// Ends the minute if it is over: how many events got no line in it. Absent while it runs, and when there were none.
    pub(crate) fn summary(&mut self, now: Instant) -> Option<u64> {
        let since = self.since?;
        if now.saturating_duration_since(since) < EVERY {
            return None;
        }
        self.since = None;
        self.lines = 0;
        Some(std::mem::take(&mut self.silent)).filter(|silent| *silent > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_kind_gets_a_line_and_the_rest_one_a_minute() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut quiet = Quiet::default();
        assert!(quiet.is_worth_a_line("a", at(0)));
        assert!(quiet.is_worth_a_line("b", at(1)));
        for second in 2..60 {
            assert!(!quiet.is_worth_a_line("a", at(second)));
            assert_eq!(quiet.summary(at(second)), None);
        }
        assert_eq!(quiet.summary(at(60)), Some(58));
        assert_eq!(quiet.summary(at(600)), None, "nothing happened since");
        assert!(!quiet.is_worth_a_line("b", at(600)), "it was told");
        assert_eq!(quiet.summary(at(659)), None);
        assert_eq!(quiet.summary(at(660)), Some(1));
    }

    #[test]
    fn many_kinds_cost_neither_lines_nor_memory() {
        let now = Instant::now();
        let mut quiet = Quiet::default();
        let lines = (0..100_000u32)
            .filter(|kind| quiet.is_worth_a_line(*kind, now))
            .count();
        assert_eq!(lines, MOST_LINES as usize);
        assert!(quiet.told.len() <= MOST_KINDS);
        assert_eq!(
            quiet.summary(now + EVERY),
            Some(100_000 - u64::from(MOST_LINES))
        );
        // The next minute has lines again.
        assert!(quiet.is_worth_a_line(200_000, now + EVERY));
    }
}
