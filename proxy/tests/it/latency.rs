//! No response waits for a timer of the kernel.

use std::time::{Duration, Instant};

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use podline_lab::{Behaviour, pattern};

use crate::harness::{Proxy, Start, http, pod, tcp, wire};

/// Far above what the machine's own hiccups cost, below any timer of the kernel.
const TOLERATED: Duration = Duration::from_millis(150);
/// Responses that may be late all the same, as the machine stood still. What is guarded against makes every one late.
const STALLED: usize = 3;

#[test]
fn a_response_of_40_000_bytes_is_never_delayed() {
    let pod = pod("a", Behaviour::Name);
    let proxy = Proxy::alone();
    let address = proxy.serve(&[pod.address()]);
    let mut client = http::Client::connect(address).unwrap();
    let mut late = 0;
    for _ in 0..200 {
        let start = Instant::now();
        let (status, body) = client.get("/bytes/40000").unwrap();
        late += usize::from(start.elapsed() >= TOLERATED);
        assert_eq!((status, body.len()), (200, 40_000));
    }
    assert!(late <= STALLED, "{late} were late");
}

#[test]
fn responses_of_40_000_bytes_after_a_large_one_are_never_delayed() {
    let pod = pod("a", Behaviour::Name);
    let proxy = Proxy::alone();
    let address = proxy.serve(&[pod.address()]);
    let mut client = http::Client::connect(address).unwrap();
    let mut late = 0;
    for _ in 0..5 {
        let (_, body) = client.get("/bytes/20000000").unwrap(); // moves the connection to splice
        assert_eq!(body.len(), 20_000_000);
        for _ in 0..20 {
            let start = Instant::now();
            client.get("/bytes/40000").unwrap();
            late += usize::from(start.elapsed() >= TOLERATED);
        }
    }
    assert!(late <= STALLED, "{late} were late");
}

#[test]
fn what_trickles_after_a_long_stream_is_not_gathered_for_long() {
    const STREAM: u64 = 40_000_000;
    let (listener, backend) = tcp::backend();
    let proxy = Proxy::alone();
    let mut client = tcp::connect(proxy.serve(&[backend]));
    let mut backend = tcp::accept(&listener);
    backend.set_nodelay(true).unwrap();
    let mut sender = backend.try_clone().unwrap();
    let sending = std::thread::spawn(move || tcp::send_pattern(&mut sender, 0, STREAM).unwrap());
    let mut buffer = vec![0; 100_000];
    for offset in (0..STREAM).step_by(buffer.len()) {
        client.read_exact(&mut buffer).unwrap();
        pattern::check(offset, &buffer);
    }
    sending.join().unwrap();
    let mut late = 0;
    for turn in 0..50 {
        let start = Instant::now();
        backend.write_all(&[turn; 100]).unwrap();
        let mut piece = [0; 100];
        client.read_exact(&mut piece).unwrap();
        late += usize::from(start.elapsed() >= TOLERATED);
        assert_eq!(piece, [turn; 100]);
        std::thread::park_timeout(Duration::from_millis(10));
    }
    assert!(late <= STALLED, "{late} were late");
}

#[test]
fn requests_beside_a_bulk_stream_on_the_same_worker_are_answered_soon() {
    let (bulk, asked) = (
        pod("bulk", Behaviour::SendThenEnd(1 << 40)),
        pod("asked", Behaviour::Name),
    );
    let start = Start {
        workers: 1,
        alone: true,
        ..Start::default()
    };
    let proxy = start.ready();
    let requests = proxy.serve(&[asked.address()]);
    let stream = tcp::free_address();
    proxy.serve_with(
        wire::listener("bulk", stream, "bulk"),
        wire::set("bulk", &[bulk.address()]),
    );
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = tcp::connect(stream);
            let mut buffer = vec![0; 1 << 20];
            while !stop.load(Relaxed) {
                client.read_exact(&mut buffer).unwrap();
            }
        });
        let mut client = http::Client::connect(requests).unwrap();
        let mut took: Vec<_> = (0..500)
            .map(|_| {
                let start = Instant::now();
                client.name().unwrap();
                start.elapsed()
            })
            .collect();
        stop.store(true, Relaxed);
        took.sort_unstable();
        println!("median {:?}, p99 {:?}", took[250], took[495]);
        assert!(took[495] < TOLERATED, "p99 {:?}", took[495]);
    });
}
