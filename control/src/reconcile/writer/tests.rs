//! The queue of writes: nothing twice, the newest wins, failures wait.

use super::*;
use crate::build::note::Reason;
use crate::cluster::testing::key;
use crate::reconcile::difference::Metadata;

fn job(version: &str, is_held: bool, notes: &[Note]) -> Job {
    Job {
        key: key("default/web"),
        uid: "uid".into(),
        resource_version: version.to_owned(),
        writes: Writes {
            metadata: Some(Metadata {
                is_held,
                annotations: [].into(),
            }),
            news: notes.to_vec(),
            ..Writes::default()
        },
        notes: notes.to_vec(),
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_done_or_is_under_way_is_not_done_again() {
    let queue = Queue::default();
    queue.put(job("1", true, &[]));
    let (running, retry) = queue.next().unwrap();
    queue.put(job("1", true, &[]));
    assert_eq!(queue.depth(), 1, "it is under way");
    queue.finish(running, retry, Outcome::Done);
    // The object was not seen again yet, and says what it said.
    queue.put(job("1", true, &[]));
    assert_eq!(queue.depth(), 0);
    // It was, and somebody undid it.
    queue.put(job("2", true, &[]));
    assert_eq!(queue.depth(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_newest_wins_and_never_runs_beside_an_older_one() {
    let queue = Queue::default();
    queue.put(job("1", true, &[]));
    let (running, retry) = queue.next().unwrap();
    queue.put(job("2", false, &[]));
    assert!(queue.next().is_err(), "the older one runs");
    queue.finish(running, retry, Outcome::Again);
    let (next, _) = queue.next().unwrap();
    assert_eq!(
        next.resource_version, "2",
        "the older one is not tried again"
    );
    // What needs no write any more is taken back.
    queue.put(job("3", true, &[]));
    let nothing = Job {
        writes: Writes::default(),
        ..job("4", true, &[])
    };
    queue.put(nothing);
    assert_eq!(queue.depth(), 1, "only the one that runs");
}

#[tokio::test(start_paused = true)]
async fn failures_wait_longer_each_time_also_if_they_are_decided_anew() {
    let queue = Queue::default();
    queue.put(job("1", true, &[]));
    let mut waited = Duration::ZERO;
    for _ in 0..10 {
        let (running, retry) = queue.next().unwrap();
        assert!(retry >= waited && retry <= LAST_RETRY);
        waited = retry;
        queue.finish(running, retry, Outcome::Again);
        queue.put(job("1", true, &[]));
        let at = queue.next().unwrap_err().expect("it waits");
        tokio::time::sleep_until(at).await;
    }
    assert_eq!(waited, LAST_RETRY);
}

#[tokio::test(start_paused = true)]
async fn a_fact_is_told_once_for_as_long_as_it_holds() {
    let queue = Queue::default();
    let note = Note::new(Reason::PortConflict, "port 80/TCP belongs to another");
    for (version, notes, told) in [
        ("1", vec![note.clone()], 1),
        ("2", vec![note.clone()], 0),
        ("3", Vec::new(), 0),
        ("4", vec![note.clone()], 1), // it holds again
    ] {
        queue.put(job(version, true, &notes));
        tokio::time::sleep(SETTLED_AFTER).await;
        let (running, retry) = queue.next().unwrap();
        assert_eq!(running.writes.news.len(), told, "{version}");
        queue.finish(running, retry, Outcome::Done);
    }
}

#[tokio::test(start_paused = true)]
async fn a_warning_that_holds_for_a_moment_is_not_told() {
    let queue = Queue::default();
    let note = Note::new(Reason::PortNotOnPod, "no Pod has the target port");
    queue.put(job("1", true, &[note]));
    assert!(queue.next().is_err(), "it may be over soon");
    queue.put(job("2", true, &[]));
    let (running, _) = queue.next().expect("nothing is left to wait for");
    assert!(running.writes.news.is_empty());
}

/// A process that was stopped past its lease goes on with what it was about to do.
#[tokio::test(start_paused = true)]
async fn a_leader_whose_time_is_over_writes_nothing() {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use crate::lease::Commander;
    use http_body_util::Full;

    let requests = Arc::<AtomicUsize>::default();
    let seen = Arc::clone(&requests);
    let server = tower::service_fn(move |_: http::Request<kube::client::Body>| {
        seen.fetch_add(1, Relaxed);
        async { Ok::<_, Infallible>(http::Response::new(Full::from("{}"))) }
    });
    let client = Client::new(server, "default");
    let commander = Commander::new();
    let writer = Writer {
        events: Events::new(client.clone(), "me"),
        client,
        leadership: commander.leadership(),
        metrics: Metrics::new(),
    };
    let queue = Queue::default();
    let running = tokio::spawn(writer.run(queue.clone()));
    commander.set(Reign::Leader { epoch: 1 });
    commander.expire();
    queue.put(job("1", true, &[]));
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!((requests.load(Relaxed), queue.depth()), (0, 1));
    commander.set(Reign::Leader { epoch: 2 });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((requests.load(Relaxed), queue.depth()), (1, 0));
    running.abort();
}
