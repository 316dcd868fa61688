//! Backends that see their clients' own addresses, in namespaces: the proxy is the Pods' gateway, and a toy responder
//! stands among the Pods. Skipped where namespaces cannot be made, unless `PODLINE_REQUIRE=netns`.

mod announced;
mod datagrams;
mod ports;
mod rules;
mod scene;
mod ways;

use std::io::Read;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use podline_api::v1;
use podline_api::v1::listener::SourceAddress::{PreferTransparent, Transparent};
use podline_lab::{Lab, Topology, require_netns, wait};

use crate::harness::{LONG, SECOND, Start, once_within, tcp, wire};
use scene::{Scene, WEB, ask, network, shell};

#[test]
fn pods_see_their_clients_over_both_ip_versions_and_none_is_lost() {
    const CONNECTIONS: u64 = 1_000;
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let scene = Scene::build(&lab, 2);
    let proxy = scene.start(&["--access-log"]);
    for family in [0, 1] {
        scene.serve(&proxy, family, PreferTransparent);
        Scene::wait_proven(&proxy, family);
        let expected = Topology::CLIENT[family];
        for _ in 0..CONNECTIONS {
            assert_eq!(scene.ask(family).unwrap().ip(), expected);
        }
        let status = proxy.listener(WEB[family]);
        assert_eq!(status.transparent_connections, CONNECTIONS);
        assert_eq!(status.snat_connections.len(), 0, "{status:?}");
    }
    let (_, page) = proxy.page("/metrics").unwrap();
    for line in [
        "podline_transparent_connections_total{listener=\"web\"} 1000",
        "podline_path_proven{node=\"here\",family=\"ipv4\"} 1",
        "podline_path_proven{node=\"here\",family=\"ipv6\"} 1",
        "podline_can_imitate 1",
    ] {
        assert!(page.lines().any(|found| found == line), "{line}\n{page}");
    }
    proxy.wait_logged("source=\"client\"");
}

#[test]
fn without_the_privilege_pods_see_the_proxy_and_one_line_says_why() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let scene = Scene::build(&lab, 1);
    let proxy = Start {
        namespace: Some(&scene.topology.proxy),
        without: &["net_admin", "net_raw"],
        ..Start::default()
    }
    .ready();
    scene.serve(&proxy, 0, PreferTransparent);
    scene.serve(&proxy, 1, Transparent);
    for _ in 0..10 {
        assert_eq!(scene.ask(0).unwrap().ip(), Topology::GATEWAY[0]);
        scene.ask(1).unwrap_err();
    }
    for name in WEB {
        let status = proxy.listener(name);
        assert_eq!(status.transparent_connections, 0);
        assert_eq!(status.snat_connections["NO_PRIVILEGE"], 10, "{status:?}");
    }
    let problem = "the process lacks CAP_NET_ADMIN";
    wait::until(LONG, "the problem is told", || {
        let network = proxy.get().network.unwrap();
        network.transparency_problem == problem
    });
    proxy.wait_logged("lacks");
    assert_eq!(proxy.log().matches("lacks").count(), 1, "{}", proxy.log());
    let request = v1::ExplainRequest {
        set: WEB[1].to_owned(),
        backend: None,
    };
    let answer = proxy.block_on(proxy.client().explain(request)).unwrap();
    let message = &answer.backends[0].message;
    let expected =
        format!("under its clients' addresses: this proxy can imitate nobody: {problem}");
    assert!(message.ends_with(&expected), "{message}");
}

#[test]
fn clients_that_cannot_be_imitated_are_told_by_reason() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let scene = Scene::build(&lab, 1);
    let proxy = scene.start(&[]);
    scene.serve(&proxy, 0, PreferTransparent);
    Scene::wait_proven(&proxy, 0);
    let own: SocketAddr = (Topology::PROXY[0], 80).into();
    let count = |reason: &str| proxy.listener(WEB[0]).snat_connections[reason];

    // The Pod is its own client; its answers would never leave it.
    assert_eq!(
        ask(&scene.topology.pods[0], own).unwrap().ip(),
        Topology::GATEWAY[0]
    );
    assert_eq!(count("CLIENT_IS_BACKEND"), 1);
    // The proxy's own host.
    assert_eq!(
        ask(&scene.topology.proxy, own).unwrap().ip(),
        Topology::GATEWAY[0]
    );
    assert_eq!(count("SPECIAL_CLIENT"), 1);
    // The client turns out to be a node.
    let mut network = network();
    network.nodes.push(v1::Node {
        name: "another".to_owned(),
        addresses: vec![Topology::CLIENT[0].to_string()],
        ..v1::Node::default()
    });
    proxy.apply(v1::ApplyRequest {
        network: Some(network),
        ..wire::request()
    });
    assert_eq!(scene.ask(0).unwrap().ip(), Topology::GATEWAY[0]);
    assert_eq!(count("CLIENT_IS_NODE"), 1);

    // With TRANSPARENT the same are refused.
    scene.serve(&proxy, 0, Transparent);
    ask(&scene.topology.pods[0], own).unwrap_err();
    ask(&scene.topology.proxy, own).unwrap_err();
    assert_eq!(count("CLIENT_IS_BACKEND"), 2);
    assert_eq!(count("SPECIAL_CLIENT"), 2);
    assert_eq!(proxy.listener(WEB[0]).refused_connections, 2);
    let failures = proxy.backend(WEB[0], scene.pods[0][0].address()).unwrap();
    assert_eq!(
        failures.connect_failures, 0,
        "it is not the backend's fault"
    );
}

#[test]
fn a_dead_pod_behind_an_imitating_dial_answers_at_once() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let scene = Scene::build(&lab, 1);
    let proxy = scene.start(&[]);
    let pod = &scene.topology.pods[0];
    // By ICMP, as a node does whose Pod is gone: no socket has ever to do with such a packet.
    shell(
        pod,
        "nft add table inet dead && nft add chain inet dead in '{ type filter hook input priority 0; }' &&
         nft add rule inet dead in meta l4proto tcp th dport 9 reject with icmpx type port-unreachable",
    );
    for family in [0, 1] {
        scene.serve(&proxy, family, Transparent);
        let seen = scene.ask(family).unwrap();
        assert_eq!(
            seen.ip(),
            Topology::CLIENT[family],
            "from the first connection on"
        );
        for (port, why) in [(9, "ICMP"), (10, "a reset")] {
            let dead = SocketAddr::new(Topology::pod(0)[family], port);
            let mut request = wire::request();
            request.backend_sets = vec![wire::set(WEB[family], &[dead])];
            proxy.apply(request);
            // Without a network between them the error comes while the dial is still in its system call, where IPv6
            // does not hear it; the next SYN's is heard, after a second. A dial has 4 s.
            let mut asked = 0;
            once_within(3 * SECOND, || {
                let begun = Instant::now();
                scene.ask(family).unwrap_err();
                asked += 1;
                let failures = proxy.backend(WEB[family], dead).unwrap().connect_failures;
                assert_eq!(failures, asked, "{why}, {family}");
                begun.elapsed()
            });
        }
    }
}

#[test]
fn an_imitated_client_without_answer_is_served_all_the_same_and_the_way_is_proven_anew() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let scene = Scene::build(&lab, 1);
    let proxy = scene.start(&[]);
    scene.serve(&proxy, 0, PreferTransparent);
    Scene::wait_proven(&proxy, 0);
    let pod = &scene.topology.pods[0];
    shell(
        pod,
        "nft add table inet lost && nft add chain inet lost in '{ type filter hook input priority 0; }' &&
         nft add rule inet lost in ip saddr 10.88.1.2 tcp dport 8080 drop",
    );
    let begun = Instant::now();
    assert_eq!(scene.ask(0).unwrap().ip(), Topology::GATEWAY[0]);
    let took = begun.elapsed();
    assert!(took > SECOND * 9 / 10 && took < 7 * SECOND / 2, "{took:?}");
    wait::until(LONG, "the way is not trusted", || {
        let paths = proxy.get().network.unwrap().paths;
        let path = paths.iter().find(|path| !path.ipv6).unwrap();
        path.state() == v1::path_status::State::Unproven && path.reason.contains("did not answer")
    });
    // Nobody else has to wait for it.
    assert_eq!(scene.ask(0).unwrap().ip(), Topology::GATEWAY[0]);
    let counted = proxy.listener(WEB[0]).snat_connections;
    assert_eq!((counted["NO_ANSWER"], counted["UNPROVEN"]), (1, 1));
    let backend = proxy.backend(WEB[0], scene.pods[0][0].address()).unwrap();
    assert_eq!(backend.connect_failures, 0);

    shell(pod, "nft delete table inet lost");
    Scene::wait_proven(&proxy, 0);
    assert_eq!(scene.ask(0).unwrap().ip(), Topology::CLIENT[0]);

    // Insisted on, it fails with the timeout, and is the backend's.
    shell(
        pod,
        "nft add table inet lost && nft add chain inet lost in '{ type filter hook input priority 0; }' &&
         nft add rule inet lost in ip saddr 10.88.1.2 tcp dport 8080 drop",
    );
    scene.serve(&proxy, 0, Transparent);
    let mut request = wire::request();
    let mut set = wire::set(WEB[0], &[scene.pods[0][0].address()]);
    set.connect_timeout = wire::time(Duration::from_millis(600));
    set.connect_retries = Some(0);
    request.backend_sets = vec![set];
    proxy.apply(request);
    scene.ask(0).unwrap_err();
    let backend = proxy.backend(WEB[0], scene.pods[0][0].address()).unwrap();
    assert_eq!(backend.connect_failures, 1, "both attempts count as one");
}

#[test]
fn of_an_imitating_dial_that_its_client_gives_up_only_the_second_attempt_speaks_against_the_pod() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let scene = Scene::build(&lab, 1);
    let proxy = scene.start(&[]);
    let backend = scene.pods[0][0].address();
    let failures = || {
        let status = proxy.backend(WEB[0], backend).unwrap();
        status.connect_failures
    };
    scene.serve(&proxy, 0, PreferTransparent);
    Scene::wait_proven(&proxy, 0);
    let pod = &scene.topology.pods[0];
    shell(
        pod,
        "nft add table inet lost && nft add chain inet lost in '{ type filter hook input priority 0; }' &&
         nft add rule inet lost in ip saddr 10.88.1.2 tcp dport 8080 drop",
    );
    give_up(&scene, SECOND * 7 / 10);
    wait::until(LONG, "the client has left", || proxy.active() == 0);
    assert_eq!(failures(), 0, "the first attempt, after 0.7 s");

    shell(pod, "nft add rule inet lost in tcp dport 8080 drop");
    for (count, source) in [(1, PreferTransparent), (2, Transparent)] {
        scene.serve(&proxy, 0, source);
        Scene::wait_proven(&proxy, 0);
        give_up(&scene, 5 * SECOND / 2);
        wait::until(LONG, "the client has left", || proxy.active() == 0);
        assert_eq!(failures(), count, "the second attempt, after 1.5 s");
    }
}

/// A client that resets its connection when nothing has come for so long.
fn give_up(scene: &Scene, patience: Duration) {
    scene.topology.client.run(move || {
        let mut client = tcp::connect(Scene::address(0));
        client.set_read_timeout(Some(patience)).unwrap();
        client.read(&mut [0]).unwrap_err();
        tcp::reset(client);
    });
}
