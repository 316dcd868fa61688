//! What becomes of nodes, their Pods and responders.

use super::*;
use crate::cluster::testing::{ip, key, node, pod};
use crate::cluster::{Change, Node as Seen};

/// A cluster, and its network as one line a node.
struct Bench {
    cluster: Cluster,
    parts: Parts,
    network: Network,
}

impl Bench {
    fn new() -> Self {
        Self {
            cluster: Cluster::default(),
            parts: Parts::default(),
            network: Network::default(),
        }
    }

    /// Whether the network differs after a change.
    fn change(&mut self, change: Change) -> bool {
        let touched = self.cluster.apply(change);
        let update = self.parts.update(&self.cluster, &touched, "podline-system");
        let differs = update.is_some();
        self.network = update.unwrap_or_else(|| self.network.clone());
        let mut fresh = Parts::default();
        let all = fresh.update(&self.cluster, &Touched::all(), "podline-system");
        assert_eq!(self.network, all.unwrap_or_default());
        let wire = podline_api::v1::Network::from(&self.network);
        assert_eq!(Network::try_from(wire), Ok(self.network.clone()));
        differs
    }

    fn node(&mut self, name: &str, addresses: &[&str], ranges: &[&str]) -> bool {
        let node = Seen {
            addresses: addresses.iter().map(|text| ip(text)).collect(),
            pod_ranges: ranges.iter().map(|text| text.parse().unwrap()).collect(),
            ..node(name, "192.0.2.1")
        };
        self.change(Change::Node(name.into(), Some(node)))
    }

    fn pod(&mut self, name: &str, addresses: &[&str], on: &str) -> bool {
        self.pod_with(name, addresses, on, |_| {})
    }

    fn pod_with(
        &mut self,
        name: &str,
        addresses: &[&str],
        on: &str,
        change: impl FnOnce(&mut Pod),
    ) -> bool {
        let mut made = Pod {
            addresses: addresses.iter().map(|text| ip(text)).collect(),
            node: Some(on.into()),
            ..pod(name, "10.0.0.1")
        };
        change(&mut made);
        self.change(Change::Pod(made.key.clone(), Some(made)))
    }

    fn shown(&self) -> Vec<String> {
        fn list<T: ToString>(values: &[T]) -> String {
            let texts: Vec<_> = values.iter().map(ToString::to_string).collect();
            texts.join(",")
        }
        let nodes = self.network.nodes.iter();
        nodes
            .map(|node| {
                let (addresses, ranges) = (list(&node.addresses), list(&node.pod_ranges));
                format!(
                    "{} {addresses} {ranges} {}",
                    node.name,
                    list(&node.responders)
                )
            })
            .collect()
    }
}

#[test]
fn a_nodes_ranges_count_while_every_pod_lies_in_them() {
    let mut bench = Bench::new();
    let ranges = ["10.244.1.0/24", "fd00:1::/64"];
    assert!(bench.node("n1", &["192.0.2.1", "2001:db8::1"], &ranges));
    let whole = ["n1 192.0.2.1,2001:db8::1 10.244.1.0/24,fd00:1::/64 "];
    assert_eq!(bench.shown(), whole);
    assert!(
        !bench.pod("a/1", &["10.244.1.2", "fd00:1::2"], "n1"),
        "as before"
    );
    assert!(!bench.pod("a/2", &["10.244.1.3"], "n1"));
    assert_eq!(bench.shown(), whole);
    // As Calico does: each family by itself.
    assert!(bench.pod("a/3", &["192.168.7.9", "fd00:1::3"], "n1"));
    let single = "10.244.1.2/32,10.244.1.3/32,192.168.7.9/32,fd00:1::/64";
    let of_pods = [format!("n1 192.0.2.1,2001:db8::1 {single} ")];
    assert_eq!(bench.shown(), of_pods);
    let is_host = |pod: &mut Pod| pod.is_host_network = true;
    assert!(!bench.pod_with("a/4", &["192.0.2.1"], "n1", is_host));
    assert!(!bench.pod_with("a/5", &["10.9.9.9"], "n1", |pod| pod.has_ended = true));
    assert!(!bench.pod("a/6", &["10.9.9.9"], "elsewhere"));
    assert!(!bench.pod_with("a/7", &["10.9.9.9"], "", |pod| pod.node = None));
    assert_eq!(bench.shown(), of_pods);
    assert!(bench.change(Change::Pod(key("a/3"), None)));
    assert_eq!(bench.shown(), whole);
}

#[test]
fn what_a_kubelet_reports_all_the_time_changes_nothing() {
    let mut bench = Bench::new();
    bench.node("n1", &["192.0.2.1"], &["10.244.1.0/24"]);
    assert!(!bench.node("n1", &["192.0.2.1"], &["10.244.1.0/24"]));
    let unready = Seen {
        is_ready: false,
        pod_ranges: vec!["10.244.1.0/24".parse().unwrap()],
        ..node("n1", "192.0.2.1")
    };
    assert!(!bench.change(Change::Node("n1".into(), Some(unready))));
    bench.pod("a/1", &["10.244.1.2"], "n1");
    assert!(
        !bench.pod_with("a/1", &["10.244.1.2"], "n1", |pod| pod.containers_ready =
            false)
    );
    assert!(!bench.pod_with("a/1", &["10.244.1.2"], "n1", |pod| pod.is_deleting = true));
    assert!(bench.change(Change::Node("n1".into(), None)));
    assert_eq!(bench.shown(), [""; 0]);
}

#[test]
fn responders_are_our_own_and_the_newest_of_a_node_counts() {
    let mut bench = Bench::new();
    bench.node("n1", &["192.0.2.1"], &["10.244.1.0/24"]);
    let responds = |created: i64| {
        move |pod: &mut Pod| {
            pod.is_responder = true;
            pod.created = created;
        }
    };
    let foreign = ["n1 192.0.2.1 10.244.1.0/24 "];
    bench.pod_with("evil/r", &["10.244.1.66"], "n1", responds(9_000));
    assert_eq!(bench.shown(), foreign);
    let name = "podline-system/podline-responder-a";
    bench.pod_with(name, &["10.244.1.7", "fd00::7"], "n1", responds(1_000));
    let both = "10.244.1.7:9904,[fd00::7]:9904";
    assert_eq!(
        bench.shown(),
        [format!("n1 192.0.2.1 10.244.1.0/24,fd00::7/128 {both}")]
    );
    let newer = "podline-system/podline-responder-b";
    assert!(bench.pod_with(newer, &["10.244.1.8"], "n1", responds(2_000)));
    assert!(bench.shown()[0].ends_with(" 10.244.1.8:9904"));
    assert!(bench.pod_with(newer, &["10.244.1.8"], "n1", |pod| {
        responds(2_000)(pod);
        pod.is_deleting = true;
    }));
    assert!(bench.shown()[0].ends_with(both));
}

#[test]
fn odd_nodes_do_no_harm() {
    let mut bench = Bench::new();
    bench.node(
        "n1",
        &["192.0.2.1", "192.0.2.1", "0.0.0.0", "127.0.0.1"],
        &["0.0.0.0/0"],
    );
    bench.node("n2", &["192.0.2.1", "192.0.2.2"], &["10.244.1.0/24"]);
    bench.node("n3", &["192.0.2.1", "224.0.0.1"], &[]);
    bench.node("no such name!", &["192.0.2.9"], &[]);
    let expected = ["n1 192.0.2.1  ", "n2 192.0.2.2 10.244.1.0/24 "];
    assert_eq!(bench.shown(), expected);
    for n in 0..1_500 {
        bench.pod(
            &format!("a/{n}"),
            &[&format!("10.9.{}.{}", n / 250, n % 250)],
            "n1",
        );
    }
    assert_eq!(bench.network.nodes[0].pod_ranges.len(), 1_000);
    // What n1 had is n2's as soon as n1 is gone.
    bench.change(Change::Node("n1".into(), None));
    assert_eq!(bench.shown(), ["n2 192.0.2.1,192.0.2.2 10.244.1.0/24 "]);
}
