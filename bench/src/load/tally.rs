//! What came of requests, counted. Times are nanoseconds since the load's start, and arguments; it must not know of clocks
//! and sockets. Every request that was begun ends as one answer or one failure.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::pace::nanoseconds;
use super::{Failure, Outcome, PIECE, Piece};

/// Latencies up to a minute are told apart; longer ones count as a minute.
const HIGHEST: u64 = 60_000_000_000;
/// Pods with a smaller index are counted without a search.
const NEAR_PODS: usize = 1024;
/// Different Pods, beyond which no further one is told apart: an index comes from the network.
const MAX_PODS: usize = 10_000;

/// Counters of one thread.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    begun: u64,
    answered: u64,
    bytes: u64,
    failures: BTreeMap<Failure, u64>,
    suites: BTreeMap<&'static str, u64>,
    near_pods: Vec<u64>,
    far_pods: BTreeMap<u32, u64>,
    latency: Histogram<u64>,
    pieces: Vec<Piece>,
    last: u64,
}

/// A histogram as all of them are: three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(HIGHEST, 3).expect("the bounds are right")
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            begun: 0,
            answered: 0,
            bytes: 0,
            failures: BTreeMap::new(),
            suites: BTreeMap::new(),
            near_pods: Vec::new(),
            far_pods: BTreeMap::new(),
            latency: histogram(),
            pieces: Vec::new(),
            last: 0,
        }
    }
}

impl Tally {
    /// A request was begun.
    pub(crate) fn begin(&mut self) {
        self.begun += 1;
    }

    /// So many requests that were begun are forgotten: the load was stopped before they were answered.
    pub(crate) fn forget(&mut self, count: u64) {
        self.begun -= count;
    }

    /// TLS shook hands in full, and agreed on this.
    pub(crate) fn agreed(&mut self, suite: &'static str) {
        *self.suites.entry(suite).or_default() += 1;
    }

    /// A request that was due at `due` was answered at `now`.
    pub(crate) fn answered(&mut self, now: u64, due: u64, pod: u32, bytes: u64) {
        let latency = now.saturating_sub(due);
        self.answered += 1;
        self.bytes += bytes;
        self.latency.saturating_record(latency);
        self.count_pod(pod);
        self.last = self.last.max(now);
        let piece = self.piece(now);
        piece.answered += 1;
        piece.slowest = piece.slowest.max(latency);
    }

    /// A request failed.
    pub(crate) fn failed(&mut self, now: u64, failure: Failure) {
        self.failed_many(now, failure, 1);
    }

    /// So many requests that were begun failed.
    pub(crate) fn failed_many(&mut self, now: u64, failure: Failure, count: u64) {
        if count > 0 {
            *self.failures.entry(failure).or_default() += count;
            self.piece(now).failed += count;
        }
    }

    /// So many requests of a schedule were given up before they could be begun.
    pub(crate) fn given_up(&mut self, now: u64, count: u64) {
        self.begun += count;
        self.failed_many(now, Failure::Late, count);
    }

    /// Bytes of a transfer that goes on.
    pub(crate) fn carried(&mut self, now: u64, bytes: u64) {
        self.bytes += bytes;
        self.last = self.last.max(now);
        self.piece(now).answered += bytes;
    }

    /// A transfer went well until it was ended by plan.
    pub(crate) fn transferred(&mut self, pod: Option<u32>) {
        self.answered += 1;
        if let Some(pod) = pod {
            self.count_pod(pod);
        }
    }

    /// So many datagrams of so many bytes were sent, and nobody answers them.
    pub(crate) fn sent(&mut self, now: u64, count: u64, bytes: u64) {
        self.begun += count;
        self.answered += count;
        self.bytes += bytes;
        self.last = self.last.max(now);
        self.piece(now).answered += count;
    }

    /// What came of it all, when the load ended at `now`.
    pub(crate) fn finish(self, now: u64) -> Outcome {
        let near = (0..).zip(self.near_pods).filter(|(_, count)| *count > 0);
        let elapsed = if self.last == 0 { now } else { self.last };
        Outcome {
            begun: self.begun,
            answered: self.answered,
            bytes: self.bytes,
            failures: self.failures,
            suites: self.suites,
            pods: near.chain(self.far_pods).collect(),
            latency: self.latency,
            elapsed: Duration::from_nanos(elapsed),
            pieces: self.pieces,
        }
    }

    fn count_pod(&mut self, pod: u32) {
        let index = usize::try_from(pod).unwrap_or(usize::MAX);
        if index >= NEAR_PODS {
            let is_known = self.far_pods.contains_key(&pod);
            let key = if is_known || self.far_pods.len() < MAX_PODS {
                pod
            } else {
                u32::MAX
            };
            *self.far_pods.entry(key).or_default() += 1;
            return;
        }
        if index >= self.near_pods.len() {
            self.near_pods.resize(index + 1, 0);
        }
        self.near_pods[index] += 1;
    }

    fn piece(&mut self, now: u64) -> &mut Piece {
        let index = usize::try_from(now / nanoseconds(PIECE)).unwrap_or(usize::MAX);
        if index >= self.pieces.len() {
            self.pieces.resize(index + 1, Piece::default());
        }
        &mut self.pieces[index]
    }
}

impl fmt::Debug for Outcome {
    /// Without the thousands of counters of a histogram.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Outcome")
            .field("begun", &self.begun)
            .field("answered", &self.answered)
            .field("bytes", &self.bytes)
            .field("failures", &self.failures)
            .field("suites", &self.suites)
            .field("pods", &self.pods)
            .field("median", &self.latency.value_at_quantile(0.5))
            .field("elapsed", &self.elapsed)
            .field("pieces", &self.pieces.len())
            .finish_non_exhaustive()
    }
}

impl Outcome {
    /// Nothing, over no time.
    pub fn empty() -> Self {
        Tally::default().finish(0)
    }

    /// Adds what another thread saw in the same time.
    pub fn merge(&mut self, other: &Self) {
        self.begun += other.begun;
        self.answered += other.answered;
        self.bytes += other.bytes;
        for (failure, count) in &other.failures {
            *self.failures.entry(*failure).or_default() += count;
        }
        for (suite, count) in &other.suites {
            *self.suites.entry(suite).or_default() += count;
        }
        for (pod, count) in &other.pods {
            *self.pods.entry(*pod).or_default() += count;
        }
        self.latency
            .add(&other.latency)
            .expect("all histograms have the same bounds");
        self.elapsed = self.elapsed.max(other.elapsed);
        let longer = self.pieces.len().max(other.pieces.len());
        self.pieces.resize(longer, Piece::default());
        for (piece, more) in self.pieces.iter_mut().zip(&other.pieces) {
            piece.answered += more.answered;
            piece.failed += more.failed;
            piece.slowest = piece.slowest.max(more.slowest);
        }
    }

    /// How many failed.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// The latency curve: shares of the answers from 0 to 1, denser towards the slowest, and the nanoseconds within which
    /// they came. Empty if nothing was answered.
    pub fn curve(&self) -> Vec<(f64, u64)> {
        if self.latency.is_empty() {
            return Vec::new();
        }
        let point = |share: f64| (share, self.latency.value_at_quantile(share));
        shares().map(point).collect()
    }
}

/// Shares of a curve: ten steps in each of the nines from 0 to 0.9999, then 0.99999 and all.
fn shares() -> impl Iterator<Item = f64> {
    let nines = [1.0, 0.1, 0.01, 0.001];
    let steps = nines
        .into_iter()
        .flat_map(|rest| (0..9).map(move |step| 1.0 - rest * (1.0 - f64::from(step) / 10.0)));
    steps.chain([0.9999, 0.999_95, 0.999_99, 1.0])
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    fn some() -> Tally {
        let mut tally = Tally::default();
        for index in 0..1000 {
            tally.begin();
            tally.answered(index * MILLI + MILLI, index * MILLI, 3, 10);
        }
        tally
    }

    #[test]
    fn answers_and_failures_are_counted_where_they_belong() {
        let mut tally = some();
        for pod in [0, 70_000] {
            tally.begin();
            tally.answered(150 * MILLI, 100 * MILLI, pod, 1);
        }
        tally.begin();
        tally.failed(250 * MILLI, Failure::Reset);
        tally.given_up(250 * MILLI, 2);
        tally.begin();
        tally.forget(1);
        let outcome = tally.finish(2000 * MILLI);
        assert_eq!((outcome.begun, outcome.answered), (1005, 1002));
        assert_eq!(outcome.bytes, 10_002);
        assert_eq!(outcome.failed(), 3);
        assert_eq!(outcome.failures[&Failure::Late], 2);
        assert_eq!(outcome.pods, [(0, 1), (3, 1000), (70_000, 1)].into());
        assert_eq!(outcome.elapsed, Duration::from_secs(1));
        assert_eq!(outcome.pieces.len(), 11);
        let second = outcome.pieces[1];
        assert_eq!((second.answered, second.slowest), (102, 50 * MILLI));
        assert_eq!(outcome.pieces[2].failed, 3);
    }

    #[test]
    fn pods_beyond_count_are_not_told_apart() {
        let mut tally = Tally::default();
        for pod in 0..20_000 {
            tally.answered(0, 0, pod * 1000, 0);
        }
        let outcome = tally.finish(0);
        assert!(outcome.pods.len() < MAX_PODS + 10);
        assert_eq!(outcome.pods.values().sum::<u64>(), 20_000);
    }

    #[test]
    fn threads_add_up() {
        let mut sum = some().finish(0);
        let mut other = Tally::default();
        other.begin();
        other.answered(1500 * MILLI, 0, 4, 5);
        other.begin();
        other.failed(0, Failure::Wrong);
        other.agreed("TLS13");
        sum.merge(&other.finish(0));
        assert_eq!(sum.suites, [("TLS13", 1)].into());
        assert_eq!((sum.begun, sum.answered, sum.bytes), (1002, 1001, 10_005));
        assert_eq!(sum.pods, [(3, 1000), (4, 1)].into());
        assert_eq!(sum.elapsed, Duration::from_millis(1500));
        assert_eq!(sum.latency.len(), 1001);
        assert_eq!((sum.pieces[0].failed, sum.pieces[15].answered), (1, 1));
    }

    #[test]
    fn a_curve_rises_from_nothing_to_all() {
        let mut tally = Tally::default();
        for latency in 1..=100_000_u64 {
            tally.answered(latency * 1000, 0, 0, 0);
        }
        let curve = tally.finish(0).curve();
        assert!((35..=45).contains(&curve.len()), "{}", curve.len());
        assert!(curve.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1));
        assert!(curve[0].0.abs() < 1e-9 && (curve[curve.len() - 1].0 - 1.0).abs() < 1e-9);
        let at = |share: f64| curve.iter().find(|(s, _)| (s - share).abs() < 1e-9);
        for share in [0.5, 0.9, 0.99, 0.999, 0.9999] {
            let (_, latency) = at(share).expect("a point that people ask for");
            let wanted = share * 1e8;
            let error = (*latency as f64 - wanted).abs() / wanted;
            assert!(error < 0.002, "{share}: {latency}");
        }
        assert_eq!(Outcome::empty().curve(), []);
    }

    #[test]
    fn a_latency_over_a_minute_counts_as_a_minute() {
        let mut tally = Tally::default();
        tally.answered(90_000 * MILLI, 0, 0, 0);
        let slowest = tally.finish(0).latency.max();
        assert!((59_000 * MILLI..=60_100 * MILLI).contains(&slowest));
    }
}
