//! How long it takes until all proxies that serve act on a version. Pure.

use std::collections::VecDeque;

use crate::observed::Observed;

/// Versions that are waited for; beyond that the oldest are given up.
const MAX_WAITING: usize = 1_024;

/// Versions that were wanted and are not everywhere yet, with the time since when.
#[derive(Debug, Default)]
pub(super) struct Lag {
    waiting: VecDeque<(u64, u64)>,
}

impl Lag {
    /// A version is wanted.
    pub(super) fn want(&mut self, version: u64, now_ms: u64) {
        if self.waiting.len() == MAX_WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back((version, now_ms));
    }

    /// The versions that all who serve act on now, and how long that took in milliseconds. None while nobody serves.
    pub(super) fn settled(&mut self, observed: &Observed, now_ms: u64) -> Vec<(u64, u64)> {
        let Some(acked) = observed.serving().map(|(_, proxy)| proxy.acked).min() else {
            return Vec::new();
        };
        let is_there = |(version, _): &(u64, u64)| *version <= acked;
        let there = self.waiting.iter().take_while(|waiting| is_there(waiting));
        let count = there.count();
        self.waiting
            .drain(..count)
            .map(|(version, since_ms)| (version, now_ms.saturating_sub(since_ms)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::observed::ProxyView;

    fn observed(acked: &[u64]) -> Observed {
        let proxy = |(n, acked): (usize, &u64)| {
            let view = ProxyView {
                acked: *acked,
                serving: *acked > 0,
                ..ProxyView::default()
            };
            (n.to_string(), Arc::new(view))
        };
        Observed {
            proxies: acked.iter().enumerate().map(proxy).collect(),
            ..Observed::default()
        }
    }

    #[test]
    fn a_version_has_settled_when_the_last_proxy_that_serves_acts_on_it() {
        let mut lag = Lag::default();
        for version in 1..=3 {
            lag.want(version, version * 100);
        }
        assert_eq!(lag.settled(&observed(&[]), 300), []);
        assert_eq!(lag.settled(&observed(&[0]), 300), []);
        assert_eq!(lag.settled(&observed(&[3, 1, 0]), 350), [(1, 250)]);
        assert_eq!(
            lag.settled(&observed(&[3, 3, 0]), 400),
            [(2, 200), (3, 100)]
        );
        assert_eq!(lag.settled(&observed(&[3, 3]), 500), []);
    }
}
