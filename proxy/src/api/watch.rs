//! One Watch call: hello, the whole state, then events until the caller leaves, is too slow, or the proxy stops.
//!
//! Nothing is buffered without bound: events are shared by all watchers, and a caller may be [`MAX_BEHIND_BYTES`]
//! behind. One that is further behind, that takes nothing for [`STALL`], or that the state's own ring overtakes, is
//! cut off with a reason; it starts over with the whole state.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use podline_api::v1::WatchResponse;
use prost::Message;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch as flag};
use tokio::time::{Instant, error::Elapsed};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::overview::Overview;

type Item = Result<Arc<WatchResponse>, Status>;

/// Events on their way to the wire, besides those that wait.
const QUEUE: usize = 16;
/// What may wait for one caller: a hundred thousand small events.
const MAX_BEHIND_BYTES: usize = 4 << 20;
/// A caller that takes nothing for so long while events wait has stopped reading.
const STALL: Duration = Duration::from_secs(10);

/// Starts a call; `slot` is held until it ends.
pub(super) fn start(
    overview: &Overview,
    closing: flag::Receiver<bool>,
    slot: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<WatchResponse, Status>> + use<> {
    let (hello, state, events) = overview.state.watch();
    // Room for the first two, and for the reason at the end.
    let (queue, out) = mpsc::channel(QUEUE + 3);
    let farewell = queue.clone().try_reserve_owned();
    for first in [hello, state] {
        let _ = queue.try_send(Ok(Arc::new(first)));
    }
    let overview = overview.clone();
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
    let mut waiting = Waiting::default();
    loop {
        let event = tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => return Some(stopped()),
            event = events.recv() => event,
            () = queue.closed() => return None,
            sent = waiting.send_one(queue) => match sent {
                Ok(()) => continue,
                Err(_) => return Some(slow(&format!("nothing was read for {} s", STALL.as_secs()))),
            },
        };
        match event {
            Ok(event) => waiting.push(event),
            Err(RecvError::Lagged(missed)) => {
                return Some(slow(&format!("{missed} events behind")));
            }
            Err(RecvError::Closed) => return Some(stopped()),
        }
        if waiting.bytes > MAX_BEHIND_BYTES {
            return Some(slow(&format!("{} bytes behind", waiting.bytes)));
        }
    }
}

fn stopped() -> Status {
    Status::unavailable("the proxy is shutting down")
}

fn slow(how: &str) -> Status {
    Status::resource_exhausted(format!("this watcher is too slow: {how}; watch again"))
}

/// Events that wait for one caller.
#[derive(Default)]
struct Waiting {
    events: VecDeque<Arc<WatchResponse>>,
    bytes: usize,
    /// Since when the first of them cannot be sent.
    since: Option<Instant>,
}

impl Waiting {
    fn push(&mut self, event: Arc<WatchResponse>) {
        self.bytes += event.encoded_len();
        self.events.push_back(event);
    }

    /// Sends the first event, or fails when there was no room for it for [`STALL`]; without events, never ends.
    ///
    /// # Cancel safety
    /// An event is taken only once there is room for it, and the time goes on.
    async fn send_one(&mut self, queue: &mpsc::Sender<Item>) -> Result<(), Elapsed> {
        if self.events.is_empty() {
            return std::future::pending().await;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        let room = tokio::time::timeout_at(since + STALL, queue.reserve()).await?;
        self.since = None;
        if let (Ok(room), Some(event)) = (room, self.events.pop_front()) {
            self.bytes -= event.encoded_len();
            room.send(Ok(event));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use podline_api::v1;

    fn event() -> Arc<WatchResponse> {
        Arc::new(WatchResponse::default())
    }

    fn fat_event(bytes: usize) -> Arc<WatchResponse> {
        let applied = v1::Applied {
            owner: "x".repeat(bytes),
            ..Default::default()
        };
        Arc::new(WatchResponse {
            time: None,
            event: Some(v1::watch_response::Event::Applied(applied)),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_stops_reading_is_cut_off() {
        let (events, ring) = broadcast::channel(64);
        let (queue, mut out) = mpsc::channel(4);
        let (_closing, flag) = flag::channel(false);
        for _ in 0..10 {
            events.send(event()).unwrap();
        }
        let trickle = async {
            for _ in 0..8 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                events.send(event()).unwrap();
            }
            std::future::pending::<()>().await;
        };
        let start = Instant::now();
        let end = tokio::select! {
            end = forward(ring, &queue, flag) => end.unwrap(),
            () = trickle => unreachable!(),
        };
        assert_eq!(end.code(), tonic::Code::ResourceExhausted);
        assert!(end.message().contains("nothing was read for 10 s"), "{end}");
        assert_eq!(start.elapsed().as_secs(), 10);
        assert_eq!(out.recv_many(&mut Vec::new(), 100).await, 4);
    }

    #[tokio::test]
    async fn a_caller_that_is_too_many_bytes_behind_is_cut_off() {
        let (events, ring) = broadcast::channel(64);
        let (queue, _out) = mpsc::channel(4);
        let (_closing, flag) = flag::channel(false);
        for _ in 0..10 {
            events.send(fat_event(1 << 20)).unwrap();
        }
        let end = forward(ring, &queue, flag).await.unwrap();
        assert!(end.message().contains("bytes behind"), "{end}");
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
        assert!(end.message().contains("6 events behind"), "{end}");
    }

    #[tokio::test]
    async fn a_caller_that_reads_gets_everything_in_order() {
        let (events, ring) = broadcast::channel(1_024);
        let (queue, mut out) = mpsc::channel::<Item>(4);
        let (_closing, flag) = flag::channel(false);
        let sent: Vec<_> = (0..1_000).map(fat_event).collect();
        for event in &sent {
            events.send(Arc::clone(event)).unwrap();
        }
        let read = async {
            for expected in &sent {
                assert_eq!(&out.recv().await.unwrap().unwrap(), expected);
            }
        };
        tokio::select! {
            end = forward(ring, &queue, flag) => panic!("{end:?}"),
            () = read => {}
        }
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
