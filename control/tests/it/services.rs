//! Services are created, edited and removed, and the proxies follow without losing a request.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use k8s_openapi::api::core::v1::Service;
use podline_lab::{Star, wait};
use serde_json::json;

use crate::harness::LONG;
use crate::harness::cluster::CLIENT;
use crate::harness::load::Tally;
use crate::harness::objects::{self, direct};
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
        assert_eq!(scene.state(proxy).listeners.len(), 1);
        scene.wait_answered(proxy, 80, "web-");
    }
    let service = scene.service("web").unwrap();
    let finalizers = service.metadata.finalizers.unwrap();
    assert_eq!(finalizers, ["podline.io/load-balancer"]);
    let ingress = service.status.unwrap().load_balancer.unwrap().ingress;
    assert_eq!(ingress.unwrap()[0].ip_mode.as_deref(), Some("Proxy"));
    let (status, reason, _) = scene.condition("web", "podline.io/Programmed").unwrap();
    assert_eq!((status.as_str(), reason.as_str()), ("True", "Programmed"));
}

#[test]
fn a_port_is_read_as_http_while_its_service_says_so() {
    let Some(scene) = Scene::set("reads") else {
        return;
    };
    let set = "reads/web/tcp/80";
    scene.serve("web", 2, direct());
    scene.wait_backends(set, 2);
    let load = scene.load(80);
    load.pass(100);
    let answers = |proxy| {
        let listeners = scene.state(proxy).listeners;
        let of_http = listeners.into_iter().filter_map(|listener| listener.http);
        of_http.map(|http| http.answers[1]).sum::<u64>()
    };
    let annotate = |value| {
        let annotations = json!({"service.cloud.tencent.com/specify-protocol": value});
        scene.merge_service("web", json!({"metadata": {"annotations": annotations}}));
    };
    annotate(json!(r#"{"80":{"protocol":["HTTP"]}}"#));
    wait::until(LONG, "both proxies read requests", || {
        (0..2).all(|proxy| answers(proxy) > 0)
    });
    scene.wait_agreed();
    load.pass(100);
    scene.wait_answered(1, 80, "web-");
    annotate(json!(null));
    wait::until(LONG, "no proxy reads requests", || {
        let is_read = |status: &podline_api::v1::ListenerStatus| {
            status.http.is_some()
                && status.state() == podline_api::v1::listener_status::State::Listening
        };
        (0..2).all(|proxy| !scene.state(proxy).listeners.iter().any(is_read))
    });
    scene.wait_agreed();
    load.pass(100);
    assert_no_failure("switched to HTTP and back", &load.stop());
}

#[test]
fn edits_lose_no_request() {
    let Some(scene) = Scene::set("edits") else {
        return;
    };
    let set = "edits/web/tcp/80";
    scene.serve("web", 2, direct());
    scene.wait_backends(set, 2);
    let load = scene.load(80);
    scene.wait_agreed();
    load.pass(200);
    scene.scale("web", 5);
    scene.wait_backends(set, 5);
    scene.wait_agreed();
    load.pass(200);

    // A second port comes and goes beside the first.
    let http = json!({"name": "http", "port": 80, "targetPort": "http"});
    let more = json!({"name": "more", "port": 81, "targetPort": 8080});
    scene.merge_service("web", json!({"spec": {"ports": [http, more]}}));
    scene.wait_backends("edits/web/tcp/81", 5);
    scene.wait_answered(1, 81, "web-");
    scene.merge_service("web", json!({"spec": {"ports": [http]}}));
    wait::until(LONG, "the port is gone", || {
        (0..2).all(|p| {
            scene.state(p).listeners.iter().all(|l| {
                l.listener.as_ref().is_some_and(|l| l.name == set)
                    || l.state() == podline_api::v1::listener_status::State::Draining
            })
        })
    });
    scene.wait_agreed();
    load.pass(100);

    let has_affinity = |scene: &Scene| {
        let state = scene.state(0);
        let set = state
            .backend_sets
            .iter()
            .find_map(|status| status.set.as_ref().filter(|s| s.name == set));
        set.is_some_and(|set| set.affinity.is_some())
    };
    scene.merge_service("web", json!({"spec": {"sessionAffinity": "ClientIP"}}));
    wait::until(LONG, "clients stay", || has_affinity(&scene));
    scene.wait_agreed();
    load.pass(100);
    scene.merge_service(
        "web",
        json!({"spec": {"sessionAffinity": "None", "sessionAffinityConfig": null}}),
    );
    wait::until(LONG, "clients move again", || !has_affinity(&scene));
    scene.wait_agreed();
    load.pass(100);
    let tally = load.stop();
    println!(
        "edits: {} requests, slowest {:?}",
        tally.requests, tally.slowest
    );
    assert_no_failure("edits", &tally);
}

#[test]
fn switching_between_direct_and_node_ports_loses_no_request() {
    let Some(scene) = Scene::set("switching") else {
        return;
    };
    scene.serve("web", 3, direct());
    scene.wait_backends("switching/web/tcp/80", 3);
    let load = scene.load(80);
    scene.wait_agreed();
    load.pass(200);
    for value in ["false", "true", "false"] {
        let annotation = json!({"metadata": {"annotations": {"service.cloud.tencent.com/direct-access": value}}});
        scene.merge_service("web", annotation);
        let set = match value {
            "true" => "switching/web/tcp/80",
            _ => "switching/web/tcp/80/nodeport",
        };
        scene.wait_backends(set, 3);
        scene.wait_agreed();
        load.pass(200);
    }
    let tally = load.stop();
    println!(
        "switching: {} requests, slowest {:?}",
        tally.requests, tally.slowest
    );
    assert_no_failure("switching", &tally);
}

#[test]
fn a_local_policy_binds_nodes_with_pods_and_weighs_them() {
    let Some(scene) = Scene::set("local") else {
        return;
    };
    let annotations = json!({
        "service.cloud.tencent.com/direct-access": "false",
        "service.cloud.tencent.com/local-svc-weighted-balance": "true",
    });
    scene.serve("web", 2, annotations);
    scene.merge_service("web", json!({"spec": {"externalTrafficPolicy": "Local"}}));
    let set = "local/web/tcp/80/nodeport";
    let weights = |expected: u32| {
        let backends = scene.backends(0, set);
        backends.values().sum::<u32>() == expected
    };
    wait::until(LONG, "as many as there are Pods", || weights(2));
    scene.scale("web", 7);
    wait::until(LONG, "as many as there are Pods", || weights(7));
    scene.wait_answered(0, 80, "web-");
    scene.wait_agreed();
    let state = scene.state(0);
    let found = state
        .backend_sets
        .iter()
        .find_map(|s| s.set.as_ref().filter(|s| s.name == set))
        .unwrap();
    let check = found.health_check.as_ref().unwrap();
    let own = scene
        .service("web")
        .unwrap()
        .spec
        .unwrap()
        .health_check_node_port
        .unwrap();
    assert_eq!(check.port, u32::try_from(own).ok());
}

#[test]
fn a_service_is_let_go_and_may_come_back() {
    let Some(scene) = Scene::set("again") else {
        return;
    };
    scene.serve("web", 2, direct());
    for _ in 0..3 {
        scene.run(|client, namespace| async move {
            objects::delete_service(&client, &namespace, "web").await;
        });
        wait::until(LONG, "it is gone", || scene.service("web").is_none());
        for proxy in 0..2 {
            let listeners = scene.state(proxy).listeners;
            let open = listeners
                .iter()
                .filter(|l| l.state() == podline_api::v1::listener_status::State::Listening);
            assert_eq!(open.count(), 0, "its object went before its listeners");
        }
        scene.run(|client, namespace| async move {
            objects::apply::<Service>(&client, &namespace, objects::service("web", direct())).await;
        });
        scene.wait_addresses("web");
        scene.wait_backends("again/web/tcp/80", 2);
        scene.wait_agreed();
        scene.wait_answered(0, 80, "web-");
    }
}

#[test]
fn what_leaves_the_type_is_let_go() {
    let Some(scene) = Scene::set("leaving") else {
        return;
    };
    scene.serve("web", 1, direct());
    scene.merge_service(
        "web",
        json!({"spec": {"type": "ClusterIP", "loadBalancerClass": null}}),
    );
    wait::until(LONG, "nothing of ours is left on it", || {
        let service = scene.service("web").unwrap();
        let conditions = service
            .status
            .and_then(|status| status.conditions)
            .unwrap_or_default();
        service.metadata.finalizers.unwrap_or_default().is_empty() && conditions.is_empty()
    });
    assert!(scene.ask(0, 80).is_err());
}

#[test]
fn both_families_are_served_by_their_own_pods() {
    let Some(scene) = Scene::set("dual") else {
        return;
    };
    scene.run(|client, namespace| async move {
        objects::deployment(&client, &namespace, "web", 2, json!({})).await;
        let mut service = objects::service("web", direct());
        service["spec"]["ipFamilyPolicy"] = json!("RequireDualStack");
        objects::apply::<Service>(&client, &namespace, service).await;
    });
    scene.wait_addresses("web");
    scene.wait_backends("dual/web/tcp/80", 2);
    scene.wait_backends("dual/web/tcp/80/ipv6", 2);
    scene.wait_agreed();
    let address = SocketAddr::new(Star::spoke(0)[1], 80);
    let answer = scene.cluster.star.spokes[CLIENT].run(move || crate::harness::http::ask(address));
    assert!(answer.unwrap().starts_with("web-"));
    let backends = scene.backends(0, "dual/web/tcp/80/ipv6");
    assert!(
        backends.keys().all(|address| address.starts_with('[')),
        "{backends:?}"
    );
}

#[test]
fn a_client_stays_with_its_pod_whichever_proxy_it_comes_through() {
    let Some(scene) = Scene::set("affinity") else {
        return;
    };
    scene.serve("web", 4, direct());
    scene.merge_service("web", json!({"spec": {"sessionAffinity": "ClientIP"}}));
    scene.wait_backends("affinity/web/tcp/80", 4);
    wait::until(LONG, "both proxies know", || {
        (0..2).all(|proxy| {
            let state = scene.state(proxy);
            let mut sets = state
                .backend_sets
                .iter()
                .filter_map(|status| status.set.as_ref());
            sets.any(|set| set.affinity.is_some())
                && state.backend_sets.iter().any(|status| status.eligible == 4)
        })
    });
    let answered: BTreeSet<_> = (0..20).map(|i| scene.ask(i % 2, 80).unwrap()).collect();
    assert_eq!(answered.len(), 1, "{answered:?}");
}

#[test]
fn only_the_source_ranges_are_let_in() {
    let Some(scene) = Scene::set("ranges") else {
        return;
    };
    scene.serve("web", 1, direct());
    scene.wait_backends("ranges/web/tcp/80", 1);
    scene.wait_answered(0, 80, "web-");
    scene.merge_service(
        "web",
        json!({"spec": {"loadBalancerSourceRanges": ["203.0.113.0/24"]}}),
    );
    wait::until(LONG, "others are kept out", || scene.ask(0, 80).is_err());
    let own = format!("{}/32", Star::spoke(2)[0]);
    scene.merge_service("web", json!({"spec": {"loadBalancerSourceRanges": [own]}}));
    wait::until(LONG, "the client is let in", || scene.ask(0, 80).is_ok());
}

/// What scale-down and a rolling update cost until drains come before SIGTERM: told, not judged.
#[test]
fn scale_down_and_a_rolling_update_are_followed_and_their_losses_told() {
    let Some(scene) = Scene::set("rolling") else {
        return;
    };
    let set = "rolling/web/tcp/80";
    scene.serve("web", 6, direct());
    scene.wait_backends(set, 6);
    let load = scene.load(80);
    scene.wait_agreed();
    load.pass(200);
    scene.scale("web", 3);
    scene.wait_backends(set, 3);
    scene.wait_agreed();
    load.pass(200);
    let down = load.tally();
    println!(
        "scale-down 6 to 3: {} of {} requests failed",
        down.failures.len(),
        down.requests
    );
    scene.roll("web");
    scene.wait_backends(set, 3);
    scene.wait_agreed();
    load.pass(200);
    let all = load.stop();
    println!(
        "rolling update of 3: {} of {} requests failed: {:#?}",
        all.failures.len() - down.failures.len(),
        all.requests - down.requests,
        all.failures
    );
    assert!(all.requests > 1_000);
    // Nobody but Pods that ended answers no more.
    let last = scene.load(80);
    last.pass(200);
    assert_no_failure("after the update", &last.stop());
}

#[test]
fn tcp_and_udp_of_one_service_are_on_every_proxy() {
    let Some(scene) = Scene::set("mixed") else {
        return;
    };
    scene.serve("web", 2, direct());
    let ports = json!([
        {"name": "http", "port": 80, "targetPort": "http"},
        {"name": "udp", "port": 80, "targetPort": 8080, "protocol": "UDP"},
    ]);
    let affinity = json!({"spec": {"ports": ports, "sessionAffinity": "ClientIP"}});
    scene.merge_service("web", affinity);
    scene.wait_backends("mixed/web/udp/80", 2);
    scene.wait_agreed();
    wait::until(LONG, "the Pods answer pings", || {
        (0..2).all(|proxy| {
            let state = scene.state(proxy);
            let mut sets = state.backend_sets.iter();
            sets.any(|status| {
                let name = status.set.as_ref().map(|set| set.name.as_str());
                name == Some("mixed/web/udp/80") && status.eligible == 2 && !status.fail_open
            })
        })
    });
    let groups = |proxy: usize| -> BTreeSet<Option<String>> {
        let sets = scene.state(proxy).backend_sets.into_iter();
        let affinity = sets.filter_map(|status| status.set?.affinity);
        affinity.map(|affinity| affinity.group).collect()
    };
    assert_eq!((groups(0).len(), groups(0)), (1, groups(1)));
    let (status, reason, _) = scene.condition("web", "podline.io/Programmed").unwrap();
    assert_eq!((status.as_str(), reason.as_str()), ("True", "Programmed"));
    scene.wait_answered(1, 80, "web-");
}

/// Nothing here answers for a way, so no proxy can prove one.
#[test]
fn a_service_says_what_its_pods_see_of_their_clients() {
    const KEY: &str = "podline.io/source-address";
    let Some(scene) = Scene::set("sources") else {
        return;
    };
    let annotate = |direct: &str, source: serde_json::Value| {
        let annotations = json!({"service.cloud.tencent.com/direct-access": direct, KEY: source});
        scene.merge_service("web", json!({"metadata": {"annotations": annotations}}));
    };
    let wait_said = |expected: Option<(&str, &str)>| {
        wait::until(LONG, &format!("it says {expected:?}"), || {
            let said = scene.condition("web", "podline.io/SourceAddress");
            let said = said
                .as_ref()
                .map(|(status, reason, _)| (&**status, &**reason));
            said == expected
        });
    };
    scene.serve("web", 2, direct());
    scene.wait_backends("sources/web/tcp/80", 2);
    wait_said(Some(("False", "SourceNat")));
    let events = scene.events();
    let is_about_sources = |event: &String| event.starts_with("Source");
    assert!(
        !events.iter().any(is_about_sources),
        "nobody asked for anything else: {events:?}"
    );
    annotate("true", json!("snat"));
    wait_said(None);
    annotate("true", json!("prefer-transparent"));
    wait_said(Some(("False", "SourceNat")));
    wait::until(LONG, "what was asked for in vain is told", || {
        scene
            .events()
            .iter()
            .any(|event| event.starts_with("SourceNat: "))
    });
    annotate("false", json!("transparent"));
    wait_said(Some(("False", "SourceAddressImpossible")));
    let (_, reason, message) = scene.condition("web", "podline.io/Accepted").unwrap();
    assert_eq!(reason, "SourceAddressImpossible", "{message}");
    scene.wait_agreed();
    scene.wait_answered(0, 80, "web-");
}
