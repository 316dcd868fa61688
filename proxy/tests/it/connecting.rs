//! What happens between accept and the backend's answer to the dial.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use podline_lab::{Behaviour, wait};

use crate::harness::blackhole::Blackhole;
use crate::harness::{LONG, Proxy, http, pod, tcp, wire};

/// How the proxy answers a connection that it cannot serve.
fn first_read(address: SocketAddr) -> Result<usize, ErrorKind> {
    let read = || {
        let mut stream = TcpStream::connect(address)?; // the reset may come before this returns
        stream.set_read_timeout(Some(LONG))?;
        stream.read(&mut [0])
    };
    read().map_err(|error: std::io::Error| error.kind())
}

#[test]
fn failing_to_connect_to_every_backend_is_a_reset() {
    let dead = [tcp::free_address(), tcp::free_address()];
    let proxy = Proxy::start();
    let address = proxy.serve(&dead);
    assert_eq!(first_read(address), Err(ErrorKind::ConnectionReset));
    wait::until(LONG, "it is gone", || proxy.active() == 0);
    let listener = proxy.listener("web");
    assert_eq!(
        (listener.accepted_connections, listener.refused_connections),
        (1, 1)
    );
    let failures = dead.map(|address| proxy.backend("web", address).unwrap().connect_failures);
    assert!(
        failures.iter().all(|&failures| failures >= 1),
        "both were tried: {failures:?}"
    );
}

#[test]
fn another_backend_is_tried_when_one_refuses() {
    let (pod, dead) = (pod("alive", Behaviour::Name), tcp::free_address());
    let proxy = Proxy::start();
    let address = proxy.serve(&[dead, pod.address()]);
    for _ in 0..50 {
        assert_eq!(http::ask(address).unwrap(), "alive");
    }
    assert!(proxy.backend("web", dead).unwrap().connect_failures > 0);
    assert_eq!(proxy.listener("web").refused_connections, 0);
}

#[test]
fn another_backend_is_tried_when_one_does_not_answer_the_dial() {
    let (pod, blackhole) = (pod("alive", Behaviour::Name), Blackhole::new());
    let proxy = Proxy::start();
    let mut set = wire::set("web", &[blackhole.address(), pod.address()]);
    set.connect_timeout = wire::time(Duration::from_millis(200));
    let address = tcp::free_address();
    proxy.serve_with(wire::listener("web", address, "web"), set);
    for _ in 0..6 {
        assert_eq!(http::ask(address).unwrap(), "alive");
    }
    assert!(
        proxy
            .backend("web", blackhole.address())
            .unwrap()
            .connect_failures
            > 0
    );
}

#[test]
fn no_other_backend_is_tried_when_retries_are_off() {
    let (pod, dead) = (pod("alive", Behaviour::Name), tcp::free_address());
    let proxy = Proxy::start();
    let mut set = wire::set("web", &[dead, pod.address()]);
    set.connect_retries = Some(0);
    let address = tcp::free_address();
    proxy.serve_with(wire::listener("web", address, "web"), set);
    let failed = (0..20).filter(|_| http::ask(address).is_err()).count();
    assert!((8..=12).contains(&failed), "{failed} of 20 failed");
}

#[test]
fn an_empty_set_resets_and_counts_what_it_refused() {
    let proxy = Proxy::start();
    let address = proxy.serve(&[]);
    for _ in 0..3 {
        assert_eq!(first_read(address), Err(ErrorKind::ConnectionReset));
    }
    // Reset first, then counted out.
    wait::until(LONG, "they are gone", || proxy.active() == 0);
    assert_eq!(proxy.listener("web").refused_connections, 3);
}

#[test]
fn a_set_whose_weights_are_all_zero_resets() {
    let pod = pod("resting", Behaviour::Name);
    let proxy = Proxy::start();
    let mut set = wire::set("web", &[pod.address()]);
    set.backends[0].weight = Some(0);
    let address = tcp::free_address();
    proxy.serve_with(wire::listener("web", address, "web"), set);
    assert_eq!(first_read(address), Err(ErrorKind::ConnectionReset));
    assert_eq!(pod.counts().accepted(), 0);
}

#[test]
fn bytes_sent_before_the_dial_is_done_are_delivered() {
    let pod = pod("echo", Behaviour::Echo);
    let dead = [tcp::free_address(), tcp::free_address()];
    let proxy = Proxy::start();
    let address = proxy.serve(&[dead[0], dead[1], pod.address()]);
    for _ in 0..6 {
        let mut stream = tcp::connect(address);
        tcp::send_pattern(&mut stream, 0, 100).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let (bytes, end) = tcp::read_pattern(&mut stream);
        end.unwrap();
        assert_eq!(bytes, 100);
    }
}
