//! The keeper of ticket keys against an API server in this process, its clock paused.

use std::sync::Arc;
use std::time::Duration;

use podline_api::TicketKey;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::{Connections, Tickets};
use crate::cluster::Change;
use crate::events::Events;
use crate::fake_server::Server;
use crate::installation::TICKETS_SECRET;
use crate::lease::Commander;
use crate::metrics::Metrics;
use crate::reign::Reign;
use crate::watch::{Seen, What};

const LEADER: Reign = Reign::Leader { epoch: 1 };

/// A replica that runs.
struct Replica {
    commander: Commander,
    seen: mpsc::Receiver<Seen>,
    task: JoinHandle<()>,
}

impl Replica {
    fn start(server: &Server, reign: Reign) -> Self {
        let commander = Commander::new();
        commander.set(reign);
        let connections = Connections {
            client: server.client(),
            leadership: commander.leadership(),
            events: Events::new(server.client(), "a"),
            metrics: Metrics::new(),
        };
        let (tell, seen) = mpsc::channel(16);
        let tickets = Tickets::new(connections, "podline-system", tell);
        Self {
            commander,
            seen,
            task: tokio::spawn(tickets.run(std::future::pending())),
        }
    }

    /// What is told next, within a minute.
    async fn next(&mut self) -> Option<Arc<[TicketKey]>> {
        let seen = timeout(Duration::from_mins(1), self.seen.recv()).await;
        match seen.ok()?.unwrap().what {
            What::Change(Change::TicketKeys(keys)) => Some(keys),
            odd => panic!("{odd:?}"),
        }
    }

    /// The keys that are told once there are any.
    async fn keys(&mut self) -> Arc<[TicketKey]> {
        loop {
            let keys = self.next().await.unwrap();
            if !keys.is_empty() {
                return keys;
            }
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn the_leader_makes_keys_and_everybody_has_the_same() {
    let server = Server::new();
    let mut follower = Replica::start(&server, Reign::Follower);
    assert_eq!(follower.next().await.unwrap().len(), 0, "none yet");
    assert_eq!(server.writes(), 0);
    let mut leader = Replica::start(&server, LEADER);
    let keys = leader.keys().await;
    assert_eq!(keys.len(), 2);
    assert_eq!(follower.keys().await, keys);
    assert_eq!((leader.next().await, server.writes()), (None, 1));
    // Whoever comes next takes them as they are.
    drop(leader);
    follower.commander.set(LEADER);
    assert_eq!((follower.next().await, server.writes()), (None, 1));
    let mut late = Replica::start(&server, Reign::Follower);
    assert_eq!(late.keys().await, keys);
}

#[tokio::test(start_paused = true)]
async fn keys_are_restored_and_never_change_by_that() {
    let server = Server::new();
    let mut leader = Replica::start(&server, LEADER);
    let keys = leader.keys().await;
    let good = server.secret(TICKETS_SECRET).unwrap();
    server.delete(TICKETS_SECRET);
    assert_eq!(leader.next().await, None);
    let restored = server.secret(TICKETS_SECRET).unwrap();
    assert_eq!(restored.data, good.data);
    let mut damaged = restored;
    damaged.data.as_mut().unwrap().remove("next");
    server.put(&damaged);
    assert_eq!(leader.next().await, None);
    assert_eq!(server.secret(TICKETS_SECRET).unwrap().data, good.data);
    let told = server.told();
    assert_eq!(told.len(), 2);
    let begins = "Secret/podline-ticket-keys: Repaired: the ticket keys were changed";
    assert!(told.iter().all(|it| it.starts_with(begins)), "{told:?}");
    // Nobody knows what it held.
    drop(leader);
    server.put(&damaged);
    let mut leader = Replica::start(&server, LEADER);
    let others = leader.keys().await;
    assert_ne!(others, keys);
    let told = server.told();
    assert!(told[2].ends_with("sessions begin anew"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_read_them_nobody_waits_for_keys() {
    let server = Server::new();
    server.forbid(&["GET /api/v1/namespaces/podline-system/secrets"]);
    let mut leader = Replica::start(&server, LEADER);
    assert_eq!(leader.next().await.unwrap().len(), 0);
    assert_eq!(server.writes(), 0);
    server.forbid(&[]);
    assert_eq!(leader.keys().await.len(), 2);
}
