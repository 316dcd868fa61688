//! Rules while endpoints come and go: none of them, others, in both families, and no rules any more.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use podline_lab::kube_proxy::{
    Endpoint, Family, Flavour, KubeProxy, Protocol, Rules, Service, ServicePort, TrafficPolicy,
};
use podline_lab::{Lab, LabError, Segment, require_netns};

use super::site::{LIMIT, SILENCE, Site, lab_for};

const FLAVOURS: [Flavour; 2] = [Flavour::Iptables, Flavour::Nftables];
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
/// Node port and target port of each protocol.
const PORTS: [(Protocol, u16, u16); 2] =
    [(Protocol::Tcp, 30080, 9376), (Protocol::Udp, 30053, 5353)];

/// A Service with these Pods, each a node and an index.
fn rules(flavour: Flavour, family: Family, policy: TrafficPolicy, pods: &[(u8, u8)]) -> Rules {
    let endpoints = |port| -> Vec<Endpoint> {
        let pods = pods.iter();
        pods.map(|(node, pod)| Segment::endpoint(family, *node, *pod, port))
            .collect()
    };
    let ports = PORTS.map(|(protocol, node_port, target)| ServicePort {
        name: protocol.word().to_owned(),
        protocol,
        port: target,
        node_port: Some(node_port),
        endpoints: endpoints(target),
    });
    let service = Service {
        namespace: "lab".to_owned(),
        name: "web".to_owned(),
        cluster_address: cluster_address(family),
        ingress: Vec::new(),
        policy,
        health_check_port: None,
        ports: ports.to_vec(),
    };
    Rules::of(flavour, &Segment::node_view(family, 0, vec![service]))
}

fn cluster_address(family: Family) -> IpAddr {
    let address = match family {
        Family::V4 => "10.96.0.80",
        Family::V6 => "fd00:96::80",
    };
    address.parse().unwrap()
}

fn node_port(family: Family, port: u16) -> SocketAddr {
    let [v4, v6] = Segment::node(0);
    match family {
        Family::V4 => (v4, port).into(),
        Family::V6 => (v6, port).into(),
    }
}

/// Every flavour that there is, with a site for each.
fn for_each_flavour(check: impl Fn(Flavour, &Site)) {
    for flavour in FLAVOURS {
        if let Some(lab) = lab_for(flavour) {
            check(flavour, &Site::build(&lab));
        }
    }
}

#[test]
fn a_node_port_without_endpoints_refuses() {
    for_each_flavour(|flavour, site| {
        for (family, policy) in FAMILIES
            .into_iter()
            .zip([TrafficPolicy::Cluster, TrafficPolicy::Local])
        {
            let rules = rules(flavour, family, policy, &[]);
            let _rules = KubeProxy::install(&site.segment.nodes[0].host, &rules).unwrap();
            for (protocol, port, _) in PORTS {
                let started = Instant::now();
                let error = site.ask(protocol, node_port(family, port)).unwrap_err();
                assert_eq!(
                    error.kind(),
                    ErrorKind::ConnectionRefused,
                    "{flavour:?} {family:?} {protocol:?}"
                );
                assert!(started.elapsed() < LIMIT, "it waited for its deadline");
            }
        }
    });
}

#[test]
fn under_local_a_node_port_without_endpoints_on_its_node_says_nothing() {
    for_each_flavour(|flavour, site| {
        let rules = rules(flavour, Family::V4, TrafficPolicy::Local, &[(1, 0)]);
        let _rules = KubeProxy::install(&site.segment.nodes[0].host, &rules).unwrap();
        for (protocol, port, _) in PORTS {
            let connection = site.connect(protocol, node_port(Family::V4, port), SILENCE);
            let error = connection
                .and_then(|mut connection| connection.ask())
                .unwrap_err();
            let is_silence = matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock);
            assert!(is_silence, "{flavour:?} {protocol:?}: {error}");
        }
    });
}

#[test]
fn both_families_forward_with_both_policies() {
    for_each_flavour(|flavour, site| {
        let node = &site.segment.nodes[0].host;
        let install = |family, policy, pods: &[(u8, u8)]| {
            KubeProxy::install(node, &rules(flavour, family, policy, pods)).unwrap()
        };
        // Both at once, each with one Pod, so that it is known who answers.
        for (policy, pods) in [
            (TrafficPolicy::Cluster, [(1, 1)]),
            (TrafficPolicy::Local, [(0, 1)]),
        ] {
            let _rules = FAMILIES.map(|family| install(family, policy, &pods));
            for (at, family) in FAMILIES.into_iter().enumerate() {
                for (protocol, port, _) in PORTS {
                    let answer = site.ask(protocol, node_port(family, port)).unwrap();
                    let (pod, source) = match policy {
                        TrafficPolicy::Cluster => ("node1.1", Segment::node(0)[at]),
                        TrafficPolicy::Local => ("node0.1", Segment::CLIENT[at]),
                    };
                    assert_eq!(
                        (&*answer.pod, answer.source),
                        (pod, source),
                        "{flavour:?} {protocol:?}"
                    );
                }
            }
        }
    });
}

#[test]
fn other_endpoints_get_what_is_new_and_the_flows_of_those_that_are_gone() {
    for_each_flavour(|flavour, site| {
        for family in FAMILIES {
            let rules = |pods: &[(u8, u8)]| rules(flavour, family, TrafficPolicy::Cluster, pods);
            let node = &site.segment.nodes[0].host;
            let mut installed = KubeProxy::install(node, &rules(&[(0, 0)])).unwrap();
            let connect = |(protocol, port, _): (Protocol, u16, u16)| {
                site.connect(protocol, node_port(family, port), LIMIT)
                    .unwrap()
            };
            let [mut tcp, mut udp] = PORTS.map(connect);
            assert_eq!(tcp.ask().unwrap().pod, "node0.0");
            assert_eq!(udp.ask().unwrap().pod, "node0.0");
            installed.replace(&rules(&[(1, 0)])).unwrap();
            let kept = "a connection stays with its Pod";
            assert_eq!(tcp.ask().unwrap().pod, "node0.0", "{kept}");
            let moved = "a flow goes to a Pod that there is";
            assert_eq!(
                udp.ask().unwrap().pod,
                "node1.0",
                "{flavour:?} {family:?}: {moved}"
            );
            for (protocol, port, _) in PORTS {
                assert_eq!(
                    site.ask(protocol, node_port(family, port)).unwrap().pod,
                    "node1.0"
                );
            }
        }
    });
}

#[test]
fn those_inside_reach_it_too_and_are_seen_as_on_a_real_node() {
    for_each_flavour(|flavour, site| {
        for (at, family) in FAMILIES.into_iter().enumerate() {
            let rules = |pod| rules(flavour, family, TrafficPolicy::Local, &[pod]);
            let first = &site.segment.nodes[0];
            let (pod, node) = (Segment::pod(0, 0)[at], Segment::node(0)[at]);
            let gateway = Segment::gateway(0)[at];
            let (pod, node) = ((&first.pods[0], pod), (&first.host, node));
            let mut installed = KubeProxy::install(&first.host, &rules((0, 0))).unwrap();
            let check = |asker, to: SocketAddr, protocol, expected: (&str, IpAddr)| {
                let answer = site.ask_from(asker, protocol, to).unwrap();
                let seen = (&*answer.pod, answer.source);
                assert_eq!(seen, expected, "{flavour:?} {protocol:?} to {to}");
            };
            // A Pod that reaches itself must see another, or its answer would not come back the same way.
            for (protocol, port, target) in PORTS {
                check(pod, node_port(family, port), protocol, ("node0.0", gateway));
                let cluster = (cluster_address(family), target).into();
                check(pod, cluster, protocol, ("node0.0", gateway));
            }
            // Under Local, what comes from inside goes to any node's Pods.
            installed.replace(&rules((1, 0))).unwrap();
            for (protocol, port, _) in PORTS {
                check(pod, node_port(family, port), protocol, ("node1.0", pod.1));
                check(node, node_port(family, port), protocol, ("node1.0", node.1));
            }
        }
    });
}

#[test]
fn rules_that_are_removed_leave_nothing_that_tracks_and_no_setting() {
    const LOCALNET: &str = "net/ipv4/conf/all/route_localnet";
    for_each_flavour(|flavour, site| {
        let node = &site.segment.nodes[0].host;
        let before = node.setting(LOCALNET).unwrap();
        let rules = rules(flavour, Family::V4, TrafficPolicy::Cluster, &[(0, 0)]);
        let installed = KubeProxy::install(node, &rules).unwrap();
        let (protocol, port, target) = PORTS[0];
        site.ask(protocol, node_port(Family::V4, port)).unwrap();
        assert!(node.tracked().unwrap() > 0);
        let is_local = flavour == Flavour::Iptables;
        assert_eq!(node.setting(LOCALNET).unwrap().trim() == "1", is_local);
        installed.remove().unwrap();
        assert_eq!(node.setting(LOCALNET).unwrap(), before);
        let pod = (Segment::pod(0, 0)[0], target).into();
        site.ask(protocol, pod).unwrap();
        assert_eq!(node.tracked().unwrap(), 0, "it still tracks");
        let error = site.ask(protocol, node_port(Family::V4, port)).unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::ConnectionRefused,
            "nobody listens at the node"
        );
    });
}

#[test]
fn rules_that_the_kernel_refuses_are_told_and_leave_those_before_in_place() {
    for_each_flavour(|flavour, site| {
        let node = &site.segment.nodes[0].host;
        let good = rules(flavour, Family::V4, TrafficPolicy::Cluster, &[(0, 0)]);
        let mut installed = KubeProxy::install(node, &good).unwrap();
        let bad = good
            .text()
            .replace("masquerade fully-random", "masquerade fully-wrong");
        let bad = bad.replace("--random-fully", "--random-wrong");
        let bad = Rules::dumped(flavour, Family::V4, &bad);
        let error = installed.replace(&bad).unwrap_err();
        let LabError::Tool {
            namespace, words, ..
        } = &error
        else {
            panic!("{error}");
        };
        assert!(namespace == "node0" && words.contains("wrong"), "{error}");
        let (protocol, port, _) = PORTS[0];
        assert_eq!(
            site.ask(protocol, node_port(Family::V4, port)).unwrap().pod,
            "node0.0"
        );
    });
}

#[test]
fn what_connection_tracking_holds_is_counted_by_namespace() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let namespace = lab.namespace("quiet").unwrap();
    assert_eq!(namespace.tracked().unwrap(), 0);
}
