//! The keeper against an API server in this process, its clock paused.

use std::time::Duration;

use podline_api::client::ClientTls;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::super::keeper::Report;
use super::super::{Channel, Connections, Settings, control};
use crate::events::Events;
use crate::fake_server::Server;
use crate::lease::Commander;
use crate::metrics::Metrics;
use crate::reign::Reign;

const NAMES: [&str; 3] = [
    "podline-control-ca",
    "podline-proxy-tls",
    "podline-control-tls",
];

/// A replica that runs.
struct Replica {
    commander: Commander,
    tls: watch::Receiver<Option<ClientTls>>,
    report: watch::Receiver<Report>,
    task: JoinHandle<()>,
}

impl Replica {
    fn start(server: &Server, reign: Reign) -> Self {
        let commander = Commander::new();
        commander.set(reign);
        let settings = Settings::new(Channel::Control, "podline-system", "east");
        let (_, lagging) = watch::channel(false);
        let connections = Connections {
            client: server.client(),
            leadership: commander.leadership(),
            events: Events::new(server.client(), "a"),
            metrics: Metrics::new(),
        };
        let (keeper, tls) = control(connections, settings, lagging);
        Self {
            commander,
            tls,
            report: keeper.report(),
            task: tokio::spawn(keeper.run(std::future::pending())),
        }
    }

    async fn tls(&self) -> ClientTls {
        let mut tls = self.tls.clone();
        let found = timeout(Duration::from_mins(1), tls.wait_for(Option::is_some)).await;
        found.unwrap().unwrap().clone().unwrap()
    }

    async fn told(&self, what: impl FnMut(&Report) -> bool) -> Report {
        let mut report = self.report.clone();
        let told = timeout(Duration::from_mins(1), report.wait_for(what)).await;
        told.unwrap().unwrap().clone()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.task.abort();
    }
}

const LEADER: Reign = Reign::Leader { epoch: 1 };

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn the_leader_makes_the_secrets_and_everybody_reads_them() {
    let server = Server::new();
    let follower = Replica::start(&server, Reign::Follower);
    sleep(seconds(10)).await;
    assert_eq!(
        (server.writes(), follower.tls.borrow().is_some()),
        (0, false)
    );

    let leader = Replica::start(&server, LEADER);
    let shown = leader.tls().await;
    assert_eq!(follower.tls().await, shown);
    assert_eq!(shown.server_name, "proxy.podline.internal");
    let report = leader
        .told(|report| report.ends.get("control").is_some_and(Option::is_some))
        .await;
    let (authority, proxy) = (report.ends["authority"], report.ends["proxy"]);
    assert!(authority > proxy && proxy.is_some());
    assert_eq!((report.problem, report.is_rotating), (None, false));

    let kinds = NAMES.map(|name| server.secret(name).unwrap().type_.unwrap());
    assert_eq!(kinds, ["Opaque", "kubernetes.io/tls", "kubernetes.io/tls"]);
    // Nothing is written without a change.
    sleep(seconds(3600)).await;
    assert_eq!(server.writes(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_is_deleted_comes_back_at_once() {
    let server = Server::new();
    let leader = Replica::start(&server, LEADER);
    let shown = leader.tls().await;
    let authority = server.secret(NAMES[0]).unwrap().data;
    for (n, name) in (1..).zip(NAMES) {
        server.delete(name);
        sleep(seconds(1)).await;
        assert!(server.secret(name).is_some(), "{name}");
        assert_eq!(server.writes(), 3 + n);
        sleep(seconds(60)).await;
    }
    assert_eq!(server.secret(NAMES[0]).unwrap().data, authority);
    assert_ne!(leader.tls().await, shown);
    let told = server.told();
    let words = [
        "Secret/podline-control-ca: Repaired: the control channel's CA: the CA is missing; it is restored",
        "Secret/podline-proxy-tls: Repaired: the proxies' certificates: their certificate is missing",
        "Secret/podline-control-tls: Repaired: the controllers' certificates: their certificate is missing",
    ];
    assert_eq!(told.len(), 3, "{told:?}");
    for (told, words) in told.iter().zip(words) {
        assert!(told.starts_with(words), "{told}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_takes_over_goes_on_with_what_there_is() {
    let server = Server::new();
    let first = Replica::start(&server, LEADER);
    let second = Replica::start(&server, Reign::Follower);
    let shown = second.tls().await;
    first.commander.set(Reign::Follower);
    server.delete(NAMES[0]);
    sleep(seconds(10)).await;
    assert_eq!(server.writes(), 3);
    // It has seen the CA, and remembers it.
    second.commander.set(LEADER);
    sleep(seconds(1)).await;
    assert_eq!(server.writes(), 4);
    assert_eq!(second.tls().await, shown);
    assert!(!second.report.borrow().is_rotating);
}

#[tokio::test(start_paused = true)]
async fn a_write_of_somebody_else_is_seen_before_the_next() {
    let server = Server::new();
    server.interfere();
    let leader = Replica::start(&server, LEADER);
    leader.tls().await;
    assert_eq!(server.writes(), 3);
    assert_eq!(leader.report.borrow().problem, None);
}

#[tokio::test(start_paused = true)]
async fn what_the_server_refuses_is_told_and_tried_again() {
    let server = Server::new();
    server.forbid(&[""]);
    let leader = Replica::start(&server, LEADER);
    let told = leader
        .told(|report| report.problem.is_some())
        .await
        .problem
        .unwrap();
    assert_eq!(
        told,
        "cannot watch Secret podline-control-ca: secrets is forbidden"
    );
    server.forbid(&[]);
    leader.tls().await;
    leader.told(|report| report.problem.is_none()).await;

    server.forbid(&[""]);
    server.delete(NAMES[1]);
    let told = leader
        .told(|report| report.problem.is_some())
        .await
        .problem
        .unwrap();
    assert_eq!(
        told,
        "cannot write Secret podline-proxy-tls: secrets is forbidden"
    );
    server.forbid(&[]);
    sleep(seconds(3)).await;
    assert!(server.secret(NAMES[1]).is_some());
    assert_eq!(leader.report.borrow().problem, None);
}

#[tokio::test(start_paused = true)]
async fn nobody_fights_for_ever() {
    let server = Server::new();
    let leader = Replica::start(&server, LEADER);
    leader.tls().await;
    let shown = leader.tls.borrow().clone();
    let before = server.writes();
    for _ in 0..600 {
        let mut secret = server.secret(NAMES[2]).unwrap();
        secret.data = None;
        server.put(&secret);
        sleep(Duration::from_millis(500)).await;
    }
    let writes = server.writes() - before;
    assert!((20..=36).contains(&writes), "{writes}");
    let problem = leader.report.borrow().problem.clone().unwrap();
    assert!(
        problem.ends_with("somebody else keeps changing it"),
        "{problem}"
    );
    assert!(shown.is_some() && leader.tls.borrow().is_some());
    let told = server.told();
    let contested = told.iter().filter(|told| told.contains("RepairContested"));
    // Five minutes, and in each some are allowed.
    assert!((1..=6).contains(&contested.count()), "{told:?}");
}
