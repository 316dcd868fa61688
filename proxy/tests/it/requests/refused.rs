//! What is refused, with which status and reason, and that nothing of it reaches a backend in two readings.

use podline_api::v1;

use crate::harness::Proxy;
use crate::harness::web::{self, Client, Server, serve_http};

/// Fields whose message has two lengths, or none that is sure.
const TWO_LENGTHS: &[&str] = &[
    "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    "Content-Length: 5\r\nContent-Length: 5\r\n",
    "Content-Length: 5, 5\r\n",
    "Content-Length: +5\r\n",
    "Content-Length: -5\r\n",
    "Content-Length: 0x5\r\n",
    "Content-Length: 99999999999999999999\r\n",
];

/// Codings that are not passed on.
const CODINGS: &[&str] = &[
    "Transfer-Encoding: chunked, chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: xchunked\r\n",
];

/// Fields that break the grammar.
const BROKEN: &[&str] = &[
    "Transfer-Encoding : chunked\r\n",
    "Transfer-Encoding\r\n : chunked\r\n",
    "X: a\r\n Transfer-Encoding: chunked\r\n",
    "X: a\nTransfer-Encoding: chunked\r\n",
    "X: a\0b\r\n",
    "X\u{e9}: a\r\n",
];

/// Whole heads.
const HEADS: &[(&str, u16, &str)] = &[
    ("GET / HTTP/1.1\r\n\r\n", 400, "bad-host"),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        400,
        "bad-host",
    ),
    ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "bad-host"),
    ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed"),
    (
        "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        501,
        "not-implemented",
    ),
    (
        "PRI * HTTP/2.0\r\n\r\nMS\r\n\r\n",
        505,
        "version-not-supported",
    ),
];

/// What is sent, with the status and the reason that answer it.
fn ambiguous() -> Vec<(String, u16, &'static str)> {
    let body = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}");
    let mut all = Vec::new();
    for (fields, status, reason) in [
        (TWO_LENGTHS, 400, "ambiguous-length"),
        (CODINGS, 501, "not-implemented"),
        (BROKEN, 400, "malformed"),
    ] {
        all.extend(fields.iter().map(|it| (post(it), status, reason)));
    }
    all.extend(
        HEADS
            .iter()
            .map(|(head, status, reason)| ((*head).to_owned(), *status, *reason)),
    );
    all
}

#[test]
fn what_can_be_read_in_two_ways_never_reaches_a_backend() {
    let proxy = Proxy::start();
    let server = Server::saying("a");
    let address = serve_http(&proxy, &[server.address]);
    for (sent, status, reason) in ambiguous() {
        let mut client = Client::connect(address);
        client.send(&sent);
        let answer = client.answer();
        let found = (answer.status, answer.reason());
        assert_eq!(found, (status, Some(reason)), "{}", sent.escape_debug());
        assert!(client.has_ended(), "{}", sent.escape_debug());
    }
    assert_eq!(server.seen().len(), 0);
}

#[test]
fn broken_chunks_end_the_request_and_nothing_follows_them() {
    let proxy = Proxy::start();
    let server = Server::saying("a");
    let address = serve_http(&proxy, &[server.address]);
    for chunk in [
        "-1\r\n",
        "0x3\r\nabc",
        "3\nabc\r\n",
        "3\r\nabcd\r\n",
        "11111111111111111\r\n",
        "\r\n",
        "g\r\n",
    ] {
        let mut client = Client::connect(address);
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(chunk);
        let answer = client.answer();
        assert_eq!(answer.status, 400, "{}", chunk.escape_debug());
    }
    assert_eq!(server.seen().len(), 0);
}

#[test]
fn the_target_in_absolute_form_wins_over_the_host() {
    let proxy = Proxy::start();
    let server = Server::saying("a");
    let address = serve_http(&proxy, &[server.address]);
    let mut client = Client::connect(address);
    client.send("GET http://shop.example/a?b HTTP/1.1\r\nHost: other.example\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    let got = server.last();
    assert_eq!(got.line(), "GET /a?b HTTP/1.1");
    assert_eq!(got.field("host"), Some("shop.example"));
}

#[test]
fn too_much_is_refused_and_just_enough_is_not() {
    let proxy = Proxy::start();
    let server = Server::saying("a");
    let settings = v1::HttpSettings {
        max_head_bytes: Some(4 << 10),
        max_body_bytes: Some(1 << 10),
        ..v1::HttpSettings::default()
    };
    let address = web::serve_with(&proxy, &[server.address], settings);
    let long = "x".repeat(4 << 10);
    let many = "X-Same: 1\r\n".repeat(200);
    for (sent, status, reason) in [
        (
            format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"),
            431,
            "head-too-large",
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"),
            431,
            "head-too-large",
        ),
        (
            format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"),
            414,
            "target-too-long",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n".into(),
            413,
            "body-too-large",
        ),
        (
            format!(
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n401\r\n{}\r\n0\r\n\r\n",
                &long[..1025]
            ),
            413,
            "body-too-large",
        ),
    ] {
        let mut client = Client::connect(address);
        client.send(&sent);
        let answer = client.answer();
        assert_eq!(
            (answer.status, answer.reason()),
            (status, Some(reason)),
            "{}",
            &sent[..30]
        );
        assert!(answer.text().len() > 10, "it says what is wrong");
    }
    assert_eq!(server.seen().len(), 0);
    let mut client = Client::connect(address);
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1024\r\n\r\n{}",
        &long[..1024]
    ));
    assert_eq!(client.answer().status, 200);
}

#[test]
fn a_flood_of_heads_without_end_takes_bounded_memory() {
    let proxy = web::one_worker();
    let server = Server::saying("a");
    let address = serve_http(&proxy, &[server.address]);
    Client::connect(address).get("/");
    let before = proxy.resident_bytes();
    let mut clients = Vec::new();
    for _ in 0..200 {
        let mut client = Client::connect(address);
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX: {}",
            "x".repeat(16 << 10)
        ));
        clients.push(client);
    }
    assert_eq!(Client::connect(address).get("/").text(), "a");
    let grown = proxy.resident_bytes().saturating_sub(before);
    assert!(grown < 200 * (40 << 10), "{grown}");
}
