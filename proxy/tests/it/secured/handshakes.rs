//! Who gets through a handshake, who does not, and how that is counted.

use std::io::{Read, Write};
use std::time::Duration;

use podline_api::v1;
use podline_api::v1::listener::Protocol;
use podline_lab::{Behaviour, wait};

use super::{NAME, failures, is_shown, serve, serve_trusted};
use crate::harness::certificates::{Authority, Pair};
use crate::harness::secure::{self, Tls, made};
use crate::harness::web::{Client, Server};
use crate::harness::{LONG, Proxy, pod, tcp};

fn wait_failure(proxy: &Proxy, reason: &str, expected: u64) {
    wait::until(LONG, reason, || failures(proxy, reason) == expected);
}

#[test]
fn the_name_that_is_asked_for_decides_what_is_shown() {
    let proxy = Proxy::start();
    let server = Server::saying("a");
    let (first, wild, exact) = (
        made(&["first.example"]),
        made(&["*.shop.test"]),
        made(&["a.shop.test"]),
    );
    let all = [&first, &wild, &exact];
    let address = serve(
        &proxy,
        Protocol::Https,
        &[server.address],
        secure::settings(&all),
    );
    assert!(is_shown(&all, address, "first.example", &first));
    assert!(is_shown(&all, address, "b.shop.test", &wild));
    assert!(is_shown(&all, address, "a.shop.test", &exact));
    // Nobody is for this one: the first is shown, and the client refuses it.
    let refused = Tls::trusting(&all).connect(address, "nobody.test");
    refused.unwrap_err();
    wait_failure(&proxy, "our-certificate-refused", 1);
    // A client is done before the proxy has read its last word.
    let status = || proxy.listener("web").tls.unwrap();
    wait::until(LONG, "all are counted", || status().handshakes == 3);
    assert_eq!(status().resumptions, 0);
    assert!(status().not_after.is_some());
}

#[test]
fn versions_below_the_lowest_are_refused() {
    let proxy = Proxy::start();
    let server = Server::saying("a");
    let pair = made(&[NAME]);
    let tls = secure::settings(&[&pair]);
    let address = serve(&proxy, Protocol::Https, &[server.address], tls.clone());
    let (old, new) = (Tls::old(&[&pair]), Tls::trusting(&[&pair]));
    for tls in [&old, &new] {
        let mut client = Client::over(tls.connect(address, NAME).unwrap());
        assert_eq!(client.get("/").text(), "a");
    }
    let tls = v1::TlsSettings {
        min_version: Some(v1::tls_settings::Version::Tls13.into()),
        ..tls
    };
    let address = serve(&proxy, Protocol::Https, &[server.address], tls);
    old.connect(address, NAME).unwrap_err();
    new.connect(address, NAME).unwrap();
    wait_failure(&proxy, "nothing-in-common", 1);
    // Its ALPN has nothing that is spoken here.
    let other = new.with_protocols(&["spdy/3"]);
    other.connect(address, NAME).unwrap_err();
    wait_failure(&proxy, "no-protocol", 1);
    let mut http = new
        .with_protocols(&["http/1.1"])
        .connect(address, NAME)
        .unwrap();
    assert_eq!(http.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    http.conn.send_close_notify();
    http.flush().unwrap();
}

#[test]
fn clients_show_certificates_where_they_have_to() {
    let proxy = Proxy::start();
    let server = Server::saying("a");
    let (pair, authority) = (made(&[NAME]), Authority::new("clients"));
    let (known, stranger) = (authority.client(&[]), Authority::new("others").client(&[]));
    let all = [&pair];
    let own = |pair: &Pair| Tls::showing(&all, pair);
    let without = Tls::trusting(&all);
    for optional in [false, true] {
        let tls = v1::TlsSettings {
            client_certificates: Some(v1::ClientCertificates {
                trusted: authority.pem.clone(),
                optional,
                ..v1::ClientCertificates::default()
            }),
            ..secure::settings(&all)
        };
        let address = serve(&proxy, Protocol::Https, &[server.address], tls);
        let is_served = |tls: &Tls| {
            // In TLS 1.3 a client learns with its first read that its certificate was refused.
            let stream = tls.connect(address, NAME);
            stream.is_ok_and(|mut stream| {
                stream
                    .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                    .is_ok()
                    && stream.read(&mut [0; 99]).is_ok_and(|n| n > 0)
            })
        };
        assert!(is_served(&own(&known)));
        assert!(!is_served(&own(&stranger)));
        assert_eq!(is_served(&without), optional);
        // No session is resumed: its certificate would not be shown again.
        assert!(is_served(&own(&known)));
        let status = proxy.listener("web").tls.unwrap();
        assert_eq!(status.resumptions, 0);
        let refused = if optional { 1 } else { 2 };
        wait_failure(&proxy, "client-certificate", refused);
        remove(&proxy);
    }
}

fn remove(proxy: &Proxy) {
    proxy.apply(v1::ApplyRequest {
        remove_listeners: vec!["web".to_owned()],
        ..crate::harness::wire::request()
    });
}

#[test]
fn what_is_no_tls_is_refused_and_others_are_served() {
    let proxy = Proxy::start();
    let backend = pod("a", Behaviour::Name);
    let (address, client) = serve_trusted(&proxy, Protocol::Tls, &[backend.address()]);
    let mut plain = tcp::connect(address);
    plain
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let mut rest = Vec::new();
    // An alert, and an end or a reset.
    drop(plain.read_to_end(&mut rest));
    assert_eq!(rest.first(), Some(&0x15), "{rest:?}");
    wait_failure(&proxy, "not-tls", 1);
    drop(tcp::connect(address));
    wait_failure(&proxy, "client-left", 1);
    // A hundred that say nothing, or half of a hello.
    let silent: Vec<_> = (0..100)
        .map(|n| {
            let mut stream = tcp::connect(address);
            if n % 2 == 0 {
                stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0]).unwrap();
            }
            stream
        })
        .collect();
    let mut stream = client.connect(address, NAME).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    assert_eq!(backend.counts().accepted(), 1, "nobody else came through");
    wait::until(Duration::from_secs(40), "they are let go", || {
        failures(&proxy, "late") == 100
    });
    drop(silent);
    // It counts nowhere what was never served.
    wait::until(LONG, "one connection is left", || proxy.active() == 1);
}

#[test]
fn garbage_inside_a_connection_ends_it() {
    let proxy = Proxy::start();
    let backend = pod("a", Behaviour::Echo);
    let (address, client) = serve_trusted(&proxy, Protocol::Tls, &[backend.address()]);
    for length in [1, 5, 100, 20_000] {
        let mut stream = client.connect(address, NAME).unwrap();
        stream.write_all(b"hello").unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
        // Past the session: what the proxy gets cannot be opened.
        stream.sock.write_all(&vec![0x17; length]).unwrap();
        stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap_err();
        assert!(rest.is_empty());
    }
    wait::until(LONG, "all are gone", || proxy.active() == 0);
}
