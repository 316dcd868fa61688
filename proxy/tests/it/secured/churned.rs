//! Everything changes at once under load: backends, certificates, and one backend dies. No request fails, and what was
//! upgraded lives on.
//!
//! A short run is a test; the long one is `cargo test -p podline-proxy --test it a_long_churn -- --ignored --nocapture`.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use podline_api::v1;
use podline_api::v1::listener::Protocol;
use podline_lab::{Behaviour, Pod};

use super::NAME;
use crate::harness::certificates::Pair;
use crate::harness::secure::{self, Tls, made};
use crate::harness::web::{Client, Reply, Server};
use crate::harness::{Proxy, addresses, h2, pod, tcp, wire};

/// Between two changes of the backends.
const PACE: Duration = Duration::from_millis(10);
const SWITCH: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// Clients, and when they are to stop.
struct Load<'a> {
    address: SocketAddr,
    tls: &'a Tls,
    is_over: &'a AtomicBool,
}

impl Load<'_> {
    /// Requests on one connection; so many were answered.
    fn kept(&self) -> usize {
        let mut client = Client::over(self.tls.connect(self.address, NAME).unwrap());
        let mut count = 0;
        while !self.is_over.load(Relaxed) {
            assert_eq!(client.get("/").status, 200);
            count += 1;
        }
        count
    }

    /// A connection for each.
    fn short(&self) -> usize {
        let mut count = 0;
        while !self.is_over.load(Relaxed) {
            super::ask(self.tls, self.address);
            count += 1;
        }
        count
    }

    /// Eight at once on one connection of HTTP/2.
    fn multiplexed(&self) -> usize {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let client = h2::Client::connect_tls(self.address, self.tls, NAME).await;
            let mut count = 0;
            while !self.is_over.load(Relaxed) {
                let asked = (0..8).map(|_| client.get("/"));
                for answer in futures_util::future::join_all(asked).await {
                    assert_eq!(answer.unwrap().status(), 200);
                    count += 1;
                }
            }
            count
        })
    }

    /// What is said to a WebSocket comes back.
    fn upgraded(&self) -> usize {
        let mut client = Client::over(self.tls.connect(self.address, NAME).unwrap());
        client.send(
            "GET /chat HTTP/1.1\r\nHost: ws.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        );
        assert_eq!(client.answer().status, 101);
        let mut count = 0;
        let mut echo = [0; 5];
        while !self.is_over.load(Relaxed) {
            client.stream.write_all(b"hello").unwrap();
            client.read_exact(&mut echo);
            assert_eq!(&echo, b"hello");
            count += 1;
        }
        count
    }
}

fn listener(address: SocketAddr, pair: &Pair) -> v1::Listener {
    let chat = v1::HttpRoute {
        hosts: vec!["ws.example".to_owned()],
        backend_set: "chat".to_owned(),
        ..v1::HttpRoute::default()
    };
    v1::Listener {
        routes: vec![chat],
        ..secure::listener("web", Protocol::Https, address, secure::settings(&[pair]))
    }
}

fn churn(lasts: Duration, reload: Duration) {
    let proxy = Proxy::start();
    let mut pods: Vec<Pod> = ["a", "b", "c", "d"]
        .map(|name| pod(name, Behaviour::Name))
        .into();
    let addresses = addresses(&pods);
    let chat = Server::start(|_| Reply::Echo(SWITCH.to_vec()));
    let pairs = [made(&[NAME]), made(&[NAME])];
    let tls = Tls::trusting(&[&pairs[0], &pairs[1]]);
    let address = tcp::free_address();
    proxy.apply(wire::sets([wire::set("chat", &[chat.address])]));
    proxy.serve_with(listener(address, &pairs[0]), wire::set("web", &addresses));
    let is_over = AtomicBool::new(false);
    let load = Load {
        address,
        tls: &tls,
        is_over: &is_over,
    };
    let (mut publishes, mut reloads) = (0, 0);
    thread::scope(|scope| {
        let clients = [
            scope.spawn(|| load.kept()),
            scope.spawn(|| load.kept()),
            scope.spawn(|| load.short()),
            scope.spawn(|| load.multiplexed()),
            scope.spawn(|| load.upgraded()),
            scope.spawn(|| load.upgraded()),
        ];
        let begun = Instant::now();
        let mut due = begun;
        while begun.elapsed() < lasts || pods.len() == addresses.len() {
            let out = publishes % addresses.len();
            let some: Vec<_> = (0..addresses.len())
                .filter(|index| *index != out)
                .map(|index| addresses[index])
                .collect();
            proxy.apply(wire::sets([wire::set("web", &some)]));
            publishes += 1;
            if begun.elapsed() > reload * (reloads + 1) {
                reloads += 1;
                let listener = listener(address, &pairs[reloads as usize % 2]);
                proxy.apply(v1::ApplyRequest {
                    listeners: vec![listener],
                    ..wire::request()
                });
            }
            if begun.elapsed() > lasts / 2 && pods.len() == addresses.len() {
                pods.pop(); // and what was with it
            }
            due += PACE;
            thread::park_timeout(due.saturating_duration_since(Instant::now()));
        }
        is_over.store(true, Relaxed);
        let counts = clients.map(|client| client.join().unwrap());
        println!("{publishes} publishes, {reloads} certificates, and requests {counts:?}");
        assert!(counts.iter().all(|count| *count > 0));
    });
    assert!(reloads > 0 && pods.len() < addresses.len());
    let http = proxy.listener("web").http.unwrap();
    println!("answers {:?}, refusals {:?}", http.answers, http.refusals);
    assert_eq!(http.answers[4], 0, "5xx");
}

#[test]
fn no_request_fails_while_everything_changes() {
    churn(Duration::from_secs(3), Duration::from_millis(300));
}

#[test]
#[ignore = "30 s"]
fn a_long_churn() {
    churn(Duration::from_secs(30), Duration::from_secs(1));
}
