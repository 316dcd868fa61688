//! At the end of the process: no new work, a time for what runs, then force.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use podline_lab::{Behaviour, wait};
use rustix::process::Signal;

use crate::harness::{LONG, Proxy, SECOND, Start, http, pod, tcp};

fn start(timeout: &str) -> Proxy {
    let args = vec!["--shutdown-timeout", timeout];
    Start {
        args,
        ..Start::default()
    }
    .ready()
}

#[test]
fn transfers_finish_after_a_terminate_signal_and_the_process_ends_well() {
    const BYTES: u64 = 20_000_000;
    let pod = pod("sender", Behaviour::SendThenEnd(BYTES));
    let proxy = start("20s");
    let address = proxy.serve(&[pod.address()]);
    let mut client = tcp::connect(address);
    client.read_exact(&mut [0; 1]).unwrap(); // in the middle; the buffers do not hold the rest
    proxy.signal(Signal::TERM);
    wait::until(10 * SECOND, "new connections are refused", || {
        TcpStream::connect(address).is_err()
    });
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len() as u64, BYTES - 1);
    podline_lab::pattern::check(1, &rest);
    drop(client);
    let status = proxy
        .wait_end(10 * SECOND)
        .expect("it ends when its last connection has");
    assert!(status.success(), "{status}");
}

#[test]
fn it_says_that_it_is_not_ready_while_it_shuts_down() {
    let pod = pod("echo", Behaviour::Echo);
    let proxy = start("20s");
    let mut client = tcp::connect(proxy.serve(&[pod.address()]));
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    proxy.signal(Signal::TERM);
    wait::until(10 * SECOND, "it is not ready", || {
        proxy.page("/readyz").is_ok_and(|(status, _)| status == 503)
    });
    assert_eq!(proxy.page("/healthz").unwrap().0, 200, "it lives");
    client.write_all(b"y").unwrap();
    client.read_exact(&mut [0]).unwrap();
}

#[test]
fn at_the_shutdown_timeout_connections_are_reset() {
    let pod = pod("echo", Behaviour::Echo);
    let proxy = start("1s");
    let mut client = tcp::connect(proxy.serve(&[pod.address()]));
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    let start = Instant::now();
    proxy.signal(Signal::TERM);
    assert!(
        tcp::is_reset_within(&client, 4 * SECOND),
        "a cut answer must not look like a clean end"
    );
    assert!(
        start.elapsed() >= Duration::from_millis(900),
        "forced after {:?}",
        start.elapsed()
    );
    assert!(proxy.wait_end(4 * SECOND).is_some());
}

#[test]
fn without_connections_it_ends_at_once() {
    for signal in [Signal::TERM, Signal::INT] {
        let pod = pod("a", Behaviour::Name);
        let proxy = start("20s");
        let address = proxy.serve(&[pod.address()]);
        http::ask(address).unwrap();
        wait::until(LONG, "the connection is gone", || proxy.active() == 0);
        proxy.signal(signal);
        let status = proxy
            .wait_end(10 * SECOND)
            .expect("it has nothing to wait for");
        assert!(status.success(), "{status}");
    }
}

#[test]
fn connections_that_were_queued_when_the_signal_came_are_served() {
    let pod = pod("a", Behaviour::Name);
    let proxy = start("20s");
    let address = proxy.serve(&[pod.address()]);
    let mut clients: Vec<_> = (0..100)
        .map(|_| http::Client::connect(address).unwrap())
        .collect();
    proxy.signal(Signal::TERM);
    for client in &mut clients {
        assert_eq!(client.name().unwrap(), "a");
    }
}
