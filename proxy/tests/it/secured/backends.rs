//! Backends that are spoken to over TLS.

use std::io::Read;

use podline_api::v1;

use super::NAME;
use crate::harness::certificates::Pair;
use crate::harness::secure::{Backend, made};
use crate::harness::web::{self, Client, Server};
use crate::harness::{LONG, Proxy, tcp, wire};
use podline_lab::wait;

/// A set of `backends`, which are spoken to over TLS.
fn set(backends: &[std::net::SocketAddr], tls: v1::BackendTls) -> v1::BackendSet {
    v1::BackendSet {
        tls: Some(tls),
        ..wire::set("web", backends)
    }
}

/// What says that only `pair` will do.
fn verified(pair: &Pair) -> v1::BackendTls {
    v1::BackendTls {
        trusted: pair.certificate.clone(),
        server_name: NAME.to_owned(),
        ..v1::BackendTls::default()
    }
}

#[test]
fn requests_share_connections_inside_tls() {
    let proxy = web::one_worker();
    let pair = made(&[NAME]);
    let backend = Backend::start(&pair, "secret");
    let address = tcp::free_address();
    let any = v1::BackendTls::default();
    proxy.serve_with(
        web::listener("web", address, "web"),
        set(&[backend.address], any.clone()),
    );
    for _ in 0..20 {
        let mut client = Client::connect(address);
        assert_eq!(client.get("/").text(), "secret");
        assert_eq!(client.get("/").text(), "secret");
    }
    assert_eq!(backend.accepted(), 1, "tickets do not count as words");
    assert_eq!(backend.names(), [None], "an address is not asked for");
    // Another name from now on: what was kept speaks otherwise.
    let named = v1::BackendTls {
        server_name: NAME.to_owned(),
        ..any
    };
    proxy.apply(wire::sets([set(&[backend.address], named)]));
    assert_eq!(Client::connect(address).get("/").text(), "secret");
    assert_eq!(backend.names(), [None, Some(NAME.to_owned())]);
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_no_backend() {
    let proxy = Proxy::start();
    let (pair, other) = (made(&[NAME]), made(&[NAME]));
    let (right, wrong) = (
        Backend::start(&pair, "right"),
        Backend::start(&other, "wrong"),
    );
    let address = tcp::free_address();
    let both = [right.address, wrong.address];
    proxy.serve_with(
        web::listener("web", address, "web"),
        set(&both, verified(&pair)),
    );
    for _ in 0..10 {
        assert_eq!(Client::connect(address).get("/").text(), "right");
    }
    assert_eq!(wrong.accepted(), 0);
    proxy.apply(wire::sets([set(&[wrong.address], verified(&pair))]));
    let answer = Client::connect(address).get("/");
    assert_eq!((answer.status, answer.reason()), (502, Some("tls-failed")));
    let named_otherwise = v1::BackendTls {
        server_name: "other.example".to_owned(),
        ..verified(&pair)
    };
    proxy.apply(wire::sets([set(&[right.address], named_otherwise)]));
    let answer = Client::connect(address).get("/");
    assert_eq!((answer.status, answer.reason()), (502, Some("tls-failed")));
}

#[test]
fn a_backend_that_speaks_no_tls_is_told_from_one_that_is_silent() {
    let proxy = Proxy::start();
    let plain = Server::start(|_| panic!("no request can be read"));
    let address = tcp::free_address();
    let any = v1::BackendTls::default();
    let (listener, silent) = tcp::backend();
    proxy.serve_with(
        web::listener("web", address, "web"),
        v1::BackendSet {
            connect_timeout: wire::time(std::time::Duration::from_millis(300)),
            connect_retries: Some(0),
            ..set(&[silent], any.clone())
        },
    );
    let answer = Client::connect(address).get("/");
    assert_eq!(
        (answer.status, answer.reason()),
        (504, Some("connect-timeout"))
    );
    let mut seen = tcp::accept(&listener);
    let mut hello = Vec::new();
    // It was sent the beginning of a handshake, and nothing of the request.
    drop(seen.read_to_end(&mut hello));
    assert_eq!(hello.first(), Some(&0x16));
    assert!(!hello.windows(4).any(|bytes| bytes == b"GET "));
    proxy.apply(wire::sets([set(&[plain.address], any)]));
    let mut client = Client::connect(address);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    // It waits for the end of a head that never comes.
    wait::until(LONG, "it is answered", || client.answer().status >= 500);
}
