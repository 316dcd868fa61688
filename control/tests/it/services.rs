//! Services are created, edited and removed, and the proxies follow without losing a request.

use serde_json::json;

use crate::harness::load::Tally;
use crate::harness::objects::direct;
use crate::harness::scene::Scene;

fn assert_no_failure(what: &str, tally: &Tally) {
    assert!(
        tally.failures.is_empty(),
        "{what}: {} of {}: {:#?}",
        tally.failures.len(),
        tally.requests,
        tally.failures
    );
    assert!(tally.requests > 0, "{what}: no request was answered");
}

#[test]
fn a_service_is_served_straight_by_its_pods_and_told_so() {
    let Some(scene) = Scene::set("direct") else {
        return;
    };
    scene.serve("web", 3, direct());
    scene.wait_backends("direct/web/tcp/80", 3);
    for proxy in 0..2 {
        let state = scene.state(proxy);
        assert_eq!(state.listeners.len(), 1);
        assert!(scene.ask(proxy, 80).unwrap().starts_with("web-"));
    }
    let service = scene.service("web").unwrap();
    assert_eq!(
        service.metadata.finalizers.unwrap(),
        ["podline.io/load-balancer"]
    );
    let entry = service
        .status
        .unwrap()
        .load_balancer
        .unwrap()
        .ingress
        .unwrap()
        .remove(0);
    assert_eq!(entry.ip_mode.as_deref(), Some("Proxy"));
    let (status, reason, _) = scene.condition("web", "podline.io/Programmed").unwrap();
    assert_eq!((status.as_str(), reason.as_str()), ("True", "Programmed"));
}

#[test]
fn switching_between_direct_and_node_ports_loses_no_request() {
    let Some(scene) = Scene::set("switching") else {
        return;
    };
    scene.serve("web", 3, direct());
    scene.wait_backends("switching/web/tcp/80", 3);
    let load = scene.load(80);
    load.pass(200);
    for value in ["false", "true", "false"] {
        let annotation = json!({"metadata": {"annotations": {"service.cloud.tencent.com/direct-access": value}}});
        scene.merge_service("web", annotation);
        let set = if value == "true" {
            "switching/web/tcp/80"
        } else {
            "switching/web/tcp/80/nodeport"
        };
        scene.wait_backends(set, 3);
        load.pass(200);
    }
    assert_no_failure("switching", &load.stop());
}
