//! HTTP/2 from clients: each of their requests goes to a backend as one of HTTP/1.1 does, many at once on one connection.

use std::time::Duration;

use podline_api::v1;
use podline_lab::wait;

use crate::harness::h2::{self, Client};
use crate::harness::web::{self, Reply, Server, answer, serve_http, stay};
use crate::harness::{LONG, Proxy};

#[test]
fn clients_of_both_versions_are_served_at_one_address() {
    let proxy = Proxy::start();
    let server = Server::saying("a");
    let address = serve_http(&proxy, &[server.address]);
    h2::run(async {
        let client = Client::connect(address).await;
        for _ in 0..10 {
            let answer = client.get("/x?y=z").await.unwrap();
            assert_eq!((answer.status(), &*answer.text()), (200, "a"));
        }
    });
    assert_eq!(web::Client::connect(address).get("/").text(), "a");
    let got = &server.seen()[0];
    assert_eq!(got.line(), "GET /x?y=z HTTP/1.1");
    assert_eq!(got.field("host"), Some("shop.example"));
    assert_eq!(got.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(got.field("x-forwarded-proto"), Some("http"));
    assert_eq!(proxy.listener("web").accepted_connections, 2);
    let answers = proxy.listener("web").http.unwrap().answers;
    assert_eq!(answers[1], 11);
}

#[test]
fn bodies_pass_both_ways_whole() {
    let proxy = Proxy::start();
    let server = Server::start(|got| Reply::Stay(echo(&got.data)));
    let address = serve_http(&proxy, &[server.address]);
    h2::run(async {
        let client = Client::connect(address).await;
        for size in [0, 1, 70_000, 5_000_000] {
            let body: Vec<u8> = (0..size).map(|n: u32| n.to_le_bytes()[1]).collect();
            for length in [None, Some(size)] {
                let mut request = h2::request("POST", "/");
                if let Some(length) = length {
                    request
                        .headers_mut()
                        .insert("content-length", length.into());
                }
                let answer = client.ask(request, &body, None).await.unwrap();
                assert_eq!(answer.status(), 200);
                assert!(answer.body == body, "{size}");
            }
        }
    });
}

fn echo(body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

#[test]
fn a_hundred_requests_at_once_share_a_connection() {
    let proxy = Proxy::start();
    let server = Server::start(|got| stay(got.line()));
    let address = serve_http(&proxy, &[server.address]);
    h2::run(async {
        let client = Client::connect(address).await;
        for _ in 0..5 {
            let paths: Vec<String> = (0..100).map(|n| format!("/{n}")).collect();
            let answers = paths.iter().map(|path| client.get(path));
            let answers = futures_util::future::join_all(answers).await;
            for (path, answer) in paths.iter().zip(answers) {
                assert_eq!(answer.unwrap().text(), format!("GET {path} HTTP/1.1"));
            }
        }
    });
    let listener = proxy.listener("web");
    assert_eq!(listener.accepted_connections, 1);
    assert_eq!(server.seen().len(), 500);
}
