//! HTTP listeners: each request goes to a backend of its own, whatever its framing, and connections are kept on both
//! sides.

mod ends;
mod hostile;
mod lost;
mod refused;
mod routed;
mod upgraded;

use std::time::Duration;

use podline_api::v1;
use podline_lab::wait;

use crate::harness::web::{self, Client, Reply, Server, answer, serve_http, stay};
use crate::harness::{LONG, Proxy, wire};

#[test]
fn requests_of_one_connection_go_to_backends_in_turn() {
    let proxy = Proxy::start();
    let servers = ["a", "b"].map(Server::saying);
    let address = serve_http(&proxy, &[servers[0].address, servers[1].address]);
    let mut client = Client::connect(address);
    let mut texts: Vec<String> = (0..10).map(|_| client.get("/").text()).collect();
    texts.sort();
    assert_eq!(texts.join(""), "aaaaabbbbb");
    assert_eq!(proxy.listener("web").accepted_connections, 1);
}

#[test]
fn connections_to_backends_are_shared_by_clients() {
    let proxy = web::one_worker();
    let server = Server::saying("a");
    let address = serve_http(&proxy, &[server.address]);
    for _ in 0..50 {
        assert_eq!(Client::connect(address).get("/").text(), "a");
    }
    assert_eq!(server.accepted(), 1);
    assert_eq!(server.seen().len(), 50);
}

#[test]
fn a_backend_is_told_of_the_client_and_nothing_that_was_for_the_proxy() {
    let proxy = Proxy::start();
    let server = Server::saying("a");
    let address = serve_http(&proxy, &[server.address]);
    let mut client = Client::connect(address);
    let port = address.port();
    client.send(format!(
        "GET /a?b=c HTTP/1.1\r\nHost: Shop.example:{port}\r\nConnection: keep-alive, x-mine\r\nX-Mine: 1\r\n\
         Keep-Alive: 5\r\nX-Forwarded-For: 192.0.2.1\r\nX-Other: 2\r\n\r\n"
    ));
    assert_eq!(client.answer().text(), "a");
    let got = server.last();
    assert_eq!(got.line(), "GET /a?b=c HTTP/1.1");
    assert_eq!(got.field("host"), Some(&*format!("Shop.example:{port}")));
    assert_eq!(got.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(got.field("x-forwarded-proto"), Some("http"));
    assert_eq!(got.field("x-forwarded-port"), Some(&*port.to_string()));
    assert_eq!(got.field("x-other"), Some("2"));
    for name in ["x-mine", "keep-alive", "connection"] {
        assert_eq!(got.field(name), None, "{}", got.head);
    }
}

#[test]
fn bodies_pass_in_every_framing() {
    let proxy = Proxy::start();
    let server = Server::start(|got| {
        match got.line().split(' ').nth(1).unwrap() {
        "/length" => stay("hello"),
        "/chunks" => Reply::Stay(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;a=b\r\n!\r\n0\r\n\r\n".to_vec(),
        ),
        "/none" => Reply::Stay(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
        "/unchanged" => {
            Reply::Stay(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n".to_vec())
        }
        "/end" => Reply::End(b"HTTP/1.0 200 OK\r\n\r\nhello until the end".to_vec()),
        "/head" => Reply::Stay(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n".to_vec()),
        other => panic!("{other}"),
    }
    });
    let address = serve_http(&proxy, &[server.address]);
    let mut client = Client::connect(address);
    for _ in 0..3 {
        assert_eq!(client.get("/length").text(), "hello");
        assert_eq!(client.get("/chunks").text(), "hello!");
        assert_eq!(client.get("/none").status, 204);
        assert_eq!(client.get("/unchanged").status, 304);
        assert_eq!(client.get("/end").text(), "hello until the end");
        client.send("HEAD /head HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.head_answer().field("content-length"), Some("99"));
    }
    // Up.
    client.send("POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(client.answer().text(), "hello");
    assert_eq!(server.last().body, b"abc");
    client.send(
        "POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n",
    );
    client.send("0\r\n\r\n");
    assert_eq!(client.answer().text(), "hello");
    assert_eq!(server.last().body, b"3\r\nabc\r\n0\r\n\r\n");
    assert_eq!(proxy.listener("web").accepted_connections, 1);
}

#[test]
fn a_client_of_http_1_0_gets_bare_data_and_an_end() {
    let proxy = Proxy::start();
    let server = Server::start(|_| {
        let chunks =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        Reply::Stay(chunks.to_vec())
    });
    let address = serve_http(&proxy, &[server.address]);
    let mut client = Client::connect(address);
    client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.text(), "hello");
    assert_eq!(answer.field("transfer-encoding"), None);
    assert_eq!(answer.field("connection"), Some("close"));
    assert!(client.has_ended());
}

#[test]
fn requests_sent_ahead_are_answered_in_order() {
    let proxy = Proxy::start();
    let server = Server::start(|got| stay(got.line()));
    let address = serve_http(&proxy, &[server.address]);
    let mut client = Client::connect(address);
    let fields = "Host: a\r\nContent-Length: 4\r\n\r\nbody";
    let requests = (0..100).map(|n| format!("POST /{n} HTTP/1.1\r\n{fields}"));
    client.send(requests.collect::<Vec<_>>().concat());
    for n in 0..100 {
        assert_eq!(client.answer().text(), format!("POST /{n} HTTP/1.1"));
    }
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let proxy = Proxy::start();
    let server = Server::saying("a");
    let address = serve_http(&proxy, &[server.address]);
    let mut client = Client::connect(address);
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n";
    for byte in request.bytes() {
        client.send([byte]);
    }
    assert_eq!(client.answer().text(), "a");
    let got = server.last();
    assert_eq!(got.data, b"abc");
    let trailer = b"0\r\nX: y\r\n\r\n";
    assert!(got.body.ends_with(trailer), "{}", got.body.escape_ascii());
}

#[test]
fn interim_answers_come_through() {
    let proxy = Proxy::start();
    let server = Server::start(|got| match got.number {
        0 => Reply::Stay(
            [
                b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".to_vec(),
                answer("200 OK", "late"),
            ]
            .concat(),
        ),
        _ => stay("a"),
    });
    let address = serve_http(&proxy, &[server.address]);
    let mut client = Client::connect(address);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let early = client.answer();
    assert_eq!((early.status, early.field("link")), (103, Some("</a>")));
    assert_eq!(client.answer().text(), "late");
}

#[test]
fn a_cookie_keeps_a_client_with_its_backend() {
    let proxy = Proxy::start();
    let servers = ["a", "b", "c"].map(Server::saying);
    let addresses = servers.each_ref().map(|server| server.address);
    let address = crate::harness::tcp::free_address();
    let set = v1::BackendSet {
        affinity: Some(v1::Affinity {
            cookie: Some(v1::CookieAffinity::default()),
            ..v1::Affinity::default()
        }),
        ..wire::set("web", &addresses)
    };
    proxy.serve_with(web::listener("web", address, "web"), set);
    let mut client = Client::connect(address);
    let first = client.get("/");
    let cookie = first.field("set-cookie").unwrap();
    assert!(cookie.contains("HttpOnly"), "{cookie}");
    let pair = cookie.split(';').next().unwrap();
    for _ in 0..9 {
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: a\r\nCookie: {pair}\r\n\r\n"
        ));
        let answer = client.answer();
        assert_eq!(answer.body, first.body);
        assert_eq!(answer.field("set-cookie"), None);
    }
    // One that names nobody is as none.
    client.send("GET / HTTP/1.1\r\nHost: a\r\nCookie: podline=0000000000000000\r\n\r\n");
    assert!(client.answer().field("set-cookie").is_some());
}

#[test]
fn requests_are_counted() {
    let proxy = Proxy::start();
    let server = Server::start(|got| match got.line() {
        "GET /missing HTTP/1.1" => Reply::Stay(answer("404 Not Found", "")),
        _ => stay("a"),
    });
    let address = serve_http(&proxy, &[server.address]);
    let mut client = Client::connect(address);
    client.get("/");
    client.get("/missing");
    client.send("nonsense\r\n\r\n");
    assert_eq!(client.answer().status, 400);
    let backend = proxy.backend("web", server.address).unwrap();
    assert_eq!(backend.answers, [0, 1, 0, 1, 0]);
    assert_eq!(backend.durations.iter().sum::<u64>(), 2);
    let set = proxy.set("web");
    assert_eq!(set.answers, [0, 1, 0, 1, 0]);
    let (_, metrics) = proxy.page("/metrics").unwrap();
    for line in [
        "podline_set_http_requests_total{set=\"web\",class=\"4xx\"} 1".to_owned(),
        "podline_set_http_request_duration_seconds_count{set=\"web\"} 2".to_owned(),
        format!(
            "podline_backend_http_request_duration_seconds_bucket{{set=\"web\",backend=\"{}\",le=\"+Inf\"}} 2",
            server.address
        ),
    ] {
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
    wait::until(LONG, "they are told", || {
        let (_, page) = proxy.page("/metrics").unwrap();
        [
            "podline_http_requests_total{listener=\"web\",class=\"2xx\"} 1",
            "podline_http_requests_total{listener=\"web\",class=\"4xx\"} 2",
            "podline_http_refusals_total{listener=\"web\",reason=\"malformed\",fault=\"client\"} 1",
            "podline_http_request_duration_seconds_count{listener=\"web\"} 2",
        ]
        .iter()
        .all(|line| page.lines().any(|found| found == *line))
    });
}

#[test]
fn old_connections_are_told_to_end() {
    let proxy = Proxy::start();
    let server = Server::saying("a");
    let settings = v1::HttpSettings {
        max_connection_age: wire::time(Duration::from_secs(1)),
        ..v1::HttpSettings::default()
    };
    let address = web::serve_with(&proxy, &[server.address], settings);
    let mut client = Client::connect(address);
    wait::until(LONG, "the answer says close", || {
        let answer = client.get("/");
        assert_eq!(answer.text(), "a");
        answer.field("connection") == Some("close")
    });
    assert!(client.has_ended());
}
