//! One event for each Pod that came into service: told beside everything else, a few at a time, and given up rather than
//! waited for.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;

use crate::build::note::{Note, Reason};
use crate::events::{Events, Regarding};
use crate::lease::Leadership;
use crate::metrics::Metrics;

/// Events that wait; what comes when it is full is dropped.
const WAITING: usize = 1_024;
/// Written at once: gates and statuses go over the same connection.
const AT_ONCE: usize = 4;
/// How long one may take.
const LIMIT: Duration = Duration::from_secs(10);

/// What waits to be told.
pub(super) type Waiting = (Regarding, String);

/// Where events of Pods are given away. Cheap to clone.
#[derive(Clone)]
pub(super) struct Teller {
    waiting: mpsc::Sender<Waiting>,
    metrics: Metrics,
}

impl Teller {
    /// A teller, and what it waits for to be told.
    pub(super) fn new(metrics: Metrics) -> (Self, mpsc::Receiver<Waiting>) {
        let (waiting, told) = mpsc::channel(WAITING);
        (Self { waiting, metrics }, told)
    }

    /// Has it told that a Pod is in service, or drops and counts it.
    pub(super) fn in_service(&self, pod: Regarding, words: String) {
        if self.waiting.try_send((pod, words)).is_err() {
            self.metrics.pod_event_dropped();
        }
    }
}

/// Tells what waits, for as long as this replica leads. Never ends but with all tellers.
pub(super) async fn run(
    waiting: mpsc::Receiver<Waiting>,
    events: Events,
    leadership: Leadership,
    metrics: Metrics,
) {
    let tell = async |(pod, words): Waiting| {
        if !leadership.is_held(Instant::now()) {
            return;
        }
        let note = Note::new(Reason::InService, words);
        let written = timeout(LIMIT, events.publish(&pod, &note)).await;
        if let Ok(Err(error)) = &written {
            tracing::debug!(%error, pod = &*pod.name, "an event was refused");
        }
        if !matches!(written, Ok(Ok(()))) {
            metrics.pod_event_dropped();
        }
    };
    ReceiverStream::new(waiting)
        .for_each_concurrent(AT_ONCE, tell)
        .await;
}
