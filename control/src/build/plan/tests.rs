//! What one Service becomes, as its owner sees it.

mod annotations;
mod groups;
mod http;
mod idle;
mod modes;
mod refused;
mod skipped;
mod tls;
mod udp;
mod weights;

use super::*;
use crate::build::annotation::DIRECT_ACCESS;
use crate::build::tests::checked::Checked;
use crate::build::{Mode, Standing};
use crate::cluster::service::{FINALIZER, MAX_VALUE_BYTES};
use crate::cluster::testing::{endpoint, ip, key, node, pod, port, service, slice};
use crate::cluster::{Change, Pod, Slice, Switches};
use podline_api::{Affinity, AffinityKind, CheckKind};

const SELECTOR: &str = "service.kubernetes.io/qcloud-loadbalancer-backends-label";

/// default/web with two Pods and two nodes.
fn cluster(options: Options) -> Checked {
    let mut checked = Checked::new(options);
    let pods = [pod("default/a", "10.0.0.1"), pod("default/b", "10.0.0.2")];
    for n in 1..=2 {
        let node = node(&format!("node-{n}"), &format!("192.0.2.{n}"));
        checked.change(Change::Node(node.name.clone(), Some(node)));
    }
    let endpoints = pods.iter().map(endpoint).collect();
    for pod in pods {
        checked.change(Change::Pod(pod.key.clone(), Some(pod)));
    }
    let slice = slice("web-1", "default/web", endpoints);
    checked.change(Change::Slice(slice.key.clone(), Some(slice)));
    checked
}

fn put(checked: &mut Checked, service: &Service) {
    let change = Change::Service(service.key.clone(), Some(Box::new(service.clone())));
    checked.change(change);
}

fn plan_of(checked: &Checked, name: &str) -> Arc<Plan> {
    match checked.builder.standings().get(&key(name)) {
        Some(Standing::Ours(plan)) => Arc::clone(plan),
        other => panic!("{name}: {other:?}"),
    }
}

/// What default/web becomes beside two Pods and two nodes.
fn planned(change: impl Fn(&mut Service)) -> Arc<Plan> {
    planned_with(&Options::default(), change)
}

fn planned_with(options: &Options, change: impl Fn(&mut Service)) -> Arc<Plan> {
    let mut service = service("default/web");
    change(&mut service);
    let mut checked = cluster(options.clone());
    put(&mut checked, &service);
    plan_of(&checked, "default/web")
}

fn reasons(plan: &Plan) -> Vec<&'static str> {
    plan.notes.iter().map(|note| note.reason.as_str()).collect()
}

fn annotate(service: &mut Service, key: &str, value: &str) {
    service.annotations.insert(key.to_owned(), value.to_owned());
}

fn addresses(set: &BackendSet) -> Vec<String> {
    let backends = set.backends.iter();
    backends.map(|it| it.key.address.to_string()).collect()
}

const PODS: [&str; 2] = ["10.0.0.1:8080", "10.0.0.2:8080"];
const NODES: [&str; 2] = ["192.0.2.1:30080", "192.0.2.2:30080"];

/// A cluster whose slice has UDP beside TCP.
fn with_udp(change: impl Fn(&mut Service)) -> Arc<Plan> {
    let mut checked = cluster(Options::default());
    let pods = [pod("default/a", "10.0.0.1"), pod("default/b", "10.0.0.2")];
    let mut slice = slice("web-1", "default/web", pods.iter().map(endpoint).collect());
    slice.ports.push(crate::cluster::slice::SlicePort {
        name: "dns".into(),
        protocol: Transport::Udp,
        port: 8_053,
    });
    checked.change(Change::Slice(slice.key.clone(), Some(slice)));
    let mut service = service("default/web");
    let udp = ServicePort {
        protocol: Transport::Udp,
        ..port("dns", 80)
    };
    service.ports.push(udp);
    change(&mut service);
    put(&mut checked, &service);
    plan_of(&checked, "default/web")
}

#[test]
fn the_mode_is_what_the_annotation_says_or_the_default() {
    let check = |annotation: Option<&str>, default_direct: bool, expected: Mode, notes: &[&str]| {
        let options = Options {
            default_direct,
            ..Options::default()
        };
        let plan = planned_with(&options, |service| {
            service.annotations.clear();
            if let Some(text) = annotation {
                annotate(service, DIRECT_ACCESS, text);
            }
        });
        assert_eq!(plan.mode, expected, "{annotation:?} {default_direct}");
        assert_eq!(reasons(&plan), notes, "{annotation:?} {default_direct}");
        let (set, backends) = match expected {
            Mode::Direct => ("default/web/tcp/80", PODS),
            Mode::NodePort => ("default/web/tcp/80/nodeport", NODES),
        };
        assert_eq!(plan.sets[0].name.as_str(), set);
        assert_eq!(addresses(&plan.sets[0]), backends);
        assert_eq!(plan.listeners[0].name.as_str(), "default/web/tcp/80");
        assert!(plan.listeners[0].leads_to(&plan.sets[0].name));
    };
    check(Some("true"), false, Mode::Direct, &[]);
    check(Some("false"), false, Mode::NodePort, &[]);
    check(Some("false"), true, Mode::NodePort, &[]);
    check(None, true, Mode::Direct, &[]);
    check(None, false, Mode::NodePort, &["NodePortMode"]);
    check(
        Some("True"),
        false,
        Mode::NodePort,
        &["NodePortMode", "InvalidAnnotation"],
    );
    check(Some(""), true, Mode::Direct, &["InvalidAnnotation"]);
}

#[test]
fn switching_modes_moves_the_listener_to_another_set_and_cuts_nothing() {
    let mut checked = cluster(Options::default());
    let mut web = service("default/web");
    for text in ["false", "true", "false", "true"] {
        annotate(&mut web, DIRECT_ACCESS, text);
        put(&mut checked, &web);
        let snapshot = checked.builder.snapshot();
        assert_eq!((snapshot.listeners.len(), snapshot.sets.len()), (1, 1));
        assert!(snapshot.ended.is_empty(), "to {text}: {:?}", snapshot.ended);
    }
}

#[test]
fn the_clusters_switch_makes_new_services_direct() {
    let check = |on: bool, change: &dyn Fn(&mut Service), expected: (Mode, bool)| {
        let mut checked = cluster(Options::default());
        checked.change(Change::Switches(Switches {
            direct_for_new: on,
            ..Switches::default()
        }));
        let mut web = service("default/web");
        web.annotations.clear();
        change(&mut web);
        put(&mut checked, &web);
        let plan = plan_of(&checked, "default/web");
        assert_eq!((plan.mode, plan.becomes_direct), expected, "{web:?}");
    };
    let held = |service: &mut Service| service.finalizers.push(FINALIZER.to_owned());
    check(false, &|_| {}, (Mode::NodePort, false));
    check(true, &|_| {}, (Mode::Direct, true));
    check(true, &held, (Mode::NodePort, false)); // it was there before
    let says_no = |service: &mut Service| annotate(service, DIRECT_ACCESS, "false");
    check(true, &says_no, (Mode::NodePort, false));
    let says_yes = |service: &mut Service| annotate(service, DIRECT_ACCESS, "true");
    check(true, &says_yes, (Mode::Direct, false));
    let unreadable = Switches {
        unreadable: vec!["EnableDefaultDirectAccess".to_owned()],
        ..Switches::default()
    };
    let mut checked = cluster(Options::default());
    put(&mut checked, &service("default/web"));
    checked.change(Change::Switches(unreadable));
    assert_eq!(
        reasons(&plan_of(&checked, "default/web")),
        ["InvalidSwitch"]
    );
}

#[test]
fn affinity_is_shared_over_all_ports() {
    let timeout = std::time::Duration::from_mins(10);
    let plan = planned(|service| {
        service.affinity = Some(timeout);
        service.ports = vec![port("", 80), port("", 443)];
    });
    let expected = Affinity {
        kind: AffinityKind::ClientIp { timeout },
        group: Some("uid-default/web".parse().unwrap()),
    };
    assert_eq!(plan.sets.len(), 2);
    for set in &plan.sets {
        assert_eq!(set.settings.affinity.as_ref(), Some(&expected));
    }
}

#[test]
fn pods_are_to_see_their_clients_unless_it_cannot_be() {
    use SourceAddress::{PreferTransparent, Snat, Transparent};
    let check = |mode: &str,
                 said: Option<&str>,
                 expected: (SourceAddress, SourceAddress),
                 notes: &[&str]| {
        let plan = planned(|service| {
            annotate(service, DIRECT_ACCESS, mode);
            if let Some(text) = said {
                annotate(service, super::super::annotation::SOURCE_ADDRESS, text);
            }
        });
        let source = plan.listeners[0].source_address;
        assert_eq!((plan.source.wished, source), expected, "{mode} {said:?}");
        assert_eq!(reasons(&plan), notes, "{mode} {said:?}");
        let nodes: Vec<_> = plan
            .source
            .nodes
            .iter()
            .map(|(node, _)| node.as_str())
            .collect();
        let is_proven = mode == "true" && plan.source.wished != Snat;
        assert_eq!(nodes, if is_proven { vec!["node-1"] } else { vec![] });
        assert!(
            plan.sets[0]
                .backends
                .iter()
                .all(|backend| backend.node.is_some())
        );
    };
    check("true", None, (PreferTransparent, PreferTransparent), &[]);
    check("true", Some("snat"), (Snat, Snat), &[]);
    check("true", Some("transparent"), (Transparent, Transparent), &[]);
    check(
        "true",
        Some("Transparent"),
        (PreferTransparent, PreferTransparent),
        &["InvalidAnnotation"],
    );
    check("false", None, (Snat, Snat), &[]);
    check(
        "false",
        Some("prefer-transparent"),
        (PreferTransparent, Snat),
        &[],
    );
    check(
        "false",
        Some("transparent"),
        (Transparent, Snat),
        &["SourceAddressImpossible"],
    );
}

#[test]
fn headers_of_the_proxy_protocol_are_for_tcp() {
    let plan = with_udp(|service| {
        annotate(service, "podline.io/proxy-protocol", "v2, crc32c");
        annotate(
            service,
            "podline.io/proxy-protocol-from",
            "10.1.2.3/8, ::1,10.0.0.0/8",
        );
    });
    let [tcp, udp] = &*plan.listeners else {
        panic!("{:?}", plan.listeners);
    };
    assert!(udp.proxy_protocol.is_none());
    let header = podline_api::ProxyHeader::V2 {
        crc32c: true,
        unique_id: false,
    };
    assert_eq!(tcp.proxy_protocol.send, Some(header));
    let accept = tcp.proxy_protocol.accept.as_ref().unwrap();
    assert_eq!(format!("{:?}", accept.from), "[10.0.0.0/8, ::1/128]");
}

#[test]
fn source_ranges_close_rather_than_open() {
    let check = |given: &[&str], expected: &str, notes: usize| {
        let plan = planned(|service| {
            service.source_ranges = given.iter().map(|text| (*text).to_owned()).collect();
        });
        let ranges = &plan.listeners[0].limits.source_ranges;
        assert_eq!(format!("{ranges:?}"), expected, "{given:?}");
        assert_eq!(reasons(&plan), vec!["InvalidSourceRange"; notes]);
    };
    check(&[], "[]", 0);
    check(
        &["10.0.0.0/8", " 192.0.2.7/24 "],
        "[10.0.0.0/8, 192.0.2.0/24]",
        0,
    );
    check(&["10.0.0.0/8", "10.0.0.0/8"], "[10.0.0.0/8]", 0);
    check(&["10.0.0.0/8", "x"], "[10.0.0.0/8]", 1);
    check(&["x"], "[0.0.0.0/32]", 1); // nobody
    check(&["", "10.0.0.1"], "[0.0.0.0/32]", 2);
    check(&["::ffff:10.1.2.3/104"], "[10.0.0.0/8]", 0);
    check(&["::ffff:0:0/96"], "[0.0.0.0/0]", 0);
    check(&["::/0"], "[::/0]", 0);
    let many: Vec<String> = (0..1_500_u32)
        .map(|n| format!("10.{}.{}.0/24", n / 256, n % 256))
        .collect();
    let plan = planned(|service| service.source_ranges = many.clone());
    assert_eq!(plan.listeners[0].limits.source_ranges.len(), 1_000);
    assert_eq!(reasons(&plan), ["InvalidSourceRange"]);
    let long = "9".repeat(100 << 10);
    let plan = planned(|service| service.source_ranges = vec![long.clone()]);
    assert!(
        plan.notes[0].message.len() < 300,
        "{}",
        plan.notes[0].message.len()
    );
}

#[test]
fn ports_that_are_not_served_say_why_and_the_others_are() {
    let options = Options {
        reserved_ports: [22].into(),
        ..Options::default()
    };
    let of = |protocol, name: &str, number| ServicePort {
        protocol,
        ..port(name, number)
    };
    let plan = planned_with(&options, |service| {
        service.ports = vec![
            of(Transport::Tcp, "", 80),
            of(Transport::Udp, "dns", 80),
            of(Transport::Sctp, "sig", 3_868),
            of(Transport::Tcp, "ssh", 22),
            of(Transport::Udp, "odd", 22),
        ];
    });
    let ports: Vec<_> = plan
        .ports
        .iter()
        .map(|it| (it.port, it.error.map(Reason::as_str), it.listeners.len()))
        .collect();
    assert_eq!(
        ports,
        [
            (80, None, 1),
            (80, None, 1),
            (3_868, Some("SCTPNotSupported"), 0),
            (22, Some("ReservedPort"), 0),
            (22, Some("ReservedPort"), 0),
        ]
    );
    assert_eq!((plan.listeners.len(), plan.sets.len()), (2, 2));
    let nothing = planned(|service| service.ports.clear());
    assert_eq!((nothing.listeners.len(), reasons(&nothing).len()), (0, 0));
}

#[test]
fn each_family_has_a_listener_and_a_set_of_its_own() {
    let mut checked = cluster(Options::default());
    let both = Pod {
        addresses: vec![ip("10.0.0.1"), ip("fd00::1")],
        ..pod("default/a", "10.0.0.1")
    };
    checked.change(Change::Pod(both.key.clone(), Some(both.clone())));
    let of_v6 = crate::cluster::Endpoint {
        address: Some(ip("fd00::1")),
        ..endpoint(&both)
    };
    let slice = Slice {
        family: Some(Family::V6),
        ..slice("web-6", "default/web", vec![of_v6])
    };
    checked.change(Change::Slice(slice.key.clone(), Some(slice)));
    let mut web = service("default/web");
    web.families = vec![Family::V6, Family::V4];
    put(&mut checked, &web);
    let plan = plan_of(&checked, "default/web");
    let listeners: Vec<_> = plan
        .listeners
        .iter()
        .map(|it| format!("{} {}", it.name, it.address))
        .collect();
    assert_eq!(
        listeners,
        [
            "default/web/tcp/80/ipv6 [::]:80",
            "default/web/tcp/80 0.0.0.0:80"
        ]
    );
    assert_eq!(addresses(&plan.sets[0]), ["[fd00::1]:8080"]);
    assert_eq!(addresses(&plan.sets[1]), PODS);
    assert_eq!(plan.ports[0].listeners.len(), 2);
    annotate(&mut web, DIRECT_ACCESS, "false");
    put(&mut checked, &web);
    let plan = plan_of(&checked, "default/web");
    let names: Vec<_> = plan.sets.iter().map(|set| set.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "default/web/tcp/80/ipv6/nodeport",
            "default/web/tcp/80/nodeport"
        ]
    );
}

#[test]
fn two_services_on_one_port() {
    let mut checked = cluster(Options::default());
    let newer = Service {
        created: 2_000,
        ports: vec![port("", 80), port("", 443)],
        ..service("default/web")
    };
    let older = service("other/old");
    put(&mut checked, &newer);
    assert_eq!(reasons(&plan_of(&checked, "default/web")), [""; 0]);
    put(&mut checked, &older);
    let plan = plan_of(&checked, "default/web");
    assert_eq!(reasons(&plan), ["PortConflict"]);
    assert_eq!(
        plan.notes[0].message,
        "port 80/TCP belongs to Service other/old"
    );
    assert_eq!(plan.listeners.len(), 1, "443 is served all the same");
    assert_eq!(plan_of(&checked, "other/old").listeners.len(), 1);
    // Another address family is another place.
    put(
        &mut checked,
        &Service {
            families: vec![Family::V6],
            ..older.clone()
        },
    );
    assert_eq!(plan_of(&checked, "default/web").listeners.len(), 2);
    put(&mut checked, &older);
    // Gone in any way: the place goes to the other.
    for gone in [
        Change::Service(older.key.clone(), None),
        Change::Service(
            older.key.clone(),
            Some(Box::new(Service {
                is_load_balancer: false,
                ..older.clone()
            })),
        ),
        Change::Service(
            older.key.clone(),
            Some(Box::new(Service {
                created: 3_000,
                uid: "again".into(),
                ..older.clone()
            })),
        ),
    ] {
        checked.change(gone);
        assert_eq!(plan_of(&checked, "default/web").listeners.len(), 2);
        put(&mut checked, &older);
        assert_eq!(plan_of(&checked, "default/web").listeners.len(), 1);
    }
}

#[test]
fn without_node_ports_there_is_only_the_direct_way() {
    let without = |service: &mut Service| service.ports[0].node_port = None;
    let plan = planned(without);
    assert_eq!(addresses(&plan.sets[0]), PODS);
    let plan = planned(|service| {
        without(service);
        annotate(service, DIRECT_ACCESS, "false");
    });
    assert_eq!(reasons(&plan), ["NoNodePort"]);
    assert!(plan.listeners.is_empty() && plan.sets.is_empty());
    assert_eq!(plan.ports[0].error, Some(Reason::NoNodePort));
}

#[test]
fn only_local_node_ports_are_checked_at_the_health_check_node_port() {
    let port_of = |direct: &str, is_local: bool| {
        let plan = planned(|service| {
            annotate(service, DIRECT_ACCESS, direct);
            service.is_local = is_local;
            service.health_check_node_port = Some(32_000);
        });
        plan.sets[0].settings.health_check.as_ref().unwrap().port
    };
    assert_eq!(port_of("false", true), Some(32_000));
    assert_eq!(port_of("false", false), None);
    assert_eq!(port_of("true", true), None);
}

#[test]
fn more_than_the_quota_is_told_once() {
    for direct in ["true", "false"] {
        let options = Options {
            quota: 1,
            ..Options::default()
        };
        let plan = planned_with(&options, |service| {
            annotate(service, DIRECT_ACCESS, direct);
            service.ports = vec![port("", 80), port("", 81)];
        });
        assert_eq!(reasons(&plan), ["BeyondQuota"], "{direct}");
        assert_eq!(plan.sets[0].backends.len(), 1);
    }
}
