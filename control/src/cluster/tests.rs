//! What is read of objects, and what a change touches.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::testing::{bare, endpoint, ip, key, node, pod, service, slice};
use super::*;
use crate::observed::ProxyView;

fn parse<T: DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).unwrap()
}

fn read_slice(mut object: Value) -> Option<Slice> {
    object["metadata"] = json!({
        "namespace": "default", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"},
    });
    Slice::read(&parse(object))
}

#[test]
fn an_empty_slice_is_read() {
    for object in [
        json!({"addressType": "IPv4", "endpoints": null, "ports": null}),
        json!({"addressType": "IPv4", "endpoints": []}),
    ] {
        let slice = read_slice(object).unwrap();
        assert!(slice.endpoints.is_empty() && slice.ports.is_empty());
        assert_eq!(slice.family, Some(Family::V4));
        assert_eq!(slice.service, key("default/web"));
    }
    let of_names =
        read_slice(json!({"addressType": "FQDN", "endpoints": [{"addresses": ["a.example"]}]}));
    let of_names = of_names.unwrap();
    assert_eq!(
        (of_names.family, of_names.endpoints[0].address),
        (None, None)
    );
    let nobodys = json!({"metadata": {"namespace": "default", "name": "x"}, "addressType": "IPv4", "endpoints": []});
    assert_eq!(Slice::read(&parse(nobodys)), None);
}

#[test]
fn conditions_that_are_absent_mean_ready() {
    let check = |conditions: Value, ready: bool, serving: bool, terminating: bool| {
        let endpoint = json!({"addresses": ["10.0.0.1", "10.0.0.2"], "conditions": conditions});
        let slice = read_slice(json!({"addressType": "IPv4", "endpoints": [endpoint]})).unwrap();
        let read = &slice.endpoints[0];
        assert_eq!(read.address, Some(ip("10.0.0.1")), "only the first counts");
        let found = (read.is_ready, read.is_serving, read.is_terminating);
        assert_eq!(found, (ready, serving, terminating), "{conditions}");
    };
    check(json!({}), true, true, false);
    check(json!(null), true, true, false);
    check(
        json!({"ready": null, "serving": null, "terminating": null}),
        true,
        true,
        false,
    );
    check(json!({"ready": false}), false, false, false);
    check(
        json!({"ready": false, "serving": true, "terminating": true}),
        false,
        true,
        true,
    );
    check(json!({"serving": false}), true, false, false);
}

#[test]
fn ports_of_slices_need_a_number() {
    let slice = read_slice(json!({"addressType": "IPv4", "endpoints": [], "ports": [
        {"name": "", "port": 80},
        {"port": 81, "protocol": "UDP"},
        {"name": "any"},
        {"name": "zero", "port": 0},
        {"name": "large", "port": 65536},
        {"name": "odd", "port": 82, "protocol": "QUIC"},
    ]}));
    let ports: Vec<_> = slice
        .unwrap()
        .ports
        .into_iter()
        .map(|it| (it.port, it.protocol))
        .collect();
    assert_eq!(ports, [(80, Transport::Tcp), (81, Transport::Udp)]);
}

#[test]
fn only_references_to_pods_are_followed() {
    let check = |target: Value, expected: Option<(&str, &str)>| {
        let endpoint = json!({"addresses": ["::ffff:10.0.0.1"], "targetRef": target});
        let slice = read_slice(json!({"addressType": "IPv4", "endpoints": [endpoint]})).unwrap();
        let expected = expected.map(|(name, uid)| (key(name), uid.into()));
        assert_eq!(slice.endpoints[0].pod, expected, "{target}");
        assert_eq!(
            slice.endpoints[0].address,
            Some(ip("10.0.0.1")),
            "one spelling"
        );
    };
    check(json!(null), None);
    check(json!({"kind": "VirtualMachine", "name": "a"}), None);
    check(
        json!({"kind": "Pod", "name": "a", "uid": "1"}),
        Some(("default/a", "1")),
    );
    check(
        json!({"kind": "Pod", "namespace": "other", "name": "a"}),
        Some(("other/a", "")),
    );
    check(json!({"kind": "Pod"}), Some(("default/", "")));
}

#[test]
fn another_controllers_mark_is_found() {
    let check = |finalizers: Value, has_ingress: bool, manager: &str, expected: Option<&str>| {
        let ingress = if has_ingress {
            json!([{"ip": "192.0.2.1"}])
        } else {
            json!([])
        };
        let object = json!({
            "metadata": {"namespace": "default", "name": "web", "finalizers": finalizers, "managedFields": [{
                "manager": manager, "fieldsV1": {"f:status": {"f:loadBalancer": {"f:ingress": {}}}},
            }]},
            "status": {"loadBalancer": {"ingress": ingress}},
        });
        let service = Service::read(&parse(object)).unwrap();
        assert_eq!(
            service.other_manager.as_deref(),
            expected,
            "{finalizers} {manager}"
        );
    };
    check(json!(null), false, "metallb", None);
    check(json!(null), true, "metallb", Some("manager metallb"));
    check(json!(null), true, "podline-control", None);
    check(
        json!(["podline.io/load-balancer", "foregroundDeletion"]),
        false,
        "x",
        None,
    );
    let shared = "service.kubernetes.io/load-balancer-cleanup";
    check(
        json!([shared]),
        false,
        "x",
        Some(&format!("finalizer {shared}")),
    );
}

#[test]
fn a_service_is_read_whatever_it_holds() {
    let object = json!({
        "metadata": {"namespace": "default", "name": "web"},
        "spec": {
            "type": "LoadBalancer",
            "ipFamilies": ["IPv6", "IPv9"],
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": -7}},
            "healthCheckNodePort": 0,
            "loadBalancerIP": "",
            "ports": [
                {"port": 80, "nodePort": 0},
                {"port": 0},
                {"port": -1},
                {"port": 70000},
                {"port": 81, "protocol": "QUIC"},
                {"port": 82, "protocol": "SCTP", "nodePort": 99999},
            ],
        },
        "status": {"loadBalancer": {"ingress": [{"hostname": "a.example"}]}},
    });
    let service = Service::read(&parse(object)).unwrap();
    assert_eq!(service.families, [Family::V6]);
    assert_eq!(service.affinity, Some(std::time::Duration::from_secs(1)));
    assert_eq!(
        (service.health_check_node_port, service.wanted_ip),
        (None, None)
    );
    let ports: Vec<_> = service
        .ports
        .iter()
        .map(|it| (it.port, it.node_port))
        .collect();
    assert_eq!(ports, [(80, None), (82, None)]);
    assert_eq!(service.ingress[0].ip, None);
    let bare = Service::read(&parse(json!({"metadata": {"namespace": "a", "name": "b"}})));
    assert_eq!(bare.unwrap().families, [Family::V4]);
    assert_eq!(
        Service::read(&parse(json!({"metadata": {"name": "b"}}))),
        None
    );
}

#[test]
fn what_does_not_matter_touches_nobody() {
    let mut cluster = Cluster::default();
    let mut apply = |change: Change| cluster.apply(change);
    let (a, n) = (pod("default/a", "10.0.0.1"), node("node-1", "192.0.2.1"));
    let web = slice("web-1", "default/web", vec![endpoint(&a)]);
    let put =
        |service: &Service| Change::Service(service.key.clone(), Some(Box::new(service.clone())));
    let web_service = service("default/web");
    let default_web = [key("default/web")];
    for expected in [true, false] {
        let touched = apply(Change::Slice(web.key.clone(), Some(web.clone())));
        assert_eq!(touched.services.iter().eq(&default_web), expected);
        let touched = apply(Change::Pod(a.key.clone(), Some(a.clone())));
        assert_eq!(touched.services.iter().eq(&default_web), expected);
        let touched = apply(put(&web_service));
        assert_eq!(touched.services.iter().eq(&default_web), expected);
        assert_eq!(
            apply(Change::Node("node-1".into(), Some(n.clone()))).all,
            expected
        );
        let switches = Switches {
            direct_for_new: true,
            ..Switches::default()
        };
        assert_eq!(apply(Change::Switches(switches)).all, expected);
        let proxy = ProxyView {
            addresses: vec![ip("198.51.100.1")],
            acked: u64::from(expected),
            ..ProxyView::default()
        };
        let proxies = [("proxy-1".to_owned(), Arc::new(proxy))].into();
        let touched = apply(Change::Observed(Arc::new(Observed {
            proxies,
            ..Observed::default()
        })));
        assert_eq!((touched.all, touched.waiting), (expected, true));
    }
    let stranger = pod("default/stranger", "10.0.0.7");
    let touched = apply(Change::Pod(stranger.key.clone(), Some(stranger.clone())));
    let of_network = ["node-1".into()].into();
    assert_eq!((touched.services, touched.nodes), ([].into(), of_network));
    let unready = Pod {
        containers_ready: false,
        ..stranger.clone()
    };
    assert!(apply(Change::Pod(stranger.key.clone(), Some(unready))).is_empty());
    let gone = apply(Change::Pod(stranger.key.clone(), None));
    assert_eq!((gone.services.len(), gone.nodes.len()), (0, 1));
    for gone in [
        Change::Pod(key("default/never"), None),
        Change::Slice(key("default/never"), None),
        Change::Service(key("default/never"), None),
        Change::Node("never".into(), None),
    ] {
        assert!(apply(gone).is_empty());
    }
}

#[test]
fn a_slice_that_changes_hands_touches_both() {
    let mut cluster = Cluster::default();
    let a = pod("default/a", "10.0.0.1");
    let put = |service: &str| {
        let slice = slice("shared", service, vec![endpoint(&a)]);
        Change::Slice(slice.key.clone(), Some(slice))
    };
    cluster.apply(put("default/web"));
    let touched = cluster.apply(put("default/api"));
    assert_eq!(
        touched.services,
        [key("default/api"), key("default/web")].into()
    );
    assert_eq!(cluster.slices_of(&key("default/web")).count(), 0);
    assert_eq!(cluster.slices_of(&key("default/api")).count(), 1);
    let touched = cluster.apply(Change::Pod(a.key.clone(), Some(a.clone())));
    assert_eq!(touched.services, [key("default/api")].into());
    cluster.apply(Change::Slice(key("default/shared"), None));
    assert!(cluster.slices.is_empty() && cluster.slice_owners.is_empty());
    let touched = cluster.apply(Change::Pod(a.key, None));
    assert_eq!(touched.services, [].into());
}

#[test]
fn pods_are_found_by_what_is_theirs_now() {
    let mut cluster = Cluster::default();
    let old = pod("default/a", "10.0.0.1");
    let new = Pod {
        uid: "new".into(),
        ..old.clone()
    };
    let put = |cluster: &mut Cluster, pod: &Pod| {
        cluster.apply(Change::Pod(pod.key.clone(), Some(pod.clone())))
    };
    put(&mut cluster, &old);
    assert_eq!(cluster.living_pod(&old.uid), Some(&old));
    // Deleted and made again, and only the second was seen.
    put(&mut cluster, &new);
    assert_eq!(
        (cluster.living_pod(&old.uid), cluster.living_pod("new")),
        (None, Some(&new))
    );
    let at = |cluster: &Cluster, address: &str| cluster.pods_at(ip(address)).count();
    let other = pod("default/b", "10.0.0.1");
    put(&mut cluster, &other);
    assert_eq!(at(&cluster, "10.0.0.1"), 2);
    put(
        &mut cluster,
        &Pod {
            has_ended: true,
            ..other.clone()
        },
    );
    assert_eq!(
        (at(&cluster, "10.0.0.1"), cluster.living_pod(&other.uid)),
        (1, None)
    );
    put(
        &mut cluster,
        &Pod {
            is_host_network: true,
            ..pod("default/c", "192.0.2.1")
        },
    );
    assert_eq!(at(&cluster, "192.0.2.1"), 0);
    cluster.apply(Change::Pod(key("default/a"), None));
    assert_eq!(
        (at(&cluster, "10.0.0.1"), cluster.living_pod("new")),
        (0, None)
    );
    assert_eq!(cluster.keys(Kind::Pod).len(), 2);
}

#[test]
fn a_pod_touches_the_services_that_name_it() {
    let mut cluster = Cluster::default();
    let a = pod("default/a", "10.244.1.2");
    let named = slice("web-1", "default/web", vec![endpoint(&a)]);
    let aimed = slice("odd-1", "other/odd", vec![bare("10.244.1.2")]);
    for slice in [named, aimed] {
        cluster.apply(Change::Slice(slice.key.clone(), Some(slice)));
    }
    let touched = cluster.apply(Change::Pod(a.key.clone(), Some(a.clone())));
    assert_eq!(
        touched.services,
        [key("default/web"), key("other/odd")].into()
    );
    let touched = cluster.apply(Change::Pod(a.key.clone(), Some(a.clone())));
    assert!(touched.is_empty(), "nothing changed: {touched:?}");
    cluster.apply(Change::Slice(key("default/web-1"), None));
    let touched = cluster.apply(Change::Pod(a.key.clone(), None));
    assert_eq!(touched.services, [key("other/odd")].into());
}

#[test]
fn what_the_network_is_made_of_is_read() {
    let node = json!({
        "metadata": {"name": "n1"},
        "spec": {"podCIDRs": ["10.244.1.7/24", "nonsense", "fd00:1::/64"]},
    });
    let ranges = Node::read(&parse(node)).unwrap().pod_ranges;
    assert_eq!(format!("{ranges:?}"), "[10.244.1.0/24, fd00:1::/64]");
    let check = |labels: Value, expected: bool| {
        let pod = json!({"metadata": {"namespace": "a", "name": "b", "labels": labels}});
        assert_eq!(
            Pod::read(&parse(pod)).unwrap().is_responder,
            expected,
            "{labels}"
        );
    };
    check(json!({"app.kubernetes.io/name": "podline-responder"}), true);
    check(json!({"app.kubernetes.io/name": "web"}), false);
    check(json!(null), false);
}

#[test]
fn tkes_nodes_are_told_by_their_provider() {
    let check = |spec: Value, labels: Value, expected: bool| {
        let node = json!({"metadata": {"name": "n1", "labels": labels}, "spec": spec});
        assert_eq!(Node::read(&parse(node)).unwrap().is_of_cloud, expected);
    };
    let machine = json!({"providerID": "qcloud:///100003/ins-3ven36lk"});
    check(machine, json!({}), true);
    let of_kind = json!({"providerID": "kind://docker/kind/kind-worker"});
    check(of_kind, json!({}), false);
    let label = "node.kubernetes.io/instance-type";
    check(json!({}), json!({label: "eklet"}), true);
    check(json!({}), json!({label: "S5.MEDIUM4"}), false);
}

#[test]
fn a_version_of_tke_counts_on_its_nodes_alone() {
    let mut cluster = Cluster::default();
    let mut put = |name: &str, is_of_cloud: Option<bool>| {
        let node = is_of_cloud.map(|is_of_cloud| Node {
            is_of_cloud,
            ..testing::node(name, "192.0.2.1")
        });
        cluster.apply(Change::Node(name.into(), node));
        let found = (cluster.global_routes(), cluster.is_off_cloud());
        let said = |global_routes, is_of_tke| {
            Change::Switches(Switches {
                global_routes,
                is_of_tke,
                ..Switches::default()
            })
        };
        cluster.apply(said(Some(true), false));
        assert_eq!(cluster.global_routes(), Some(true));
        cluster.apply(said(None, true));
        found
    };
    assert_eq!(put("a", None), (None, false), "no node is known");
    assert_eq!(put("a", Some(false)), (None, true));
    assert_eq!(put("b", Some(true)), (Some(false), false));
    assert_eq!(put("c", Some(true)), (Some(false), false));
    assert_eq!(put("b", Some(false)), (Some(false), false));
    assert_eq!(put("c", None), (None, true));
}
