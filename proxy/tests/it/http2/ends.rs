//! How streams and connections of HTTP/2 end: a cut is never a clean end, and a last request is not lost.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use ::h2::Reason;
use podline_api::v1;
use podline_lab::wait;

use crate::harness::h2::{self, Client};
use crate::harness::web::{self, Reply, Server, serve_http, serve_with, stay};
use crate::harness::{LONG, Proxy, tcp, wire};

#[test]
fn a_backend_that_cuts_its_answer_makes_a_reset_of_it() {
    let proxy = Proxy::start();
    let server = Server::start(|got| match got.line().split(' ').nth(1).unwrap() {
        "/length" => Reply::End(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello".to_vec()),
        "/chunks" => Reply::End(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n".to_vec(),
        ),
        "/none" => Reply::Reset,
        _ => stay("a"),
    });
    let address = serve_http(&proxy, &[server.address]);
    h2::run(async {
        let client = Client::connect(address).await;
        for path in ["/length", "/chunks"] {
            let error = client.get(path).await.unwrap_err();
            assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "{path}");
        }
        let answer = client.ask(h2::request("POST", "/none"), b"a", None).await;
        let answer = answer.unwrap();
        assert_eq!(
            (answer.status(), answer.reason()),
            (502, Some("backend-closed"))
        );
        assert_eq!(client.get("/").await.unwrap().text(), "a");
    });
}

#[test]
fn a_request_that_is_taken_back_is_taken_back_from_its_backend() {
    let proxy = web::one_worker();
    let server = Server::start(|got| match got.line() {
        "GET /silence HTTP/1.1" => Reply::Silence,
        _ => stay("a"),
    });
    let address = serve_http(&proxy, &[server.address]);
    h2::run(async {
        let client = Client::connect(address).await;
        let (answer, mut stream) = client.send(h2::get("/silence"), true).await.unwrap();
        let is_there = || !server.seen().is_empty();
        podline_lab::wait::find(LONG, "it is asked for", || async {
            is_there().then_some(())
        })
        .await;
        stream.send_reset(Reason::CANCEL);
        drop(answer);
        let has_ended = || server.ended() == 1;
        podline_lab::wait::find(LONG, "it is given up", || async {
            has_ended().then_some(())
        })
        .await;
        assert_eq!(client.get("/").await.unwrap().text(), "a");
    });
    assert_eq!(proxy.listener("web").accepted_connections, 1);
}

#[test]
fn a_removed_listener_says_goodbye_and_loses_no_request() {
    let proxy = Proxy::start();
    let server = Server::saying("a");
    let address = serve_http(&proxy, &[server.address]);
    let answered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            h2::run(async {
                let client = Client::connect(address).await;
                loop {
                    match client.get("/").await {
                        Ok(answer) => assert_eq!(answer.text(), "a"),
                        // It was asked for after the goodbye, and nobody has seen it.
                        Err(error) => {
                            let is_refused = error.reason() == Some(Reason::REFUSED_STREAM);
                            assert!(
                                error.is_go_away() || is_refused || error.is_io(),
                                "{error:?}"
                            );
                            break;
                        }
                    }
                    answered.fetch_add(1, Relaxed);
                }
                assert!(client.connection.await.unwrap().is_ok());
            });
        });
        wait::until(LONG, "requests are served", || answered.load(Relaxed) > 100);
        let removal = v1::ApplyRequest {
            remove_listeners: vec!["web".to_owned()],
            ..wire::request()
        };
        proxy.apply(removal);
        client.join().unwrap();
    });
    assert_eq!(server.seen().len(), answered.load(Relaxed));
}

#[test]
fn a_connection_ends_when_it_is_old_or_idle() {
    let proxy = Proxy::start();
    let server = Server::saying("a");
    for settings in [
        v1::HttpSettings {
            max_connection_age: wire::time(Duration::from_secs(3)),
            ..Default::default()
        },
        v1::HttpSettings {
            keep_alive_timeout: wire::time(Duration::from_secs(3)),
            ..Default::default()
        },
    ] {
        let address = serve_with(&proxy, &[server.address], settings);
        h2::run(async {
            let client = Client::connect(address).await;
            assert_eq!(client.get("/").await.unwrap().text(), "a");
            assert!(client.connection.await.unwrap().is_ok());
        });
    }
}

#[test]
fn an_answer_that_comes_before_the_body_is_whole() {
    let proxy = Proxy::start();
    let server = tcp::backend();
    let address = serve_http(&proxy, &[server.1]);
    let backend = std::thread::spawn(move || {
        for _ in 0..3 {
            let mut seen = tcp::accept(&server.0);
            std::io::Read::read_exact(&mut seen, &mut [0; 64]).unwrap();
            let answer =
                b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
            std::io::Write::write_all(&mut seen, answer).unwrap();
            // It closes with unread bytes, which is a reset.
        }
    });
    h2::run(async {
        let client = Client::connect(address).await;
        for _ in 0..3 {
            let request = h2::request("POST", "/");
            let (answer, mut body) = client.send(request, false).await.unwrap();
            // As much as there is room for; nobody reads it.
            body.reserve_capacity(60_000);
            body.send_data(vec![7; 60_000].into(), false).unwrap();
            let answer = h2::read(answer).await.unwrap();
            assert_eq!((answer.status(), &*answer.text()), (403, "no"));
            let reset = std::future::poll_fn(|context| body.poll_reset(context)).await;
            assert_eq!(reset.unwrap(), Reason::NO_ERROR);
        }
        assert!(!client.connection.is_finished());
    });
    backend.join().unwrap();
}
