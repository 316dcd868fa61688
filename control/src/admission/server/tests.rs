//! Over TLS on loopback, as the API server and others come.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use futures_util::future::join_all;
use hyper::client::conn::{http1, http2};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::super::testing::{ApiServer, Mood, World, creation, deletion, direct, review, site};
use super::*;
use crate::cluster::pod::GATE;
use crate::metrics::Metrics;
use crate::observed::Observed;
use crate::push::Overrides;
use crate::push::overrides::Outcome;

const LONG: Duration = Duration::from_secs(30);
const HEAD: &str = "POST /inject HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n";

/// A certificate, and a client that trusts it.
fn certificate() -> (Arc<ServerConfig>, ClientConfig) {
    let made = rcgen::generate_simple_self_signed(["podline-webhook".to_owned()]).unwrap();
    let certificate = CertificateDer::from(made.cert.der().to_vec());
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), client)
}

/// A server, and what it is made of.
struct Bench {
    address: SocketAddr,
    client: ClientConfig,
    tls: watch::Sender<Option<Arc<ServerConfig>>>,
    world: World,
    shared: crate::engine::Shared,
    api: ApiServer,
    overrides: Overrides,
    metrics: Metrics,
    task: JoinHandle<()>,
}

impl Bench {
    async fn start() -> Self {
        let (server, client) = certificate();
        let (tls, shown) = watch::channel(Some(server));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (world, api) = (World::new(3), ApiServer::default());
        let (overrides, metrics) = (Overrides::default(), Metrics::new());
        let shared = world.share();
        let reviews = Reviews::new(
            shared.clone(),
            api.client(),
            overrides.clone(),
            metrics.clone(),
        );
        Self {
            address: listener.local_addr().unwrap(),
            client,
            tls,
            world,
            shared,
            api,
            overrides,
            metrics,
            task: tokio::spawn(serve(listener, shown, reviews)),
        }
    }

    async fn connect(&self) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        let connector = TlsConnector::from(Arc::new(self.client.clone()));
        let name = ServerName::try_from("podline-webhook").unwrap();
        connector.connect(name, stream).await
    }

    /// What is answered to these bytes until the connection ends, or a whole answer is there.
    async fn raw(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await.unwrap();
        // It may hang up before all of it is sent.
        let _ = stream.write_all(request).await;
        first_answer(&mut stream).await
    }

    /// The status and the answer to a review.
    async fn post(&self, path: &str, body: String) -> (u16, String) {
        let stream = TokioIo::new(self.connect().await.unwrap());
        let (mut sender, connection) = http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let answer = sender.send_request(posted(path, body)).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn ask(&self, path: &str, request: &Value) -> Value {
        let (status, body) = self.post(path, review(request).to_string()).await;
        assert_eq!(status, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(answer["response"]["uid"], request["uid"]);
        assert_eq!(answer["response"]["allowed"], true);
        answer["response"].clone()
    }

    fn count(&self, webhook: &str, outcome: &str) -> u64 {
        let page = self.metrics.render(0, 0, &Observed::default());
        let name = format!(
            "podline_control_reviews_total{{webhook=\"{webhook}\",outcome=\"{outcome}\"}} "
        );
        let mut lines = page.lines();
        let value = lines.find_map(|line| line.strip_prefix(&name));
        value.map_or(0, |value| value.parse().unwrap())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn first_answer(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    let mut piece = [0; 4_096];
    let read = async {
        while let Ok(count @ 1..) = stream.read(&mut piece).await {
            answer.extend_from_slice(&piece[..count]);
            if answer.ends_with(b"\n") {
                break;
            }
        }
    };
    timeout(LONG, read).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn posted(path: &str, body: String) -> Request<Full<Bytes>> {
    Request::post(path)
        .header(header::HOST, "podline-webhook")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body.into()))
        .unwrap()
}

fn patch(response: &Value) -> Value {
    let text = response["patch"].clone();
    let bytes: k8s_openapi::ByteString = serde_json::from_value(text).unwrap();
    serde_json::from_slice(&bytes.0).unwrap()
}

#[tokio::test]
async fn a_new_pod_of_a_direct_service_gets_the_gate() {
    let bench = Bench::start().await;
    let gate =
        json!([{"op": "add", "path": "/spec/readinessGates", "value": [{"conditionType": GATE}]}]);
    let web = creation(&json!({"app": "web"}));
    let response = bench.ask(INJECT_PATH, &web).await;
    assert_eq!(
        (&response["patchType"], patch(&response)),
        (&json!("JSONPatch"), gate.clone())
    );
    assert_eq!(bench.api.lists(), 0, "nobody asks for what is known");
    // A dry run is told the same; nothing is kept of either.
    let mut dry = web.clone();
    dry["dryRun"] = json!(true);
    assert_eq!(patch(&bench.ask(INJECT_PATH, &dry).await), gate);
    // One that has it is left alone.
    let mut gated = web;
    gated["object"]["spec"]["readinessGates"] = json!([{"conditionType": GATE}]);
    let response = bench.ask(INJECT_PATH, &gated).await;
    assert_eq!(
        (&response["patch"], &response["patchType"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(
        (
            bench.count("inject", "patched"),
            bench.count("inject", "unchanged")
        ),
        (2, 1)
    );
}

#[tokio::test]
async fn a_service_that_was_made_this_instant_is_asked_for() {
    let bench = Bench::start().await;
    *bench.api.mood.lock().unwrap() = Mood::Has(vec![direct("api")]);
    let response = bench
        .ask(INJECT_PATH, &creation(&json!({"app": "api"})))
        .await;
    assert_eq!(patch(&response)[0]["path"], "/spec/readinessGates");
    let other = bench
        .ask(INJECT_PATH, &creation(&json!({"app": "db"})))
        .await;
    assert_eq!(other["patch"], Value::Null);
    for labels in [json!(null), json!({})] {
        bench.ask(INJECT_PATH, &creation(&labels)).await;
    }
    assert_eq!(bench.api.lists(), 2, "one for each that has labels");
    // So is an Ingress, with the Services that it names.
    let mut db = direct("db");
    db["spec"]["type"] = json!("ClusterIP");
    *bench.api.mood.lock().unwrap() = Mood::Has(vec![site("db"), db]);
    let response = bench
        .ask(INJECT_PATH, &creation(&json!({"app": "db"})))
        .await;
    assert_eq!(patch(&response)[0]["path"], "/spec/readinessGates");
    let mut elsewhere = creation(&json!({"app": "api"}));
    elsewhere["namespace"] = json!("other");
    *bench.api.mood.lock().unwrap() = Mood::Forbids;
    assert_eq!(
        bench.ask(INJECT_PATH, &elsewhere).await["patch"],
        Value::Null
    );
    assert_eq!(bench.count("inject", "not-sure"), 1);
}

#[tokio::test]
async fn a_service_that_comes_while_the_server_does_not_answer_counts() {
    let bench = Bench::start().await;
    *bench.api.mood.lock().unwrap() = Mood::Hangs;
    let api = creation(&json!({"app": "api"}));
    let mut world = World::new(3);
    let comes = async {
        let is_asked = async {
            while bench.api.lists() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(LONG, is_asked).await.unwrap();
        world.change_service(|service| {
            service.selector = [("app".to_owned(), "api".to_owned())].into();
        });
        world.show(&bench.shared);
    };
    let (response, ()) = tokio::join!(bench.ask(INJECT_PATH, &api), comes);
    assert_eq!(patch(&response)[0]["path"], "/spec/readinessGates");
    assert_eq!(bench.count("inject", "patched"), 1);
}

#[tokio::test]
async fn a_deletion_is_answered_once_the_proxies_have_let_go() {
    let bench = Bench::start().await;
    let mut asks: Vec<_> = (0..2)
        .map(|n| bench.overrides.open(&format!("proxy-{n}")))
        .collect();
    let request = deletion(&bench.world, 0);
    let answer = bench.ask(DRAIN_PATH, &request);
    let proxies = async {
        for asks in &mut asks {
            let ask = asks.recv().await.unwrap();
            ask.answer.send(Outcome::Done).unwrap();
        }
    };
    let (response, ()) = tokio::join!(answer, proxies);
    assert_eq!(response, json!({"uid": "review", "allowed": true}));
    let mut dry = request;
    dry["dryRun"] = json!(true);
    bench.ask(DRAIN_PATH, &dry).await;
    assert!(asks.iter_mut().all(|asks| asks.try_recv().is_err()));
    assert_eq!(
        (
            bench.count("drain", "drained"),
            bench.count("drain", "not-ours")
        ),
        (1, 1)
    );
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_in_words() {
    let bench = Bench::start().await;
    for (body, told) in [
        (String::new(), "no AdmissionReview"),
        ("{\"kind\":".to_owned(), "no AdmissionReview"),
        (review(&json!({})).to_string(), "missing field `uid`"),
        (json!({"kind": "Pod", "apiVersion": "v1"}).to_string(), "kind \"Pod\""),
        (
            json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1beta1", "request": {"uid": "1"}}).to_string(),
            "v1beta1",
        ),
    ] {
        for path in [INJECT_PATH, DRAIN_PATH] {
            let (status, said) = bench.post(path, body.clone()).await;
            assert_eq!(status, 400, "{body}");
            assert!(said.contains(told), "{said}");
        }
    }
    assert_eq!(bench.count("inject", "refused"), 5);
    // Of what is not about Pods nothing is said.
    let mut other = creation(&json!({"app": "web"}));
    other["resource"] = json!({"group": "apps", "version": "v1", "resource": "deployments"});
    assert_eq!(bench.ask(INJECT_PATH, &other).await["patch"], Value::Null);
}

#[tokio::test]
async fn only_posted_json_of_a_bounded_size_at_the_two_paths_is_read() {
    let bench = Bench::start().await;
    let long = format!("{HEAD}content-length: {}\r\n\r\n", BODY_BYTES + 1);
    let mut endless = format!("{HEAD}transfer-encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..=8 {
        endless.extend_from_slice(b"100000\r\n");
        endless.resize(endless.len() + (1 << 20), b' ');
        endless.extend_from_slice(b"\r\n");
    }
    for (request, status) in [
        (b"POST / HTTP/1.1\r\nhost: a\r\n\r\n".as_slice(), "404"),
        (b"POST /injectx HTTP/1.1\r\nhost: a\r\n\r\n", "404"),
        (b"GET /inject HTTP/1.1\r\nhost: a\r\n\r\n", "405"),
        (b"PUT /drain HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n", "405"),
        (b"POST /inject HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}", "415"),
        (b"POST /inject HTTP/1.1\r\nhost: a\r\ncontent-type: text/json\r\ncontent-length: 2\r\n\r\n{}", "415"),
        (b"POST /inject HTTP/1.1\r\nhost: a\r\ncontent-type: Application/JSON; charset=utf-8\r\ncontent-length: 2\r\n\r\n{}", "400"),
        (long.as_bytes(), "413"),
        (&endless, "413"),
    ] {
        let answer = bench.raw(request).await;
        let head = String::from_utf8_lossy(&request[..60.min(request.len())]);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head}: {answer}");
    }
    assert_eq!(bench.count("inject", "refused"), 1);
}

#[tokio::test]
async fn plain_http_and_noise_are_hung_up_on() {
    let bench = Bench::start().await;
    for text in [
        "GET /inject HTTP/1.1\r\nhost: a\r\n\r\n",
        "\0\0\0\0",
        "\u{16}\u{3}\u{1}",
    ] {
        let mut stream = TcpStream::connect(bench.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // What comes, if anything, is a TLS alert.
        let _ = timeout(LONG, stream.read_to_end(&mut answer))
            .await
            .unwrap();
        assert!(answer.len() < 16, "{answer:?}");
    }
    assert_eq!(bench.post("/inject", String::new()).await.0, 400);
}

#[tokio::test]
async fn a_pod_with_thousands_of_containers_and_gates_is_answered() {
    let bench = Bench::start().await;
    let mut request = creation(&json!({"app": "web"}));
    let containers: Vec<_> = (0..5_000).map(|n| json!({"name": n.to_string()})).collect();
    let gates: Vec<_> = (0..5_000)
        .map(|n| json!({"conditionType": format!("example.com/{n}")}))
        .collect();
    request["object"]["spec"] = json!({"containers": containers, "readinessGates": gates});
    let response = bench.ask(INJECT_PATH, &request).await;
    assert_eq!(patch(&response)[0]["path"], "/spec/readinessGates/-");
}

#[tokio::test]
async fn the_newest_certificate_is_shown_and_without_one_nobody_is_answered() {
    let mut bench = Bench::start().await;
    let request = creation(&json!({"app": "web"}));
    let mut kept = {
        let stream = TokioIo::new(bench.connect().await.unwrap());
        let (sender, connection) = http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        sender
    };
    bench.tls.send_replace(None);
    assert!(bench.connect().await.is_err());
    let (server, client) = certificate();
    bench.tls.send_replace(Some(server));
    assert!(bench.connect().await.is_err(), "the client trusts another");
    bench.client = client;
    bench.ask(INJECT_PATH, &request).await;
    // Who is connected already stays so.
    let again = posted(INJECT_PATH, review(&request).to_string());
    assert_eq!(kept.send_request(again).await.unwrap().status(), 200);
}

#[tokio::test]
async fn two_hundred_reviews_at_once_over_http1_and_http2() {
    let bench = Bench::start().await;
    let request = creation(&json!({"app": "web"}));
    let text = review(&request).to_string();
    let answers = join_all((0..200).map(|_| bench.post(INJECT_PATH, text.clone()))).await;
    assert!(answers.iter().all(|(status, _)| *status == 200));

    let stream = TokioIo::new(bench.connect().await.unwrap());
    let (sender, connection) = http2::handshake(TokioExecutor::new(), stream)
        .await
        .unwrap();
    tokio::spawn(connection);
    let answers = (0..200).map(|_| {
        let mut sender = sender.clone();
        let request = posted(INJECT_PATH, text.clone());
        async move {
            let answer = sender.send_request(request).await.unwrap();
            answer.into_body().collect().await.unwrap().to_bytes()
        }
    });
    let answers = join_all(answers).await;
    assert!(
        answers
            .iter()
            .all(|answer| answer == &answers[0] && !answer.is_empty())
    );
    assert_eq!(bench.count("inject", "patched"), 400);
}

/// The clock is paused as soon as all is connected: it runs ahead whenever nobody has anything to do.
#[tokio::test]
async fn who_sends_slowly_or_nothing_is_hung_up_on() {
    let bench = Bench::start().await;
    let begun = Instant::now();
    let mut silent = TcpStream::connect(bench.address).await.unwrap();
    let mut headless = bench.connect().await.unwrap();
    headless
        .write_all(b"POST /inject HTTP/1.1\r\nx: ")
        .await
        .unwrap();
    let mut bodiless = bench.connect().await.unwrap();
    let request = format!("{HEAD}content-length: 10\r\n\r\n{{");
    bodiless.write_all(request.as_bytes()).await.unwrap();
    tokio::time::pause();
    assert!(
        first_answer(&mut bodiless)
            .await
            .starts_with("HTTP/1.1 408 ")
    );
    assert_eq!(first_answer(&mut silent).await, "");
    assert_eq!(first_answer(&mut headless).await, "");
    let took = begun.elapsed();
    assert!(took >= FIRST_HEAD && took < NEXT_HEAD, "{took:?}");
}

/// Of 1,000 reviews, one after the other: the median, and the slowest but nine.
async fn measure(bench: &Bench, what: &str, request: &Value) {
    let text = review(request).to_string();
    let stream = TokioIo::new(bench.connect().await.unwrap());
    let (mut sender, connection) = http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut took = Vec::new();
    for _ in 0..1_000 {
        sender.ready().await.unwrap();
        let begun = Instant::now();
        let posted = posted(INJECT_PATH, text.clone());
        let answer = sender.send_request(posted).await.unwrap();
        answer.into_body().collect().await.unwrap();
        took.push(begun.elapsed());
    }
    took.sort();
    let (median, slow) = (took[500], took[990]);
    let bytes = text.len();
    println!("{what}, {bytes} bytes: median {median:?}, p99 {slow:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; run by hand"]
async fn how_long_a_review_takes_over_https_with_a_thousand_services() {
    let mut bench = Bench::start().await;
    for n in 0..1_000 {
        let mut other = crate::cluster::testing::service(&format!("default/other-{n}"));
        other.selector = [("app".to_owned(), format!("other-{n}"))].into();
        let key = other.key.clone();
        let change = crate::cluster::Change::Service(key, Some(Box::new(other)));
        bench.world.cluster.apply(change);
    }
    bench.world.show(&bench.shared);
    let mut request = creation(&json!({"app": "web"}));
    measure(&bench, "a small Pod", &request).await;
    let variables: Vec<_> = (0..700)
        .map(|n| json!({"name": format!("VARIABLE_{n}"), "value": "a value like many others"}))
        .collect();
    request["object"]["spec"]["containers"][0]["env"] = json!(variables);
    measure(&bench, "a Pod of 50 KiB", &request).await;
    let none = creation(&json!({"app": "none"}));
    measure(&bench, "a Pod of no Service", &none).await;
}
