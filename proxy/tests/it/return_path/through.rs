//! Through the proxy itself: whom Pods see of clients that can be imitated, and of those that cannot.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use podline_lab::{Cni, Lab, Namespace, Segment, SegmentPlan, require_netns, wait};
use rustix::process::Signal;

use super::scene::{Process, Scene, once};
use crate::harness::LONG;

const FAMILIES: [usize; 2] = [0, 1];

#[test]
fn a_thousand_connections_and_flows_are_seen_as_their_clients() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    for cni in [Cni::PointToPoint, Cni::Bridge] {
        for tunnelled in [false, true] {
            let scene = Scene::build(&lab, cni, tunnelled, 1);
            let _agents = [scene.agent(0, &[]), scene.agent(1, &[])];
            for family in FAMILIES {
                scene.wait_proven(0, family);
                let seen = Scene::seen_through(0, family, 1_000, &scene.segment.client);
                assert_eq!(
                    seen.unwrap(),
                    Segment::CLIENT[family],
                    "{cni:?} {tunnelled}"
                );
                assert_eq!(scene.counted(0, "tcp", family), (1_000, BTreeMap::new()));
                // A port that comes twice within a minute is one flow.
                let (flows, fallen) = scene.counted(0, "udp", family);
                assert!((900..=1_000).contains(&flows), "{flows}");
                assert_eq!(fallen, BTreeMap::new());
            }
        }
    }
}

/// A scene with two Pods a node, whose ways are proven.
fn crowded(lab: &Lab, cni: Cni) -> (Scene, [Process; 2]) {
    let plan = SegmentPlan {
        cni,
        proxies: 1,
        pods: 2,
        ..SegmentPlan::default()
    };
    let scene = Scene::of(lab, plan);
    let agents = [scene.agent(0, &[]), scene.agent(1, &[])];
    for family in FAMILIES {
        scene.wait_proven(0, family);
    }
    (scene, agents)
}

fn assert_counted(scene: &Scene, family: usize, reason: &str, count: u64) {
    let of = |kind| scene.counted(0, kind, family).1.get(reason).copied();
    assert_eq!(of("tcp"), Some(count));
    // A port that comes twice within a minute is one flow.
    let flows = of("udp").unwrap_or(0);
    assert!((count - 10..=count).contains(&flows), "{flows} of {count}");
}

#[test]
fn clients_that_cannot_be_imitated_are_served_and_counted() {
    const TIMES: u16 = 50;
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let (scene, _agents) = crowded(&lab, Cni::Bridge);
    let seen = |namespace: &Namespace, family| {
        let seen = Scene::seen_through(0, family, TIMES, namespace);
        seen.unwrap()
    };
    let (node, other) = (&scene.segment.nodes[0], &scene.segment.nodes[1]);
    for family in FAMILIES {
        let proxy = Segment::proxy(0)[family];
        // The Pod's own node, and another one: what is sent to a node's address does not come back.
        assert_eq!(seen(&node.host, family), proxy);
        assert_counted(&scene, family, "CLIENT_IS_NODE", 50);
        assert_eq!(seen(&other.host, family), proxy);
        assert_counted(&scene, family, "CLIENT_IS_NODE", 100);
        // Beside the Pod on its bridge; and on another node, where it can be seen.
        assert_eq!(seen(&node.pods[1], family), proxy);
        assert_counted(&scene, family, "CLIENT_BESIDE_BACKEND", 50);
        assert_eq!(seen(&other.pods[0], family), Segment::pod(1, 0)[family]);
        assert_eq!(seen(&node.pods[0], family), proxy);
        assert_counted(&scene, family, "CLIENT_IS_BACKEND", 50);
    }
}

#[test]
fn a_client_beside_its_pod_is_seen_where_there_is_no_bridge_between_them() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let (scene, _agents) = crowded(&lab, Cni::PointToPoint);
    for family in FAMILIES {
        let beside = &scene.segment.nodes[0].pods[1];
        let seen = Scene::seen_through(0, family, 50, beside).unwrap();
        assert_eq!(seen, Segment::pod(0, 1)[family]);
    }
}

#[test]
fn where_the_agent_was_removed_connections_fall_back_without_errors() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let scene = Scene::build(&lab, Cni::PointToPoint, false, 1);
    let agents = [scene.agent(0, &[]), scene.agent(1, &[])];
    for family in FAMILIES {
        scene.wait_proven(0, family);
    }
    for (agent, node) in agents.into_iter().zip(&scene.segment.nodes) {
        agent.end(Signal::TERM);
        once(&node.host, &["return-path", "--remove"]);
    }
    // The proof may be seconds away: until then a dial finds out by itself.
    for family in FAMILIES {
        for _ in 0..20 {
            let seen = scene.ask(0, family).unwrap();
            assert_eq!(seen, Segment::proxy(0)[family]);
        }
    }
    let _agent = scene.agent(0, &[]);
    for family in FAMILIES {
        wait::until(LONG, "the client is seen again", || {
            scene.ask(0, family).unwrap() == Segment::CLIENT[family]
        });
    }
}

/// By hand, some minutes: `cargo test --release -p podline-proxy --test it collide -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes: by hand"]
fn a_hundred_thousand_connections_of_one_client_through_two_proxies_do_not_collide() {
    const EACH: usize = 50_000;
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let scene = Scene::build(&lab, Cni::PointToPoint, false, 2);
    let _agents = [scene.agent(0, &[]), scene.agent(1, &[])];
    for proxy in [0, 1] {
        scene.wait_proven(proxy, 0);
    }
    // The client must not run out of ports of its own.
    let client = &scene.segment.client;
    client
        .sysctl("net/ipv4/ip_local_port_range", "1024 65535")
        .unwrap();
    client.sysctl("net/ipv4/tcp_tw_reuse", "1").unwrap();
    std::thread::scope(|scope| {
        for proxy in [0, 1] {
            let scene = &scene;
            scope.spawn(move || {
                let to = Scene::address(proxy, 0);
                let slowest = scene.segment.client.run(move || connect(to, EACH));
                println!("proxy {proxy}: {EACH} connections, the slowest {slowest:?}");
                // A collision hangs until the proxy gives up on it, after a second.
                assert!(slowest < Duration::from_secs(1), "{slowest:?}");
            });
        }
    });
    for proxy in [0, 1] {
        let status = scene.proxies[proxy].listener("web");
        assert!(status.snat_connections.is_empty(), "{status:?}");
        assert_eq!(status.transparent_connections, EACH as u64);
    }
}

/// Asks for the name so many times, each over a connection of its own; how long the slowest took.
fn connect(to: SocketAddr, times: usize) -> Duration {
    let mut slowest = Duration::ZERO;
    for _ in 0..times {
        let started = std::time::Instant::now();
        let seen: SocketAddr = crate::harness::http::ask(to).unwrap().parse().unwrap();
        assert_eq!(seen.ip(), Segment::CLIENT[0]);
        slowest = slowest.max(started.elapsed());
    }
    slowest
}
