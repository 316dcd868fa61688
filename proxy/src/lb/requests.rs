//! What is counted of requests: of a listener's, a set's and a backend's alike.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Upper ends of the latency histogram's buckets, in milliseconds; the last bucket has none.
pub const BUCKETS_MS: [u64; 12] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 5_000, 30_000];

/// Requests that were answered. Workers write, the control side reads.
#[derive(Debug, Default)]
pub struct RequestCounters {
    /// By class of status, 1xx first.
    pub statuses: [AtomicU64; 5],
    /// How long the answers took, by the buckets of the latency histogram.
    pub took: [AtomicU64; BUCKETS_MS.len() + 1],
    /// All of that together, in milliseconds.
    pub took_ms: AtomicU64,
}

impl RequestCounters {
    /// Counts an answer; `took_ms` is absent where no request could be read.
    pub fn count(&self, status: u16, took_ms: Option<u64>) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        self.statuses[class].fetch_add(1, Relaxed);
        if let Some(took_ms) = took_ms {
            let bucket = BUCKETS_MS.partition_point(|end| *end < took_ms);
            self.took[bucket].fetch_add(1, Relaxed);
            self.took_ms.fetch_add(took_ms, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_fall_into_their_class_and_bucket() {
        let counters = RequestCounters::default();
        for (status, took_ms) in [
            (101, Some(0)),
            (200, Some(1)),
            (200, Some(2)),
            (599, Some(40_000)),
            (999, None),
            (0, None),
        ] {
            counters.count(status, took_ms);
        }
        let all = |counts: &[AtomicU64]| counts.iter().map(|n| n.load(Relaxed)).collect::<Vec<_>>();
        assert_eq!(all(&counters.statuses), [2, 2, 0, 0, 2]);
        let took = all(&counters.took);
        assert_eq!((took[0], took[1], took[12]), (2, 1, 1));
        assert_eq!(counters.took_ms.load(Relaxed), 40_003);
    }
}
