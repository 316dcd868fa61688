//! What reaches the API server, and when: a server that plays a part, and a clock that stands.

use std::convert::Infallible;

use http_body_util::Full;
use serde_json::Value;

use super::*;
use crate::build::note::{self, Note};
use crate::cluster::pod::GATE;
use crate::cluster::testing::key;
use crate::events::Regarding;
use crate::gate::Said;
use crate::lease::Commander;
use crate::reign::Reign;

/// What is asked for.
fn ask(pod: &str, uid: &str, reason: Reason, is_there: bool) -> Ask {
    Ask {
        pod: key(pod),
        uid: uid.into(),
        said: Said::new(reason, "words"),
        is_there,
    }
}

fn orders(asks: &[Ask]) -> Orders {
    Orders {
        asks: asks.to_vec(),
        news: Vec::new(),
    }
}

/// What the server was asked: method, path, content type, body.
type Asked = Arc<Mutex<Vec<(String, String, Value)>>>;

#[derive(Clone, Default)]
struct Server {
    asked: Asked,
    /// Answers, one after the other, then 200.
    codes: Arc<Mutex<VecDeque<u16>>>,
    takes: Duration,
}

impl Server {
    async fn answer(
        self,
        request: http::Request<kube::client::Body>,
    ) -> Result<http::Response<Full<bytes::Bytes>>, Infallible> {
        let what = format!("{} {}", request.method(), request.uri().path());
        let kind = request.headers().get("content-type").cloned();
        let kind = kind.map(|kind| kind.to_str().unwrap().to_owned());
        let body = request.into_body().collect_bytes().await.unwrap();
        let body = serde_json::from_slice(&body).unwrap();
        let seen = (what, kind.unwrap_or_default(), body);
        self.asked.lock().unwrap().push(seen);
        tokio::time::sleep(self.takes).await;
        let code = self.codes.lock().unwrap().pop_front().unwrap_or(200);
        let text = format!(r#"{{"metadata": {{}}, "code": {code}}}"#);
        let answer = http::Response::builder().status(code);
        Ok(answer.body(Full::from(text)).unwrap())
    }

    fn asked(&self) -> Vec<(String, String, Value)> {
        self.asked.lock().unwrap().clone()
    }
}

/// A writer before the server, whoever makes it lead, and what it counts in.
fn writer(server: &Server) -> (Writer, Commander, Metrics) {
    let server = server.clone();
    let service = tower::service_fn(move |request| server.clone().answer(request));
    let client = Client::new(service, "default");
    let (commander, metrics) = (Commander::new(), Metrics::new());
    let writer = Writer {
        events: Events::new(client.clone(), "me"),
        client,
        leadership: commander.leadership(),
        metrics: metrics.clone(),
        timelines: Timelines::default(),
    };
    (writer, commander, metrics)
}

fn counted(metrics: &Metrics, result: &str) -> bool {
    let page = metrics.render(0, 0, &crate::observed::Observed::default());
    page.contains(&format!(
        "podline_control_gate_patches_total{{result=\"{result}\"}} 1"
    ))
}

#[tokio::test(start_paused = true)]
async fn one_condition_is_merged_into_the_status_of_that_very_pod() {
    let server = Server::default();
    let (writer, commander, metrics) = writer(&server);
    commander.set(Reign::Leader { epoch: 1 });
    let queue = Queue::default();
    let running = tokio::spawn(writer.run(queue.clone()));
    queue.put(
        orders(&[ask("default/a", "uid-a", Reason::Healthy, true)]),
        Some(Instant::now()),
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    queue.put(
        orders(&[ask("default/b", "uid-b", Reason::Probing, true)]),
        None,
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = server.asked();
    assert_eq!(asked.len(), 2, "{asked:?}");
    let (what, kind, body) = &asked[0];
    assert_eq!(what, "PATCH /api/v1/namespaces/default/pods/a/status");
    assert_eq!(kind, "application/strategic-merge-patch+json");
    assert_eq!(body["metadata"], serde_json::json!({"uid": "uid-a"}));
    let conditions = body["status"]["conditions"].as_array().unwrap();
    assert_eq!(conditions.len(), 1);
    let condition = &conditions[0];
    assert_eq!(condition["type"], GATE);
    assert_eq!(condition["status"], "True");
    assert_eq!(condition["reason"], "Healthy");
    assert_eq!(condition["message"], "words");
    assert!(condition["lastTransitionTime"].is_string());
    // Closed before, and closed now: that is no transition.
    let condition = &asked[1].2["status"]["conditions"][0];
    assert_eq!(condition["status"], "False");
    assert_eq!(condition.get("lastTransitionTime"), None);
    let page = metrics.render(0, 0, &crate::observed::Observed::default());
    for line in [
        "podline_control_gate_sent_seconds_count 1",
        "podline_control_gate_answered_seconds_count 1",
        "podline_control_gate_patches_total{result=\"answered\"} 2",
    ] {
        assert!(page.contains(line), "{line}");
    }
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_follower_patches_nothing_and_forgets_what_was_asked() {
    let server = Server::default();
    let (writer, commander, _) = writer(&server);
    let queue = Queue::default();
    let running = tokio::spawn(writer.run(queue.clone()));
    let all = orders(&[ask("default/a", "uid-a", Reason::Healthy, false)]);
    queue.put(all.clone(), None);
    tokio::time::sleep(Duration::from_mins(1)).await;
    // It leads, but its time is over.
    commander.set(Reign::Leader { epoch: 1 });
    commander.expire();
    queue.put(all.clone(), None);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!((server.asked().len(), queue.depth()), (0, 1));
    commander.set(Reign::Follower);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(queue.depth(), 0);
    commander.set(Reign::Leader { epoch: 3 });
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(server.asked().len(), 0, "it was another reign's");
    queue.put(all, None);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(server.asked().len(), 1);
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_gone_or_another_one_is_left_alone() {
    for (code, result, tried) in [
        (404, "gone", 1),
        (409, "gone", 1),
        (422, "gone", 1),
        (403, "failed", 2),
        (500, "failed", 2),
    ] {
        let server = Server::default();
        server.codes.lock().unwrap().push_back(code);
        let (writer, commander, metrics) = writer(&server);
        commander.set(Reign::Leader { epoch: 1 });
        let queue = Queue::default();
        let running = tokio::spawn(writer.run(queue.clone()));
        queue.put(
            orders(&[ask("default/a", "uid-a", Reason::Healthy, false)]),
            None,
        );
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(server.asked().len(), tried, "{code}");
        assert!(counted(&metrics, result), "{code}");
        assert_eq!(queue.depth(), 0);
        running.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn the_newest_wins_and_failures_wait_longer_each_time() {
    let server = Server::default();
    server.codes.lock().unwrap().extend([500; 20]);
    let (writer, commander, _) = writer(&server);
    commander.set(Reign::Leader { epoch: 1 });
    let queue = Queue::default();
    let running = tokio::spawn(writer.run(queue.clone()));
    let closed = orders(&[ask("default/a", "uid-a", Reason::Probing, false)]);
    queue.put(closed, None);
    tokio::time::sleep(Duration::from_mins(2)).await;
    let before = server.asked().len();
    assert!((5..=15).contains(&before), "{before}");
    // Asked for something else meanwhile: that is tried when its time has come.
    queue.put(
        orders(&[ask("default/a", "uid-a", Reason::Healthy, false)]),
        None,
    );
    assert_eq!(queue.depth(), 1);
    server.codes.lock().unwrap().clear();
    tokio::time::sleep(LAST_RETRY).await;
    let asked = server.asked();
    assert_eq!(asked.len(), before + 1);
    let condition = &asked.last().unwrap().2["status"]["conditions"][0];
    assert_eq!(condition["reason"], "Healthy");
    // Another Pod of that name waits for nobody.
    queue.put(
        orders(&[ask("default/a", "again", Reason::Healthy, false)]),
        None,
    );
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(server.asked().len(), before + 2);
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn many_are_written_at_once_but_of_one_pod_one_after_the_other() {
    let server = Server {
        takes: Duration::from_secs(1),
        ..Server::default()
    };
    let (writer, commander, _) = writer(&server);
    commander.set(Reign::Leader { epoch: 1 });
    let queue = Queue::default();
    let running = tokio::spawn(writer.run(queue.clone()));
    let all: Vec<_> = (0..100)
        .map(|n| ask(&format!("default/p{n}"), "u", Reason::Healthy, false))
        .collect();
    queue.put(orders(&all), None);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(server.asked().len(), AT_ONCE);
    // One of those under way is to say something else.
    let newer = ask("default/p0", "u", Reason::NoLoadBalancer, false);
    queue.put(orders(&[newer]), None);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(server.asked().len(), AT_ONCE);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let asked = server.asked();
    assert_eq!(asked.len(), 101);
    let of_first = asked
        .iter()
        .filter(|(what, ..)| what.ends_with("/p0/status"));
    assert_eq!(of_first.count(), 2);
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn events_are_told() {
    let server = Server::default();
    let (writer, commander, _) = writer(&server);
    commander.set(Reign::Leader { epoch: 1 });
    let queue = Queue::default();
    let running = tokio::spawn(writer.run(queue.clone()));
    let about = Regarding::pod(&key("default/a"), &"uid-a".into());
    let note = Note::new(note::Reason::GateClosed, "it waits");
    let news = Orders {
        asks: Vec::new(),
        news: vec![(about, note)],
    };
    queue.put(news, None);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = server.asked();
    assert_eq!(asked.len(), 1);
    assert!(
        asked[0]
            .0
            .starts_with("POST /apis/events.k8s.io/v1/namespaces/default/events")
    );
    assert_eq!(asked[0].2["reason"], "GateClosed");
    running.abort();
}
