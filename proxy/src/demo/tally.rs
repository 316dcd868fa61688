//! Who answered, and when. Pure: the time is an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What the clients saw.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Since the last [`Tally::take_window`].
    window: Window,
    /// Since the start.
    pub(super) total: Window,
    /// Connections to the TCP listener that are kept.
    pub(super) kept: Kept,
    /// The same of the HTTP listener.
    pub(super) kept_http: Kept,
    /// Latest first and last answers by Pod, on new connections.
    seen: BTreeMap<String, Seen>,
    /// Time from connecting to the end of the answer, on new connections.
    latencies: Vec<Duration>,
}

/// What kept-alive connections saw since the start.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Answers by Pod.
    pub(super) answers: BTreeMap<String, u64>,
    /// Times that a connection ended between two requests; the client asked again on a new one.
    pub(super) reconnected: u64,
}

/// Counts over some time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Window {
    /// Answers on new connections, by Pod.
    pub(super) answers: BTreeMap<String, u64>,
    /// Answers on kept-alive connections.
    pub(super) kept_alive: u64,
    /// Requests without an answer.
    pub(super) failed: u64,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    /// When the connection was begun whose answer came last.
    last_begun: Instant,
    /// Answers, in order of their end, since the last [`Tally::forget`].
    first_ended: Option<Instant>,
}

/// Enough for some minutes; further ones are not kept.
const MAX_LATENCIES: usize = 100_000;

impl Tally {
    /// A Pod answered on a connection of its own.
    pub(super) fn answered(&mut self, pod: &str, begun: Instant, ended: Instant) {
        for window in [&mut self.window, &mut self.total] {
            *window.answers.entry(pod.to_owned()).or_default() += 1;
        }
        let seen = self.seen.entry(pod.to_owned()).or_insert(Seen {
            last_begun: begun,
            first_ended: None,
        });
        seen.last_begun = seen.last_begun.max(begun);
        seen.first_ended.get_or_insert(ended);
        if self.latencies.len() < MAX_LATENCIES {
            self.latencies.push(ended - begun);
        }
    }

    /// A Pod answered on a connection that is kept.
    pub(super) fn answered_again(&mut self, pod: &str, is_http: bool) {
        self.window.kept_alive += 1;
        self.total.kept_alive += 1;
        let kept = self.kept_of(is_http);
        *kept.answers.entry(pod.to_owned()).or_default() += 1;
    }

    /// What the kept connections of one listener saw.
    pub(super) fn kept_of(&mut self, is_http: bool) -> &mut Kept {
        if is_http {
            &mut self.kept_http
        } else {
            &mut self.kept
        }
    }

    /// A request got no answer.
    pub(super) fn failed(&mut self) {
        self.window.failed += 1;
        self.total.failed += 1;
    }

    /// What came since the last call.
    pub(super) fn take_window(&mut self) -> Window {
        std::mem::take(&mut self.window)
    }

    /// From now on the next answer of this Pod is its first.
    pub(super) fn forget(&mut self, pod: &str) {
        self.seen.remove(pod);
    }

    /// When the first answer of this Pod ended.
    pub(super) fn first_answer(&self, pod: &str) -> Option<Instant> {
        self.seen.get(pod)?.first_ended
    }

    /// When the last connection was begun that this Pod answered.
    pub(super) fn last_begun(&self, pod: &str) -> Option<Instant> {
        Some(self.seen.get(pod)?.last_begun)
    }

    /// The latency below which a share of the requests stayed; `share` is 0 to 1.
    pub(super) fn latency(&self, share: f64) -> Duration {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to the length"
        )]
        let index = (share * sorted.len() as f64) as usize;
        sorted
            .get(index.min(sorted.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    }
}

impl Window {
    /// Answers on new connections.
    pub(super) fn sum(&self) -> u64 {
        self.answers.values().sum()
    }

    /// A Pod's share of them, in percent.
    pub(super) fn percent(&self, pod: &str) -> Option<f64> {
        let answers = *self.answers.get(pod)?;
        Some(100.0 * answers as f64 / self.sum() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_pod_and_window() {
        let (mut tally, start) = (Tally::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        for (pod, begun) in [("a", 0), ("a", 10), ("b", 20), ("a", 30)] {
            tally.answered(pod, at(begun), at(begun + 5));
        }
        tally.failed();
        tally.answered_again("a", true);
        assert_eq!(tally.kept_http.answers["a"], 1);
        assert!(tally.kept.answers.is_empty());
        let window = tally.take_window();
        assert_eq!((window.sum(), window.failed, window.kept_alive), (4, 1, 1));
        assert_eq!(window.percent("a"), Some(75.0));
        assert_eq!(window.percent("c"), None);
        assert_eq!(tally.take_window(), Window::default());
        assert_eq!(tally.total, window);
        assert_eq!(tally.first_answer("a"), Some(at(5)));
        assert_eq!(tally.last_begun("a"), Some(at(30)));
        tally.forget("a");
        assert_eq!(tally.first_answer("a"), None);
        tally.answered("a", at(40), at(42));
        assert_eq!(tally.first_answer("a"), Some(at(42)));
    }

    #[test]
    fn latencies_are_told_by_share() {
        let (mut tally, start) = (Tally::default(), Instant::now());
        assert_eq!(tally.latency(0.5), Duration::ZERO);
        for ms in 1..=100 {
            tally.answered("a", start, start + Duration::from_millis(ms));
        }
        assert_eq!(tally.latency(0.5), Duration::from_millis(51));
        assert_eq!(tally.latency(1.0), Duration::from_millis(100));
    }
}
