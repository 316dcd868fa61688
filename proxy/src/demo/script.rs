//! What happens in the demo, act by act.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use podline_api::client::ProxyClient;
use podline_api::v1;

use super::Failed;
use super::client::{Fronts, Traffic};
use super::pod::Pod;
use super::screen::{Align, Screen, shown, table};
use super::tally::Tally;
use super::watcher::{Note, Watcher};

/// Longer than any act should take; the first answer comes in some tens of milliseconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

const OWNER: &str = "demo";
const SET: &str = "web";
const PODS: [&str; 4] = ["pod-a", "pod-b", "pod-c", "pod-d"];
/// An act lasts so long when there is time.
const ACT: Duration = Duration::from_secs(3);
/// Below this a Pod's death would not be noticed within the act: two probes, 500 ms apart.
const SHORTEST_ACT: Duration = Duration::from_millis(1_800);
const ACTS: u32 = 5;
const TICK: Duration = Duration::from_secs(1);

/// Where things are.
pub(super) struct Stage {
    /// The proxy's API.
    pub(super) api: String,
    /// Its admin pages.
    pub(super) admin: SocketAddr,
    /// The listeners for clients.
    pub(super) fronts: Fronts,
    /// Requests that failed in the script.
    pub(super) failed: AtomicU64,
}

/// Plays all acts, then stays.
pub(super) async fn play(
    stage: &Stage,
    exit_after: Option<Duration>,
    screen: &Screen,
) -> Result<(), Failed> {
    let start = Instant::now();
    let client = ProxyClient::connect(&stage.api).await?;
    let watcher = Watcher::start(&client, OWNER, screen).await?;
    let act = exit_after.map_or(ACT, |time| (time / (ACTS + 1)).clamp(SHORTEST_ACT, ACT));
    let mut play = Play {
        stage,
        screen,
        client,
        watcher,
        act,
        results: Vec::new(),
    };
    let traffic = play.run().await?;
    play.sum_up(&traffic);
    if let Some(time) = exit_after {
        tokio::time::sleep(time.saturating_sub(start.elapsed())).await;
    } else {
        play.invite();
        std::future::pending::<()>().await;
    }
    Ok(())
}

struct Play<'a> {
    stage: &'a Stage,
    screen: &'a Screen,
    client: ProxyClient,
    watcher: Watcher,
    act: Duration,
    /// Rows of the summary: change, time to every worker, what clients saw.
    results: Vec<Vec<String>>,
}

impl Play<'_> {
    async fn run(&mut self) -> Result<Traffic, Failed> {
        let a = Pod::start(PODS[0], None).await?;
        let b = Pod::start(PODS[1], None).await?;
        let c = Pod::start(PODS[2], None).await?;
        self.introduce(&[&a, &b, &c]);
        let traffic = self.first_push(&[&a, &b, &c]).await?;
        self.watch_traffic(&traffic).await;
        let b = self.death(&traffic, b).await?;
        self.removal(&traffic, c).await?;
        let d = self.joining(&traffic).await?;
        // They run on while people try things.
        std::mem::forget((a, b, d));
        Ok(traffic)
    }

    fn introduce(&self, pods: &[&Pod]) {
        self.screen
            .heading("Podline: three toy Pods on loopback, and the proxy before them");
        self.screen.line(&format!(
            "  clients    http://{}/   TCP, ROUND_ROBIN, probed every 500 ms",
            self.stage.fronts.tcp
        ));
        self.screen.line(&format!(
            "             http://{}/   HTTP, the same Pods: each request goes to the next",
            self.stage.fronts.http
        ));
        for pod in pods {
            self.screen
                .line(&format!("  {:<9}  {}", pod.name, pod.address));
        }
        self.screen.line(&format!(
            "  API        {}   every change below goes through it",
            self.stage.api
        ));
        self.screen
            .line(&format!("  dashboard  http://{}/\n", self.stage.admin));
    }

    /// Pushes listener and set, starts the clients, and waits for their first answer.
    async fn first_push(&mut self, pods: &[&Pod]) -> Result<Traffic, Failed> {
        self.screen.act("the listeners and three Pods are pushed");
        let pushed = Instant::now();
        let request = v1::ApplyRequest {
            owner: OWNER.to_owned(),
            listeners: listeners(self.stage.fronts),
            backend_sets: vec![backend_set(pods)],
            replace_owned: true,
            ..Default::default()
        };
        let took = self.push(request).await?;
        let traffic = Traffic::start(self.stage.fronts, self.screen);
        let first = self
            .wait_for(|| traffic.tally(|tally| PODS.iter().find_map(|pod| tally.first_answer(pod))))
            .await;
        let first = first.ok_or(Failed::NotReady)? - pushed;
        self.result(
            "three Pods pushed",
            took,
            format!("first answer after {}", shown(first)),
        );
        Ok(traffic)
    }

    async fn death(&mut self, traffic: &Traffic, b: Pod) -> Result<Pod, Failed> {
        self.screen
            .act("pod-b dies: nothing listens there any more, its connections are gone");
        let died = Instant::now();
        let address = b.die();
        self.watch_traffic(traffic).await;
        let seen = self
            .watcher
            .after(died, PODS[1], Note::Health(v1::Health::Unhealthy));
        let failed = traffic.tally(|tally| tally.total.failed);
        let seen = seen.map_or("not noticed".to_owned(), |time| {
            format!("unhealthy after {}", shown(time))
        });
        self.result(
            "pod-b dies",
            None,
            format!("{seen}, {failed} requests failed"),
        );

        self.screen.act("pod-b comes back");
        traffic.tally(|tally| tally.forget(PODS[1]));
        let back = Instant::now();
        let b = Pod::start(PODS[1], Some(address)).await?;
        self.watch_traffic(traffic).await;
        let first = traffic.tally(|tally| tally.first_answer(PODS[1]));
        let seen = first.map_or("no answer yet".to_owned(), |at| {
            format!("first answer after {}", shown(at - back))
        });
        self.result("pod-b comes back", None, seen);
        Ok(b)
    }

    async fn removal(&mut self, traffic: &Traffic, c: Pod) -> Result<(), Failed> {
        self.screen
            .act("pod-c is removed while it is in use: it drains");
        let pushed = Instant::now();
        let change = v1::BackendChange {
            set: SET.to_owned(),
            remove: vec![backend(&c, None)],
            ..Default::default()
        };
        let took = self.push(change_request(change)).await?;
        let answered = Instant::now();
        c.finish();
        self.watch_traffic(traffic).await;
        let late = traffic
            .tally(|tally| tally.last_begun(PODS[2]))
            .filter(|begun| *begun > answered);
        let seen = match (late, self.watcher.after(pushed, PODS[2], Note::Empty)) {
            (Some(_), _) => "a new connection reached it afterwards".to_owned(),
            (None, Some(time)) => format!(
                "no new connection from then on, empty after {}",
                shown(time)
            ),
            (None, None) => "no new connection from then on".to_owned(),
        };
        self.result("pod-c removed", took, seen);
        Ok(())
    }

    async fn joining(&mut self, traffic: &Traffic) -> Result<Pod, Failed> {
        let d = Pod::start(PODS[3], None).await?;
        self.screen
            .act("pod-d joins: one backend is pushed, not the whole set");
        let pushed = Instant::now();
        let change = v1::BackendChange {
            set: SET.to_owned(),
            upsert: vec![backend(&d, None)],
            ..Default::default()
        };
        let took = self.push(change_request(change)).await?;
        self.watch_traffic(traffic).await;
        let first = traffic.tally(|tally| tally.first_answer(PODS[3]));
        let seen = first.map_or("no answer yet".to_owned(), |at| {
            format!("first answer after {}", shown(at - pushed))
        });
        self.result("pod-d joins", took, seen);
        Ok(d)
    }

    /// Pushes, and tells how long it took until every worker acted on it.
    async fn push(&self, request: v1::ApplyRequest) -> Result<Option<Duration>, Failed> {
        let answer = self.client.apply(request).await?;
        let listening =
            |status: &&v1::ListenerStatus| status.state() == v1::listener_status::State::Listening;
        if let Some(failed) = answer.listeners.iter().find(|status| !listening(status)) {
            return Err(Failed::Listener(failed.reason.clone()));
        }
        let took = answer.took.and_then(|took| Duration::try_from(took).ok());
        let every_worker = took.map_or(String::new(), |took| {
            format!(", on every worker after {}", shown(took))
        });
        self.screen
            .event("push", &format!("version {}{every_worker}", answer.version));
        Ok(took)
    }

    /// Lets an act take its time, with a line for each second.
    async fn watch_traffic(&self, traffic: &Traffic) {
        self.screen.columns(&PODS);
        let end = tokio::time::Instant::now() + self.act;
        traffic.tally(|tally| drop(tally.take_window()));
        loop {
            let begun = tokio::time::Instant::now();
            let left = end.saturating_duration_since(begun);
            if left < TICK / 2 {
                return tokio::time::sleep(left).await;
            }
            // A short rest is told together with the last second.
            let time = if left < TICK * 3 / 2 { left } else { TICK };
            tokio::time::sleep(time).await;
            let window = traffic.tally(Tally::take_window);
            self.screen.window(&window, begun.elapsed(), &PODS);
        }
    }

    async fn wait_for<T>(&self, condition: impl Fn() -> Option<T>) -> Option<T> {
        let wait = async {
            loop {
                if let Some(found) = condition() {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.ok()
    }

    fn result(&mut self, change: &str, took: Option<Duration>, seen: String) {
        self.results.push(vec![
            change.to_owned(),
            took.map_or("-".to_owned(), shown),
            seen,
        ]);
    }

    /// Prints the summary.
    fn sum_up(&self, traffic: &Traffic) {
        self.screen.heading("Summary");
        let headings = [
            ("change", Align::Left),
            ("on every worker", Align::Right),
            ("clients saw", Align::Left),
        ];
        self.screen.line(&table(&headings, &self.results));
        traffic.tally(|tally| {
            let total = &tally.total;
            let row = |pod: &&str| {
                let answers = total.answers.get(*pod).copied().unwrap_or(0);
                let share = total.percent(pod).unwrap_or(0.0);
                vec![(*pod).to_owned(), answers.to_string(), format!("{share:.1}%")]
            };
            let rows: Vec<_> = PODS.iter().map(row).collect();
            let headings = [("answered by", Align::Left), ("requests", Align::Right), ("share", Align::Right)];
            self.screen.line(&table(&headings, &rows));
            self.screen.line(&format!(
                "  {} requests on new connections, {} on kept ones ({} reconnects), {} failed; latency p50 {}, p99 {}",
                total.sum(),
                tally.kept.answers.values().sum::<u64>(),
                tally.kept.reconnected,
                total.failed,
                shown(tally.latency(0.5)),
                shown(tally.latency(0.99)),
            ));
            let http = &tally.kept_http;
            let by_pod = http.answers.iter().map(|(pod, answers)| format!("{pod} {answers}"));
            self.screen.line(&format!(
                "  {} over HTTP on kept connections ({} reconnects): {}",
                http.answers.values().sum::<u64>(),
                http.reconnected,
                by_pod.collect::<Vec<_>>().join(", "),
            ));
            self.stage.failed.store(total.failed, Relaxed);
        });
    }

    /// Says what to try now.
    fn invite(&self) {
        let api = &self.stage.api;
        let proxy = if api == "127.0.0.1:9902" {
            String::new()
        } else {
            format!(" --proxy {api}")
        };
        self.screen
            .heading("Still running, with traffic. Try these; Ctrl-C ends it");
        for command in [
            format!("cargo podline{proxy} status"),
            format!("cargo podline{proxy} watch"),
            format!("grpcurl -plaintext {api} podline.v1.Proxy/Get"),
            format!("curl http://{}/", self.stage.fronts.tcp),
            format!(
                "curl http://{}/ http://{}/",
                self.stage.fronts.http, self.stage.fronts.http
            ),
            format!(
                "curl http://{}/metrics        (the dashboard is at / there)",
                self.stage.admin
            ),
        ] {
            self.screen.line(&format!("  {command}"));
        }
        self.screen.line("");
    }
}

fn listeners(fronts: Fronts) -> Vec<v1::Listener> {
    use v1::listener::Protocol;
    let all = [
        ("web", fronts.tcp, Protocol::Tcp),
        ("web-http", fronts.http, Protocol::Http),
    ];
    let listener = |(name, address, protocol): (&str, SocketAddr, Protocol)| v1::Listener {
        name: name.to_owned(),
        address: address.to_string(),
        protocol: Some(protocol.into()),
        backend_set: SET.to_owned(),
        ..Default::default()
    };
    all.map(listener).into()
}

fn backend_set(pods: &[&Pod]) -> v1::BackendSet {
    let millis = |ms: i32| {
        Some(prost_types::Duration {
            seconds: 0,
            nanos: ms * 1_000_000,
        })
    };
    v1::BackendSet {
        name: SET.to_owned(),
        policy: Some(v1::backend_set::Policy::RoundRobin.into()),
        health_check: Some(v1::HealthCheck {
            r#type: Some(v1::health_check::Type::Tcp.into()),
            interval: millis(500),
            timeout: millis(200),
            healthy_threshold: Some(2),
            unhealthy_threshold: Some(2),
            ..Default::default()
        }),
        backends: pods.iter().map(|pod| backend(pod, None)).collect(),
        ..Default::default()
    }
}

fn backend(pod: &Pod, weight: Option<u32>) -> v1::Backend {
    v1::Backend {
        node: None,
        id: Some(pod.name.to_owned()),
        address: pod.address.to_string(),
        weight,
    }
}

fn change_request(change: v1::BackendChange) -> v1::ApplyRequest {
    v1::ApplyRequest {
        owner: OWNER.to_owned(),
        backend_changes: vec![change],
        ..Default::default()
    }
}
