//! What the clients saw: how much was answered, by whom, how fast, and every failure.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// Failures of a kind that are kept in words.
const MOST_KEPT: usize = 2_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Datagram,
    Stream,
}

/// Something that was not answered as it should have been.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// When a request was begun, or something else failed, since the start of the load.
    pub(crate) at: Duration,
    pub(crate) proxy: SocketAddr,
    /// Who answered, as far as that is known.
    pub(crate) pod: Option<String>,
    pub(crate) what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pod = self.pod.as_deref().unwrap_or("?");
        write!(out, "{} {pod}: {}", self.proxy, self.what)
    }
}

/// Of one kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Requests answered rightly, datagrams answered rightly, streams that came to a clean end.
    pub(crate) done: u64,
    pub(crate) failed: u64,
    /// The first of them.
    pub(crate) failures: Vec<Failure>,
    /// In microseconds from when each was due.
    latencies: Vec<u32>,
}

impl Counts {
    pub(super) fn fail(&mut self, failure: Failure) {
        self.failed += 1;
        if self.failures.len() < MOST_KEPT {
            self.failures.push(failure);
        }
    }

    pub(super) fn succeed(&mut self, latency: Duration) {
        self.done += 1;
        let microseconds = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
        self.latencies.push(microseconds);
    }

    /// p50, p99 and the greatest, from when each was due.
    pub(crate) fn latencies(&self) -> [Duration; 3] {
        let mut all = self.latencies.clone();
        all.sort_unstable();
        let at = |per_cent: usize| {
            let index = all.len().saturating_sub(1) * per_cent / 100;
            let found = all.get(index).copied().unwrap_or_default();
            Duration::from_micros(u64::from(found))
        };
        [at(50), at(99), at(100)]
    }
}

/// All that was seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) requests: Counts,
    pub(crate) datagrams: Counts,
    /// Answers that came after they were given up, or twice.
    pub(crate) late_datagrams: u64,
    pub(crate) streams: Counts,
    /// Streams that have sent something and go on.
    pub(crate) open_streams: u64,
    /// Who answered requests, and how many.
    pub(crate) answered_by: BTreeMap<String, u64>,
}

impl Tally {
    pub(super) fn of(&mut self, kind: Kind) -> &mut Counts {
        match kind {
            Kind::Request => &mut self.requests,
            Kind::Datagram => &mut self.datagrams,
            Kind::Stream => &mut self.streams,
        }
    }

    /// What is cheap to copy while the load runs.
    pub(super) fn without_latencies(&self) -> Self {
        let counts = |counts: &Counts| Counts {
            latencies: Vec::new(),
            failures: counts.failures.clone(),
            ..*counts
        };
        Self {
            requests: counts(&self.requests),
            datagrams: counts(&self.datagrams),
            streams: counts(&self.streams),
            answered_by: self.answered_by.clone(),
            ..*self
        }
    }

    /// Failures of all kinds.
    pub(crate) fn failed(&self) -> u64 {
        self.requests.failed + self.datagrams.failed + self.streams.failed
    }

    /// Each failure that was kept, in the order of time.
    pub(crate) fn failures(&self) -> Vec<(Duration, String)> {
        let kinds = [
            ("request", &self.requests),
            ("datagram", &self.datagrams),
            ("stream", &self.streams),
        ];
        let all = kinds.iter().flat_map(|(kind, counts)| {
            counts
                .failures
                .iter()
                .map(move |failure| (failure.at, format!("{kind} {failure}")))
        });
        let mut all: Vec<_> = all.collect();
        all.sort();
        all
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, max] = self.requests.latencies();
        writeln!(
            out,
            "{} requests by {} Pods, {} failed; p50 {p50:?}, p99 {p99:?}, max {max:?}",
            self.requests.done,
            self.answered_by.len(),
            self.requests.failed,
        )?;
        let [p50, p99, max] = self.datagrams.latencies();
        writeln!(
            out,
            "{} datagrams answered, {} failed, {} late; p50 {p50:?}, p99 {p99:?}, max {max:?}",
            self.datagrams.done, self.datagrams.failed, self.late_datagrams,
        )?;
        write!(
            out,
            "{} streams came to a clean end, {} failed, {} go on",
            self.streams.done, self.streams.failed, self.open_streams,
        )
    }
}
