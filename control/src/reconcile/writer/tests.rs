//! The queue of writes: nothing twice, the newest wins, failures wait.

use std::convert::Infallible;

use http_body_util::Full;

use super::*;
use crate::build::note::Reason;
use crate::cluster::testing::key;
use crate::lease::Commander;
use crate::reign::Reign;

fn job(version: &str, is_held: bool, notes: &[Note]) -> Job {
    Job {
        front: Front::Service(key("default/web")),
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

/// What a server is asked, which answers all with `code`.
type Asked = Arc<Mutex<Vec<(String, serde_json::Value)>>>;

fn writer(code: u16) -> (Writer, Commander, Asked) {
    let asked = Asked::default();
    let seen = Arc::clone(&asked);
    let server = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let seen = Arc::clone(&seen);
        async move {
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect_bytes().await.unwrap();
            let body = serde_json::from_slice(&body).unwrap();
            seen.lock().unwrap().push((path, body));
            let answer = format!(r#"{{"metadata": {{}}, "code": {code}}}"#);
            let answer = http::Response::builder()
                .status(code)
                .body(Full::from(answer));
            Ok::<_, Infallible>(answer.unwrap())
        }
    });
    let client = Client::new(server, "default");
    let commander = Commander::new();
    let writer = Writer {
        events: Events::new(client.clone(), "me"),
        client,
        leadership: commander.leadership(),
        metrics: Metrics::new(),
    };
    (writer, commander, asked)
}

/// A process that was stopped past its lease goes on with what it was about to do.
#[tokio::test(start_paused = true)]
async fn a_leader_whose_time_is_over_writes_nothing() {
    let (writer, commander, asked) = writer(200);
    let queue = Queue::default();
    let running = tokio::spawn(writer.run(queue.clone()));
    commander.set(Reign::Leader { epoch: 1 });
    commander.expire();
    queue.put(job("1", true, &[]));
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!((asked.lock().unwrap().len(), queue.depth()), (0, 1));
    commander.set(Reign::Leader { epoch: 2 });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((asked.lock().unwrap().len(), queue.depth()), (1, 0));
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_service_is_claimed_as_it_was_seen_before_anything_else() {
    for (code, expected) in [(200, 2), (409, 1)] {
        let (writer, commander, asked) = writer(code);
        commander.set(Reign::Leader { epoch: 1 });
        let note = Note::new(Reason::PortConflict, "port 80/TCP belongs to another");
        let outcome = writer.write(&job("17", true, &[note])).await;
        assert_eq!(outcome == Outcome::Done, code == 200);
        let asked = asked.lock().unwrap();
        assert_eq!(asked.len(), expected, "{asked:?}");
        assert_eq!(asked[0].1["metadata"]["resourceVersion"], "17");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_told_meanwhile_is_not_told_again() {
    let queue = Queue::default();
    let note = Note::new(Reason::NodePortMode, "through NodePorts");
    queue.put(job("1", true, std::slice::from_ref(&note)));
    let (running, retry) = queue.next().unwrap();
    let told = Job {
        writes: Writes {
            news: vec![note.clone()],
            ..Writes::default()
        },
        ..job("2", true, std::slice::from_ref(&note))
    };
    queue.put(told);
    assert_eq!(queue.depth(), 2);
    queue.finish(running, retry, Outcome::Done);
    queue.next().unwrap_err();
    assert_eq!(queue.depth(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_never_stops_changing_is_told_of_all_the_same() {
    let queue = Queue::default();
    let note = Note::new(Reason::PortConflict, "port 80/TCP belongs to another");
    for round in 0..6 {
        queue.put(job(
            &round.to_string(),
            round % 2 == 0,
            std::slice::from_ref(&note),
        ));
        tokio::time::sleep(SETTLED_AFTER / 5).await;
    }
    assert!(queue.next().is_ok());
}
