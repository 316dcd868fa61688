//! Connections that do nothing are ended, others are not.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use podline_lab::{Behaviour, wait};

use crate::harness::{LONG, Proxy, SECOND, pod, tcp, wire};

/// How late the coarse wheel may be.
const LATE: Duration = Duration::from_secs(2);

#[test]
fn an_idle_connection_is_reset_on_both_sides_and_a_busy_one_is_not() {
    let (listener, backend) = tcp::backend();
    let proxy = Proxy::start();
    let address = tcp::free_address();
    let mut web = wire::listener("web", address, "web");
    web.idle_timeout = wire::time(4 * SECOND); // far longer than the busy one may be kept from its next byte
    proxy.serve_with(web, wire::set("web", &[backend]));
    let idle = (tcp::connect(address), tcp::accept(&listener));
    let mut busy = (tcp::connect(address), tcp::accept(&listener));
    let start = Instant::now();
    while start.elapsed() < 4 * SECOND + LATE {
        busy.0.write_all(b"x").unwrap();
        busy.1.read_exact(&mut [0]).unwrap();
        std::thread::park_timeout(SECOND / 10);
    }
    assert!(
        tcp::is_reset_within(&idle.0, LONG),
        "the client of the idle connection"
    );
    assert!(
        tcp::is_reset_within(&idle.1, LONG),
        "the backend of the idle connection"
    );
    wait::until(LONG, "one is left", || proxy.active() == 1);
}

#[test]
fn a_half_closed_connection_has_a_timeout_of_its_own() {
    let pod = pod("a", Behaviour::NeverRead);
    let proxy = Proxy::start();
    let address = tcp::free_address();
    let mut web = wire::listener("web", address, "web");
    web.half_closed_timeout = wire::time(SECOND);
    proxy.serve_with(web, wire::set("web", &[pod.address()]));
    let (whole, half) = (tcp::connect(address), tcp::connect(address));
    wait::until(LONG, "both are through", || pod.counts().open() == 2);
    half.shutdown(Shutdown::Write).unwrap();
    assert!(tcp::is_reset_within(&half, LONG));
    assert!(!tcp::is_reset_within(&whole, SECOND / 10));
}
