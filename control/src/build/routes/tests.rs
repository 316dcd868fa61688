//! Which ways proxies are told.

use super::*;
use crate::cluster::testing::{ip, node, pod};
use crate::cluster::{Change, Switches};

fn cluster(on: Option<bool>, ranges: &[&str], addresses: &[&str], pods: &[Pod]) -> Cluster {
    let mut cluster = Cluster::default();
    cluster.apply(Change::Switches(Switches {
        global_routes: on,
        ..Switches::default()
    }));
    let mut made = node("node-1", addresses[0]);
    made.addresses = addresses.iter().map(|text| ip(text)).collect();
    made.internal.clone_from(&made.addresses);
    made.pod_ranges = ranges.iter().map(|text| text.parse().unwrap()).collect();
    cluster.apply(Change::Node(made.name.clone(), Some(made)));
    for pod in pods {
        cluster.apply(Change::Pod(pod.key.clone(), Some(pod.clone())));
    }
    cluster
}

fn told(cluster: &Cluster) -> Vec<String> {
    let pods: Vec<_> = cluster.pods_on("node-1").collect();
    let routes = of_node(cluster, cluster.node("node-1").unwrap(), &pods);
    let told = routes.iter();
    told.map(|route| format!("{} via {}", route.to, route.via))
        .collect()
}

fn check(on: Option<bool>, ranges: &[&str], addresses: &[&str], pods: &[Pod], expected: &[&str]) {
    assert_eq!(told(&cluster(on, ranges, addresses, pods)), expected);
}

#[test]
fn a_nodes_network_is_reached_by_its_internal_address() {
    let pods = [pod("a/x", "10.1.0.2"), pod("a/y", "10.1.0.3")];
    let (ranges, node) = (&["10.1.0.0/24"][..], &["192.0.2.1"][..]);
    check(
        Some(true),
        ranges,
        node,
        &pods,
        &["10.1.0.0/24 via 192.0.2.1"],
    );
    check(Some(false), ranges, node, &pods, &[]);
    check(None, ranges, node, &pods, &[]);
    check(Some(true), ranges, node, &[], &[]);
}

#[test]
fn where_a_pod_is_elsewhere_each_has_its_own_way() {
    let pods = [pod("a/x", "10.1.0.2"), pod("a/y", "172.16.0.3")];
    check(
        Some(true),
        &["10.1.0.0/24"],
        &["192.0.2.1"],
        &pods,
        &["10.1.0.2/32 via 192.0.2.1"],
    );
    let eni = Pod {
        is_vpc_cni: true,
        ..pod("a/z", "10.1.0.9")
    };
    let pods = [pod("a/x", "10.1.0.2"), eni];
    check(
        Some(true),
        &["10.1.0.0/24"],
        &["192.0.2.1"],
        &pods,
        &["10.1.0.0/24 via 192.0.2.1"],
    );
}

#[test]
fn what_leads_to_the_node_does_not_go_by_the_node() {
    let pods = [pod("a/x", "192.0.2.9"), pod("a/y", "192.0.2.1")];
    check(
        Some(true),
        &["192.0.2.0/24"],
        &["192.0.2.1"],
        &pods,
        &["192.0.2.9/32 via 192.0.2.1"],
    );
    check(
        Some(true),
        &["0.0.0.0/0"],
        &["192.0.2.1"],
        &pods,
        &["192.0.2.9/32 via 192.0.2.1"],
    );
    check(Some(true), &["10.1.0.0/24"], &["127.0.0.1"], &[], &[]);
}

#[test]
fn each_family_goes_its_own_way() {
    let both = Pod {
        addresses: vec![ip("10.1.0.2"), ip("fd01::2")],
        ..pod("a/x", "10.1.0.2")
    };
    let ranges = ["10.1.0.0/24", "fd01::/64"];
    let expected = ["10.1.0.0/24 via 192.0.2.1", "fd01::/64 via fd00::1"];
    check(
        Some(true),
        &ranges,
        &["192.0.2.1", "fd00::1"],
        std::slice::from_ref(&both),
        &expected,
    );
    check(
        Some(true),
        &ranges,
        &["192.0.2.1"],
        std::slice::from_ref(&both),
        &expected[..1],
    );
}

#[test]
fn of_two_nodes_that_claim_one_network_the_first_has_it() {
    let route = |to: &str, via: &str| Route {
        to: to.parse().unwrap(),
        via: ip(via),
    };
    let first = [route("10.1.0.0/24", "192.0.2.1")];
    let second = [
        route("10.1.0.0/24", "192.0.2.2"),
        route("10.2.0.0/24", "192.0.2.2"),
    ];
    let all = assemble([&first[..], &second[..]].into_iter());
    assert_eq!(all, [first[0], second[1]]);
}
