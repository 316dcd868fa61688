//! Connections that become another protocol's, as a WebSocket's do.

use std::io::{Read, Write};

use crate::harness::web::{Client, Reply, Server, serve_http, stay};
use crate::harness::{Proxy, wire};

const SWITCH: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const ASK: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n";

#[test]
fn an_upgraded_connection_is_forwarded_byte_by_byte() {
    let proxy = Proxy::start();
    let server = Server::start(|_| Reply::Echo([SWITCH, b"first"].concat()));
    let address = serve_http(&proxy, &[server.address]);
    let mut client = Client::connect(address);
    client.send([ASK.as_bytes(), b"early"].concat());
    let answer = client.answer();
    assert_eq!(answer.status, 101, "{}", answer.head);
    assert_eq!(answer.field("upgrade"), Some("websocket"));
    let mut first = [0; 10];
    client.read_exact(&mut first);
    assert_eq!(&first, b"firstearly");
    // It survives changes of the set.
    proxy.apply(wire::sets([wire::set(
        "web",
        &[Server::saying("b").address],
    )]));
    for _ in 0..3 {
        client.stream.write_all(b"hello").unwrap();
        let mut echo = [0; 5];
        client.stream.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"hello");
    }
    assert_eq!(server.last().field("sec-websocket-key"), Some("x"));
}

#[test]
fn an_upgrade_that_is_declined_is_an_ordinary_answer() {
    let proxy = Proxy::start();
    let server = Server::start(|_| stay("no"));
    let address = serve_http(&proxy, &[server.address]);
    let mut client = Client::connect(address);
    for _ in 0..2 {
        client.send(ASK);
        assert_eq!(client.answer().text(), "no");
    }
}

#[test]
fn a_backend_that_switches_unasked_is_not_believed() {
    let proxy = Proxy::start();
    let server = Server::start(|_| Reply::Echo(SWITCH.to_vec()));
    let address = serve_http(&proxy, &[server.address]);
    let mut client = Client::connect(address);
    let answer = client.get("/");
    assert_eq!(
        (answer.status, answer.reason()),
        (502, Some("bad-response"))
    );
}
