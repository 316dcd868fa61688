//! What exceeds a limit is reset at once, counted, and nothing else is touched.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Barrier;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use podline_api::{Limits, v1};
use podline_lab::{Behaviour, Pod, wait};
use podline_proxy::lb::limits::Limiter;

use crate::harness::{LONG, Proxy, http, pod, tcp, wire};

/// A listener with limits before one Pod.
fn serve(limits: v1::Listener) -> (Proxy, Pod, SocketAddr) {
    let pod = pod("a", Behaviour::Echo);
    let proxy = Proxy::start();
    let address = tcp::free_address();
    let listener = v1::Listener {
        source_ranges: limits.source_ranges,
        max_connections: limits.max_connections,
        max_connections_per_second: limits.max_connections_per_second,
        client_limits: limits.client_limits,
        ..wire::listener("web", address, "web")
    };
    proxy.serve_with(listener, wire::set("web", &[pod.address()]));
    (proxy, pod, address)
}

/// Connects from an address of this machine; nothing if the reset came before that was done.
fn connect_from(source: &str, to: SocketAddr) -> Option<TcpStream> {
    match tcp::connect_from(source.parse().unwrap(), to) {
        Ok(stream) => Some(stream),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => None,
        Err(error) => panic!("cannot connect: {error}"),
    }
}

fn connect(to: SocketAddr) -> Option<TcpStream> {
    connect_from("127.0.0.1", to)
}

/// Whether the proxy serves this connection, or has reset it.
fn is_served(stream: Option<&TcpStream>) -> bool {
    use std::io::{Read, Write};
    let Some(mut stream) = stream else {
        return false;
    };
    let echoed = stream
        .write_all(b"?")
        .and_then(|()| stream.read_exact(&mut [0]));
    match echoed {
        Ok(()) => true,
        Err(error) => {
            let kind = error.kind();
            let is_reset = matches!(
                kind,
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
            );
            assert!(is_reset, "neither served nor reset: {error}");
            false
        }
    }
}

fn shed(proxy: &Proxy) -> v1::ShedConnections {
    proxy.listener("web").shed.unwrap()
}

#[test]
fn only_clients_of_the_source_ranges_are_served() {
    let (proxy, _pod, address) = serve(v1::Listener {
        source_ranges: vec!["127.0.0.2".to_owned(), "10.0.0.0/8".to_owned()],
        ..Default::default()
    });
    assert!(is_served(connect_from("127.0.0.2", address).as_ref()));
    assert!(!is_served(connect_from("127.0.0.3", address).as_ref()));
    assert_eq!(shed(&proxy).source_ranges, 1);
    assert_eq!(proxy.listener("web").accepted_connections, 1);
    let (_, metrics) = http::page(proxy.admin, "/metrics").unwrap();
    let series = "podline_connections_shed_total{listener=\"web\",limit=\"source_ranges\"} 1";
    assert!(metrics.contains(series), "{metrics}");
    proxy.wait_logged("127.0.0.3");
}

#[test]
fn exactly_the_excess_over_the_open_connections_is_reset() {
    let (proxy, _pod, address) = serve(v1::Listener {
        max_connections: Some(10),
        ..Default::default()
    });
    let mut clients: Vec<_> = (0..30).map(|_| connect(address)).collect();
    clients.retain(|client| is_served(client.as_ref()));
    assert_eq!(clients.len(), 10);
    assert_eq!(shed(&proxy).max_connections, 20);
    clients.truncate(4);
    wait::until(LONG, "the others are gone", || proxy.active() == 4);
    let more: Vec<_> = (0..9).map(|_| connect(address)).collect();
    assert_eq!(
        more.iter()
            .filter(|client| is_served(client.as_ref()))
            .count(),
        6
    );
    wait::until(LONG, "descriptors are given back", || {
        proxy.get().descriptors_in_use == 20
    });
}

#[test]
fn one_client_cannot_take_what_is_for_others() {
    let (proxy, _pod, address) = serve(v1::Listener {
        client_limits: Some(v1::ClientLimits {
            max_connections: Some(3),
            max_connections_per_second: None,
        }),
        ..Default::default()
    });
    let served = |source: &str| {
        let clients: Vec<_> = (0..8).map(|_| connect_from(source, address)).collect();
        let mut clients = clients;
        clients.retain(|client| is_served(client.as_ref()));
        clients
    };
    let first = served("127.0.0.2");
    assert_eq!((first.len(), served("127.0.0.3").len()), (3, 3));
    assert_eq!(shed(&proxy).client_max_connections, 10);
    drop(first);
    wait::until(LONG, "they are gone", || proxy.active() == 0);
    assert_eq!(served("127.0.0.2").len(), 3);
}

#[test]
fn a_changed_limit_holds_from_the_next_connection_on() {
    let (proxy, _pod, address) = serve(v1::Listener::default());
    let first: Vec<_> = (0..5).map(|_| connect(address)).collect();
    assert!(first.iter().all(|client| is_served(client.as_ref())));
    let apply = |most: Option<u32>| {
        let listener = v1::Listener {
            max_connections: most,
            ..wire::listener("web", address, "web")
        };
        let listeners = vec![listener];
        proxy.apply(v1::ApplyRequest {
            listeners,
            ..wire::request()
        });
    };
    apply(Some(5));
    assert!(!is_served(connect(address).as_ref()));
    assert!(
        first.iter().all(|client| is_served(client.as_ref())),
        "those that were there live on"
    );
    apply(None);
    assert!(is_served(connect(address).as_ref()));
}

#[test]
fn a_rate_sheds_what_comes_too_fast() {
    let (proxy, _pod, address) = serve(v1::Listener {
        max_connections_per_second: Some(5),
        ..Default::default()
    });
    let clients: Vec<_> = (0..40).map(|_| connect(address)).collect();
    let served = clients
        .iter()
        .filter(|client| is_served(client.as_ref()))
        .count();
    // A slow machine earns some more while it connects.
    assert!((5..40).contains(&served), "{served}");
    assert_eq!(shed(&proxy).max_connections_per_second, 40 - served as u64);
    wait::until(LONG, "the next second has room", || {
        is_served(connect(address).as_ref())
    });
}

#[test]
fn workers_that_count_at_the_same_instant_let_no_more_in() {
    const TURNS: u32 = 20_000;
    let mut limits = Limits::default();
    limits.per_client.connections = Some(3);
    let limiter = Limiter::new(&limits, None).unwrap();
    let active = AtomicU64::new(0);
    let start = Barrier::new(2);
    let worker = || {
        let taken = (0..TURNS).map(|turn| {
            let client = SocketAddr::new(Ipv4Addr::from((10 << 24) + turn).into(), 1);
            start.wait();
            let each = (0..3).map(|_| limiter.admit(client, &active, 0));
            let taken = each.flatten().count();
            start.wait();
            for _ in 0..taken {
                active.fetch_sub(1, Relaxed);
                limiter.release(client);
            }
            taken
        });
        taken.collect::<Vec<_>>()
    };
    let (one, other) = thread::scope(|scope| {
        let other = scope.spawn(worker);
        (worker(), other.join().unwrap())
    });
    for (turn, (one, other)) in one.iter().zip(other).enumerate() {
        assert_eq!(one + other, 3, "turn {turn}");
    }
}
