//! Connects that fail take a backend out, and so do those that their clients do not wait for.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use podline_api::v1;
use podline_api::v1::explanation::Reason;
use podline_lab::{Behaviour, wait};
use rustix::process::Signal;

use crate::harness::blackhole::Blackhole;
use crate::harness::{LONG, Proxy, http, pod, tcp, wire};

/// Longer than a dial that fails when its client leaves has to be unanswered.
const PATIENCE: Duration = Duration::from_millis(1_300);
/// No dial of these tests takes so long.
const NEVER: Duration = Duration::from_mins(1);

/// Serves backends that are out after three failed connects; no dial ends by itself.
fn serve(proxy: &Proxy, backends: &[SocketAddr]) -> SocketAddr {
    let address = tcp::free_address();
    let set = v1::BackendSet {
        connect_timeout: wire::time(NEVER),
        passive_check: Some(v1::PassiveCheck {
            failures: Some(3),
            ejection_time: wire::time(NEVER),
        }),
        ..wire::set("web", backends)
    };
    proxy.serve_with(wire::listener("web", address, "web"), set);
    address
}

fn status(proxy: &Proxy, backend: SocketAddr) -> v1::BackendStatus {
    proxy.backend("web", backend).unwrap()
}

/// Clients, of whom at least three wait for `backend`.
fn three_waiting(proxy: &Proxy, address: SocketAddr, backend: SocketAddr) -> Vec<TcpStream> {
    let mut clients = Vec::new();
    wait::until(LONG, "three dials hang", || {
        let hanging = status(proxy, backend).active_connections;
        if hanging < 3 {
            clients.push(tcp::connect(address));
        }
        hanging >= 3
    });
    wait::until(LONG, "everybody who came was sent on", || {
        let state = proxy.get();
        let [web] = &state.listeners[..] else {
            panic!("{state:?}")
        };
        let backends = state.backend_sets.iter().flat_map(|set| &set.backends);
        let sent_on: u64 = backends.map(|backend| backend.active_connections).sum();
        web.accepted_connections == clients.len() as u64 && web.active_connections == sent_on
    });
    clients
}

/// Waits for an answer as long as a client does that gives up then.
fn lose_patience(mut client: &TcpStream) {
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let read = client.read(&mut [0]);
    assert_eq!(read.unwrap_err().kind(), ErrorKind::WouldBlock);
}

fn assert_ejected(leave: fn(TcpStream)) {
    let (alive, blackhole) = (pod("alive", Behaviour::Name), Blackhole::new());
    let proxy = Proxy::start();
    let address = serve(&proxy, &[alive.address(), blackhole.address()]);
    let clients = three_waiting(&proxy, address, blackhole.address());
    lose_patience(&clients[0]);
    let dead = || status(&proxy, blackhole.address());
    let failures = dead().active_connections;
    clients.into_iter().for_each(leave);
    wait::until(LONG, "it is out, and everybody who waited has left", || {
        let dead = dead();
        dead.reason() == Reason::Ejected && dead.connect_failures == failures
    });
    for _ in 0..20 {
        assert_eq!(http::ask(address).unwrap(), "alive");
    }
    assert_eq!(dead().connect_failures, failures, "it was dialed again");
}

#[test]
fn clients_that_give_up_with_a_reset_eject_a_backend_that_does_not_answer() {
    assert_ejected(tcp::reset);
}

#[test]
fn clients_that_give_up_with_an_end_eject_a_backend_that_does_not_answer() {
    assert_ejected(drop);
}

#[test]
fn clients_that_leave_at_once_eject_nobody() {
    let blackhole = Blackhole::new();
    let proxy = Proxy::start();
    let address = serve(&proxy, &[blackhole.address()]);
    for count in 1..=20 {
        tcp::reset(tcp::connect(address));
        wait::until(LONG, "it came and left", || {
            let web = proxy.listener("web");
            web.accepted_connections == count && web.active_connections == 0
        });
    }
    let status = status(&proxy, blackhole.address());
    assert_eq!(status.connect_failures, 0);
    assert_ne!(status.reason(), Reason::Ejected);
}

#[test]
fn an_answer_that_the_proxy_was_late_to_see_is_no_failure() {
    let blackhole = Blackhole::new();
    let proxy = Proxy::start();
    let address = serve(&proxy, &[blackhole.address()]);
    let client = tcp::connect(address);
    let hanging = || status(&proxy, blackhole.address()).active_connections;
    wait::until(LONG, "it is dialed", || hanging() == 1);
    lose_patience(&client);
    proxy.signal(Signal::STOP);
    let stat = format!("/proc/{}/stat", proxy.pid());
    wait::until(LONG, "the proxy stands still", || {
        std::fs::read_to_string(&stat).unwrap().contains(") T ")
    });
    tcp::reset(client);
    let _backend = blackhole.answer_one();
    proxy.signal(Signal::CONT);
    wait::until(LONG, "the client has left", || hanging() == 0);
    assert_eq!(status(&proxy, blackhole.address()).connect_failures, 0);
}

#[test]
fn a_dial_that_was_counted_may_be_answered_yet() {
    let blackhole = Blackhole::new();
    let proxy = Proxy::start();
    let address = serve(&proxy, &[blackhole.address()]);
    let mut client = tcp::connect(address);
    let status = || status(&proxy, blackhole.address());
    wait::until(LONG, "it is dialed", || status().active_connections == 1);
    lose_patience(&client);
    client.shutdown(Shutdown::Write).unwrap();
    wait::until(LONG, "it is counted", || status().connect_failures == 1);
    let mut backend = blackhole.answer_one();
    backend.write_all(b"x").unwrap();
    client.set_read_timeout(Some(LONG)).unwrap();
    client.read_exact(&mut [0]).unwrap();
    assert_eq!(status().connect_failures, 1);
}
