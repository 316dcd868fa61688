//! What is refused, with which status and reason, and that nothing of it reaches a backend in two readings.

use podline_api::v1;
use podline_lab::requests;

use crate::harness::Proxy;
use crate::harness::web::{self, Client, Server, serve_http};

/// What is sent, with the status and the reason that answer it.
fn ambiguous() -> Vec<(String, u16, &'static str)> {
    let mut all = vec![
        (requests::TUNNEL.to_owned(), 501, "not-implemented"),
        (
            "GET / HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(),
            505,
            "version-not-supported",
        ),
    ];
    for (fields, status, reason) in [
        (requests::TWO_LENGTHS, 400, "ambiguous-length"),
        (requests::CODINGS, 501, "not-implemented"),
        (requests::BROKEN, 400, "malformed"),
    ] {
        let sent = fields.iter().map(|fields| requests::with_fields(fields));
        all.extend(sent.map(|sent| (sent, status, reason)));
    }
    for (heads, reason) in [
        (requests::HOSTS, "bad-host"),
        (requests::LINES, "malformed"),
    ] {
        all.extend(heads.iter().map(|head| ((*head).to_owned(), 400, reason)));
    }
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
    for chunk in requests::CHUNKS {
        let mut client = Client::connect(address);
        client.send(requests::with_chunks(chunk));
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
    client.send(requests::TWO_HOSTS);
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
