//! Listeners that speak TLS: what is inside is forwarded or served as if it had come in the clear, with its ends.

mod backends;
mod churned;
mod handshakes;
mod misdirected;
mod renewed;

use std::io::{Read, Write};
use std::net::SocketAddr;

use podline_api::v1;
use podline_api::v1::listener::Protocol;
use podline_lab::{Behaviour, pattern, wait};

use crate::harness::certificates::Pair;
use crate::harness::secure::{self, Stream, Tls, made};
use crate::harness::web::{Client, Reply, Server, answer};
use crate::harness::{LONG, Proxy, pod, tcp, wire};

const NAME: &str = "shop.example";

/// Serves `backends` at a new address: listener "web", set "web".
fn serve(
    proxy: &Proxy,
    protocol: Protocol,
    backends: &[SocketAddr],
    tls: v1::TlsSettings,
) -> SocketAddr {
    let address = tcp::free_address();
    let listener = secure::listener("web", protocol, address, tls);
    proxy.serve_with(listener, wire::set("web", backends));
    address
}

/// The same with a certificate for [`NAME`], and a client that trusts it.
fn serve_trusted(proxy: &Proxy, protocol: Protocol, backends: &[SocketAddr]) -> (SocketAddr, Tls) {
    let pair = made(&[NAME]);
    let address = serve(proxy, protocol, backends, secure::settings(&[&pair]));
    (address, Tls::trusting(&[&pair]))
}

/// What a listener counts of one kind of failed handshake.
fn failures(proxy: &Proxy, reason: &str) -> u64 {
    let status = proxy.listener("web").tls.unwrap_or_default();
    status.failures.get(reason).copied().unwrap_or(0)
}

#[test]
fn bytes_pass_both_ways_and_so_does_an_end() {
    const BYTES: usize = 8 << 20;
    let proxy = Proxy::start();
    let backend = pod("echo", Behaviour::Echo);
    let (address, client) = serve_trusted(&proxy, Protocol::Tls, &[backend.address()]);
    let mut stream = client.connect(address, NAME).unwrap();
    let (mut sent, mut received) = (0, 0);
    let mut buffer = vec![0; 1 << 20];
    // Pieces of every size from one byte on, so that records end where no read does.
    let mut length = 1;
    while received < BYTES {
        let piece = length.min(BYTES - sent);
        stream.write_all(pattern::at(sent as u64, piece)).unwrap();
        sent += piece;
        length = (length * 3).min(300_000);
        while received < sent {
            let n = stream.read(&mut buffer).unwrap();
            assert_ne!(n, 0, "an end after {received} bytes");
            pattern::check(received as u64, &buffer[..n]);
            received += n;
        }
    }
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    assert_eq!(stream.read(&mut buffer).unwrap(), 0, "the backend's end");
    wait::until(LONG, "the connection is gone", || proxy.active() == 0);
    let status = proxy.listener("web");
    assert_eq!(status.received_bytes, BYTES as u64);
    assert_eq!(status.sent_bytes, BYTES as u64);
}

#[test]
fn a_stream_that_is_cut_does_not_look_whole() {
    let proxy = Proxy::start();
    let read = |behaviour| {
        let backend = pod("sender", behaviour);
        let (address, client) = serve_trusted(&proxy, Protocol::Tls, &[backend.address()]);
        let mut stream = client.connect(address, NAME).unwrap();
        stream.write_all(b"x").unwrap();
        let mut all = Vec::new();
        let end = stream.read_to_end(&mut all);
        (all.len(), end.is_ok())
    };
    assert_eq!(read(Behaviour::SendThenEnd(3_000_000)), (3_000_000, true));
    assert!(!read(Behaviour::SendThenReset(3_000_000)).1);
}

#[test]
fn a_client_that_leaves_without_a_word_is_a_reset_to_the_backend() {
    let proxy = Proxy::start();
    let (listener, backend) = tcp::backend();
    let (address, client) = serve_trusted(&proxy, Protocol::Tls, &[backend]);
    for is_announced in [true, false] {
        let mut stream = client.connect(address, NAME).unwrap();
        stream.write_all(b"hello").unwrap();
        let mut seen = tcp::accept(&listener);
        seen.read_exact(&mut [0; 5]).unwrap();
        seen.write_all(b"x").unwrap();
        // With it the tickets are read: what is unread at the end would be a reset.
        stream.read_exact(&mut [0]).unwrap();
        if is_announced {
            stream.conn.send_close_notify();
            stream.flush().unwrap();
        }
        drop(stream);
        let end = seen.read(&mut [0]);
        assert_eq!(end.is_ok_and(|n| n == 0), is_announced);
    }
}

#[test]
fn requests_are_served_and_backends_are_told_that_it_was_tls() {
    let proxy = Proxy::start();
    let server = Server::saying("hello");
    let pair = made(&[NAME]);
    let address = tcp::free_address();
    let listener = secure::listener("web", Protocol::Https, address, secure::settings(&[&pair]));
    let set = v1::BackendSet {
        affinity: Some(v1::Affinity {
            cookie: Some(v1::CookieAffinity::default()),
            ..v1::Affinity::default()
        }),
        ..wire::set("web", &[server.address])
    };
    proxy.serve_with(listener, set);
    let stream = Tls::trusting(&[&pair]).connect(address, NAME).unwrap();
    let mut client = Client::over(stream);
    for _ in 0..10 {
        let answer = client.get("/a");
        assert_eq!(answer.text(), "hello");
        assert!(answer.field("set-cookie").unwrap().contains("; Secure"));
    }
    let got = server.last();
    assert_eq!(got.field("x-forwarded-proto"), Some("https"));
    assert_eq!(
        got.field("x-forwarded-port"),
        Some(&*address.port().to_string())
    );
    assert_eq!(proxy.listener("web").accepted_connections, 1);
    wait::until(LONG, "the last answer is counted, too", || {
        proxy.listener("web").http.unwrap().answers[1] == 10
    });
}

#[test]
fn large_bodies_pass_both_ways_in_little_memory() {
    const BYTES: usize = 64 << 20;
    let proxy = Proxy::alone();
    let server = Server::start(|got| {
        let n: usize = got.data.len();
        let mut reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {n}\r\n\r\n").into_bytes();
        reply.extend_from_slice(&got.data);
        Reply::Stay(reply)
    });
    let pair = made(&[NAME]);
    let address = tcp::free_address();
    let listener = v1::Listener {
        http: Some(v1::HttpSettings {
            max_body_bytes: Some(1 << 30),
            ..v1::HttpSettings::default()
        }),
        ..secure::listener("web", Protocol::Https, address, secure::settings(&[&pair]))
    };
    proxy.serve_with(listener, wire::set("web", &[server.address]));
    let tls = Tls::trusting(&[&pair]);
    let once = |bytes: usize| {
        let mut client = Client::over(tls.connect(address, NAME).unwrap());
        let body = pattern::at(0, 1 << 16).repeat(bytes >> 16);
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n"
        ));
        client.send(&body);
        // The client reads slowly: what it has not read waits with the backend.
        std::thread::yield_now();
        assert!(client.answer().body == body, "{bytes} bytes");
    };
    once(1 << 20);
    let before = proxy.resident_bytes();
    once(BYTES);
    let grown = proxy.resident_bytes().saturating_sub(before);
    assert!(grown < 16 << 20, "grew by {} KiB", grown / 1024);
}

#[test]
fn a_connection_that_switches_protocols_stays_inside_tls() {
    let proxy = Proxy::start();
    let server = Server::start(|_| {
        Reply::Echo(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
                .to_vec(),
        )
    });
    let (address, tls) = serve_trusted(&proxy, Protocol::Https, &[server.address]);
    let mut client = Client::over(tls.connect(address, NAME).unwrap());
    client.send(
        "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello",
    );
    assert_eq!(client.try_answer(false).unwrap().status, 101);
    let mut echo = [0; 5];
    client.read_exact(&mut echo);
    assert_eq!(&echo, b"hello");
    client.stream.write_all(b"again").unwrap();
    client.read_exact(&mut echo);
    assert_eq!(&echo, b"again");
}

#[test]
fn an_answer_that_is_cut_is_no_clean_end() {
    let proxy = Proxy::start();
    let server = Server::start(|_| {
        Reply::End(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it".to_vec())
    });
    let (address, tls) = serve_trusted(&proxy, Protocol::Https, &[server.address]);
    let mut client = Client::over(tls.connect(address, NAME).unwrap());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.try_answer(false).unwrap_err();
    assert!(!client.has_ended());
}

#[test]
fn a_header_of_the_proxy_protocol_comes_before_tls() {
    let proxy = Proxy::start();
    let server = Server::start(|got| {
        let from = got.field("x-forwarded-for").unwrap_or_default();
        Reply::Stay(answer("200 OK", from))
    });
    let pair = made(&[NAME]);
    let address = tcp::free_address();
    let listener = v1::Listener {
        proxy_protocol: Some(v1::ProxyProtocol {
            accept: Some(v1::ProxyProtocolAccept {
                from: vec!["127.0.0.1".to_owned()],
                timeout: None,
            }),
            ..v1::ProxyProtocol::default()
        }),
        ..secure::listener("web", Protocol::Https, address, secure::settings(&[&pair]))
    };
    proxy.serve_with(listener, wire::set("web", &[server.address]));
    let mut stream = tcp::connect(address);
    stream
        .write_all(b"PROXY TCP4 192.0.2.7 192.0.2.8 1111 443\r\n")
        .unwrap();
    let stream = Tls::trusting(&[&pair]).over(stream, NAME).unwrap();
    assert_eq!(Client::over(stream).get("/").text(), "192.0.2.7");
}

/// One request on a new connection.
fn ask(tls: &Tls, address: SocketAddr) -> Stream {
    let mut client = Client::over(tls.connect(address, NAME).unwrap());
    assert_eq!(client.get("/").status, 200);
    client.stream
}

/// The certificate that a client is shown.
fn is_shown(pairs: &[&Pair], address: SocketAddr, name: &str, expected: &Pair) -> bool {
    let stream = Tls::trusting(pairs).connect(address, name).unwrap();
    secure::was_shown(&stream, expected)
}
