//! Objects that are wrong, or meant to harm: what is wrong is told, nothing else suffers, and the last that was good
//! stays.

use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, Patch, PatchParams};
use podline_lab::{Star, wait};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::faults::{apply, assert_alive, assert_nothing_lost, serve_at, under_load, web};
use crate::faults_proxies::port_errors;
use crate::harness::LONG;
use crate::harness::objects::{self, direct};
use crate::harness::scene::Scene;

const DIRECT: &str = "service.cloud.tencent.com/direct-access";
const NODES: &str = "service.kubernetes.io/qcloud-loadbalancer-backends-label";
const LAST_GOOD: &str = "podline.io/last-good";

fn annotate(scene: &Scene, name: &str, annotations: &Value) {
    scene.merge_service(name, json!({"metadata": {"annotations": annotations}}));
}

/// Waits for an event that says all of `parts`.
pub(crate) fn wait_event(scene: &Scene, parts: &[&str]) {
    let begun = std::time::Instant::now();
    loop {
        let events = scene.events();
        let mut all = events.iter();
        if all.any(|event| parts.iter().all(|part| event.contains(part))) {
            return;
        }
        assert!(
            begun.elapsed() < LONG,
            "no event says {parts:?}: {events:#?}"
        );
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
}

fn wait_condition(scene: &Scene, name: &str, kind: &str, reason: &str) -> String {
    let mut message = String::new();
    wait::until(LONG, &format!("{name}: {kind} is {reason}"), || {
        let condition = scene.condition(name, &format!("podline.io/{kind}"));
        condition.is_some_and(|(_, found, text)| {
            message = text;
            found == reason
        })
    });
    message
}

pub(crate) fn wait_gone(scene: &Scene, name: &str) {
    let own = name.to_owned();
    scene.run(|client, namespace| async move {
        objects::delete_service(&client, &namespace, &own).await;
    });
    wait::until(LONG, "the Service is gone", || {
        scene.service(name).is_none()
    });
}

/// Writes of the controller do not go on and on.
pub(crate) fn assert_quiet(scene: &Scene, index: u16) {
    let writes = || crate::faults::sum(&scene.metrics(index), "podline_control_writes_total");
    let failures = || {
        crate::faults::sum(
            &scene.metrics(index),
            "podline_control_write_failures_total",
        )
    };
    wait::until(LONG, "nothing waits to be written", || {
        crate::faults::sum(&scene.metrics(index), "podline_control_write_queue_depth") == 0
    });
    let before = (writes(), failures());
    // Another Service's change, from start to end: whoever writes without end would have, meanwhile.
    serve_at(scene, "bystander", 8_081, direct());
    wait_gone(scene, "bystander");
    let others = writes() - before.0;
    assert!(
        others < 12,
        "{others} writes for one Service that came and went"
    );
    assert_eq!(failures(), before.1, "writes that fail");
}

#[test]
fn hostile_annotations_leave_the_last_good_ones() {
    let Some((mut scene, load)) = under_load("annotations") else {
        return;
    };
    annotate(&scene, "web", &json!({DIRECT: "ture", NODES: "((brackets"}));
    wait_event(&scene, &["InvalidAnnotation", DIRECT, "\"ture\""]);
    wait_event(&scene, &["InvalidAnnotation", NODES, "((brackets"]);
    let message = wait_condition(&scene, "web", "Accepted", "InvalidAnnotation");
    assert!(message.contains("\"ture\""), "{message}");
    scene.wait_backends(&web(&scene), 3);
    load.pass(100);

    scene.controllers["a"].signal(Signal::KILL);
    assert!(scene.controllers["a"].wait_end(LONG));
    let index = scene.start_controller("a");
    scene.wait_serving_by(index);
    scene.scale("web", 4);
    scene.wait_backends(&web(&scene), 4);
    let events = scene.events();
    let told = events
        .iter()
        .filter(|event| event.starts_with("InvalidAnnotation: "));
    assert_eq!(told.count(), 2, "told once: {events:?}");

    // 100 KiB of it.
    let long = "é".repeat(51_200);
    annotate(&scene, "web", &json!({DIRECT: long, NODES: long}));
    wait_event(&scene, &["InvalidAnnotation", DIRECT, "longer than"]);
    let message = wait_condition(&scene, "web", "Accepted", "InvalidAnnotation");
    assert!(message.len() < 2_000, "{message}");
    scene.wait_backends(&web(&scene), 4);
    assert_quiet(&scene, index);

    // What is about source addresses and the PROXY protocol, as long as two of the others.
    let others = json!({
        DIRECT: "ture", NODES: "((brackets",
        "podline.io/source-address": "é".repeat(20_000),
        "podline.io/proxy-protocol": "v2,crc32c,".repeat(5_000),
        "podline.io/proxy-protocol-from": "10.0.0.0/8,".repeat(5_000),
    });
    annotate(&scene, "web", &others);
    wait_event(
        &scene,
        &[
            "InvalidAnnotation",
            "podline.io/proxy-protocol-from",
            "longer than",
        ],
    );
    wait_event(
        &scene,
        &[
            "InvalidAnnotation",
            "podline.io/source-address",
            "longer than",
        ],
    );
    let message = wait_condition(&scene, "web", "Accepted", "InvalidAnnotation");
    assert!(message.len() < 4_000, "{message}");
    scene.wait_backends(&web(&scene), 4);

    let readable = json!({
        DIRECT: "true", NODES: null, "podline.io/source-address": null,
        "podline.io/proxy-protocol": null, "podline.io/proxy-protocol-from": null,
    });
    annotate(&scene, "web", &readable);
    wait_condition(&scene, "web", "Accepted", "Direct");
    wait::until(LONG, "the last good values are not needed any more", || {
        let annotations = scene.service("web").unwrap().metadata.annotations;
        !annotations.unwrap().contains_key(LAST_GOOD)
    });
    assert_alive(&scene, 5);
    assert_nothing_lost("annotations", &load.stop());
}

/// What we keep in a Service can be written by whoever may write the Service.
#[test]
fn hostile_hands_on_our_own_fields_change_nothing() {
    let Some((scene, load)) = under_load("tampering") else {
        return;
    };
    let garbage = format!("{{\"{DIRECT}\":{}", "[".repeat(50_000));
    annotate(
        &scene,
        "web",
        &json!({LAST_GOOD: garbage, "podline.io/other": "\u{202e}\u{0}x"}),
    );
    let forged = json!({DIRECT: "false"}).to_string();
    annotate(&scene, "web", &json!({LAST_GOOD: forged}));
    scene.merge_service("web", json!({"metadata": {"finalizers": null}}));
    scene.run(|client, namespace| async move {
        let api = Api::<Service>::namespaced(client, &namespace);
        let bogus = json!({"status": {
            "loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]},
            "conditions": [{
                "type": "podline.io/Programmed", "status": "False", "reason": "Forged", "message": "",
                "lastTransitionTime": "2020-01-01T00:00:00Z",
            }],
        }});
        let params = PatchParams::default();
        api.patch_status("web", &params, &Patch::Merge(&bogus))
            .await
            .unwrap();
    });
    wait_condition(&scene, "web", "Programmed", "Programmed");
    scene.wait_addresses("web");
    wait::until(LONG, "the finalizer is back", || {
        let finalizers = scene.service("web").unwrap().metadata.finalizers;
        finalizers.is_some_and(|all| all == ["podline.io/load-balancer"])
    });
    assert_quiet(&scene, 0);
    assert_alive(&scene, 4);
    assert_nothing_lost("tampering", &load.stop());
}

#[test]
fn hostile_two_services_want_one_port() {
    let Some((scene, load)) = under_load("conflict") else {
        return;
    };
    // Of two that were made in the same second the younger might win.
    let created = scene
        .service("web")
        .unwrap()
        .metadata
        .creation_timestamp
        .unwrap()
        .0;
    wait::until(LONG, "the second is over", || {
        k8s_openapi::jiff::Timestamp::now().as_second() > created.as_second()
    });
    let mut service = objects::service("young", direct());
    service["spec"]["selector"]["app"] = json!("web");
    let ports = &mut service["spec"]["ports"];
    ports
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "other", "port": 81, "targetPort": "http"}));
    apply(&scene, service);
    wait_event(&scene, &["PortConflict", "80/TCP", "conflict/web"]);
    let of = |proxy| Star::spoke(proxy)[0].to_string();
    let errors = vec![Some("podline.io/PortConflict".to_owned()), None];
    wait::until(LONG, "the port's error is in the status", || {
        port_errors(&scene, "young") == [(of(0), errors.clone()), (of(1), errors.clone())]
    });
    scene.wait_answered(0, 81, "web-");
    assert_alive(&scene, 4);
    assert_nothing_lost("two want one port", &load.stop());
    wait_gone(&scene, "web");
    wait::until(LONG, "the younger takes over", || {
        port_errors(&scene, "young") == [(of(0), vec![None, None]), (of(1), vec![None, None])]
    });
    scene.wait_agreed();
    scene.wait_answered(1, 80, "web-");
    wait_condition(&scene, "young", "Accepted", "Direct");
}

#[test]
fn hostile_ports_have_errors_of_their_own() {
    let Some((scene, load)) = under_load("ports") else {
        return;
    };
    let mut service = objects::service("mixed", direct());
    service["spec"]["selector"]["app"] = json!("web");
    service["spec"]["ports"] = json!([
        {"name": "tcp", "port": 81, "targetPort": "http"},
        {"name": "udp", "port": 81, "targetPort": 8080, "protocol": "UDP"},
        {"name": "sctp", "port": 82, "targetPort": 8080, "protocol": "SCTP"},
        {"name": "ssh", "port": 22, "targetPort": "http"},
        {"name": "nowhere", "port": 83, "targetPort": "not-on-the-pod"},
    ]);
    apply(&scene, service);
    for (reason, text) in [
        ("SCTPNotSupported", "82/SCTP"),
        ("ReservedPort", "port 22"),
        ("PortNotOnPod", "nowhere"),
    ] {
        wait_event(&scene, &[reason, text]);
    }
    let error = |reason: &str| Some(format!("podline.io/{reason}"));
    let errors = vec![
        None,
        None,
        error("SCTPNotSupported"),
        error("ReservedPort"),
        None,
    ];
    let of = |proxy| Star::spoke(proxy)[0].to_string();
    wait::until(LONG, "the ports' errors are in the status", || {
        port_errors(&scene, "mixed") == [(of(0), errors.clone()), (of(1), errors.clone())]
    });
    scene.wait_answered(0, 81, "web-");
    scene.ask(0, 22).unwrap_err();

    // More wrong ports than a condition could name.
    let mut service = objects::service("many", direct());
    let sctp = |port: u16| json!({"name": format!("p{port}"), "port": port, "protocol": "SCTP"});
    service["spec"]["ports"] = (20_000..20_900).map(sctp).collect();
    service["spec"]["allocateLoadBalancerNodePorts"] = json!(false);
    apply(&scene, service);
    wait_condition(&scene, "many", "Programmed", "NoListener");
    let message = wait_condition(&scene, "many", "Accepted", "SCTPNotSupported");
    assert!(message.len() < 32_768, "{}", message.len());
    let told = scene.events();
    let of_many = told.iter().filter(|event| event.contains("/SCTP")).count();
    assert!(of_many < 40, "{of_many} events");
    assert!(scene.ingress("many").is_empty());
    assert_quiet(&scene, 0);
    wait_gone(&scene, "many");
    assert_alive(&scene, 4);
    assert_nothing_lost("ports", &load.stop());
}

#[test]
fn hostile_source_ranges_keep_others_out() {
    let Some((scene, load)) = under_load("ranges") else {
        return;
    };
    serve_at(&scene, "walled", 81, direct());
    let ask = |proxy| scene.ask(proxy, 81);
    for proxy in 0..2 {
        scene.wait_answered(proxy, 81, "web-");
    }
    let allow = |ranges: Value| {
        scene.merge_service(
            "walled",
            json!({"spec": {"loadBalancerSourceRanges": ranges}}),
        );
    };
    allow(json!(["192.0.2.0/24"]));
    wait::until(LONG, "others are kept out", || {
        (0..2).all(|p| ask(p).is_err())
    });
    allow(json!(["192.0.2.0/24", "10.90.2.0/24"]));
    wait::until(LONG, "the clients' network is let in", || {
        (0..2).all(|p| ask(p).is_ok())
    });
    // What the API server takes with spaces around is what it says.
    let spaced = json!({"spec": {"loadBalancerSourceRanges": [" 10.90.2.0/24 "]}});
    let is_taken = scene.run(|client, namespace| async move {
        let api = Api::<Service>::namespaced(client, &namespace);
        let params = PatchParams::default();
        api.patch("walled", &params, &Patch::Merge(&spaced))
            .await
            .is_ok()
    });
    println!("ranges with spaces are taken: {is_taken}");
    wait::until(LONG, "nothing changed", || (0..2).all(|p| ask(p).is_ok()));
    assert_alive(&scene, 4);
    assert_nothing_lost("source ranges", &load.stop());
}

fn finalizers(scene: &Scene, name: &str) -> Vec<String> {
    scene
        .service(name)
        .unwrap()
        .metadata
        .finalizers
        .unwrap_or_default()
}

fn managers(scene: &Scene, name: &str) -> Vec<String> {
    let fields = scene.service(name).unwrap().metadata.managed_fields;
    fields
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.manager)
        .collect()
}

fn unclassed(name: &str, port: u16) -> Value {
    let mut service = objects::service(name, direct());
    service["spec"]["selector"]["app"] = json!("web");
    service["spec"]
        .as_object_mut()
        .unwrap()
        .remove("loadBalancerClass");
    service["spec"]["ports"][0]["port"] = json!(port);
    service
}

#[test]
fn hostile_services_of_others_are_left_alone() {
    let Some((scene, load)) = under_load("others") else {
        return;
    };
    apply(&scene, unclassed("classless", 81));
    let mut foreign = unclassed("foreign", 82);
    foreign["spec"]["loadBalancerClass"] = json!("example.com/other");
    apply(&scene, foreign);
    assert_quiet(&scene, 0);
    for name in ["classless", "foreign"] {
        assert_eq!(finalizers(&scene, name), [""; 0]);
        assert!(
            !managers(&scene, name)
                .iter()
                .any(|m| m.starts_with("podline"))
        );
    }
    scene.wait_agreed();

    // Away and back.
    scene.merge_service(
        "web",
        json!({"spec": {"type": "ClusterIP", "loadBalancerClass": null}}),
    );
    wait::until(LONG, "it is let go", || {
        finalizers(&scene, "web").is_empty()
    });
    let status = scene.service("web").unwrap().status.unwrap();
    assert_eq!(status.load_balancer.unwrap_or_default().ingress, None);
    assert!(status.conditions.unwrap_or_default().is_empty());
    scene.wait_agreed();
    let tally = load.stop();
    println!("away: {} requests until then", tally.requests);
    scene.merge_service(
        "web",
        json!({"spec": {"type": "LoadBalancer", "loadBalancerClass": "podline.io/clb"}}),
    );
    scene.wait_addresses("web");
    scene.wait_backends(&web(&scene), 3);
    let load = scene.load(80);
    assert_alive(&scene, 4);
    assert_nothing_lost("type changed", &load.stop());
}

#[test]
fn hostile_classless_services_belong_to_whoever_came_first() {
    let Some(scene) = Scene::with(
        "classless",
        &["--default-class", "--class", "example.com/ours"],
    ) else {
        return;
    };
    let finalized = {
        let mut service = unclassed("finalized", 81);
        service["metadata"]["finalizers"] = json!(["service.kubernetes.io/load-balancer-cleanup"]);
        service
    };
    // Both are another's before the controller can see them.
    scene.controllers["a"].signal(Signal::STOP);
    apply(&scene, finalized);
    apply(&scene, unclassed("claimed", 82));
    scene.run(|client, namespace| async move {
        let api = Api::<Service>::namespaced(client, &namespace);
        let status = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "claimed"},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
        });
        let params = PatchParams::apply("metallb").force();
        api.patch_status("claimed", &params, &Patch::Apply(&status))
            .await
            .unwrap();
    });
    scene.controllers["a"].signal(Signal::CONT);
    wait_event(&scene, &["ClaimedByOther", "load-balancer-cleanup"]);
    wait_event(&scene, &["ClaimedByOther", "metallb"]);
    scene.run(|client, namespace| async move {
        objects::deployment(&client, &namespace, "web", 2, json!({})).await;
        objects::apply::<Service>(&client, &namespace, unclassed("free", 80)).await;
        let mut service = unclassed("classed", 83);
        service["spec"]["loadBalancerClass"] = json!("example.com/ours");
        objects::apply::<Service>(&client, &namespace, service).await;
        let mut service = unclassed("usual", 84);
        service["spec"]["loadBalancerClass"] = json!("podline.io/clb");
        objects::apply::<Service>(&client, &namespace, service).await;
    });
    for name in ["free", "classed"] {
        scene.wait_addresses(name);
    }
    scene.wait_backends("classless/free/tcp/80", 2);
    let listeners = scene.state(0).listeners.into_iter();
    let mut names: Vec<_> = listeners
        .filter_map(|status| Some(status.listener?.name))
        .collect();
    names.sort();
    assert_eq!(names, ["classless/classed/tcp/83", "classless/free/tcp/80"]);
    assert_eq!(scene.ingress("claimed"), ["192.0.2.1"]);
    assert_eq!(
        finalizers(&scene, "finalized"),
        ["service.kubernetes.io/load-balancer-cleanup"]
    );
    assert!(finalizers(&scene, "usual").is_empty());
    // The other lets go.
    scene.merge_service("finalized", json!({"metadata": {"finalizers": null}}));
    scene.wait_addresses("finalized");
}

#[test]
fn hostile_deletion_waits_for_no_proxy_that_is_away() {
    let Some(mut scene) = Scene::set("no-proxy") else {
        return;
    };
    scene.serve("web", 2, direct());
    serve_at(&scene, "second", 81, direct());
    scene.wait_backends(&web(&scene), 2);
    scene.wait_agreed();
    for proxy in &scene.proxies {
        proxy.signal(Signal::KILL);
        proxy.wait_end();
    }
    wait_gone(&scene, "second");
    for proxy in 0..2 {
        scene.restart_proxy(proxy);
    }
    scene.wait_serving();
    scene.wait_agreed();
    assert_alive(&scene, 3);
}

/// As long as the API server allows them, in both families and both modes.
#[test]
fn hostile_names_are_long() {
    let (namespace, name) = ("n".repeat(63), "s".repeat(63));
    let Some(scene) = Scene::set(&namespace) else {
        return;
    };
    let own = name.clone();
    scene.run(|client, namespace| async move {
        objects::deployment(&client, &namespace, "web", 2, json!({})).await;
        let mut service = objects::service(&own, direct());
        service["spec"]["selector"]["app"] = json!("web");
        service["spec"]["ipFamilyPolicy"] = json!("RequireDualStack");
        service["spec"]["ports"][0]["port"] = json!(65_535);
        service["spec"]["ports"][0]["name"] = json!("p".repeat(63));
        objects::apply::<Service>(&client, &namespace, service).await;
    });
    let set = format!("{namespace}/{name}/tcp/65535");
    scene.wait_backends(&set, 2);
    scene.wait_backends(&format!("{set}/ipv6"), 2);
    scene.wait_agreed();
    wait_condition(&scene, &name, "Programmed", "Programmed");
    annotate(&scene, &name, &json!({DIRECT: "false"}));
    scene.wait_backends(&format!("{set}/ipv6/nodeport"), 3);
    scene.wait_agreed();
    scene.wait_answered(0, 65_535, "web-");
}
