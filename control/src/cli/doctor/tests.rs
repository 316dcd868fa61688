//! What the doctor says, from facts that are made up.

use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use podline_api::v1;
use podline_api::v1::listener::SourceAddress;
use podline_api::v1::path_status::State;
use prost_types::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::examine::{Report, examine, render};
use super::gather::{ClusterFacts, Facts, ProxyFacts};
use super::plugin::Plugin;
use super::policies;
use crate::cli::kube::fake;

fn read<T: DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).unwrap()
}

fn node(name: &str, annotations: &Value) -> Node {
    read(
        json!({"metadata": {"name": name, "annotations": annotations}, "spec": {"podCIDRs": ["10.244.1.0/24"]}}),
    )
}

fn pod(name: &str, on: &str, ip: &str, labels: &Value) -> Pod {
    read(json!({
        "metadata": {"namespace": "shop", "name": name, "labels": labels},
        "spec": {"nodeName": on, "containers": []},
        "status": {"phase": "Running", "podIPs": [{"ip": ip}], "conditions": [{"type": "Ready", "status": "True"}]},
    }))
}

#[test]
fn plugins_are_recognised_by_what_they_leave() {
    let check = |annotations: Value, labels: &[(&str, &str)], expected: Plugin| {
        let pods = labels
            .iter()
            .map(|(key, value)| pod("x", "n1", "10.0.0.1", &json!({(*key): value})));
        let pods: Vec<_> = pods.collect();
        let (found, by) = Plugin::recognise(&[node("n1", &annotations)], &pods);
        assert_eq!(found, expected, "{annotations} {labels:?}");
        assert_eq!(by.is_empty(), found == Plugin::Unknown);
        assert!(!found.row().about.is_empty());
    };
    let flannel = |backend: &str| json!({"flannel.alpha.coreos.com/backend-type": backend});
    check(json!({}), &[], Plugin::Unknown);
    check(json!({}), &[("app", "kindnet")], Plugin::Kindnet);
    check(json!({}), &[("app", "flannel")], Plugin::FlannelVxlan);
    check(flannel("vxlan"), &[], Plugin::FlannelVxlan);
    check(flannel("host-gw"), &[], Plugin::FlannelRouted);
    check(
        json!({}),
        &[("k8s-app", "calico-node")],
        Plugin::CalicoRouted,
    );
    let tunnel = json!({"projectcalico.org/IPv4VXLANTunnelAddr": "192.168.1.1"});
    check(
        tunnel,
        &[("k8s-app", "calico-node")],
        Plugin::CalicoEncapsulated,
    );
    // Canal: flannel carries, Calico judges.
    check(
        flannel("vxlan"),
        &[("k8s-app", "calico-node")],
        Plugin::FlannelVxlan,
    );
    check(
        json!({}),
        &[("k8s-app", "cilium"), ("app", "kindnet")],
        Plugin::Cilium,
    );
    let cilium = json!({"network.cilium.io/ipv4-cilium-host": "10.0.1.1"});
    check(cilium, &[], Plugin::Cilium);
}

fn policy(spec: &Value) -> NetworkPolicy {
    read(json!({"metadata": {"namespace": "shop", "name": "deny"}, "spec": spec}))
}

#[test]
fn policies_that_name_no_proxy_or_no_client_are_found() {
    let web: Service = read(json!({
        "metadata": {"namespace": "shop", "name": "web"}, "spec": {"selector": {"app": "web"}},
    }));
    let pods = [pod(
        "web-1",
        "n1",
        "10.244.1.2",
        &json!({"app": "web", "tier": "front"}),
    )];
    let proxies = ["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()];
    let check = |spec: Value, expected: &str| {
        let found = policies::find(
            &[policy(&spec)],
            std::slice::from_ref(&web),
            &pods,
            &proxies,
        );
        let told = found.iter().map(|it| {
            assert_eq!(it.services, ["shop/web"]);
            format!("bars {:?} clients {}", it.bars, it.bars_clients)
        });
        assert_eq!(told.collect::<Vec<_>>().join("; "), expected, "{spec}");
    };
    let from = |peers: Value| json!({"podSelector": {}, "ingress": [{"from": peers}]});
    let nobody = "bars [192.0.2.1, 192.0.2.2] clients true";
    check(json!({"podSelector": {}}), nobody);
    check(
        json!({"podSelector": {}, "policyTypes": ["Ingress"]}),
        nobody,
    );
    check(json!({"podSelector": {}, "policyTypes": ["Egress"]}), "");
    check(json!({"podSelector": {}, "ingress": [{}]}), "");
    check(json!({"podSelector": {"matchLabels": {"app": "db"}}}), "");
    let front =
        json!({"matchExpressions": [{"key": "tier", "operator": "In", "values": ["front"]}]});
    check(json!({"podSelector": front}), nobody);
    let others = json!({"matchExpressions": [{"key": "tier", "operator": "Exists"}, {"key": "app", "operator": "NotIn", "values": ["web"]}]});
    check(json!({"podSelector": others}), "");
    check(from(json!([{"podSelector": {}}])), nobody);
    let block = |cidr: &str, except: Value| json!([{"ipBlock": {"cidr": cidr, "except": except}}]);
    check(
        from(block("192.0.2.0/24", json!([]))),
        "bars [] clients false",
    );
    check(
        from(block("192.0.2.0/24", json!(["192.0.2.2/32"]))),
        "bars [192.0.2.2] clients false",
    );
    check(from(block("nonsense", json!(null))), nobody);
}

const NOW: i64 = 1_700_000_000;

fn way(node: &str, state: State, reason: &str) -> v1::PathStatus {
    v1::PathStatus {
        node: node.to_owned(),
        state: state.into(),
        reason: reason.to_owned(),
        since: Some(Timestamp {
            seconds: NOW - 60,
            nanos: 0,
        }),
        ..Default::default()
    }
}

/// A proxy with these ways, whose one listener wants this; every node has a responder but n3.
fn proxy(name: &str, wanted: SourceAddress, ways: Vec<v1::PathStatus>) -> ProxyFacts {
    let node = |name: &str| v1::Node {
        name: name.to_owned(),
        responders: match name {
            "n3" => Vec::new(),
            _ => vec!["10.244.1.9:9904".to_owned()],
        },
        ..Default::default()
    };
    let network = v1::NetworkStatus {
        network: Some(v1::Network {
            nodes: ways.iter().map(|way| node(&way.node)).collect(),
            ..Default::default()
        }),
        paths: ways,
        ..Default::default()
    };
    let listener = v1::Listener {
        name: "shop/web/tcp/80".to_owned(),
        source_address: Some(wanted.into()),
        ..Default::default()
    };
    ProxyFacts {
        name: name.to_owned(),
        problem: String::new(),
        state: v1::GetResponse {
            network: Some(network),
            listeners: vec![v1::ListenerStatus {
                listener: Some(listener),
                transparent_connections: 7,
                snat_connections: [("UNPROVEN".to_owned(), 2)].into(),
                ..Default::default()
            }],
            ..Default::default()
        },
    }
}

fn shown(report: &Report) -> String {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW.unsigned_abs());
    render(report, now)
}

#[test]
fn a_proxy_alone_says_where_its_ways_break() {
    let ways = vec![
        way("n1", State::Proven, ""),
        way("n2", State::Failed, "masqueraded by 10.88.0.11"),
        way("n3", State::Unproven, "there is nobody to ask"),
    ];
    let facts = Facts {
        proxies: vec![proxy("unix:/p", SourceAddress::PreferTransparent, ways)],
        cluster: None,
    };
    let report = examine(&facts);
    assert!(report.is_broken());
    let text = "\
PROXY    NODE  FAMILY  WAY       SINCE  FOUND                                       BREAKS AT
unix:/p  n1    IPv4    PROVEN    1m     TCP and UDP came back, and the client was
                                        seen
";
    let told = shown(&report);
    assert!(told.starts_with(&text[..60]), "{told}");
    for part in [
        "n2    IPv4    FAILED    1m     masqueraded by 10.88.0.11",
        "proxy unix:/p: listener/shop/web/tcp/80: 7 as their clients, others as the proxy: UNPROVEN 2\n",
        "BROKEN: n2 over IPv4 from proxy unix:/p: masqueraded by 10.88.0.11 (it breaks at masquerading between proxy and Pod)\n",
        "BROKEN: n3 over IPv4 from proxy unix:/p: there is nobody to ask (it breaks at the responder)\n  podline-responder has to run there:",
    ] {
        assert!(told.contains(part), "{part}\nis not in\n{told}");
    }
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["proxies"][0]["ways"][1]["state"], "FAILED");
    assert_eq!(json["findings"][0]["broken"], true);
}

#[test]
fn a_hundred_ways_that_break_alike_are_told_together() {
    let ways = (0..100).map(|n| way(&format!("n{n:03}"), State::Failed, "no answer"));
    let ways: Vec<_> = ways.collect();
    let proxies = ["a", "b"].map(|name| proxy(name, SourceAddress::Transparent, ways.clone()));
    let report = examine(&Facts {
        proxies: proxies.into(),
        cluster: None,
    });
    let told = shown(&report);
    assert_eq!(told.matches("BROKEN: ").count(), 1, "{told}");
    assert!(
        told.contains("n004 over IPv4 from proxy a and 195 more: no answer"),
        "{told}"
    );
}

#[test]
fn what_nobody_wants_breaks_nothing() {
    let ways = vec![way("n1", State::Failed, "no answer")];
    let of = |wanted, problem: &str| {
        let mut proxy = proxy("p", wanted, ways.clone());
        problem.clone_into(&mut proxy.state.network.as_mut().unwrap().transparency_problem);
        examine(&Facts {
            proxies: vec![proxy],
            cluster: None,
        })
    };
    assert!(!of(SourceAddress::Snat, "").is_broken());
    assert!(!of(SourceAddress::Snat, "no NET_ADMIN").is_broken());
    let broken = of(SourceAddress::Transparent, "no NET_ADMIN");
    assert!(broken.is_broken());
    let told = shown(&broken);
    assert!(
        told.contains("BROKEN: proxy p can imitate no client: no NET_ADMIN\n"),
        "{told}"
    );
    let silent = ProxyFacts {
        name: "p".to_owned(),
        problem: "connection refused".to_owned(),
        ..ProxyFacts::default()
    };
    assert!(
        examine(&Facts {
            proxies: vec![silent],
            cluster: None
        })
        .is_broken()
    );
    let well = proxy(
        "p",
        SourceAddress::PreferTransparent,
        vec![way("n1", State::Proven, "")],
    );
    let well = examine(&Facts {
        proxies: vec![well],
        cluster: None,
    });
    assert!(!well.is_broken() && shown(&well).ends_with("\nnothing is wrong\n"));
    let nobody = examine(&Facts {
        proxies: vec![ProxyFacts::default()],
        cluster: None,
    });
    assert!(
        shown(&nobody).starts_with("no way to a node is known\n"),
        "{}",
        shown(&nobody)
    );
}

#[test]
fn a_cluster_tells_which_row_applies_and_what_does_not_run() {
    let vxlan = json!({"flannel.alpha.coreos.com/backend-type": "vxlan"});
    let ways = vec![
        way("n1", State::Failed, "no answer: is it running?"),
        way("n2", State::Failed, "no answer: is it running?"),
    ];
    let facts = Facts {
        proxies: vec![proxy("p", SourceAddress::PreferTransparent, ways)],
        cluster: Some(ClusterFacts {
            nodes: vec![node("n1", &vxlan), node("n2", &vxlan)],
            pods: vec![
                pod("a", "n1", "10.244.1.2", &json!({})),
                pod("b", "n2", "10.9.9.9", &json!({})),
            ],
            return_paths: vec![pod("r", "n2", "192.0.2.2", &json!({}))],
            responders: vec![
                pod("s", "n1", "10.244.1.9", &json!({})),
                pod("t", "n2", "10.9.9.8", &json!({})),
            ],
            unseen: vec![(
                "NetworkPolicies in shop".to_owned(),
                "it is forbidden".to_owned(),
            )],
            ..ClusterFacts::default()
        }),
    };
    let told = shown(&examine(&facts));
    println!("{told}");
    for part in [
        "network plugin: flannel with VXLAN (by annotation flannel.alpha.coreos.com/backend-type of Nodes): ",
        "Pods' addresses: in their node's podCIDRs on 1 of 2 nodes; elsewhere each Pod by itself\n",
        "n1 over IPv4 from proxy p: no answer: is it running? (it breaks at the node's return path)\n",
        "n2 over IPv4 from proxy p: no answer: is it running? (it breaks at the way back to the proxy)\n",
        "note: podline-return-path does not run, or is not ready, on n1\n",
        "not looked at: NetworkPolicies in shop: it is forbidden\n",
    ] {
        assert!(told.contains(part), "{part}\nis not in\n{told}");
    }
    assert!(!told.contains("podline-responder does not"), "{told}");
}

#[tokio::test]
async fn what_cannot_be_asked_is_told_and_the_rest_looked_at() {
    let objects = [
        ("/api/v1/nodes/n1", json!({"metadata": {"name": "n1"}})),
        (
            "/api/v1/namespaces/kube-system/pods/kindnet-x",
            json!({"metadata": {"namespace": "kube-system", "name": "kindnet-x", "labels": {"app": "kindnet"}}}),
        ),
    ];
    let part = fake::Part {
        objects: objects
            .map(|(path, object)| (path.to_owned(), object))
            .into(),
        forbidden: vec!["GET /apis/networking.k8s.io", "GET /api/v1/pods"],
        ..fake::Part::default()
    };
    let (cluster, _fake) = fake::cluster(part).await;
    let facts = super::gather::cluster(&cluster, true).await.unwrap();
    let report = examine(&facts);
    assert!(report.is_broken(), "there is no proxy");
    let told = shown(&report);
    for part in [
        "network plugin: kindnet (by Pods app=kindnet)",
        "BROKEN: no proxy was found\n",
        "not looked at: Pods: ",
        "not looked at: NetworkPolicies in podline-system: ",
        "not looked at: Services that go straight to their Pods: ",
    ] {
        assert!(told.contains(part), "{part}\nis not in\n{told}");
    }
}
