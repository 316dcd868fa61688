//! Ways to backends: their proof, nodes that only the kernel's next hop tells, and routes that only the proxy has.

use std::net::{IpAddr, SocketAddr};

use podline_api::v1;
use podline_api::v1::listener::SourceAddress::{PreferTransparent, Snat};
use podline_api::v1::path_status::State;
use podline_api::v1::watch_response::Event;
use podline_lab::{Behaviour, Lab, Pod, Topology, require_netns, wait};

use super::scene::{Scene, WEB, network, shell};
use crate::harness::{LONG, Start, wire};

fn prove(proxy: &crate::harness::Proxy) -> v1::ProveResponse {
    let request = v1::ProveRequest::default();
    proxy.block_on(proxy.client().prove(request)).unwrap()
}

#[test]
fn a_proof_says_what_is_wrong() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let scene = Scene::build(&lab, 1);
    let proxy = scene.start(&[]);
    proxy.apply(v1::ApplyRequest {
        network: Some(network()),
        ..wire::request()
    });
    let asked = proxy.get().network.unwrap();
    assert_eq!(asked.transparency_problem, "no listener asks for it");
    assert_eq!(asked.paths.len(), 2);
    let mut events = proxy.block_on(proxy.client().watch()).unwrap();

    // Nobody has asked so far; who asks for the proof gets what is needed for it.
    let proven = prove(&proxy);
    assert_eq!(proven.transparency_problem, "");
    for path in &proven.paths {
        assert_eq!(
            (path.state(), path.bridged),
            (State::Proven, true),
            "{path:?}"
        );
    }
    let told = proxy.block_on(async {
        loop {
            let message = events.message().await.unwrap().unwrap();
            if let Some(Event::Path(path)) = message.event {
                break path;
            }
        }
    });
    assert_eq!((told.node.as_str(), told.state()), ("here", State::Proven));

    let reason = |command: &str, expected: &str| {
        shell(&scene.topology.proxy, command);
        // A proof that began before may end after ours.
        wait::until(LONG, expected, || {
            let found = prove(&proxy);
            let path = found.paths.iter().find(|path| !path.ipv6).unwrap();
            let told = (path.state(), path.reason.as_str());
            told == (State::Failed, expected)
        });
        shell(&scene.topology.proxy, "nft delete table inet bad");
    };
    let chain = |text: &str| {
        format!(
            "nft add table inet bad && nft add chain inet bad c '{{ type {text}; }}' && nft add rule inet bad c"
        )
    };
    // Before our own chain, which keeps the usual ones from it.
    let nat = chain("nat hook postrouting priority 50");
    let forward = chain("filter hook output priority 0");
    reason(
        &format!("{nat} ip saddr 198.18.0.0/15 masquerade"),
        "masqueraded by 10.244.0.1",
    );
    reason(
        &format!("{forward} ip saddr 198.18.0.0/15 udp dport 9904 counter drop"),
        "over UDP: this proxy cannot send: Operation not permitted (os error 1); over TCP it works",
    );
    shell(
        &scene.topology.pods[0],
        "nft add table inet bad; nft add chain inet bad c '{ type filter hook input priority 0; }'; nft add rule inet bad c ip saddr 198.18.0.0/15 drop",
    );
    reason(
        "true",
        "no answer: is `podline-proxy return-path` running on the node, or rp_filter strict?",
    );
    shell(&scene.topology.pods[0], "nft delete table inet bad");
    let mut network = network();
    network.nodes[0].responders = vec!["10.244.0.10:9".to_owned()];
    proxy.apply(v1::ApplyRequest {
        network: Some(network),
        ..wire::request()
    });
    let paths = prove(&proxy).paths;
    assert_eq!(paths[0].reason, "refused: is the responder running?");
    assert_eq!(
        paths[1].reason,
        "the node has no responder of this IP version"
    );
}

/// A Pod at an address that no range holds, behind the Pod with the responder.
fn far(scene: &Scene) -> Pod {
    let address: IpAddr = "10.99.0.1".parse().unwrap();
    let pod = &scene.topology.pods[0];
    pod.address("lo", address, 32).unwrap();
    let at = SocketAddr::new(address, 8080);
    Pod::start_in(pod, "far", at, Behaviour::Peer).unwrap()
}

fn listening(backend: SocketAddr, source: v1::listener::SourceAddress) -> v1::ApplyRequest {
    let mut listener = wire::listener(WEB[0], Scene::address(0), WEB[0]);
    listener.source_address = Some(source.into());
    let mut set = wire::set(WEB[0], &[backend]);
    set.health_check = Some(wire::fast_check());
    wire::both(listener, set)
}

#[test]
fn the_kernels_next_hop_tells_the_node_of_a_backend() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let scene = Scene::build(&lab, 1);
    let far = far(&scene);
    let hop = Topology::pod(0)[0];
    scene
        .topology
        .proxy
        .route("10.99.0.0".parse().unwrap(), 24, hop)
        .unwrap();
    let proxy = scene.start(&[]);
    let mut request = listening(far.address(), PreferTransparent);
    let mut network = network();
    network.nodes[0].pod_ranges.clear();
    network.nodes[0].addresses = vec![hop.to_string()];
    request.network = Some(network);
    proxy.apply(request);
    Scene::wait_proven(&proxy, 0);
    wait::until(LONG, "the client is imitated", || {
        scene
            .ask(0)
            .is_ok_and(|seen| seen.ip() == Topology::CLIENT[0])
    });
}

#[test]
fn routes_of_the_network_lead_to_backends_and_nobody_else_uses_them() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let scene = Scene::build(&lab, 1);
    let far = far(&scene);
    let proxy = scene.start(&[]);
    let mut request = listening(far.address(), Snat);
    let route = v1::Route {
        to: "10.99.0.0/24".to_owned(),
        via: Topology::pod(0)[0].to_string(),
    };
    let mut network = network();
    network.nodes[0].pod_ranges.push(route.to.clone());
    // The ways to its own node's Pods its host knows by itself.
    let own = v1::Route {
        to: "10.98.0.0/24".to_owned(),
        via: Topology::GATEWAY[0].to_string(),
    };
    network.routes = vec![route, own];
    request.network = Some(network.clone());
    proxy.apply(request);
    wait::until(LONG, "probes and connections get there", || {
        scene
            .ask(0)
            .is_ok_and(|seen| seen.ip() == Topology::GATEWAY[0])
    });
    let host = &scene.topology.proxy;
    assert_eq!(shell(host, "ip route show 10.99.0.0/24"), "");
    let table = shell(host, "ip route show table 702");
    assert!(
        table.contains("10.99.0.0/24 via 10.244.0.10 dev br0"),
        "{table}"
    );
    assert_eq!(table.lines().count(), 1, "{table}");
    let has_rule = || shell(host, "ip rule show").contains("lookup 702");
    assert!(has_rule());

    proxy.apply(listening(far.address(), PreferTransparent));
    Scene::wait_proven(&proxy, 0);
    assert_eq!(scene.ask(0).unwrap().ip(), Topology::CLIENT[0]);

    network.routes.clear();
    proxy.apply(v1::ApplyRequest {
        network: Some(network),
        ..wire::request()
    });
    wait::until(LONG, "the route is gone", || {
        shell(host, "ip route show table 702").is_empty()
    });
    wait::until(LONG, "its rule is, too", || !has_rule());
    wait::until(LONG, "the backend is too", || scene.ask(0).is_err());
}

#[test]
fn a_configuration_file_tells_the_network_too() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let scene = Scene::build(&lab, 1);
    let yaml = "
listeners:
- {name: web, address: '10.88.1.1:80', protocol: TCP, backendSet: web, sourceAddress: PREFER_TRANSPARENT}
backendSets:
- {name: web, backends: [{address: '10.244.0.10:8080', node: here}]}
network:
  nodes:
  - {name: here, addresses: [10.244.0.1], responders: ['10.244.0.10:9904']}
";
    let proxy = Start {
        namespace: Some(&scene.topology.proxy),
        yaml: Some(yaml.to_owned()),
        ..Start::default()
    }
    .ready();
    Scene::wait_proven(&proxy, 0);
    assert_eq!(scene.ask(0).unwrap().ip(), Topology::CLIENT[0]);
}
