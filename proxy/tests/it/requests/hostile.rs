//! Clients that mean no good cost little, and nobody else.

use std::io::{Read, Write};
use std::time::Duration;

use podline_api::v1;
use podline_lab::{Behaviour, wait};

use crate::harness::web::{self, Client, Server};
use crate::harness::{LONG, SECOND, pod, tcp, wire};

fn impatient() -> v1::HttpSettings {
    v1::HttpSettings {
        request_timeout: wire::time(SECOND),
        response_timeout: wire::time(3 * SECOND), // those who mean well keep it on a slow machine, too
        ..v1::HttpSettings::default()
    }
}

#[test]
fn heads_that_drip_have_one_limit_in_all() {
    let proxy = web::one_worker();
    let server = Server::saying("a");
    let address = web::serve_with(&proxy, &[server.address], impatient());
    // One that says nothing for a second is ended, too, and not counted.
    let drip = |_| {
        let mut client = Client::connect(address);
        client.send("GET / HTTP/1.1\r\nHost: a\r\nX: ");
        client
    };
    let mut dripping: Vec<Client> = (0..100).map(drip).collect();
    let mut other = Client::connect(address);
    wait::until(LONG, "all of them are ended", || {
        assert_eq!(other.get("/").text(), "a");
        dripping.retain_mut(|client| {
            // A byte for each look: none of them is ever silent for long.
            let _ = client.stream.write_all(b"x");
            let poll = tcp::wait_for(&client.stream, rustix::event::PollFlags::IN, Duration::ZERO);
            poll.is_empty()
        });
        dripping.is_empty()
    });
    wait::until(LONG, "all of them are counted", || {
        proxy.listener("web").http.unwrap().refusals["head-timeout"] == 100
    });
}

#[test]
fn a_client_that_does_not_read_is_let_go() {
    let proxy = web::one_worker();
    let pod = pod("a", Behaviour::Name);
    let address = web::serve_with(&proxy, &[pod.address()], impatient());
    let mut client = Client::connect(address);
    assert_eq!(client.get("/").status, 200);
    let before = proxy.resident_bytes();
    let mut greedy: Vec<Client> = (0..20).map(|_| Client::connect(address)).collect();
    for client in &mut greedy {
        client.send("GET /bytes/1000000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    wait::until(LONG, "they are cut", || {
        assert_eq!(client.get("/").status, 200);
        let grown = proxy.resident_bytes().saturating_sub(before);
        assert!(grown < 16 << 20, "{grown}");
        proxy.listener("web").active_connections == 1
    });
    for client in &mut greedy {
        let mut read = Vec::new();
        client.stream.read_to_end(&mut read).unwrap_err();
    }
}

#[test]
fn who_asks_and_leaves_leaves_nothing_behind() {
    let proxy = web::one_worker();
    let server = Server::start(|_| web::Reply::Silence);
    let address = web::serve_with(&proxy, &[server.address], v1::HttpSettings::default());
    for round in 1..=50 {
        let mut client = Client::connect(address);
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        wait::until(LONG, "it is with the backend", || {
            server.seen().len() == round
        });
        tcp::reset(client.stream);
    }
    wait::until(LONG, "nothing is left", || {
        let backend = proxy.backend("web", server.address).unwrap();
        proxy.active() == 0 && backend.active_connections == 0 && server.ended() == 50
    });
}
