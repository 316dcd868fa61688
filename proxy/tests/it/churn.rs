//! Backends and listeners come and go under load, and no client notices.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use podline_api::v1;
use podline_lab::{Behaviour, Pod};

use crate::harness::{LONG, Proxy, SECOND, addresses, http, pod, tcp, wire};

/// Changes a second.
const RATE: u32 = 100;
const CLIENTS: usize = 3;

/// What clients have met.
#[derive(Default)]
struct Met {
    answered: AtomicU64,
    failures: Mutex<Vec<String>>,
    stop: AtomicBool,
}

/// Ends the clients, also when the test fails; its scope would wait for them for ever.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

impl Met {
    fn note(&self, what: &str, result: std::io::Result<String>) {
        match result {
            Ok(_) => {
                self.answered.fetch_add(1, Relaxed);
            }
            Err(error) => self
                .failures
                .lock()
                .unwrap()
                .push(format!("{what}: {error}")),
        }
    }

    fn stops(&self) -> bool {
        self.stop.load(Relaxed)
    }
}

/// Asks on a new connection each time, or on one connection for ever.
fn ask_on(address: SocketAddr, met: &Met, keep: bool) {
    let mut kept = http::Client::connect(address).unwrap();
    while !met.stops() {
        if keep {
            met.note("kept connection", kept.name());
            thread::park_timeout(Duration::from_millis(5));
        } else {
            met.note("new connection", http::ask(address));
        }
    }
}

/// Changes one backend of the set `RATE` times a second: away, back, another weight. Says how often, at least `wanted`
/// times unless even `LONG` is too short for it.
fn change_backends(proxy: &Proxy, moving: &[Pod], length: Duration, wanted: u64) -> u64 {
    let start = Instant::now();
    let mut changes = 0;
    while start.elapsed() < length || (changes < wanted && start.elapsed() < length + LONG) {
        let turn = usize::try_from(changes).unwrap();
        let address = moving[turn / 3 % moving.len()].address();
        let request = match turn % 3 {
            0 => wire::change("web", &[], &[address]),
            1 => wire::change("web", &[address], &[]),
            _ => {
                let mut request = wire::change("web", &[address], &[]);
                request.backend_changes[0].upsert[0].weight = Some(5);
                request
            }
        };
        proxy.apply(request);
        changes += 1;
        let next = start + Duration::from_secs(1) / RATE * u32::try_from(changes).unwrap();
        thread::park_timeout(next.saturating_duration_since(Instant::now()));
    }
    changes
}

/// Adds a listener, connects, removes it, and expects an answer on every connection that was made.
fn change_listeners(proxy: &Proxy, met: &Met) {
    let address = tcp::free_address();
    while !met.stops() {
        proxy.serve_with(
            wire::listener("passing", address, "web"),
            wire::set("passing", &[]),
        );
        let clients: Vec<_> = (0..20).map(|_| http::Client::connect(address)).collect();
        let remove_listeners = vec!["passing".to_owned()];
        let remove_backend_sets = vec!["passing".to_owned()];
        proxy.apply(v1::ApplyRequest {
            remove_listeners,
            remove_backend_sets,
            ..wire::request()
        });
        for client in clients {
            met.note(
                "queued connection",
                client.and_then(|mut client| client.name()),
            );
        }
    }
}

fn churn(length: Duration) {
    let still: Vec<_> = (0..4)
        .map(|i| pod(&format!("still-{i}"), Behaviour::Name))
        .collect();
    let moving: Vec<_> = (0..3)
        .map(|i| pod(&format!("moving-{i}"), Behaviour::Name))
        .collect();
    let proxy = Proxy::alone();
    let address = proxy.serve(&[addresses(&still), addresses(&moving)].concat());
    let met = Met::default();
    let wanted = length.as_secs() * u64::from(RATE) * 8 / 10;
    let changes = thread::scope(|scope| {
        let _stop = StopOnDrop(&met.stop);
        for client in 0..CLIENTS {
            let met = &met;
            scope.spawn(move || ask_on(address, met, client == 0));
        }
        scope.spawn(|| change_listeners(&proxy, &met));
        change_backends(&proxy, &moving, length, wanted)
    });
    let failures = met.failures.into_inner().unwrap();
    let answered = met.answered.load(Relaxed);
    println!(
        "{answered} requests, {changes} changes, {} failures",
        failures.len()
    );
    assert!(
        failures.is_empty(),
        "{} of {answered} failed: {:?}",
        failures.len(),
        &failures[..failures.len().min(5)]
    );
    assert!(
        changes >= wanted,
        "only {changes} changes: the machine or the API is too slow"
    );
    let shares: Vec<_> = still.iter().map(|pod| pod.counts().accepted()).collect();
    let mean = shares.iter().sum::<u64>() / 4;
    assert!(
        mean >= 100,
        "too few connections to tell shares: {shares:?}"
    );
    // Each change begins the turn anew somewhere, so few connections a change are drawn by lot.
    let by_lot = 4 * mean.isqrt();
    for share in &shares {
        assert!(
            share.abs_diff(mean) <= by_lot.max(mean / 20),
            "shares differ by more than 5%: {shares:?}"
        );
    }
}

#[test]
fn no_request_fails_and_shares_hold_while_backends_and_listeners_change_for_4_s() {
    churn(4 * SECOND);
}

#[test]
#[ignore = "30 s; run by hand"]
fn no_request_fails_and_shares_hold_while_backends_and_listeners_change_for_30_s() {
    churn(30 * SECOND);
}

#[test]
fn whoever_gets_through_while_a_listener_comes_and_goes_is_served() {
    let pod = pod("a", Behaviour::Name);
    let proxy = Proxy::alone();
    let address = proxy.serve(&[pod.address()]);
    let met = Met::default();
    thread::scope(|scope| {
        let _stop = StopOnDrop(&met.stop);
        for _ in 0..4 {
            scope.spawn(|| {
                while !met.stops() {
                    match http::Client::connect(address) {
                        Ok(mut client) => met.note("connected", client.name()),
                        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => (),
                        Err(error) => met.note("connecting", Err(error)),
                    }
                }
            });
        }
        for _ in 0..4 {
            let remove_listeners = vec!["web".to_owned()];
            proxy.apply(v1::ApplyRequest {
                remove_listeners,
                ..wire::request()
            });
            podline_lab::wait::until(LONG, "it is closed", || {
                std::net::TcpStream::connect(address).is_err()
            });
            let listeners = vec![wire::listener("web", address, "web")];
            proxy.apply(v1::ApplyRequest {
                listeners,
                ..wire::request()
            });
        }
    });
    let (answered, failures) = (
        met.answered.load(Relaxed),
        met.failures.into_inner().unwrap(),
    );
    println!("{answered} answered, {} failed", failures.len());
    assert!(failures.is_empty(), "{failures:?}");
}

#[test]
fn a_listener_replaced_at_its_address_hands_new_connections_over_at_once() {
    let pods = [pod("0", Behaviour::Name), pod("1", Behaviour::Name)];
    let proxy = Proxy::start();
    let address = tcp::free_address();
    let add = |turn: usize| {
        let name = format!("web-{turn}");
        wire::both(
            wire::listener(&name, address, &name),
            wire::set(&name, &[pods[turn % 2].address()]),
        )
    };
    proxy.apply(add(0));
    proxy.wait_listening("web-0");
    for turn in 1..20 {
        let request = v1::ApplyRequest {
            replace_owned: true,
            ..add(turn)
        };
        proxy.apply(request);
        for _ in 0..10 {
            assert_eq!(http::ask(address).unwrap(), pods[turn % 2].name());
        }
    }
}

#[test]
fn a_removed_backend_gets_no_connection_after_the_answer() {
    let pods: Vec<_> = (0..3)
        .map(|i| pod(&format!("p{i}"), Behaviour::Name))
        .collect();
    let proxy = Proxy::start();
    let address = proxy.serve(&addresses(&pods));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    http::ask(address).unwrap();
                }
            });
        }
        for _ in 0..30 {
            proxy.apply(wire::change("web", &[], &[pods[0].address()]));
            // Accepts come in order, so all that was connected before the answer is counted when this is answered.
            let settled = || {
                http::ask(pods[0].address()).unwrap();
                pods[0].counts().accepted()
            };
            let before = settled();
            for _ in 0..20 {
                http::ask(address).unwrap();
            }
            assert_eq!(settled(), before + 1, "a new connection after the answer");
            proxy.apply(wire::change("web", &[pods[0].address()], &[]));
        }
    });
}
