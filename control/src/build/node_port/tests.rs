//! Which nodes are bound, and with what weight.

use super::*;
use crate::build::selector::Selector;
use crate::cluster::slice::Endpoint;
use crate::cluster::testing::{bare, endpoint, ip, node, pod, service, slice};
use crate::cluster::{Change, Pod, Slice};

/// node-1 to node-3, made in this order at 192.0.2.1 to .3, changed by `change`.
fn cluster(change: impl Fn(&mut Node)) -> Cluster {
    let mut cluster = Cluster::default();
    for n in 1..=3 {
        let mut node = Node {
            created: 1_000 + i64::from(n),
            ..node(&format!("node-{n}"), &format!("192.0.2.{n}"))
        };
        change(&mut node);
        cluster.apply(Change::Node(node.name.clone(), Some(node)));
    }
    cluster
}

fn shown(bound: &Bound) -> String {
    let show = |backend: &Backend| format!("{}={}", backend.key.address, backend.weight);
    bound
        .backends
        .iter()
        .map(show)
        .collect::<Vec<_>>()
        .join(" ")
}

#[track_caller]
fn check_all(cluster: &Cluster, settings: &Settings, expected: &str) {
    let web = service("default/web");
    let bound = bind(cluster, &web, settings, Family::V4, 30_080, 200);
    assert_eq!(shown(&bound), expected);
}

#[test]
fn every_node_is_bound_unless_something_keeps_it_out() {
    let all = Settings::default();
    let two = "192.0.2.1:30080=10 192.0.2.3:30080=10";
    let three = "192.0.2.1:30080=10 192.0.2.2:30080=10 192.0.2.3:30080=10";
    let second = |change: fn(&mut Node)| {
        cluster(move |node| {
            if &*node.name == "node-2" {
                change(node);
            }
        })
    };
    check_all(&cluster(|_| {}), &all, three);
    check_all(&second(|node| node.is_ready = false), &all, three);
    check_all(&second(|node| node.is_excluded = true), &all, two);
    check_all(&second(|node| node.internal.clear()), &all, two);
    check_all(
        &second(|node| node.internal = vec![ip("fd00::2")]),
        &all,
        two,
    );
    check_all(
        &second(|node| node.internal = vec![ip("0.0.0.0")]),
        &all,
        two,
    );
    // A node that says it has another's address: the older is believed.
    check_all(
        &second(|node| node.internal = vec![ip("192.0.2.1")]),
        &all,
        two,
    );
    check_all(
        &second(|node| node.internal = vec![ip("224.0.0.1"), ip("192.0.2.2")]),
        &all,
        three,
    );
    let labelled = second(|node| drop(node.labels.insert("role".to_owned(), "edge".to_owned())));
    let select = |text: &str| Settings {
        nodes: Some(Selector::parse(text).unwrap()),
        ..Settings::default()
    };
    check_all(&labelled, &select("role=edge"), "192.0.2.2:30080=10");
    check_all(&labelled, &select("role!=edge"), two);
    check_all(&labelled, &select("nobody=has-this"), "");
}

#[test]
fn the_oldest_nodes_are_bound() {
    let cluster = cluster(|_| {});
    let web = service("default/web");
    let bound = bind(&cluster, &web, &Settings::default(), Family::V4, 30_080, 2);
    assert_eq!(shown(&bound), "192.0.2.1:30080=10 192.0.2.2:30080=10");
    assert!(bound.is_beyond_quota);
    let id = bound.backends[0].key.id.as_ref().map(BackendId::as_str);
    assert_eq!(id, Some("uid-node-1"));
    let bound = bind(&cluster, &web, &Settings::default(), Family::V6, 30_080, 2);
    assert_eq!((shown(&bound).as_str(), bound.is_beyond_quota), ("", false));
}

/// A Pod's endpoint, said to be on a node.
fn on(node: u8, n: u32, change: impl Fn(&mut Endpoint)) -> Endpoint {
    let mut made = Endpoint {
        node: Some(format!("node-{node}").into()),
        ..bare(&format!("10.0.{}.{}", n / 200, 1 + n % 200))
    };
    change(&mut made);
    made
}

#[track_caller]
fn check_local(endpoints: Vec<Endpoint>, weighted: bool, expected: &str) {
    let mut cluster = cluster(|_| {});
    let slice = slice("web-1", "default/web", endpoints);
    cluster.apply(Change::Slice(slice.key.clone(), Some(slice)));
    let local = Service {
        is_local: true,
        ..service("default/web")
    };
    let settings = Settings {
        weighted_balance: weighted,
        ..Settings::default()
    };
    let bound = bind(&cluster, &local, &settings, Family::V4, 30_080, 200);
    assert_eq!(shown(&bound), expected);
}

#[test]
fn local_binds_nodes_with_pods() {
    let ready = |_: &mut Endpoint| {};
    let unready = |endpoint: &mut Endpoint| {
        endpoint.is_ready = false;
        endpoint.is_serving = false;
    };
    let terminating = |endpoint: &mut Endpoint| {
        endpoint.is_ready = false;
        endpoint.is_terminating = true;
    };
    check_local(vec![], false, "");
    let pods = vec![on(1, 1, ready), on(1, 2, ready), on(2, 3, ready)];
    check_local(pods.clone(), false, "192.0.2.1:30080=10 192.0.2.2:30080=10");
    check_local(pods, true, "192.0.2.1:30080=2 192.0.2.2:30080=1");
    let pods = vec![on(1, 1, ready), on(2, 2, unready), on(3, 3, terminating)];
    let expected = "192.0.2.1:30080=10 192.0.2.2:30080=0 192.0.2.3:30080=0";
    check_local(pods, false, expected);
    // Nobody else is left: kube-proxy goes to those that terminate, and so do we.
    let pods = vec![on(2, 2, unready), on(3, 3, terminating)];
    check_local(pods, false, "192.0.2.2:30080=0 192.0.2.3:30080=10");
    // A weight ends at 100.
    let pods = (0..150).map(|n| on(1, n, ready)).chain([on(2, 200, ready)]);
    check_local(
        pods.collect(),
        true,
        "192.0.2.1:30080=100 192.0.2.2:30080=1",
    );
    // Without a node, nowhere.
    check_local(vec![on(1, 1, |endpoint| endpoint.node = None)], false, "");
    check_local(vec![on(9, 1, ready)], false, "");
    // Twice the same: the order means nothing.
    let mut pods = vec![
        on(2, 2, ready),
        on(1, 1, ready),
        on(1, 1, terminating),
        on(1, 1, unready),
    ];
    let expected = "192.0.2.1:30080=1 192.0.2.2:30080=1";
    for _ in 0..4 {
        check_local(pods.clone(), true, expected);
        pods.rotate_left(1);
    }
}

#[test]
fn local_counts_pods_of_any_kind_of_the_family() {
    let mut cluster = cluster(|_| {});
    let host = Pod {
        is_host_network: true,
        ..pod("default/host", "192.0.2.1")
    };
    let of_v6 = Slice {
        family: Some(Family::V6),
        ..slice(
            "web-6",
            "default/web",
            vec![on(2, 1, |it| it.address = Some(ip("fd00::1")))],
        )
    };
    let of_v4 = slice("web-4", "default/web", vec![endpoint(&host)]);
    cluster.apply(Change::Pod(host.key.clone(), Some(host)));
    for slice in [of_v4, of_v6] {
        cluster.apply(Change::Slice(slice.key.clone(), Some(slice)));
    }
    let local = Service {
        is_local: true,
        ..service("default/web")
    };
    let bound = bind(
        &cluster,
        &local,
        &Settings::default(),
        Family::V4,
        30_080,
        200,
    );
    assert_eq!(shown(&bound), "192.0.2.1:30080=10");
}
