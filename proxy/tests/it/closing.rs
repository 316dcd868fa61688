//! How one side ends is what the other side sees.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use podline_lab::{Behaviour, wait};
use rustix::event::PollFlags;
use socket2::SockRef;

use crate::harness::blackhole::Blackhole;
use crate::harness::{LONG, Proxy, once_within, pod, tcp};

/// In which both sides must be free after a reset.
const FREED: Duration = Duration::from_millis(100);

#[test]
fn client_may_end_first_and_still_gets_its_answer() {
    let (listener, backend) = tcp::backend();
    let proxy = Proxy::start();
    let mut client = tcp::connect(proxy.serve(&[backend]));
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut backend = tcp::accept(&listener);
    let mut text = String::new();
    backend.read_to_string(&mut text).unwrap(); // ends because the client's end came through
    assert_eq!(text, "question");
    backend.write_all(b"answer").unwrap();
    drop(backend);
    text.clear();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "answer");
}

#[test]
fn backend_may_end_first_and_still_gets_all_that_the_client_sends() {
    let (listener, backend) = tcp::backend();
    let proxy = Proxy::start();
    let mut client = tcp::connect(proxy.serve(&[backend]));
    let mut backend = tcp::accept(&listener);
    backend.write_all(b"hello").unwrap();
    backend.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap(); // ends because the backend's end came through
    assert_eq!(text, "hello");
    let sending = std::thread::spawn(move || {
        tcp::send_pattern(&mut client, 0, 1_000_000).unwrap();
    });
    let (bytes, end) = tcp::read_pattern(&mut backend);
    end.unwrap();
    assert_eq!(bytes, 1_000_000);
    sending.join().unwrap();
    wait::until(LONG, "the connection is gone", || proxy.active() == 0);
}

#[test]
fn client_reset_frees_both_sides_within_100_ms_though_the_backend_does_not_read() {
    let (listener, address) = tcp::backend();
    SockRef::from(&listener).set_recv_buffer_size(4096).unwrap();
    let proxy = Proxy::alone();
    let served = proxy.serve(&[address]);
    once_within(FREED, || {
        let client = tcp::connect(served);
        let backend = tcp::accept(&listener);
        assert!(tcp::fill(&client) > 0);
        assert_eq!(proxy.active(), 1);
        let start = Instant::now();
        tcp::reset(client);
        let reset = tcp::is_reset_within(&backend, LONG);
        assert!(reset, "the backend saw no reset");
        wait::until(LONG, "the connection is gone", || proxy.active() == 0);
        start.elapsed()
    });
}

#[test]
fn backend_reset_frees_both_sides_within_100_ms_though_the_client_does_not_read() {
    let (listener, address) = tcp::backend();
    let proxy = Proxy::alone();
    let served = proxy.serve(&[address]);
    // What the proxy holds of the answer has up to 1 s to be delivered; the client takes nothing.
    once_within(Duration::from_secs(1) + FREED, || {
        let client = tcp::connect(served);
        SockRef::from(&client).set_recv_buffer_size(4096).unwrap();
        let backend = tcp::accept(&listener);
        assert!(tcp::fill(&backend) > 0);
        let start = Instant::now();
        tcp::reset(backend);
        let reset = tcp::is_reset_within(&client, LONG);
        assert!(reset, "the client saw no reset");
        wait::until(LONG, "the connection is gone", || proxy.active() == 0);
        start.elapsed()
    });
}

#[test]
fn client_reset_ends_a_dial_that_hangs() {
    let blackhole = Blackhole::new();
    let proxy = Proxy::alone();
    let served = proxy.serve(&[blackhole.address()]);
    once_within(FREED, || {
        let client = tcp::connect(served);
        wait::until(LONG, "the proxy has the connection", || proxy.active() == 1);
        let start = Instant::now();
        tcp::reset(client);
        wait::until(LONG, "the connection is gone", || proxy.active() == 0);
        start.elapsed()
    });
}

#[test]
fn backend_reset_in_the_middle_of_a_response_is_a_reset_after_the_bytes_before_it() {
    for bytes in [1, 300_000, 5_000_000] {
        let pod = pod("resetter", Behaviour::SendThenReset(bytes));
        let proxy = Proxy::start();
        let mut client = tcp::connect(proxy.serve(&[pod.address()]));
        client.write_all(b"!").unwrap();
        let (received, end) = tcp::read_pattern(&mut client);
        let kind = end.map_err(|error| error.kind());
        assert_eq!((received, kind), (bytes, Err(ErrorKind::ConnectionReset)));
        wait::until(LONG, "the connection is gone", || proxy.active() == 0);
    }
}

#[test]
fn client_reset_is_a_reset_at_the_backend_after_the_bytes_before_it() {
    const BYTES: u64 = 300_000;
    const STALLED: Duration = Duration::from_millis(50);
    let (listener, address) = tcp::backend();
    let proxy = Proxy::start();
    let served = proxy.serve(&[address]);
    // A backend that takes nothing for so long gets no more, and this one may be kept from reading.
    let has_it_all = |turn: u64| {
        let mut client = tcp::connect(served);
        let mut backend = tcp::accept(&listener);
        tcp::send_pattern(&mut client, 0, BYTES).unwrap();
        let received = || proxy.listener("web").received_bytes == turn * BYTES;
        wait::until(LONG, "the proxy has it all", received); // a reset discards what is not sent yet
        let begun = Instant::now();
        tcp::reset(client);
        let (received, end) = tcp::read_pattern(&mut backend);
        let took = begun.elapsed();
        let kind = end.map_err(|error| error.kind());
        assert_eq!(kind, Err(ErrorKind::ConnectionReset));
        let is_whole = received == BYTES;
        assert!(is_whole || took >= STALLED, "{received} after {took:?}");
        is_whole
    };
    assert!((1..=5).any(has_it_all), "it is cut five times");
}

#[test]
fn a_reset_after_the_end_of_a_response_takes_nothing_from_it() {
    const BYTES: u64 = 300_000;
    let (listener, backend) = tcp::backend();
    let proxy = Proxy::start();
    let mut client = tcp::connect(proxy.serve(&[backend]));
    client.write_all(b"question").unwrap();
    let mut backend = tcp::accept(&listener);
    backend.read_exact(&mut [0; 8]).unwrap();
    tcp::send_pattern(&mut backend, 0, BYTES).unwrap();
    backend.shutdown(Shutdown::Write).unwrap();
    let has_all = || proxy.listener("web").sent_bytes == BYTES;
    wait::until(LONG, "the proxy has it all", has_all);
    tcp::reset(backend);
    let (received, end) = tcp::read_pattern(&mut client);
    assert_eq!(
        (received, end.map_err(|error| error.kind())),
        (BYTES, Ok(()))
    );
    drop(client);
    wait::until(LONG, "the connection is gone", || proxy.active() == 0);
}

#[test]
fn a_slow_client_gets_the_whole_response_though_its_backend_resets_after_the_end() {
    const BYTES: u64 = 3_000_000;
    let (listener, backend) = tcp::backend();
    let proxy = Proxy::start();
    let mut client = tcp::connect(proxy.serve(&[backend]));
    SockRef::from(&client).set_recv_buffer_size(65_536).unwrap();
    let mut backend = tcp::accept(&listener);
    tcp::send_pattern(&mut backend, 0, BYTES).unwrap();
    backend.shutdown(Shutdown::Write).unwrap();
    // Then the proxy's kernel has it all.
    wait::until(LONG, "the end is acknowledged", || {
        tcp::state(&backend) == "05"
    });
    tcp::reset(backend);
    // Longer than a response that was cut would be kept.
    tcp::wait_for(&client, PollFlags::empty(), Duration::from_millis(1500));
    let (received, end) = tcp::read_pattern(&mut client);
    assert_eq!(
        (received, end.map_err(|error| error.kind())),
        (BYTES, Ok(()))
    );
}

#[test]
fn a_response_that_comes_before_the_whole_request_is_read_is_delivered() {
    const BYTES: u64 = 100_000;
    let (listener, address) = tcp::backend();
    SockRef::from(&listener).set_recv_buffer_size(4096).unwrap();
    let proxy = Proxy::start();
    let mut client = tcp::connect(proxy.serve(&[address]));
    let mut backend = tcp::accept(&listener);
    tcp::fill(&client); // a request that the backend does not want
    tcp::send_pattern(&mut backend, 0, BYTES).unwrap();
    backend.shutdown(Shutdown::Write).unwrap();
    let has_all = || proxy.listener("web").sent_bytes == BYTES;
    wait::until(LONG, "the proxy has it all", has_all);
    drop(backend); // with unread data: the kernel sends a reset
    // Time for a proxy that passes the reset on to do so; ends early then.
    tcp::is_reset_within(&client, Duration::from_millis(300));
    let (received, end) = tcp::read_pattern(&mut client);
    assert_eq!(
        (received, end.map_err(|error| error.kind())),
        (BYTES, Ok(()))
    );
}
