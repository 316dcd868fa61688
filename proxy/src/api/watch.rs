//! One Watch call: hello, the whole state, then events until the caller leaves, is too slow, or the proxy stops.
//!
//! Nothing is buffered without bound: the state's ring of events is shared by all watchers, and between it and the
//! wire there are [`QUEUE`] events. A watcher whose queue stays full, or that the ring overtakes, is cut off with a
//! reason, and starts over with the whole state.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use podline_api::v1::{WatchResponse, watch_response};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch as flag};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::overview::Overview;

type Item = Result<Arc<WatchResponse>, Status>;

/// Events between the shared ring and the wire.
const QUEUE: usize = 16;
/// A caller that takes nothing for so long while its queue is full has stopped reading.
const STALL: Duration = Duration::from_secs(10);

/// Starts a call; `slot` is held until it ends.
pub(super) fn start(
    overview: &Arc<Overview>,
    closing: flag::Receiver<bool>,
    slot: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<WatchResponse, Status>> + use<> {
    let (hello, mut state, events) = overview.state.watch();
    if let Some(watch_response::Event::State(state)) = &mut state.event {
        overview.mark(state);
    }
    // Room for the first two, and for the reason at the end.
    let (queue, out) = mpsc::channel(QUEUE + 3);
    let farewell = queue.clone().try_reserve_owned();
    for first in [hello, state] {
        let _ = queue.try_send(Ok(Arc::new(first)));
    }
    let overview = Arc::clone(overview);
    tokio::spawn(async move {
        let Some(end) = forward(events, &queue, closing).await else {
            return;
        };
        if end.code() == tonic::Code::ResourceExhausted {
            overview.counts.count_watcher_cut();
            tracing::warn!("a watcher was cut off: {}", end.message());
        }
        if let Ok(farewell) = farewell {
            farewell.send(Err(end));
        }
        drop(slot);
    });
    ReceiverStream::new(out).map(|item| item.map(Arc::unwrap_or_clone))
}

/// Hands events on until there is a reason to stop; `None` when the caller has left.
async fn forward(
    mut events: broadcast::Receiver<Arc<WatchResponse>>,
    queue: &mpsc::Sender<Item>,
    mut closing: flag::Receiver<bool>,
) -> Option<Status> {
    let stopped = || Some(Status::unavailable("the proxy is shutting down"));
    let slow = |why: String| Some(Status::resource_exhausted(format!("{why}; watch again")));
    loop {
        let event = tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => return stopped(),
            () = queue.closed() => return None,
            event = events.recv() => event,
        };
        let event = match event {
            Ok(event) => event,
            Err(RecvError::Lagged(missed)) => {
                return slow(format!("too slow: {missed} events behind"));
            }
            Err(RecvError::Closed) => return stopped(),
        };
        tokio::select! {
            _ = closing.wait_for(|closing| *closing) => return stopped(),
            sent = tokio::time::timeout(STALL, queue.send(Ok(event))) => match sent {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return None,
                Err(_) => return slow(format!("nothing was read for {} s", STALL.as_secs())),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Arc<WatchResponse> {
        Arc::new(WatchResponse::default())
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_stops_reading_is_cut_off() {
        let (events, ring) = broadcast::channel(64);
        let (queue, mut out) = mpsc::channel(4);
        let (_closing, flag) = flag::channel(false);
        for _ in 0..10 {
            events.send(event()).unwrap();
        }
        let end = forward(ring, &queue, flag).await.unwrap();
        assert_eq!(end.code(), tonic::Code::ResourceExhausted);
        assert_eq!(end.message(), "nothing was read for 10 s; watch again");
        assert_eq!(out.recv_many(&mut Vec::new(), 100).await, 4);
    }

    #[tokio::test]
    async fn a_caller_that_the_ring_overtakes_is_cut_off() {
        let (events, ring) = broadcast::channel(4);
        let (queue, _out) = mpsc::channel(100);
        let (_closing, flag) = flag::channel(false);
        for _ in 0..10 {
            events.send(event()).unwrap();
        }
        let end = forward(ring, &queue, flag).await.unwrap();
        assert_eq!(end.message(), "too slow: 6 events behind; watch again");
    }

    #[tokio::test]
    async fn a_shutdown_and_a_caller_that_left_end_the_call() {
        let (_events, ring) = broadcast::channel(4);
        let (queue, out) = mpsc::channel(4);
        let (closing, flag) = flag::channel(true);
        let end = forward(ring.resubscribe(), &queue, flag).await.unwrap();
        assert_eq!(end.code(), tonic::Code::Unavailable);
        drop(out);
        closing.send_replace(false);
        assert!(forward(ring, &queue, closing.subscribe()).await.is_none());
    }
}
