//! Connections reach the backends of their listener's set.

use podline_lab::{Behaviour, Pod};

use crate::harness::{Proxy, Start, addresses, http, pod, tcp, wire};

#[test]
fn requests_go_to_both_backends_in_turn() {
    let pods = [pod("a", Behaviour::Name), pod("b", Behaviour::Name)];
    let proxy = Start {
        workers: 1,
        ..Start::default()
    }
    .ready();
    let address = proxy.serve(&addresses(&pods));
    let names: Vec<_> = (0..20).map(|_| http::ask(address).unwrap()).collect();
    assert!(names.windows(2).all(|two| two[0] != two[1]), "{names:?}");
}

#[test]
fn weights_are_shares() {
    let pods = [
        pod("a", Behaviour::Name),
        pod("b", Behaviour::Name),
        pod("c", Behaviour::Name),
    ];
    let proxy = Start {
        workers: 1,
        ..Start::default()
    }
    .ready();
    let mut set = wire::set("web", &addresses(&pods));
    for (backend, weight) in set.backends.iter_mut().zip([30, 10, 0]) {
        backend.weight = Some(weight);
    }
    let address = tcp::free_address();
    proxy.serve_with(wire::listener("web", address, "web"), set);
    for _ in 0..400 {
        http::ask(address).unwrap();
    }
    let [a, b, c] = pods.each_ref().map(|pod| pod.counts().accepted());
    assert_eq!((a + b, c), (400, 0));
    assert!(a.abs_diff(300) <= 15, "{a} of 400 instead of 300");
}

#[test]
fn ipv6_and_ipv4_meet_in_any_combination() {
    let v4 = pod("v4", Behaviour::Name);
    let v6 = Pod::start("v6", "[::1]:0".parse().unwrap(), Behaviour::Name).unwrap();
    let proxy = Proxy::start();
    for listen in [tcp::free_address(), tcp::free_address_v6()] {
        for pod in [&v4, &v6] {
            let name = format!("{}-{}", pod.name(), listen.port());
            let name = name.as_str();
            let listener = wire::listener(name, listen, name);
            proxy.serve_with(listener, wire::set(name, &[pod.address()]));
            assert_eq!(http::ask(listen).unwrap(), pod.name());
            let remove_listeners = vec![name.to_owned()];
            proxy.apply(podline_api::v1::ApplyRequest {
                remove_listeners,
                ..wire::request()
            });
        }
    }
}

#[test]
fn every_ipv4_and_every_ipv6_address_share_a_port() {
    let pods = [pod("v4", Behaviour::Name), pod("v6", Behaviour::Name)];
    let proxy = Proxy::start();
    let port = tcp::free_port();
    for (pod, any) in pods.iter().zip(["0.0.0.0", "::"]) {
        let address = std::net::SocketAddr::new(any.parse().unwrap(), port);
        let set = wire::set(pod.name(), &[pod.address()]);
        proxy.serve_with(wire::listener(pod.name(), address, pod.name()), set);
    }
    for (pod, host) in pods.iter().zip(["127.0.0.1", "::1"]) {
        let address = std::net::SocketAddr::new(host.parse().unwrap(), port);
        assert_eq!(http::ask(address).unwrap(), pod.name());
    }
}

#[test]
fn least_connections_fills_the_emptiest() {
    let pods = [pod("a", Behaviour::Name), pod("b", Behaviour::Name)];
    let proxy = Proxy::start();
    let mut set = wire::set("web", &addresses(&pods));
    set.policy = Some(podline_api::v1::backend_set::Policy::LeastConnections.into());
    let address = tcp::free_address();
    proxy.serve_with(wire::listener("web", address, "web"), set);
    let mut held = Vec::new();
    for _ in 0..20 {
        let mut client = http::Client::connect(address).unwrap();
        client.name().unwrap();
        held.push(client);
    }
    let open = pods.each_ref().map(|pod| pod.counts().open());
    assert_eq!(open, [10, 10]);
}

#[test]
fn counters_tell_connections_and_bytes() {
    let pod = pod("a", Behaviour::Echo);
    let proxy = Proxy::start();
    let address = proxy.serve(&[pod.address()]);
    let mut stream = tcp::connect(address);
    tcp::send_pattern(&mut stream, 0, 10_000).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let (bytes, end) = tcp::read_pattern(&mut stream);
    assert_eq!((bytes, end.is_ok()), (10_000, true));
    drop(stream);
    podline_lab::wait::until(crate::harness::LONG, "the connection has ended", || {
        proxy.active() == 0
    });
    let listener = proxy.listener("web");
    assert_eq!(
        (listener.accepted_connections, listener.refused_connections),
        (1, 0)
    );
    assert_eq!(
        (listener.received_bytes, listener.sent_bytes),
        (10_000, 10_000)
    );
    let backend = proxy.backend("web", pod.address()).unwrap();
    assert_eq!((backend.connections, backend.connect_failures), (1, 0));
    assert_eq!(
        (backend.sent_bytes, backend.received_bytes),
        (10_000, 10_000)
    );
}
