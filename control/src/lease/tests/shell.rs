//! The election's loop, its clock paused, against an API server in this process.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::super::{Election, Leadership, Settings, Terms};
use super::server::{Mood, Server};
use crate::reign::Reign;

/// A replica that runs.
struct Replica {
    leadership: Leadership,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Replica {
    fn start(server: &Server, identity: &str) -> Self {
        let settings = Settings {
            namespace: "podline-system".to_owned(),
            name: "podline".to_owned(),
            identity: identity.to_owned(),
            terms: Terms::default(),
        };
        let election = Election::new(server.client(), settings);
        let leadership = election.leadership();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(election.run(async {
            let _ = stopped.await;
        }));
        Self {
            leadership,
            stop: Some(stop),
            task,
        }
    }

    fn now(&self) -> Reign {
        self.leadership.at(Instant::now())
    }

    /// How long it takes until it is so.
    async fn becomes(&self, reign: Reign) -> Duration {
        let start = Instant::now();
        let mut changes = self.leadership.reign();
        let change = changes.wait_for(|now| *now == reign);
        timeout(Duration::from_mins(1), change)
            .await
            .unwrap()
            .unwrap();
        start.elapsed()
    }

    async fn end(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.task.await.unwrap();
    }
}

fn leader(epoch: u64) -> Reign {
    Reign::Leader { epoch }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn one_leads_and_the_other_follows_when_it_ends() {
    let server = Server::default();
    let a = Replica::start(&server, "a");
    a.becomes(leader(1)).await;
    let b = Replica::start(&server, "b");
    sleep(seconds(30)).await;
    assert_eq!((a.now(), b.now()), (leader(1), Reign::Follower));

    let spec = server.lease().unwrap().spec.unwrap();
    assert_eq!(spec.holder_identity.as_deref(), Some("a"));
    assert_eq!(
        (spec.lease_transitions, spec.lease_duration_seconds),
        (Some(1), Some(8))
    );
    // One write a second, and none by the follower.
    assert!((28..=33).contains(&server.writes()), "{}", server.writes());

    let end = Instant::now();
    let watching = a.leadership.clone();
    a.end().await;
    assert_eq!(*watching.reign().borrow(), Reign::Follower);
    b.becomes(leader(2)).await;
    assert!(end.elapsed() <= seconds(1), "{:?}", end.elapsed());
    b.end().await;
    assert_eq!(
        server
            .lease()
            .unwrap()
            .spec
            .unwrap()
            .holder_identity
            .as_deref(),
        Some("")
    );
}

#[tokio::test(start_paused = true)]
async fn one_that_dies_is_followed_after_its_lease() {
    let server = Server::default();
    let a = Replica::start(&server, "a");
    a.becomes(leader(1)).await;
    let b = Replica::start(&server, "b");
    sleep(seconds(3)).await;
    a.task.abort();
    let taken = b.becomes(leader(2)).await;
    assert!((seconds(7)..=seconds(10)).contains(&taken), "{taken:?}");
    assert_eq!(a.now(), Reign::Follower);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_server_ends_the_reign_at_the_deadline() {
    let server = Server::default();
    let a = Replica::start(&server, "a");
    a.becomes(leader(1)).await;
    sleep(seconds(10)).await;
    server.set(Mood::Hangs);
    let ended = a.becomes(Reign::Follower).await;
    assert!((seconds(4)..=seconds(5)).contains(&ended), "{ended:?}");
    let problem = a.leadership.problem().unwrap();
    assert_eq!(
        problem,
        "cannot write the Lease: the API server did not answer in time"
    );

    server.set(Mood::Fine);
    let back = a.becomes(leader(2)).await;
    assert!(back <= seconds(4), "{back:?}");
    assert_eq!(a.leadership.problem(), None);
}

#[tokio::test(start_paused = true)]
async fn a_leader_knows_that_its_time_is_over_before_its_loop_does() {
    let server = Server::default();
    let a = Replica::start(&server, "a");
    a.becomes(leader(1)).await;
    // As after SIGSTOP: the clock has moved, and no task has run since.
    let later = Instant::now() + seconds(5);
    assert!(a.leadership.is_held(Instant::now()));
    assert!(!a.leadership.is_held(later));
    assert_eq!(*a.leadership.reign().borrow(), leader(1));
}

#[tokio::test(start_paused = true)]
async fn writes_without_answers_end_in_one_reign() {
    let server = Server::default();
    server.set(Mood::Mute);
    let a = Replica::start(&server, "a");
    sleep(seconds(5)).await;
    server.set(Mood::Fine);
    a.becomes(leader(1)).await;
    // Renewals take effect, but we do not hear of it: then the next one is refused, and a look shows why.
    for _ in 0..3 {
        sleep(seconds(5)).await;
        server.set(Mood::Mute);
        sleep(Duration::from_millis(1500)).await;
        server.set(Mood::Fine);
        sleep(seconds(2)).await;
        assert_eq!(a.now(), leader(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_of_somebody_else_is_seen() {
    let server = Server::default();
    let a = Replica::start(&server, "a");
    a.becomes(leader(1)).await;
    // A label: no reign ends.
    server.edit(|lease| {
        let labels = lease
            .as_mut()
            .unwrap()
            .metadata
            .labels
            .get_or_insert_default();
        labels.insert("x".to_owned(), "y".to_owned());
    });
    sleep(seconds(10)).await;
    assert_eq!(a.now(), leader(1));
    assert_eq!(server.lease().unwrap().metadata.labels.unwrap()["x"], "y");
    // Another holder.
    server.edit(|lease| {
        let spec = lease.as_mut().unwrap().spec.as_mut().unwrap();
        spec.holder_identity = Some("z".to_owned());
        spec.lease_transitions = Some(5);
    });
    let ended = a.becomes(Reign::Follower).await;
    assert!(ended <= seconds(1), "{ended:?}");
    let back = a.becomes(leader(6)).await;
    assert!((seconds(8)..=seconds(10)).contains(&back), "{back:?}");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_lease_is_made_again_with_a_higher_epoch() {
    let server = Server::default();
    let a = Replica::start(&server, "a");
    a.becomes(leader(1)).await;
    let b = Replica::start(&server, "b");
    sleep(seconds(5)).await;
    server.edit(|lease| *lease = None);
    let made = a.becomes(leader(2)).await;
    assert!(made <= seconds(1), "{made:?}");
    sleep(seconds(20)).await;
    assert_eq!((a.now(), b.now()), (leader(2), Reign::Follower));
}

#[tokio::test(start_paused = true)]
async fn an_epoch_that_a_proxy_has_seen_is_exceeded_at_once() {
    let server = Server::default();
    let a = Replica::start(&server, "a");
    a.becomes(leader(1)).await;
    sleep(seconds(3)).await;
    a.leadership.raise(41);
    a.leadership.raise(7);
    let raised = a.becomes(leader(42)).await;
    assert!(raised < Duration::from_millis(100), "{raised:?}");
    assert_eq!(
        server.lease().unwrap().spec.unwrap().lease_transitions,
        Some(42)
    );
    a.leadership.raise(u64::MAX);
    sleep(seconds(5)).await;
    assert_eq!(a.now(), leader(42));
}

#[tokio::test(start_paused = true)]
async fn what_the_server_refuses_is_told() {
    let server = Server::default();
    server.set(Mood::Forbids);
    let a = Replica::start(&server, "a");
    sleep(seconds(3)).await;
    assert_eq!(a.now(), Reign::Follower);
    let problem = a.leadership.problem().unwrap();
    assert!(
        problem.starts_with("cannot read the Lease: leases.coordination"),
        "{problem}"
    );
    server.set(Mood::Fine);
    a.becomes(leader(1)).await;
    // Ends though it cannot give the Lease back.
    server.set(Mood::Hangs);
    let end = Instant::now();
    a.end().await;
    assert!(end.elapsed() <= seconds(2), "{:?}", end.elapsed());
}

#[tokio::test(start_paused = true)]
async fn without_a_namespace_it_does_not_ask_without_end() {
    let server = Server::default();
    server.set(Mood::Homeless);
    let a = Replica::start(&server, "a");
    sleep(seconds(30)).await;
    assert!(server.calls() <= 62, "{}", server.calls());
    let problem = a.leadership.problem().unwrap();
    assert!(
        problem.ends_with("namespaces \"podline-system\" not found"),
        "{problem}"
    );
}
