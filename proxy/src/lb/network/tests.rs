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
const BRIDGED: Path = Path::Proven { bridged: true };
const V4: &str = "10.244.1.10";
const V6: &str = "fd00:244:1::10";

/// Case, way, client, backend, what PREFER_TRANSPARENT comes to, what TRANSPARENT comes to; none: the client is imitated.
type Row = (
    &'static str,
    Path,
    &'static str,
    &'static str,
    Option<SnatReason>,
    Option<SnatReason>,
);

fn rows() -> Vec<Row> {
    use SnatReason::{
        ClientBesideBackend as Beside, ClientIsBackend as Itself, ClientIsNode as IsNode,
        OtherFamily, SpecialClient as Special, Unproven,
    };
    vec![
        ("proven", ROUTED, "192.0.2.1", V4, None, None),
        ("proven, IPv6", ROUTED, "2001:db8::1", V6, None, None),
        ("proven, bridged", BRIDGED, "192.0.2.1", V4, None, None),
        (
            "unproven",
            Path::Unproven,
            "192.0.2.1",
            V4,
            Some(Unproven),
            None,
        ),
        (
            "failed",
            Path::Failed,
            "192.0.2.1",
            V4,
            Some(Unproven),
            None,
        ),
        (
            "failed, IPv6",
            Path::Failed,
            "2001:db8::1",
            V6,
            Some(Unproven),
            None,
        ),
        ("itself", ROUTED, V4, V4, Some(Itself), Some(Itself)),
        ("itself, IPv6", ROUTED, V6, V6, Some(Itself), Some(Itself)),
        (
            "its node",
            ROUTED,
            "10.88.0.11",
            V4,
            Some(IsNode),
            Some(IsNode),
        ),
        (
            "another node",
            ROUTED,
            "10.88.0.12",
            V4,
            Some(IsNode),
            Some(IsNode),
        ),
        (
            "its node, IPv6",
            ROUTED,
            "fd00:88::11",
            V6,
            Some(IsNode),
            Some(IsNode),
        ),
        ("beside, routed", ROUTED, "10.244.1.11", V4, None, None),
        (
            "beside, bridged",
            BRIDGED,
            "10.244.1.11",
            V4,
            Some(Beside),
            Some(Beside),
        ),
        (
            "beside, unknown",
            Path::Unproven,
            "10.244.1.11",
            V4,
            Some(Beside),
            None,
        ),
        (
            "beside, IPv6",
            BRIDGED,
            "fd00:244:1::11",
            V6,
            Some(Beside),
            Some(Beside),
        ),
        ("a pod elsewhere", BRIDGED, "10.244.2.11", V4, None, None),
        (
            "elsewhere by a longer range",
            BRIDGED,
            "10.244.1.77",
            V4,
            None,
            None,
        ),
        (
            "IPv6 to IPv4",
            ROUTED,
            "2001:db8::1",
            V4,
            Some(OtherFamily),
            Some(OtherFamily),
        ),
        (
            "IPv4 to IPv6",
            ROUTED,
            "192.0.2.1",
            V6,
            Some(OtherFamily),
            Some(OtherFamily),
        ),
        (
            "IPv4 written as IPv6",
            ROUTED,
            "::ffff:192.0.2.1",
            V4,
            None,
            None,
        ),
        (
            "loopback",
            ROUTED,
            "127.0.0.1",
            V4,
            Some(Special),
            Some(Special),
        ),
        (
            "loopback, IPv6",
            ROUTED,
            "::1",
            V6,
            Some(Special),
            Some(Special),
        ),
        (
            "link-local",
            ROUTED,
            "169.254.1.1",
            V4,
            Some(Special),
            Some(Special),
        ),
        (
            "link-local, IPv6",
            ROUTED,
            "fe80::1",
            V6,
            Some(Special),
            Some(Special),
        ),
        (
            "unspecified",
            ROUTED,
            "0.0.0.0",
            V4,
            Some(Special),
            Some(Special),
        ),
        (
            "unspecified, IPv6",
            ROUTED,
            "::",
            V6,
            Some(Special),
            Some(Special),
        ),
        (
            "multicast",
            ROUTED,
            "224.0.0.1",
            V4,
            Some(Special),
            Some(Special),
        ),
        (
            "multicast, IPv6",
            ROUTED,
            "ff02::1",
            V6,
            Some(Special),
            Some(Special),
        ),
        (
            "broadcast",
            ROUTED,
            "255.255.255.255",
            V4,
            Some(Special),
            Some(Special),
        ),
        (
            "the proxy",
            ROUTED,
            "10.88.0.100",
            V4,
            Some(Special),
            Some(Special),
        ),
    ]
}

#[test]
fn each_client_is_imitated_or_there_is_a_reason() {
    for (case, path, client, address, prefer, insist) in rows() {
        let (view, backend) = (view(path), backend(address, Some(NODE)));
        let source = |wanted| view.source(wanted, ip(client), &backend);
        assert_eq!(
            source(SourceAddress::Snat),
            Source::Snat(None),
            "{case}, SNAT"
        );
        let expected = prefer.map_or(Source::Transparent, |why| Source::Snat(Some(why)));
        assert_eq!(
            source(SourceAddress::PreferTransparent),
            expected,
            "{case}, PREFER_TRANSPARENT"
        );
        let expected = insist.map_or(Source::Transparent, Source::Impossible);
        assert_eq!(
            source(SourceAddress::Transparent),
            expected,
            "{case}, TRANSPARENT"
        );
    }
}

#[test]
fn a_backend_of_no_known_node_is_transparent_only_where_that_is_insisted_on() {
    let (view, backend) = (view(ROUTED), backend(V4, None));
    let source = |wanted| view.source(wanted, ip("192.0.2.1"), &backend);
    assert_eq!(
        source(SourceAddress::PreferTransparent),
        Source::Snat(Some(SnatReason::NodeUnknown))
    );
    assert_eq!(source(SourceAddress::Transparent), Source::Transparent);
}

#[test]
fn without_the_means_nobody_is_imitated() {
    let mut view = view(ROUTED);
    view.can_imitate = false;
    let backend = backend(V4, Some(NODE));
    let source = |wanted| view.source(wanted, ip("192.0.2.1"), &backend);
    assert_eq!(source(SourceAddress::Snat), Source::Snat(None));
    assert_eq!(
        source(SourceAddress::PreferTransparent),
        Source::Snat(Some(SnatReason::NoPrivilege))
    );
    assert_eq!(
        source(SourceAddress::Transparent),
        Source::Impossible(SnatReason::NoPrivilege)
    );
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
