//! What kube-proxy of a real cluster wrote on its node `fake-1`, and the objects it wrote that from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use podline_lab::Segment;
use podline_lab::kube_proxy::{
    Endpoint, Family, Flavour, NodeView, Protocol, Rules, Service, ServicePort, TrafficPolicy,
};
use serde_json::Value;

/// What a dump holds that is of the kernel alone: accounting objects that no namespace has. Its rules are left out, and
/// its match where the rule does something else too.
const COUNTING_RULE: &str = "-m nfacct --nfacct-name  localhost_nps_accepted_pkts";
const COUNTING_MATCH: &str = "-m nfacct --nfacct-name  ct_state_invalid_dropped_pkts ";

/// A dump, and the Services it is of.
pub(super) struct Fixture {
    pub(super) text: String,
    pub(super) services: Vec<Service>,
}

pub(super) fn fixture(flavour: Flavour, policy: TrafficPolicy) -> Fixture {
    macro_rules! read {
        ($name:literal) => {
            (
                include_str!(concat!("../../fixtures/kube-proxy/", $name, ".txt")),
                include_str!(concat!(
                    "../../fixtures/kube-proxy/",
                    $name,
                    ".objects.json"
                )),
            )
        };
    }
    let (text, objects) = match (flavour, policy) {
        (Flavour::Iptables, TrafficPolicy::Cluster) => read!("iptables-cluster"),
        (Flavour::Iptables, TrafficPolicy::Local) => read!("iptables-local"),
        (Flavour::Nftables, TrafficPolicy::Cluster) => read!("nftables-cluster"),
        (Flavour::Nftables, TrafficPolicy::Local) => read!("nftables-local"),
    };
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.contains(COUNTING_RULE));
    let lines: Vec<_> = lines
        .map(|line| line.replace(COUNTING_MATCH, "") + "\n")
        .collect();
    let objects: Value = serde_json::from_str(objects).unwrap();
    let services = vec![kubernetes(), web(&objects)];
    Fixture {
        text: lines.concat(),
        services,
    }
}

/// The fixtures' node.
const NODE: &str = "10.199.0.10";
/// The fixtures' Pods, and those of a segment that stand for them, by node and index: two of the node, one of another.
const PODS: [(&str, u8, u8); 3] = [
    ("10.244.9.10", 0, 0),
    ("10.244.9.11", 0, 1),
    ("10.244.9.12", 1, 0),
];

impl Fixture {
    /// The same with the addresses of a segment. None of the fixture's addresses begins with another.
    pub(super) fn moved(mut self) -> Self {
        let node = Segment::node(0)[0].to_string();
        self.text = self.text.replace(NODE, &node);
        for (from, node, pod) in PODS {
            let to = Segment::pod(node, pod)[0].to_string();
            self.text = self.text.replace(from, &to);
        }
        let ports = self
            .services
            .iter_mut()
            .flat_map(|service| &mut service.ports);
        for endpoint in ports.flat_map(|port| &mut port.endpoints) {
            let from = endpoint.address.ip().to_string();
            let found = PODS.into_iter().find(|(address, _, _)| *address == from);
            let (_, node, pod) = found.expect("the fixtures have these Pods alone");
            *endpoint = Segment::endpoint(Family::V4, node, pod, endpoint.address.port());
        }
        self
    }
}

/// The cluster's own Service, which had no endpoints.
fn kubernetes() -> Service {
    Service {
        namespace: "default".to_owned(),
        name: "kubernetes".to_owned(),
        cluster_address: "10.96.0.1".parse().unwrap(),
        ingress: Vec::new(),
        policy: TrafficPolicy::Cluster,
        health_check_port: None,
        ports: vec![ServicePort {
            name: "https".to_owned(),
            protocol: Protocol::Tcp,
            port: 443,
            node_port: None,
            endpoints: Vec::new(),
        }],
    }
}

fn web(objects: &Value) -> Service {
    let items = objects["items"].as_array().unwrap();
    let of_kind = |kind: &str| items.iter().find(|item| item["kind"] == kind).unwrap();
    let (service, slice) = (of_kind("Service"), of_kind("EndpointSlice"));
    let spec = &service["spec"];
    let ingress = service["status"]["loadBalancer"]["ingress"]
        .as_array()
        .unwrap();
    Service {
        namespace: text(&service["metadata"]["namespace"]),
        name: text(&service["metadata"]["name"]),
        cluster_address: text(&spec["clusterIP"]).parse().unwrap(),
        ingress: ingress
            .iter()
            .map(|entry| text(&entry["ip"]).parse().unwrap())
            .collect(),
        policy: match text(&spec["externalTrafficPolicy"]).as_str() {
            "Local" => TrafficPolicy::Local,
            _ => TrafficPolicy::Cluster,
        },
        health_check_port: spec["healthCheckNodePort"].as_u64().map(port_number),
        ports: spec["ports"]
            .as_array()
            .unwrap()
            .iter()
            .map(|port| web_port(port, slice))
            .collect(),
    }
}

fn web_port(port: &Value, slice: &Value) -> ServicePort {
    let ports = slice["ports"].as_array().unwrap();
    let target = ports
        .iter()
        .find(|target| target["name"] == port["name"])
        .unwrap();
    let target = port_number(target["port"].as_u64().unwrap());
    let endpoints = slice["endpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|endpoint| {
            let address: IpAddr = text(&endpoint["addresses"][0]).parse().unwrap();
            Endpoint {
                address: (address, target).into(),
                node: text(&endpoint["nodeName"]),
            }
        });
    ServicePort {
        name: text(&port["name"]),
        protocol: if port["protocol"] == "UDP" {
            Protocol::Udp
        } else {
            Protocol::Tcp
        },
        port: port_number(port["port"].as_u64().unwrap()),
        node_port: port["nodePort"].as_u64().map(port_number),
        endpoints: endpoints.collect(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn port_number(number: u64) -> u16 {
    u16::try_from(number).unwrap()
}

/// The dump with everything where order says nothing in one order: chains, and elements of sets.
pub(super) fn normal(flavour: Flavour, text: &str) -> BTreeMap<String, Vec<String>> {
    match flavour {
        Flavour::Iptables => normal_iptables(text),
        Flavour::Nftables => normal_nftables(text),
    }
}

/// The rules of each chain, in their order.
fn normal_iptables(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut chains = BTreeMap::<_, Vec<_>>::new();
    let mut table = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(chain) = line.strip_prefix(':') {
            let (name, policy) = chain.split_once(' ').unwrap();
            chains
                .entry(format!("{table} {name}"))
                .or_default()
                .push(policy.to_owned());
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let (chain, rule) = rule.split_once(' ').unwrap();
            let chain = chains.get_mut(&format!("{table} {chain}"));
            chain.expect("chains come first").push(rule.to_owned());
        } else {
            assert_eq!(line, "COMMIT");
        }
    }
    chains
}

/// The lines of each block, then its elements sorted.
fn normal_nftables(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut blocks = BTreeMap::<_, Vec<_>>::new();
    let mut elements = BTreeMap::<_, BTreeSet<_>>::new();
    let (mut table, mut block, mut is_elements) = ("", String::new(), false);
    for line in text.lines() {
        let Some(line) = line.strip_prefix('\t') else {
            if line.starts_with("table ") {
                table = line;
            }
            continue;
        };
        if !line.starts_with('\t') {
            block = format!("{table} {line}");
        }
        let line = line.trim();
        is_elements |= line.starts_with("elements = {");
        if is_elements {
            let line = line.trim_start_matches("elements = {");
            is_elements = !line.ends_with('}');
            let some = line.trim_end_matches('}').split(',').map(str::trim);
            let some = some
                .filter(|element| !element.is_empty())
                .map(ToOwned::to_owned);
            elements.entry(block.clone()).or_default().extend(some);
        } else {
            blocks
                .entry(block.clone())
                .or_default()
                .push(line.to_owned());
        }
    }
    for (block, elements) in elements {
        blocks.entry(block).or_default().extend(elements);
    }
    blocks
}

/// The view of kube-proxy on the fixtures' node.
fn view(services: Vec<Service>) -> NodeView {
    NodeView {
        family: Family::V4,
        node: "fake-1".to_owned(),
        addresses: vec![NODE.parse().unwrap()],
        pods: Some(("10.244.0.0".parse().unwrap(), 16)),
        cluster_addresses: Some(("10.96.0.0".parse().unwrap(), 16)),
        services,
    }
}

/// The same node in IPv6, which it has no address of.
fn view_v6() -> NodeView {
    NodeView {
        family: Family::V6,
        node: "fake-1".to_owned(),
        addresses: Vec::new(),
        pods: None,
        cluster_addresses: None,
        services: Vec::new(),
    }
}

fn check(flavour: Flavour, policy: TrafficPolicy) {
    let Fixture { text, services } = fixture(flavour, policy);
    let mut made = Rules::of(flavour, &view(services)).text().to_owned();
    if flavour == Flavour::Nftables {
        made += Rules::of(flavour, &view_v6()).text(); // iptables-save is of one family
    }
    let (real, made) = (normal(flavour, &text), normal(flavour, &made));
    let rules = text
        .lines()
        .filter(|line| line.starts_with("-A") || line.starts_with("\t\t"))
        .count();
    assert!(
        rules > 50 && real.values().map(Vec::len).sum::<usize>() >= rules,
        "lines were lost"
    );
    for (chain, rules) in &real {
        assert_eq!(made.get(chain), Some(rules), "{chain}");
    }
    assert_eq!(made.len(), real.len(), "{:?}", made.keys());
}

#[test]
fn iptables_rules_are_those_of_a_real_node_under_cluster() {
    check(Flavour::Iptables, TrafficPolicy::Cluster);
}

#[test]
fn iptables_rules_are_those_of_a_real_node_under_local() {
    check(Flavour::Iptables, TrafficPolicy::Local);
}

#[test]
fn nftables_rules_are_those_of_a_real_node_under_cluster() {
    check(Flavour::Nftables, TrafficPolicy::Cluster);
}

#[test]
fn nftables_rules_are_those_of_a_real_node_under_local() {
    check(Flavour::Nftables, TrafficPolicy::Local);
}
