//! UDP listeners: whose datagrams go where, and who gets the replies.

use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use podline_api::v1::{self, listener_status::State};
use podline_lab::wait;
use rustix::process::Signal;

use crate::harness::udp::{
    Backend, WHO, addresses, ask, client, client_at, listener, who, who_within,
};
use crate::harness::{LONG, Proxy, SECOND, Start, http, tcp, wire};

const QUIET: Duration = Duration::from_millis(300);

fn backends(names: &[&str]) -> Vec<Backend> {
    names
        .iter()
        .map(|name| Backend::start(name, "127.0.0.1"))
        .collect()
}

/// Serves backends at a new address: listener "dns", set "dns".
fn serve(proxy: &Proxy, backends: &[SocketAddr]) -> SocketAddr {
    serve_with(proxy, backends, v1::Listener::default())
}

fn serve_with(proxy: &Proxy, backends: &[SocketAddr], like: v1::Listener) -> SocketAddr {
    let address = tcp::free_address();
    let listener = v1::Listener {
        name: "dns".to_owned(),
        address: address.to_string(),
        protocol: Some(v1::listener::Protocol::Udp.into()),
        backend_set: "dns".to_owned(),
        ..like
    };
    proxy.serve_with(listener, wire::set("dns", backends));
    address
}

fn upstream_sockets(proxy: &Proxy) -> u64 {
    proxy.get().descriptors_in_use
}

#[test]
fn many_flows_get_their_own_answers_over_few_sockets() {
    for host in ["127.0.0.1", "::1"] {
        let proxy = Proxy::start();
        let backends: Vec<_> = ["a", "b", "c", "d"]
            .iter()
            .map(|name| Backend::start(name, host))
            .collect();
        let server = SocketAddr::new(host.parse().unwrap(), tcp::free_port());
        proxy.serve_with(
            listener("dns", server, "dns"),
            wire::set("dns", &addresses(&backends)),
        );
        let clients: Vec<_> = (0..400).map(|_| client(server)).collect();
        let mut by_name: HashMap<String, u32> = HashMap::new();
        for client in &clients {
            *by_name.entry(who(client)).or_default() += 1;
        }
        assert_eq!(by_name.len(), 4);
        assert!(
            by_name.values().all(|flows| (80..120).contains(flows)),
            "{by_name:?}"
        );
        // All at once, so that answers cross.
        for round in 0..5 {
            for (n, client) in clients.iter().enumerate() {
                client.send(format!("{round} {n}").as_bytes()).unwrap();
            }
            for (n, client) in clients.iter().enumerate() {
                let mut buffer = [0; 64];
                let length = client.recv(&mut buffer).unwrap();
                assert_eq!(buffer[..length], *format!("{round} {n}").as_bytes());
            }
        }
        // A worker's flows of a backend have a socket each, which they share with the other backends' flows.
        let sockets = upstream_sockets(&proxy);
        assert!((100..=160).contains(&sockets), "{sockets} sockets");
        let forwarded = || -> u64 { proxy.set("dns").backends.iter().map(|b| b.sent_bytes).sum() };
        wait::until(LONG, "the counters are told", || {
            let status = proxy.listener("dns");
            (status.received_datagrams, status.sent_datagrams) == (2_400, 2_400)
                && (proxy.active(), forwarded()) == (400, status.received_bytes)
        });
        let status = proxy.listener("dns");
        assert_eq!(
            (status.active_connections, status.accepted_connections),
            (400, 400)
        );
        assert_eq!(
            (status.dropped_datagrams, status.refused_connections),
            (0, 0)
        );
        let set = proxy.set("dns");
        let active = set.backends.iter().map(|b| b.active_connections);
        assert_eq!(active.sum::<u64>(), 400);
        assert!(status.received_bytes > 0);
    }
}

#[test]
fn empty_and_largest_datagrams_pass_whole() {
    let proxy = Proxy::start();
    for host in ["127.0.0.1", "::1"] {
        let backend = Backend::start("a", host);
        let server = SocketAddr::new(host.parse().unwrap(), tcp::free_port());
        let name = if server.is_ipv6() { "six" } else { "four" };
        proxy.serve_with(
            listener(name, server, name),
            wire::set(name, &[backend.address]),
        );
        let client = client(server);
        let noise: Vec<u8> = (0..65_507u32).map(|n| (n * 31 % 251) as u8).collect();
        for length in [0, 1, 1_200, 1_472, 2_047, 2_048, 2_049, 9_000, 65_507, 0] {
            assert!(
                ask(&client, &noise[..length]) == noise[..length],
                "{length} bytes"
            );
        }
    }
}

#[test]
fn an_answer_leaves_from_the_address_that_was_asked() {
    let proxy = Proxy::start();
    for (everywhere, hosts) in [
        ("0.0.0.0", ["127.0.0.1", "127.0.0.7"]),
        ("::", ["::1", "::1"]),
    ] {
        let backend = Backend::start("a", hosts[0]);
        let port = tcp::free_port();
        let name = if port.is_multiple_of(2) {
            "even"
        } else {
            "odd"
        };
        let name = format!("{name}-{port}");
        let everywhere = SocketAddr::new(everywhere.parse().unwrap(), port);
        proxy.serve_with(
            listener(&name, everywhere, &name),
            wire::set(&name, &[backend.address]),
        );
        // One socket asks at both addresses: it takes answers from anywhere, and sees where they come from.
        let client = UdpSocket::bind((hosts[0], 0)).unwrap();
        client.set_read_timeout(Some(LONG)).unwrap();
        for host in [hosts[0], hosts[1], hosts[0]] {
            let server = SocketAddr::new(host.parse().unwrap(), port);
            client.send_to(WHO, server).unwrap();
            let (_, from) = client.recv_from(&mut [0; 16]).unwrap();
            assert_eq!(from, server);
        }
    }
}

/// More than a worker takes from a socket in one turn, and nothing comes behind them that would call it again.
#[test]
fn replies_that_waited_together_all_arrive() {
    const MANY: usize = 270; // of one byte, which the smallest of the system's buffers hold
    let backend = UdpSocket::bind("127.0.0.1:0").unwrap();
    backend.set_read_timeout(Some(LONG)).unwrap();
    let proxy = Proxy::start();
    let server = serve(&proxy, &[backend.local_addr().unwrap()]);
    let client = client(server);
    client.send(b"?").unwrap();
    let (_, from) = backend.recv_from(&mut [0; 8]).unwrap();
    proxy.signal(Signal::STOP);
    for _ in 0..MANY {
        backend.send_to(b"!", from).unwrap();
    }
    proxy.signal(Signal::CONT);
    // Whether the client's buffer holds them all is another question.
    wait::until(LONG, "all were taken and sent on", || {
        proxy.listener("dns").sent_datagrams == MANY as u64
    });
}

#[test]
fn what_strangers_send_to_a_socket_of_flows_reaches_nobody() {
    let proxy = Proxy::start();
    let backend = UdpSocket::bind("127.0.0.1:0").unwrap();
    backend.set_read_timeout(Some(LONG)).unwrap();
    let server = serve(&proxy, &[backend.local_addr().unwrap()]);
    let client = client(server);
    client.send(b"hello").unwrap();
    let (_, flow) = backend.recv_from(&mut [0; 16]).unwrap();
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.send_to(b"evil", flow).unwrap();
    let neighbour = UdpSocket::bind("127.0.0.9:0").unwrap();
    neighbour.send_to(b"evil", flow).unwrap();
    backend.send_to(b"good", flow).unwrap();
    let mut buffer = [0; 16];
    assert_eq!(client.recv(&mut buffer).unwrap(), 4);
    assert_eq!(&buffer[..4], b"good");
    wait::until(LONG, "strays are counted", || {
        let (_, metrics) = http::page(proxy.admin, "/metrics").unwrap();
        metrics.contains("podline_stray_datagrams_total 2")
    });
}

#[test]
fn a_removed_backend_gets_nothing_after_the_answer_and_its_flows_go_on_elsewhere() {
    let proxy = Proxy::start();
    let backends = backends(&["a", "b", "c"]);
    let server = serve(&proxy, &addresses(&backends));
    let clients: Vec<_> = (0..60).map(|_| client(server)).collect();
    let before: Vec<_> = clients.iter().map(who).collect();
    assert!(before.iter().filter(|name| *name == "a").count() >= 15);
    proxy.apply(wire::change("dns", &[], &[backends[0].address]));
    let received = backends[0].received();
    for (client, before) in clients.iter().zip(&before) {
        let now = who(client);
        assert_ne!(now, "a");
        assert!(before == "a" || now == *before, "a flow moved without need");
    }
    assert_eq!(backends[0].received(), received);
    // Weight 0 keeps what is there.
    let mut kept = wire::backend(backends[1].address);
    kept.weight = Some(0);
    let change = v1::BackendChange {
        set: "dns".to_owned(),
        upsert: vec![kept],
        ..Default::default()
    };
    let before: Vec<_> = clients.iter().map(who).collect();
    proxy.apply(v1::ApplyRequest {
        backend_changes: vec![change],
        ..wire::request()
    });
    assert_eq!(before, clients.iter().map(who).collect::<Vec<_>>());
    assert!((0..20).all(|_| who(&client(server)) == "c"));
}

#[test]
fn an_override_that_drains_moves_flows_as_a_removal_does() {
    let proxy = Proxy::start();
    let backends = backends(&["a", "b"]);
    let server = serve(&proxy, &addresses(&backends));
    let clients: Vec<_> = (0..60).map(|_| client(server)).collect();
    let before: Vec<_> = clients.iter().map(who).collect();
    assert!(before.iter().any(|name| name == "a"));
    let over = |backend: SocketAddr, action: v1::override_request::Action| {
        let request = v1::OverrideRequest {
            set: "dns".to_owned(),
            backend: Some(wire::backend(backend)),
            action: action.into(),
            ..Default::default()
        };
        let answer = proxy.block_on(proxy.client().override_backend(request));
        answer.unwrap();
        // It is answered after a second though a worker may not have turned to it; this one waits for all of them.
        proxy.apply(wire::request());
    };
    over(backends[0].address, v1::override_request::Action::Drain);
    let received = backends[0].received();
    assert!(clients.iter().all(|client| who(client) == "b"));
    assert_eq!(backends[0].received(), received);
    // With nobody else a flow stays where it is.
    over(backends[1].address, v1::override_request::Action::Drain);
    assert!(clients.iter().all(|client| who(client) == "b"));
    // The override outlives its backend, and harms nobody when it ends.
    proxy.apply(wire::change("dns", &[], &[backends[0].address]));
    over(backends[0].address, v1::override_request::Action::Undrain);
    over(backends[1].address, v1::override_request::Action::Undrain);
    assert!(clients.iter().all(|client| who(client) == "b"));
    assert!(proxy.get().overrides.is_empty());
}

#[test]
fn nothing_is_sent_to_a_removed_backend_however_busy_the_flows() {
    let proxy = Proxy::start();
    let backends = backends(&["a", "b"]);
    let server = serve(&proxy, &addresses(&backends));
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let client = client(server);
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    assert_ne!(who_within(&client, LONG), "", "an answer was lost");
                }
            });
        }
        for _ in 0..20 {
            for (gone, kept) in [(0, 1), (1, 0)] {
                let (gone, kept) = (&backends[gone], &backends[kept]);
                proxy.apply(wire::change("dns", &[kept.address], &[]));
                proxy.apply(wire::change("dns", &[], &[gone.address]));
                // Its own queue has what was sent before the answer, and then this.
                let direct = client(gone.address);
                let settled = || {
                    who(&direct);
                    gone.received()
                };
                let received = settled();
                std::thread::park_timeout(Duration::from_millis(20));
                assert_eq!(settled(), received + 1);
            }
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_port_where_nobody_is_costs_one_datagram() {
    let proxy = Proxy::start();
    let alive = Backend::start("a", "127.0.0.1");
    let dead = tcp::free_address(); // not one that the system would give to another socket
    let server = serve(&proxy, &[alive.address, dead]);
    for _ in 0..6 {
        let client = client(server);
        let first = who_within(&client, QUIET);
        if first.is_empty() {
            assert_eq!(who(&client), "a", "the next one goes elsewhere");
        }
        assert_eq!(who(&client), "a");
    }
    let status = proxy.backend("dns", dead).unwrap();
    assert!(status.connect_failures > 0);
    assert_eq!(
        proxy
            .backend("dns", alive.address)
            .unwrap()
            .connect_failures,
        0
    );
}

#[test]
fn a_silent_flow_is_forgotten_and_its_socket_closed() {
    let proxy = Proxy::start();
    let backends = backends(&["a"]);
    let like = v1::Listener {
        idle_timeout: wire::time(4 * SECOND), // far longer than the talker may be kept from its next word
        ..Default::default()
    };
    let server = serve_with(&proxy, &addresses(&backends), like);
    let (talker, silent) = (client(server), client(server));
    assert_eq!(
        (who(&talker), who(&silent)),
        ("a".to_owned(), "a".to_owned())
    );
    assert_eq!(proxy.listener("dns").active_connections, 2);
    wait::until(LONG, "the silent one is forgotten", || {
        assert_eq!(who(&talker), "a");
        proxy.listener("dns").active_connections == 1
    });
    let (begun, accepted) = (Instant::now(), proxy.listener("dns").accepted_connections);
    while begun.elapsed() < 6 * SECOND {
        assert_eq!(who(&talker), "a");
        std::thread::park_timeout(SECOND / 20);
    }
    assert_eq!(
        (accepted, proxy.listener("dns").accepted_connections),
        (2, 2)
    );
    wait::until(LONG, "the last one is forgotten too", || {
        let state = proxy.get();
        state.active_connections == 0 && state.descriptors_in_use == 0
    });
    assert_eq!(
        proxy
            .backend("dns", backends[0].address)
            .unwrap()
            .active_connections,
        0
    );
    assert_eq!(who(&talker), "a");
}

#[test]
fn flows_beyond_a_limit_are_dropped_and_counted() {
    let proxy = Proxy::start();
    let backends = backends(&["a"]);
    let like = v1::Listener {
        max_connections: Some(3),
        client_limits: Some(v1::ClientLimits {
            max_connections: Some(2),
            max_connections_per_second: None,
        }),
        source_ranges: vec!["127.0.0.0/29".to_owned()],
        ..Default::default()
    };
    let server = serve_with(&proxy, &addresses(&backends), like);
    let is_dropped = |client: &UdpSocket| who_within(client, QUIET).is_empty();
    let first: Vec<_> = (0..2).map(|_| client(server)).collect();
    assert!(first.iter().all(|client| who(client) == "a"));
    assert!(is_dropped(&client(server)), "a client has two at most");
    let other = client_at("127.0.0.2", server);
    assert_eq!(who(&other), "a");
    assert!(is_dropped(&client_at("127.0.0.3", server)), "three in all");
    assert!(
        is_dropped(&client_at("127.0.0.9", server)),
        "not from there"
    );
    let there_already = first.iter().chain([&other]);
    assert!(there_already.map(who).all(|name| name == "a"));
    wait::until(LONG, "three are counted", || {
        proxy.listener("dns").dropped_datagrams == 3
    });
    let status = proxy.listener("dns");
    assert_eq!(
        status.dropped_by_reason,
        HashMap::from([("LIMIT".to_owned(), 3)])
    );
    let shed = status.shed.unwrap();
    let counts = (
        shed.client_max_connections,
        shed.max_connections,
        shed.source_ranges,
    );
    assert_eq!(counts, (1, 1, 1));
    let (_, metrics) = http::page(proxy.admin, "/metrics").unwrap();
    let series = "podline_dropped_datagrams_total{listener=\"dns\",reason=\"limit\"} 3";
    assert!(metrics.contains(series), "{metrics}");
}

#[test]
fn a_set_that_has_nobody_drops_and_says_so() {
    let proxy = Proxy::start();
    let server = serve(&proxy, &[]);
    let client = client(server);
    assert_eq!(who_within(&client, QUIET), "");
    let one = HashMap::from([("NO_BACKEND".to_owned(), 1)]);
    wait::until(LONG, "it is counted", || {
        proxy.listener("dns").dropped_by_reason == one
    });
    let status = proxy.listener("dns");
    assert_eq!(
        (status.refused_connections, status.active_connections),
        (1, 0)
    );
    let backend = Backend::start("a", "127.0.0.1");
    proxy.apply(wire::change("dns", &[backend.address], &[]));
    assert_eq!(who(&client), "a");
}

#[test]
fn flows_of_a_removed_listener_live_on_to_its_deadline() {
    let proxy = Proxy::start();
    let backends = backends(&["a"]);
    let like = v1::Listener {
        drain_timeout: wire::time(2 * SECOND),
        ..Default::default()
    };
    let server = serve_with(&proxy, &addresses(&backends), like);
    let known = client(server);
    assert_eq!(who(&known), "a");
    proxy.apply(v1::ApplyRequest {
        remove_listeners: vec!["dns".to_owned()],
        ..wire::request()
    });
    std::thread::park_timeout(Duration::from_millis(200));
    assert_eq!(who(&known), "a");
    assert_eq!(who_within(&client(server), QUIET), "", "no new ones");
    wait::until(LONG, "the deadline ends it", || {
        who_within(&known, Duration::from_millis(50)).is_empty()
    });
    wait::until(LONG, "the port is free", || UdpSocket::bind(server).is_ok());
    wait::until(LONG, "nothing is left", || {
        let state = proxy.get();
        state.active_connections == 0 && state.descriptors_in_use == 0
    });
}

#[test]
fn a_listener_is_replaced_without_a_datagram_lost() {
    let proxy = Proxy::start();
    let backends = backends(&["a", "b"]);
    let server = serve(&proxy, &addresses(&backends));
    let clients: Vec<_> = (0..20).map(|_| client(server)).collect();
    let before: Vec<_> = clients.iter().map(who).collect();
    let mut name = "dns".to_owned();
    let mut newcomers = Vec::new(); // kept, so that none gets the port of another one, whose flow is still there
    for n in 0..10 {
        let next = format!("dns-{n}");
        proxy.apply(v1::ApplyRequest {
            remove_listeners: vec![std::mem::replace(&mut name, next.clone())],
            listeners: vec![listener(&next, server, "dns")],
            ..wire::request()
        });
        let now: Vec<_> = clients.iter().map(who).collect();
        assert_eq!(now, before, "flows stay where they are");
        let newcomer = client(server);
        assert_ne!(who(&newcomer), "", "new ones begin at once");
        newcomers.push(newcomer);
    }
    assert_eq!(proxy.listener(&name).state(), State::Listening);
    assert_eq!(proxy.listener(&name).active_connections, 30);
    assert_eq!(proxy.get().listeners.len(), 1, "nothing drains");
}

#[test]
fn ports_of_others_are_told_and_not_shared_and_tcp_has_its_own() {
    let proxy = Proxy::start();
    let backends = backends(&["a"]);
    let server = tcp::free_address();
    let holder = UdpSocket::bind(server).unwrap();
    let sharer = tcp::free_address();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&sharer.into()).unwrap();
    let pod = crate::harness::pod("pod", podline_lab::Behaviour::Name);
    let answer = proxy.apply(v1::ApplyRequest {
        listeners: vec![
            listener("taken", server, "dns"),
            listener("shared", sharer, "dns"),
            wire::listener("tcp", server, "web"),
        ],
        backend_sets: vec![
            wire::set("dns", &addresses(&backends)),
            wire::set("web", &[pod.address()]),
        ],
        ..wire::request()
    });
    let failed: HashSet<_> = answer
        .listeners
        .iter()
        .filter(|status| status.state() == State::Failed && status.reason.contains("in use"))
        .map(|status| status.listener.as_ref().unwrap().name.as_str())
        .collect();
    assert_eq!(failed, HashSet::from(["taken", "shared"]));
    assert_eq!(http::ask(server).unwrap(), "pod");
    drop((holder, socket));
    proxy.wait_listening("taken");
    proxy.wait_listening("shared");
    assert_eq!(who(&client(server)), "a");
    assert_eq!(who(&client(sharer)), "a");
    let second = Start {
        yaml: Some(format!(
            "listeners: [{{name: b, address: '{server}', protocol: UDP, backendSet: b}}]\nbackendSets: [{{name: b}}]\n"
        )),
        ..Start::default()
    };
    let second = second.spawn();
    wait::until(LONG, "the other proxy is refused the port", || {
        second
            .get()
            .listeners
            .iter()
            .any(|l| l.state() == State::Failed)
    });
    // Taken again by the same transport only.
    let refused = proxy.try_apply(v1::ApplyRequest {
        listeners: vec![listener("again", server, "dns")],
        ..wire::request()
    });
    assert!(refused.is_err());
}

#[test]
fn tcp_and_udp_of_one_client_meet_the_same_host() {
    let proxy = Proxy::start();
    let group = || {
        Some(v1::Affinity {
            client_ip: Some(v1::ClientIpAffinity::default()),
            group: Some("both".to_owned()),
            ..Default::default()
        })
    };
    let pods: Vec<_> = ["a", "b", "c", "d"]
        .iter()
        .map(|name| crate::harness::pod(name, podline_lab::Behaviour::Name))
        .collect();
    let names = ["a", "b", "c", "d"];
    let datagrams: Vec<_> = names
        .iter()
        .map(|n| Backend::start(n, "127.0.0.1"))
        .collect();
    let with_ids = |addresses: Vec<SocketAddr>| -> Vec<v1::Backend> {
        let all = addresses.into_iter().zip(names);
        all.map(|(address, name)| v1::Backend {
            id: Some(name.to_owned()),
            ..wire::backend(address)
        })
        .collect()
    };
    let address = tcp::free_address();
    let set = |name: &str, backends| v1::BackendSet {
        affinity: group(),
        backends,
        ..wire::set(name, &[])
    };
    proxy.apply(v1::ApplyRequest {
        listeners: vec![
            wire::listener("web", address, "web"),
            listener("dns", address, "dns"),
        ],
        backend_sets: vec![
            set("web", with_ids(crate::harness::addresses(&pods))),
            set("dns", with_ids(addresses(&datagrams))),
        ],
        ..wire::request()
    });
    let mut seen = HashSet::new();
    for n in 1..40 {
        let host = format!("127.0.1.{n}");
        let by_udp = who(&client_at(&host, address));
        let mut client = http::Client::connect_from(host.parse().unwrap(), address).unwrap();
        let by_tcp = String::from_utf8(client.get("/").unwrap().1).unwrap();
        assert_eq!(by_udp, by_tcp.trim_end(), "{host}");
        seen.insert(by_udp);
    }
    assert_eq!(seen.len(), 4);
}

#[test]
fn shutdown_waits_for_flows_that_talk_and_not_for_silent_ones() {
    let start = |timeout| {
        let args = vec!["--shutdown-timeout", timeout];
        let proxy = Start {
            args,
            ..Start::default()
        }
        .ready();
        let backends = backends(&["a"]);
        let server = serve(&proxy, &addresses(&backends));
        (proxy, backends, client(server))
    };
    let (proxy, _backends, silent) = start("20s");
    assert_eq!(who(&silent), "a");
    let begun = Instant::now();
    proxy.signal(Signal::TERM);
    assert!(proxy.wait_end(LONG).is_some_and(|status| status.success()));
    assert!(begun.elapsed() < 5 * SECOND, "{:?}", begun.elapsed());

    // It is served to the deadline. Who is kept from talking for a second is silent: such an attempt says nothing.
    let talked = (0..5).any(|_| {
        let (proxy, _backends, talker) = start("3s");
        assert_eq!(who(&talker), "a");
        let (begun, mut last) = (Instant::now(), Instant::now());
        proxy.signal(Signal::TERM);
        while begun.elapsed() < 2 * SECOND {
            if last.elapsed() > SECOND / 2 {
                return false;
            }
            last = Instant::now();
            if who_within(&talker, SECOND) != "a" {
                return false;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        assert!(proxy.wait_end(LONG).is_some_and(|status| status.success()));
        true
    });
    assert!(
        talked,
        "it was kept from talking, or not served, five times"
    );
}

#[test]
fn each_flow_that_ends_has_a_line_in_the_access_log() {
    let proxy = Start {
        args: vec!["--access-log"],
        ..Start::default()
    }
    .ready();
    let backends = backends(&["a"]);
    let like = v1::Listener {
        idle_timeout: wire::time(2 * SECOND),
        ..Default::default()
    };
    let server = serve_with(&proxy, &addresses(&backends), like);
    let client = client(server);
    ask(&client, b"12345");
    let from = client.local_addr().unwrap().to_string();
    wait::until(LONG, "the line is there", || {
        let log = proxy.log();
        let mut lines = log.lines();
        lines.any(|line| {
            [
                from.as_str(),
                "idle",
                "dns",
                &backends[0].address.to_string(),
            ]
            .iter()
            .all(|part| line.contains(part))
        })
    });
}
