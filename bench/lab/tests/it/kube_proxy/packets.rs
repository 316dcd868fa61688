//! Where packets go, whom Pods see, and what rules count: a real node's rules against the lab's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use podline_lab::kube_proxy::{
    Counter, Family, Flavour, KubeProxy, Protocol, Rules, TrafficPolicy,
};
use podline_lab::{HopMeter, Lab, Segment, Watched};

use super::fixture::{Fixture, fixture};
use super::site::{Site, lab_for};

/// Connections to each port: enough that each of three Pods gets three of them, but for once in ten million runs.
const EACH: u64 = 66;
const FEWEST: u64 = 3;
/// Node ports of the fixtures' Service.
const PORTS: [(Protocol, u16); 3] = [
    (Protocol::Tcp, 30080),
    (Protocol::Tcp, 30443),
    (Protocol::Udp, 30053),
];

/// What can be told about rules from outside, and what does not depend on chance of what they count.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// Whom each Pod saw, by port.
    sources: BTreeMap<(u16, String), BTreeSet<IpAddr>>,
    /// Routers between Pods and the client.
    routers: BTreeSet<u8>,
    counters: BTreeMap<String, u64>,
}

/// The node port of the segment's first node.
fn node_port(family: usize, port: u16) -> SocketAddr {
    (Segment::node(0)[family], port).into()
}

/// Connects and asks, and sees.
fn observe(site: &Site, rules: &Rules, other: &Rules) -> Seen {
    let [first, second] = [&site.segment.nodes[0].host, &site.segment.nodes[1].host];
    let installed = KubeProxy::install(first, rules).unwrap();
    let _other = KubeProxy::install(second, other).unwrap();
    let meter = HopMeter::start(&site.segment.client, Watched::From(PORTS[2].1)).unwrap();
    let (mut sources, mut counts) = (BTreeMap::new(), BTreeMap::new());
    for (protocol, port) in PORTS {
        for _ in 0..EACH {
            let answer = site.ask(protocol, node_port(0, port)).unwrap();
            *counts.entry((port, answer.pod.clone())).or_insert(0) += 1;
            let seen = sources
                .entry((port, answer.pod))
                .or_insert_with(BTreeSet::new);
            seen.insert(answer.source);
        }
    }
    assert!(counts.values().all(|count| *count >= FEWEST), "{counts:?}");
    let routers = meter.packets().unwrap();
    assert_eq!(routers.values().sum::<u64>(), EACH, "{routers:?}");
    let counters = certain(&installed.counters().unwrap());
    installed.remove().unwrap();
    Seen {
        sources,
        routers: routers.into_keys().collect(),
        counters,
    }
}

/// Counters that do not depend on which endpoint was chosen, nor on how packets are acknowledged.
fn certain(counters: &[Counter]) -> BTreeMap<String, u64> {
    let mut certain = BTreeMap::new();
    for Counter {
        table,
        chain,
        rule,
        packets,
        ..
    } in counters
    {
        let is_new_only = table == "nat" || !chain.starts_with("filter-") && table == "kube-proxy";
        if chain.starts_with("KUBE-SEP") || !(is_new_only || rule.contains("--mark")) {
            continue;
        }
        let key = match rule.split_once("-j KUBE-SEP") {
            Some(_) => format!("{table} {chain} to any endpoint"),
            None => format!("{table} {chain} {rule}"),
        };
        *certain.entry(key).or_insert(0) += packets;
    }
    certain
}

fn check(lab: &Lab, flavour: Flavour, policy: TrafficPolicy) {
    let site = Site::build(lab);
    let Fixture { text, services } = fixture(flavour, policy).moved();
    let v4 = text.split("table ip6").next().unwrap();
    let real = Rules::dumped(flavour, Family::V4, v4).counted();
    let made = |node| {
        Rules::of(
            flavour,
            &Segment::node_view(Family::V4, node, services.clone()),
        )
    };
    let (made, other) = (made(0).counted(), made(1));
    let by_real = observe(&site, &real, &other);
    let by_made = observe(&site, &made, &other);
    assert_eq!(by_real, by_made);
    let client = BTreeSet::from([Segment::CLIENT[0]]);
    let (node, gateway) = (Segment::node(0)[0], Segment::gateway(0)[0]);
    // The node speaks to its own Pods from the address that it has towards them.
    let (expected, routers) = match policy {
        TrafficPolicy::Cluster => (
            vec![
                ("node0.0", BTreeSet::from([gateway])),
                ("node0.1", BTreeSet::from([gateway])),
                ("node1.0", BTreeSet::from([node])),
            ],
            BTreeSet::from([1, 2]),
        ),
        TrafficPolicy::Local => (
            vec![("node0.0", client.clone()), ("node0.1", client)],
            BTreeSet::from([1]),
        ),
    };
    let expected = PORTS.iter().flat_map(|(_, port)| {
        let of_port =
            |(pod, sources): &(&str, _)| ((*port, (*pod).to_owned()), BTreeSet::clone(sources));
        expected.iter().map(of_port)
    });
    assert_eq!(by_made.sources, expected.collect());
    assert_eq!(by_made.routers, routers);
    counted_as_expected(flavour, policy, &by_made.counters);
}

/// So that nothing is compared with nothing.
fn counted_as_expected(flavour: Flavour, policy: TrafficPolicy, counters: &BTreeMap<String, u64>) {
    let all = EACH * u64::try_from(PORTS.len()).unwrap();
    let sum = |words: [&str; 2]| -> u64 {
        let found = counters
            .iter()
            .filter(|(key, _)| words.iter().all(|word| key.contains(word)));
        found.map(|(_, packets)| packets).sum()
    };
    let is_cluster = policy == TrafficPolicy::Cluster;
    let masqueraded = if is_cluster { all } else { 0 };
    match flavour {
        Flavour::Iptables => {
            let chain = if is_cluster { "KUBE-SVC" } else { "KUBE-SVL" };
            assert_eq!(sum(["nat KUBE-NODEPORTS", "--dport"]), all);
            assert_eq!(sum([chain, "to any endpoint"]), all);
            assert_eq!(sum(["nat KUBE-POSTROUTING", "-j MASQUERADE"]), masqueraded);
            assert_eq!(sum(["filter KUBE-FORWARD", "--mark"]), masqueraded);
        }
        Flavour::Nftables => {
            let chain = if is_cluster { " service-" } else { " local-" };
            assert_eq!(sum(["kube-proxy services", "@service-nodeports"]), all);
            assert_eq!(sum([chain, "numgen"]), all);
            assert_eq!(
                sum(["kube-proxy masquerading", "@hairpin-connections"]),
                all - masqueraded
            );
        }
    }
}

fn check_flavour(flavour: Flavour) {
    let Some(lab) = lab_for(flavour) else {
        return;
    };
    check(&lab, flavour, TrafficPolicy::Cluster);
    check(&lab, flavour, TrafficPolicy::Local);
}

#[test]
fn iptables_rules_of_the_lab_forward_as_a_real_nodes_do() {
    check_flavour(Flavour::Iptables);
}

#[test]
fn nftables_rules_of_the_lab_forward_as_a_real_nodes_do() {
    check_flavour(Flavour::Nftables);
}
