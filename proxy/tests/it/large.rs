//! Sets of 100,000 backends.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use podline_api::v1;
use podline_lab::{Behaviour, wait};

use crate::harness::{LONG, Proxy, http, pod, tcp, wire};

const MANY: u32 = 100_000;

/// Backends that are never dialed: their weight is 0.
fn resting() -> impl Iterator<Item = v1::Backend> {
    (0..MANY - 1).map(|i| v1::Backend {
        node: None,
        address: SocketAddr::from(((u32::from_be_bytes([10, 0, 0, 1]) + i).to_be_bytes(), 80))
            .to_string(),
        weight: Some(0),
        id: Some(format!("pod-{i}")),
    })
}

#[test]
fn a_set_of_100_000_backends_is_taken_in_one_request_and_changed_one_by_one() {
    let pods = [
        pod("first", Behaviour::Name),
        pod("second", Behaviour::Name),
    ];
    let proxy = Proxy::alone();
    let address = tcp::free_address();
    let mut set = wire::set("web", &[pods[0].address()]);
    set.backends.extend(resting());
    proxy.serve_with(wire::listener("web", address, "web"), set);
    let summary = v1::GetRequest {
        summary: true,
        ..v1::GetRequest::default()
    };
    let state = proxy.block_on(proxy.client().get(summary)).unwrap();
    assert_eq!(
        (state.backend_sets[0].total, state.backend_sets[0].eligible),
        (MANY, 1)
    );
    assert!(state.backend_sets[0].backends.is_empty());
    assert_eq!(http::ask(address).unwrap(), "first");

    let mut least = Duration::MAX;
    for _ in 0..50 {
        let start = Instant::now();
        proxy.apply(wire::change(
            "web",
            &[pods[1].address()],
            &[pods[0].address()],
        ));
        assert_eq!(http::ask(address).unwrap(), "second");
        proxy.apply(wire::change(
            "web",
            &[pods[0].address()],
            &[pods[1].address()],
        ));
        least = least.min(start.elapsed() / 2);
    }
    // A scan of the set takes tens of milliseconds in this build, each time; a change does not. What else the machine
    // does only adds to it.
    println!("quickest change {least:?}");
    assert!(
        least < Duration::from_millis(50),
        "a change takes {least:?}"
    );
    wait::until(LONG, "the last one removed has drained", || {
        proxy.get().backend_sets[0].backends.len() == MANY as usize
    });
}
