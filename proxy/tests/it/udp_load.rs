//! UDP under load: changes in the midst of it, and the memory of many flows.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use podline_api::v1;
use podline_lab::wait;

use crate::harness::random::Random;
use crate::harness::udp::{Backend, addresses, client, listener, who_within};
use crate::harness::{LONG, Proxy, SECOND, tcp, wire};

/// Clients that ask and check their answers until told to stop; how many answers came, and how many did not.
fn talk(server: SocketAddr, seed: u64, is_over: &AtomicBool) -> (u64, u64) {
    let mut random = Random(seed);
    let (mut answered, mut lost) = (0, 0);
    let mut clients: Vec<UdpSocket> = (0..20).map(|_| client(server)).collect();
    let mut buffer = vec![0; 65_536];
    while !is_over.load(Relaxed) {
        let place = random.place(clients.len());
        if random.below(50) == 0 {
            clients[place] = client(server);
        }
        let client = &clients[place];
        let most = [20, 1_500, 20_000][random.place(3)];
        let length = random.place(most);
        let word = random.below(u64::MAX);
        let mut question = vec![u8::try_from(word % 251).unwrap(); length];
        question.extend(word.to_le_bytes());
        client.set_read_timeout(Some(SECOND)).unwrap();
        client.send(&question).unwrap();
        if let Ok(length) = client.recv(&mut buffer) {
            assert!(buffer[..length] == question, "another one's answer");
            answered += 1;
        } else {
            lost += 1;
            // A late answer must not be taken for the next one's.
            clients[place] = self::client(server);
        }
    }
    (answered, lost)
}

#[test]
fn random_changes_under_traffic_mix_nothing_up_and_leave_nothing() {
    let proxy = Proxy::start();
    let backends: Vec<_> = ["a", "b", "c", "d"]
        .iter()
        .map(|name| Backend::start(name, "127.0.0.1"))
        .collect();
    let all = addresses(&backends);
    let server = tcp::free_address();
    let mut is_there = [true; 4];
    proxy.serve_with(listener("dns-0", server, "dns"), wire::set("dns", &all));
    let is_over = AtomicBool::new(false);
    let (answered, lost) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for seed in 1..=4 {
            let (is_over, answered, lost) = (&is_over, &answered, &lost);
            scope.spawn(move || {
                let (good, bad) = talk(server, seed * 0x5eed, is_over);
                answered.fetch_add(good, Relaxed);
                lost.fetch_add(bad, Relaxed);
            });
        }
        let mut random = Random(77);
        let mut name = 0;
        let until = Instant::now() + 5 * SECOND;
        while Instant::now() < until {
            let place = random.place(4);
            match random.below(3) {
                0 if is_there.iter().filter(|is| **is).count() > 1 && is_there[place] => {
                    proxy.apply(wire::change("dns", &[], &[all[place]]));
                    is_there[place] = false;
                }
                1 => {
                    proxy.apply(wire::change("dns", &[all[place]], &[]));
                    is_there[place] = true;
                }
                _ => {
                    let (old, new) = (format!("dns-{name}"), format!("dns-{}", name + 1));
                    proxy.apply(v1::ApplyRequest {
                        remove_listeners: vec![old],
                        listeners: vec![listener(&new, server, "dns")],
                        ..wire::request()
                    });
                    name += 1;
                }
            }
            std::thread::park_timeout(Duration::from_millis(random.below(40)));
        }
        is_over.store(true, Relaxed);
    });
    let (answered, lost) = (answered.load(Relaxed), lost.load(Relaxed));
    assert!(answered > 1_000, "{answered} answers");
    // An answer of a backend that a flow has left in between is lost, as it would be with its backend.
    assert!(lost * 100 < answered, "{lost} of {answered} lost");
    let names: Vec<_> = proxy.get().listeners;
    let remove_listeners = names
        .iter()
        .map(|status| status.listener.as_ref().unwrap().name.clone())
        .collect();
    let mut request = wire::request();
    request.remove_listeners = remove_listeners;
    request.remove_backend_sets = vec!["dns".to_owned()];
    proxy.apply(request);
    wait::until(2 * LONG, "nothing is left", || {
        let state = proxy.get();
        state.active_connections == 0 && state.descriptors_in_use == 0
    });
}

/// Sends from many addresses and ports of the loopback, two datagrams each; how many flows that makes.
fn open_flows(server: SocketAddr, flows: u32) {
    const PORTS: u32 = 500;
    for host in 0..flows.div_ceil(PORTS) {
        let address = std::net::Ipv4Addr::from(0x7f01_0000 + host + 1);
        let sockets: Vec<_> = (0..PORTS.min(flows - host * PORTS))
            .map(|_| {
                let socket = UdpSocket::bind((address, 0)).unwrap();
                socket.connect(server).unwrap();
                socket.set_read_timeout(Some(SECOND)).unwrap();
                socket
            })
            .collect();
        for socket in &sockets {
            socket.send(b"x").unwrap();
        }
        for socket in &sockets {
            if socket.recv(&mut [0; 8]).is_err() {
                assert_ne!(who_within(socket, 5 * SECOND), "");
            }
        }
    }
}

/// Fifty thousand flows over 16 backends; the figure is printed.
#[test]
fn fifty_thousand_flows_fit_into_64_mib() {
    const FLOWS: u32 = 50_000;
    let proxy = Proxy::alone();
    let backends: Vec<_> = (0..16)
        .map(|n| Backend::start(&n.to_string(), "127.0.0.1"))
        .collect();
    let server = tcp::free_address();
    let like = v1::Listener {
        idle_timeout: wire::time(Duration::from_mins(10)),
        ..listener("dns", server, "dns")
    };
    proxy.serve_with(like, wire::set("dns", &addresses(&backends)));
    open_flows(server, 100);
    let before = proxy.resident_bytes();
    open_flows(server, FLOWS);
    let status = proxy.listener("dns");
    let grown = proxy.resident_bytes() - before;
    let sockets = proxy.get().descriptors_in_use;
    println!(
        "{} flows: {} KiB, {} bytes each, {sockets} sockets",
        status.active_connections,
        grown / 1024,
        grown / u64::from(FLOWS)
    );
    assert!(status.active_connections >= u64::from(FLOWS));
    assert!(grown < 64 << 20, "{grown} bytes");
}
