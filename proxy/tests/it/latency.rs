//! No response waits for a timer of the kernel.

use std::time::{Duration, Instant};

use podline_lab::Behaviour;

use crate::harness::{Proxy, http, pod};

#[test]
fn a_response_of_40_000_bytes_is_never_delayed() {
    let pod = pod("a", Behaviour::Name);
    let proxy = Proxy::alone();
    let address = proxy.serve(&[pod.address()]);
    let mut client = http::Client::connect(address).unwrap();
    let mut slowest = Duration::ZERO;
    for _ in 0..200 {
        let start = Instant::now();
        let (status, body) = client.get("/bytes/40000").unwrap();
        slowest = slowest.max(start.elapsed());
        assert_eq!((status, body.len()), (200, 40_000));
    }
    // What it guards against is a delay of 200 ms at every response.
    assert!(
        slowest < Duration::from_millis(150),
        "the slowest took {slowest:?}"
    );
}

#[test]
fn responses_of_40_000_bytes_after_a_large_one_are_never_delayed() {
    let pod = pod("a", Behaviour::Name);
    let proxy = Proxy::alone();
    let address = proxy.serve(&[pod.address()]);
    let mut client = http::Client::connect(address).unwrap();
    let mut slowest = Duration::ZERO;
    for _ in 0..5 {
        let (_, body) = client.get("/bytes/20000000").unwrap(); // moves the connection to splice
        assert_eq!(body.len(), 20_000_000);
        for _ in 0..20 {
            let start = Instant::now();
            client.get("/bytes/40000").unwrap();
            slowest = slowest.max(start.elapsed());
        }
    }
    assert!(
        slowest < Duration::from_millis(150),
        "the slowest took {slowest:?}"
    );
}
