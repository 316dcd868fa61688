//! Backends that are spoken to in HTTP/2: many requests share a connection, and none is lost when it ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use ::h2::Reason;
use podline_api::v1;
use podline_lab::wait;

use crate::harness::h2::{self, Backend, Client, echo};
use crate::harness::web::{self, listener};
use crate::harness::{LONG, Proxy, tcp, wire};

/// Serves these backends in HTTP/2 at a new address.
pub(super) fn serve(proxy: &Proxy, backends: &[SocketAddr]) -> SocketAddr {
    let address = tcp::free_address();
    let set = v1::BackendSet {
        http_version: Some(v1::backend_set::HttpVersion::Http2.into()),
        ..wire::set("web", backends)
    };
    proxy.serve_with(listener("web", address, "web"), set);
    address
}

#[test]
fn requests_of_both_versions_share_a_connection() {
    let proxy = web::one_worker();
    let backend = Backend::start(usize::MAX, |asked| Box::pin(echo(asked)));
    let address = serve(&proxy, &[backend.address]);
    let mut client = web::Client::connect(address);
    for _ in 0..5 {
        let answer = client.get("/a?b=c");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.field("got-uri"), Some("http://shop.example/a?b=c"));
        assert_eq!(answer.field("got-x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(answer.field("got-connection"), None);
    }
    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    );
    assert_eq!(client.answer().text(), "hello");
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(client.answer().text(), "hello");
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head_answer().status, 200);
    h2::run(async {
        let client = Client::connect(address).await;
        let paths: Vec<String> = (0..100).map(|n| format!("/{n}")).collect();
        let answers = paths.iter().map(|path| client.get(path));
        for (path, answer) in paths
            .iter()
            .zip(futures_util::future::join_all(answers).await)
        {
            let uri = format!("http://shop.example{path}");
            assert_eq!(answer.unwrap().field("got-uri"), Some(&*uri));
        }
    });
    assert_eq!(backend.accepted(), 1);
}

#[test]
fn bodies_pass_both_ways_whole_and_in_bounded_memory() {
    const SIZE: usize = 50_000_000;
    let proxy = Proxy::start();
    let backend = Backend::start(usize::MAX, |asked| Box::pin(echo(asked)));
    let address = serve(&proxy, &[backend.address]);
    h2::run(async {
        let client = Client::connect(address).await;
        let body: Vec<u8> = (0..SIZE).map(|n| n.to_le_bytes()[1]).collect();
        for size in [1, 100_000, SIZE] {
            let answer = client
                .ask(h2::request("POST", "/"), &body[..size], None)
                .await;
            assert!(answer.unwrap().body == body[..size], "{size}");
        }
    });
    assert!(proxy.resident_bytes() < 100 << 20);
}

#[test]
fn more_requests_than_a_connection_takes_make_another() {
    let proxy = web::one_worker();
    let under_way = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&under_way);
    let backend = Backend::start(usize::MAX, move |asked| {
        let count = Arc::clone(&count);
        Box::pin(async move {
            count.fetch_add(1, Relaxed);
            wait::find(LONG, "all are there", || async {
                (count.load(Relaxed) >= 250).then_some(())
            })
            .await;
            echo(asked).await
        })
    });
    let address = serve(&proxy, &[backend.address]);
    h2::run(async {
        let clients = [
            Client::connect(address).await,
            Client::connect(address).await,
            Client::connect(address).await,
        ];
        let answers = (0..250).map(|n| clients[n % 3].get("/"));
        for answer in futures_util::future::join_all(answers).await {
            assert_eq!(answer.unwrap().status(), 200);
        }
    });
    assert_eq!(backend.accepted(), 3);
}

#[test]
fn a_backend_that_says_goodbye_loses_no_request() {
    let proxy = Proxy::start();
    let backend = Backend::start(20, |asked| Box::pin(echo(asked)));
    let address = serve(&proxy, &[backend.address]);
    h2::run(async {
        let client = Client::connect(address).await;
        for _ in 0..20 {
            let answers = (0..50).map(|_| client.ask(h2::request("POST", "/"), b"a", None));
            for answer in futures_util::future::join_all(answers).await {
                let answer = answer.unwrap();
                assert_eq!((answer.status(), &*answer.text()), (200, "a"));
            }
        }
    });
    assert!(backend.accepted() > 5);
    let failures = proxy.backend("web", backend.address).unwrap();
    assert_eq!(failures.connect_failures, 0);
}

#[test]
fn what_a_backend_refuses_to_look_at_is_asked_again() {
    let proxy = web::one_worker();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let backend = Backend::start(usize::MAX, move |(request, mut answer)| {
        let is_refused = count.fetch_add(1, Relaxed).is_multiple_of(2);
        Box::pin(async move {
            if is_refused {
                answer.send_reset(Reason::REFUSED_STREAM);
                return Ok(());
            }
            echo((request, answer)).await
        })
    });
    let address = serve(&proxy, &[backend.address]);
    h2::run(async {
        let client = Client::connect(address).await;
        for _ in 0..5 {
            let answer = client.ask(h2::request("POST", "/"), b"a", None).await;
            assert_eq!(answer.unwrap().text(), "a");
        }
    });
    assert_eq!(asked.load(Relaxed), 10);
}

#[test]
fn a_backend_that_cannot_be_reached_is_passed_over() {
    let proxy = Proxy::start();
    let backend = Backend::start(usize::MAX, |asked| Box::pin(echo(asked)));
    let address = serve(&proxy, &[tcp::free_address(), backend.address]);
    h2::run(async {
        let client = Client::connect(address).await;
        for _ in 0..10 {
            let answer = client.ask(h2::request("POST", "/"), b"a", None).await;
            assert_eq!(answer.unwrap().text(), "a");
        }
    });
    let proxy = Proxy::start();
    // It speaks, but not HTTP/2.
    let server = web::Server::saying("a");
    let address = serve(&proxy, &[server.address]);
    let mut client = web::Client::connect(address);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    let answer = client.answer();
    assert_eq!(
        (answer.status, answer.reason()),
        (502, Some("backend-closed"))
    );
    let nobody = tcp::free_address();
    proxy.apply(wire::change("web", &[nobody], &[server.address]));
    wait::until(LONG, "nobody is there", || {
        let answer = web::Client::connect(address).get("/");
        (answer.status, answer.reason()) == (502, Some("connect-failed"))
    });
}

#[test]
fn a_silent_backend_is_answered_for_and_its_connection_given_up() {
    let proxy = web::one_worker();
    let backend = Backend::start(usize::MAX, |(request, answer)| {
        Box::pin(async move {
            if request.uri().path() == "/silence" {
                std::future::pending::<()>().await;
            }
            echo((request, answer)).await
        })
    });
    let address = tcp::free_address();
    let set = v1::BackendSet {
        http_version: Some(v1::backend_set::HttpVersion::Http2.into()),
        ..wire::set("web", &[backend.address])
    };
    let listener = v1::Listener {
        http: Some(v1::HttpSettings {
            response_timeout: wire::time(Duration::from_secs(3)),
            ..Default::default()
        }),
        ..listener("web", address, "web")
    };
    proxy.serve_with(listener, set);
    h2::run(async {
        let client = Client::connect(address).await;
        let answer = client.get("/silence").await.unwrap();
        assert_eq!(
            (answer.status(), answer.reason()),
            (504, Some("response-timeout"))
        );
        assert_eq!(client.get("/").await.unwrap().status(), 200);
    });
    assert_eq!(backend.accepted(), 2);
}

#[test]
fn a_proxy_header_comes_before_anything_else_and_clients_do_not_share() {
    let proxy = web::one_worker();
    let (backend, to) = tcp::backend();
    let address = tcp::free_address();
    let set = v1::BackendSet {
        http_version: Some(v1::backend_set::HttpVersion::Http2.into()),
        ..wire::set("web", &[to])
    };
    let listener = v1::Listener {
        proxy_protocol: Some(v1::ProxyProtocol {
            send: Some(v1::proxy_protocol::Version::V1.into()),
            ..Default::default()
        }),
        ..listener("web", address, "web")
    };
    proxy.serve_with(listener, set);
    for _ in 0..2 {
        let mut client = web::Client::connect(address);
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let port = client.stream.local_addr().unwrap().port();
        let header = format!(
            "PROXY TCP4 127.0.0.1 127.0.0.1 {port} {}\r\nPRI * HTTP/2.0\r\n",
            address.port()
        );
        let mut told = vec![0; header.len()];
        std::io::Read::read_exact(&mut tcp::accept(&backend), &mut told).unwrap();
        assert_eq!(String::from_utf8_lossy(&told), header);
    }
}
