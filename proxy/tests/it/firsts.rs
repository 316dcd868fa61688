//! When a backend was first probed and first connected to: told once it has happened, and the same after every publish.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use podline_api::v1;
use podline_lab::{Behaviour, wait};

use crate::harness::udp::{Backend, addresses, client, listener, who};
use crate::harness::{LONG, Proxy, SECOND, pod, tcp, wire};

type Firsts = (Option<SystemTime>, Option<SystemTime>);

fn firsts(proxy: &Proxy, set: &str, backend: SocketAddr) -> Firsts {
    let status = proxy.backend(set, backend).expect("it is in the set");
    let time = |time: Option<prost_types::Timestamp>| time.map(|t| t.try_into().unwrap());
    (time(status.first_probe), time(status.first_connection))
}

/// Close enough for a clock that is read by the tick and told from another.
fn is_same(one: Option<SystemTime>, other: Option<SystemTime>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => {
            let apart = one
                .duration_since(other)
                .or_else(|e| Ok::<_, ()>(e.duration()));
            apart.unwrap() < SECOND / 10
        }
        (one, other) => one == other,
    }
}

fn connect(address: SocketAddr) {
    let mut stream = tcp::connect(address);
    stream.write_all(b"ping").unwrap();
    stream.read_exact(&mut [0; 4]).unwrap();
}

/// A set whose backends are probed.
fn checked(name: &str, backends: &[SocketAddr]) -> v1::BackendSet {
    let mut set = wire::set(name, backends);
    set.health_check = Some(wire::fast_check());
    set
}

#[test]
fn the_first_probe_and_connection_are_told_and_survive_publishes() {
    let (pod, other) = (pod("a", Behaviour::Echo), pod("b", Behaviour::Echo));
    let (backend, another) = (pod.address(), other.address());
    let proxy = Proxy::start();
    let begun = SystemTime::now();
    let address = tcp::free_address();
    proxy.serve_with(
        wire::listener("web", address, "web"),
        checked("web", &[backend]),
    );
    let is_probed = || firsts(&proxy, "web", backend).0.is_some();
    wait::until(LONG, "a probe", is_probed);
    let (probed, connected) = firsts(&proxy, "web", backend);
    assert!((begun..=SystemTime::now()).contains(&probed.unwrap()));
    assert_eq!(connected, None, "a probe is no connection");
    let before = SystemTime::now() - SECOND / 10;
    connect(address);
    let (_, connected) = firsts(&proxy, "web", backend);
    assert!((before..=SystemTime::now()).contains(&connected.unwrap()));
    // Another weight, and another backend beside it: still the same backend.
    let weighing = |weight| {
        let mut set = checked("web", &[backend, another]);
        set.backends[0].weight = Some(weight);
        set
    };
    for weight in [0, 20] {
        proxy.apply(v1::ApplyRequest {
            backend_sets: vec![weighing(weight)],
            ..wire::request()
        });
    }
    connect(address);
    let (still_probed, still_connected) = firsts(&proxy, "web", backend);
    assert_eq!(still_probed, probed);
    assert!(
        is_same(still_connected, connected),
        "{still_connected:?} {connected:?}"
    );
    let before = SystemTime::now();
    let now: SystemTime = proxy.get().now.unwrap().try_into().unwrap();
    let slack = Duration::from_millis(100);
    assert!(
        (before - slack..=SystemTime::now() + slack).contains(&now),
        "{now:?}"
    );
}

#[test]
fn a_flow_is_a_first_connection_too() {
    let backends = [Backend::start("a", "127.0.0.1")];
    let backend = addresses(&backends)[0];
    let proxy = Proxy::start();
    let server = tcp::free_address();
    proxy.serve_with(listener("dns", server, "dns"), wire::set("dns", &[backend]));
    assert_eq!(firsts(&proxy, "dns", backend), (None, None));
    let before = SystemTime::now() - SECOND / 10;
    assert_eq!(who(&client(server)), "a");
    let (probed, connected) = firsts(&proxy, "dns", backend);
    assert_eq!(probed, None, "there is no check");
    assert!((before..=SystemTime::now()).contains(&connected.unwrap()));
}
