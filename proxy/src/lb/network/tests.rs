//! The decision, case by case, and what it is made by.

use super::*;
use crate::lb::SetId;
use podline_api::{BackendKey, Name, Node};
use podline_api::{Route, SourceAddress};

const NODE: NodeId = NodeId(1);
const OTHER: NodeId = NodeId(2);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn node(name: &str, addresses: &[&str], pods: &[&str]) -> Node {
    Node {
        name: Name::try_from(name.to_owned()).unwrap(),
        addresses: addresses.iter().map(|text| ip(text)).collect(),
        pod_ranges: pods.iter().map(|text| text.parse().unwrap()).collect(),
        responders: Vec::new(),
    }
}

fn network() -> Network {
    Network {
        nodes: vec![
            node(
                "one",
                &["10.88.0.11", "fd00:88::11"],
                &["10.244.1.0/24", "fd00:244:1::/64"],
            ),
            node("two", &["10.88.0.12"], &["10.244.2.0/24", "10.244.1.77/32"]),
        ],
        routes: vec![Route {
            to: "10.244.2.0/24".parse().unwrap(),
            via: ip("10.88.0.12"),
        }],
        port_share: None,
        addresses: Vec::new(),
    }
}

/// A view that can imitate, where the way to node one is as given for both IP versions.
fn view(path: Path) -> NetworkView {
    let mut view = NetworkView {
        can_imitate: true,
        ..NetworkView::default()
    };
    let network = network();
    view.set_networks([&network].into_iter(), |name| match name.as_str() {
        "one" => NODE,
        _ => OTHER,
    });
    for ipv6 in [false, true] {
        view.set_path(PathId { node: NODE, ipv6 }, path);
    }
    view.set_own([ip("10.88.0.100")].into());
    view
}

fn backend(address: &str, node: Option<NodeId>) -> BackendRuntime {
    let key = BackendKey {
        id: None,
        address: (ip(address), 80).into(),
    };
    let runtime = BackendRuntime::new(key, SetId(1), 0);
    runtime
        .node
        .store(node.map_or(NodeId::NONE, |id| id.0), Relaxed);
    runtime
}

const ROUTED: Path = Path::Proven { bridged: false };
const V4: &str = "10.244.1.10";
const V6: &str = "fd00:244:1::10";

/// Case, way, client, backend, what PREFER_TRANSPARENT comes to, what TRANSPARENT comes to.
const CASES: &str = "
proven                     | routed   | 192.0.2.1        | v4 | transparent           | transparent
proven, IPv6               | routed   | 2001:db8::1      | v6 | transparent           | transparent
proven, bridged            | bridged  | 192.0.2.1        | v4 | transparent           | transparent
unproven                   | unproven | 192.0.2.1        | v4 | UNPROVEN              | transparent
failed                     | failed   | 192.0.2.1        | v4 | UNPROVEN              | transparent
failed, IPv6               | failed   | 2001:db8::1      | v6 | UNPROVEN              | transparent
itself                     | routed   | 10.244.1.10      | v4 | CLIENT_IS_BACKEND     | CLIENT_IS_BACKEND
itself, IPv6               | routed   | fd00:244:1::10   | v6 | CLIENT_IS_BACKEND     | CLIENT_IS_BACKEND
its node                   | routed   | 10.88.0.11       | v4 | CLIENT_IS_NODE        | CLIENT_IS_NODE
another node               | routed   | 10.88.0.12       | v4 | CLIENT_IS_NODE        | CLIENT_IS_NODE
its node, IPv6             | routed   | fd00:88::11      | v6 | CLIENT_IS_NODE        | CLIENT_IS_NODE
beside, routed             | routed   | 10.244.1.11      | v4 | transparent           | transparent
beside, bridged            | bridged  | 10.244.1.11      | v4 | CLIENT_BESIDE_BACKEND | CLIENT_BESIDE_BACKEND
beside, unknown            | unproven | 10.244.1.11      | v4 | CLIENT_BESIDE_BACKEND | transparent
beside, IPv6               | bridged  | fd00:244:1::11   | v6 | CLIENT_BESIDE_BACKEND | CLIENT_BESIDE_BACKEND
a pod of another node      | bridged  | 10.244.2.11      | v4 | transparent           | transparent
the same by a longer range | bridged  | 10.244.1.77      | v4 | transparent           | transparent
IPv6 to IPv4               | routed   | 2001:db8::1      | v4 | OTHER_FAMILY          | OTHER_FAMILY
IPv4 to IPv6               | routed   | 192.0.2.1        | v6 | OTHER_FAMILY          | OTHER_FAMILY
IPv4 written as IPv6       | routed   | ::ffff:192.0.2.1 | v4 | transparent           | transparent
loopback                   | routed   | 127.0.0.1        | v4 | SPECIAL_CLIENT        | SPECIAL_CLIENT
loopback, IPv6             | routed   | ::1              | v6 | SPECIAL_CLIENT        | SPECIAL_CLIENT
link-local                 | routed   | 169.254.1.1      | v4 | SPECIAL_CLIENT        | SPECIAL_CLIENT
link-local, IPv6           | routed   | fe80::1          | v6 | SPECIAL_CLIENT        | SPECIAL_CLIENT
unspecified                | routed   | 0.0.0.0          | v4 | SPECIAL_CLIENT        | SPECIAL_CLIENT
unspecified, IPv6          | routed   | ::               | v6 | SPECIAL_CLIENT        | SPECIAL_CLIENT
multicast                  | routed   | 224.0.0.1        | v4 | SPECIAL_CLIENT        | SPECIAL_CLIENT
multicast, IPv6            | routed   | ff02::1          | v6 | SPECIAL_CLIENT        | SPECIAL_CLIENT
broadcast                  | routed   | 255.255.255.255  | v4 | SPECIAL_CLIENT        | SPECIAL_CLIENT
the proxy                  | routed   | 10.88.0.100      | v4 | SPECIAL_CLIENT        | SPECIAL_CLIENT
no node is known           | no node  | 192.0.2.1        | v4 | NODE_UNKNOWN          | transparent
itself, no node is known   | no node  | 10.244.1.10      | v4 | CLIENT_IS_BACKEND     | CLIENT_IS_BACKEND
no means                   | no means | 192.0.2.1        | v4 | NO_PRIVILEGE          | NO_PRIVILEGE
";

fn source_of(wanted: SourceAddress, [way, client, version]: [&str; 3]) -> Source {
    let path = match way {
        "routed" | "no node" | "no means" => ROUTED,
        "bridged" => Path::Proven { bridged: true },
        "unproven" => Path::Unproven,
        "failed" => Path::Failed,
        other => panic!("{other:?} is no way"),
    };
    let mut view = view(path);
    view.can_imitate = way != "no means";
    let address = if version == "v6" { V6 } else { V4 };
    let node = (way != "no node").then_some(NODE);
    view.source(wanted, ip(client), &backend(address, node))
}

#[test]
fn each_client_is_imitated_or_there_is_a_reason() {
    for case in CASES.lines().filter(|line| !line.is_empty()) {
        let fields: Vec<_> = case.split('|').map(str::trim).collect();
        let [_, way, client, version, prefer, insist] = fields[..] else {
            panic!("{case}");
        };
        let told = |wanted| match source_of(wanted, [way, client, version]) {
            Source::Transparent => "transparent",
            Source::Snat(Some(reason)) if wanted == SourceAddress::PreferTransparent => {
                reason.name()
            }
            Source::Impossible(reason) if wanted == SourceAddress::Transparent => reason.name(),
            other => panic!("{other:?}: {case}"),
        };
        assert_eq!(told(SourceAddress::PreferTransparent), prefer, "{case}");
        assert_eq!(told(SourceAddress::Transparent), insist, "{case}");
        let plain = source_of(SourceAddress::Snat, [way, client, version]);
        assert_eq!(plain, Source::Snat(None), "{case}");
    }
}

#[test]
fn a_way_is_of_one_ip_version_and_goes_with_its_node() {
    let mut view = view(ROUTED);
    let ipv4 = PathId {
        node: NODE,
        ipv6: false,
    };
    view.set_path(ipv4, Path::Failed);
    let ipv6 = PathId { ipv6: true, ..ipv4 };
    assert_eq!((view.path(ipv4), view.path(ipv6)), (Path::Failed, ROUTED));
    view.set_networks(std::iter::empty(), |_| NODE);
    assert_eq!(view.path(ipv6), Path::Unproven);
    assert_eq!(view.node_at(ip("10.88.0.11")), None);
}

#[test]
fn nodes_and_routes_are_found_by_address() {
    let mut view = view(ROUTED);
    assert_eq!(view.node_at(ip("10.88.0.11")), Some(NODE));
    assert_eq!(view.node_of(ip("10.244.1.3")), Some(NODE));
    assert_eq!(view.node_of(ip("10.244.1.77")), Some(OTHER));
    assert_eq!(view.node_of(ip("10.244.3.1")), None);
    assert_eq!(view.mark(ip("10.244.2.1")), None, "nothing leads there yet");
    view.route_mark = Some(0x600);
    assert_eq!(view.mark(ip("10.244.2.1")), Some(0x600));
    assert_eq!(view.mark(ip("10.244.1.1")), None);
}

#[test]
fn shares_of_the_ports_are_equal_and_apart() {
    for slots in 1..=256 {
        let mut next = 32_768;
        let mut widths = HashSet::new();
        for slot in 0..slots {
            let (low, high) = ports_of(PortShare { slot, slots }, (32_768, 60_999));
            assert!(
                low >= next && low <= high && high <= 60_999,
                "{slot}/{slots}"
            );
            next = high + 1;
            widths.insert(high - low);
        }
        assert_eq!(widths.len(), 1, "{slots}");
    }
    // Nothing sensible can be done with a range that is too small; nothing must break either.
    let share = PortShare {
        slot: 200,
        slots: 256,
    };
    assert_eq!(ports_of(share, (5_000, 5_009)), (5_009, 5_009));
}

#[test]
fn reasons_are_numbered_in_their_order() {
    for (number, reason) in SnatReason::ALL.into_iter().enumerate() {
        assert_eq!(reason as usize, number);
    }
}
