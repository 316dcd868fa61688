//! Proxies fail, and so do nodes: the others go on, nobody waits for ever, and who comes back is told everything.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DeleteParams, ListParams};
use podline_api::client::ProxyClient;
use podline_api::v1;
use podline_lab::{Star, wait};
use rustix::process::Signal;
use serde_json::json;

use crate::faults::{
    apply, assert_alive, assert_nothing_lost, serve_at, under_load, wait_all_told, web,
};
use crate::harness::LONG;
use crate::harness::cluster::CLIENT;
use crate::harness::load::Load;
use crate::harness::objects::{self, direct};
use crate::harness::old_proxy::OldProxy;
use crate::harness::scene::{SYSTEM, Scene};

/// Clients of proxy 0 alone.
fn load_of_first(scene: &Scene) -> Load {
    let load = Load::start(
        &scene.cluster.star.spokes[CLIENT],
        &scene.addresses(80)[..1],
    );
    load.pass(50);
    load
}

pub(crate) fn wait_not_serving(scene: &Scene, proxy: usize) {
    let name = format!(
        "{{proxy=\"{}\"}} 0",
        Star::spoke(u8::try_from(proxy).unwrap())[0]
    );
    wait::until(LONG, "the proxy counts as not serving", || {
        let metrics = scene.metrics(0);
        let mut lines = metrics.lines();
        lines.any(|line| line.starts_with("podline_control_proxy_serving") && line.ends_with(&name))
    });
}

fn delete(scene: &Scene, name: &str) {
    let own = name.to_owned();
    scene.run(|client, namespace| async move {
        objects::delete_service(&client, &namespace, &own).await;
    });
    wait::until(LONG, "the Service is gone", || {
        scene.service(name).is_none()
    });
}

/// Takes or leaves port 81 of every address of proxy 0, as somebody else.
pub(crate) fn squat(scene: &Scene, is_there: bool) {
    let target = scene.proxies[0].target();
    scene.cluster.run(async move {
        let mut request = v1::ApplyRequest {
            owner: "other".to_owned(),
            ..v1::ApplyRequest::default()
        };
        if is_there {
            request.backend_sets.push(v1::BackendSet {
                name: "squatter".to_owned(),
                ..v1::BackendSet::default()
            });
            request.listeners.push(v1::Listener {
                name: "squatter".to_owned(),
                address: "0.0.0.0:81".to_owned(),
                protocol: Some(v1::listener::Protocol::Tcp.into()),
                backend_set: "squatter".to_owned(),
                ..v1::Listener::default()
            });
        } else {
            request.replace_owned = true;
        }
        let client = ProxyClient::connect(&target).await.unwrap();
        client.apply(request).await.unwrap();
    });
}

/// The errors of a Service's ports, by address.
pub(crate) fn port_errors(scene: &Scene, name: &str) -> Vec<(String, Vec<Option<String>>)> {
    let status = scene.service(name).and_then(|service| service.status);
    let ingress = status.and_then(|status| status.load_balancer?.ingress);
    let entries = ingress.into_iter().flatten();
    entries
        .map(|entry| {
            let ports = entry.ports.into_iter().flatten();
            (
                entry.ip.unwrap_or_default(),
                ports.map(|port| port.error).collect(),
            )
        })
        .collect()
}

#[test]
fn faults_a_proxy_rejects_what_another_owner_has() {
    let Some((scene, load)) = under_load("rejects") else {
        return;
    };
    squat(&scene, true);
    serve_at(&scene, "second", 81, direct());
    let refused = Some("podline.io/ListenerFailed".to_owned());
    let of = |proxy| Star::spoke(proxy)[0].to_string();
    wait::until(LONG, "the status says which proxy refuses", || {
        port_errors(&scene, "second") == [(of(0), vec![refused.clone()]), (of(1), vec![None])]
    });
    let (status, reason, message) = scene.condition("second", "podline.io/Programmed").unwrap();
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Refused"));
    assert!(message.contains("other"), "{message}");
    scene.wait_answered(1, 81, "web-");
    scene.ask(0, 81).unwrap_err();
    let (_, reason, _) = scene.condition("web", "podline.io/Programmed").unwrap();
    assert_eq!(reason, "Programmed");
    // Others go on changing meanwhile.
    scene.scale("web", 5);
    scene.wait_backends(&web(&scene), 5);
    squat(&scene, false);
    wait::until(LONG, "it is healed", || {
        let condition = scene.condition("second", "podline.io/Programmed");
        condition.is_some_and(|(status, ..)| status == "True")
    });
    let errors = port_errors(&scene, "second");
    assert_eq!(errors, [(of(0), vec![None]), (of(1), vec![None])]);
    scene.wait_answered(0, 81, "web-");
    assert_alive(&scene, 6);
    assert_nothing_lost("a proxy rejects", &load.stop());
}

#[test]
fn faults_a_proxy_hangs() {
    let Some(scene) = Scene::set("hangs") else {
        return;
    };
    scene.serve("web", 3, direct());
    scene.wait_backends(&web(&scene), 3);
    serve_at(&scene, "second", 81, json!({}));
    scene.wait_agreed();
    let load = load_of_first(&scene);
    scene.proxies[1].signal(Signal::STOP);
    wait_not_serving(&scene, 1);
    scene.scale("web", 5);
    wait::until(LONG, "the other has the change", || {
        scene.backends(0, &web(&scene)).len() == 5
    });
    delete(&scene, "second");
    scene.wait_agreed_on(&[0]);
    wait::until(LONG, "clients are told of the other alone", || {
        scene.ingress("web") == [Star::spoke(0)[0].to_string()]
    });
    scene.proxies[1].signal(Signal::CONT);
    scene.wait_addresses("web");
    assert_alive(&scene, 6);
    assert_nothing_lost("a proxy hangs", &load.stop());
}

#[test]
fn faults_a_proxy_is_killed_and_comes_back_without_a_controller() {
    let Some(mut scene) = Scene::set("proxy-killed") else {
        return;
    };
    scene.serve("web", 3, direct());
    scene.wait_backends(&web(&scene), 3);
    scene.wait_agreed();
    let load = load_of_first(&scene);
    // It writes once a second.
    let backends = scene.backends(1, &web(&scene));
    wait::until(LONG, "the state file has it", || {
        let file = std::fs::read(scene.proxies[1].state_file()).unwrap_or_default();
        let text = String::from_utf8_lossy(&file);
        backends.keys().all(|address| text.contains(address))
    });
    scene.controllers["a"].signal(Signal::KILL);
    assert!(scene.controllers["a"].wait_end(LONG));
    scene.proxies[1].signal(Signal::KILL);
    scene.proxies[1].wait_end();
    scene.scale("web", 4);
    scene.restart_proxy(1);
    scene.wait_answered(1, 80, "web-");
    assert_eq!(scene.backends(1, &web(&scene)).len(), 3);
    let index = scene.start_controller("a");
    scene.wait_serving_by(index);
    scene.wait_backends(&web(&scene), 4);
    assert_alive(&scene, 5);
    // And one that remembers nothing.
    scene.proxies[1].signal(Signal::KILL);
    scene.proxies[1].wait_end();
    std::fs::remove_file(scene.proxies[1].state_file()).unwrap();
    scene.restart_proxy(1);
    scene.wait_backends(&web(&scene), 5);
    assert_alive(&scene, 6);
    assert_nothing_lost("a proxy killed", &load.stop());
}

/// Nobody is left to tell, as far as the API server knows: what is told of the Services stays, and so do the proxies.
#[test]
fn faults_the_proxies_vanish_from_their_service() {
    let Some((scene, load)) = under_load("vanish") else {
        return;
    };
    wait_all_told(&scene);
    let before = scene.service("web").unwrap().metadata.resource_version;
    scene.run(|client, _| async move {
        let api = Api::<EndpointSlice>::namespaced(client, SYSTEM);
        let all = ListParams::default().labels("kubernetes.io/service-name=podline-proxy");
        for slice in api.list(&all).await.unwrap() {
            let name = slice.metadata.name.unwrap();
            api.delete(&name, &DeleteParams::default()).await.unwrap();
        }
    });
    wait::until(LONG, "the controller knows no proxy", || {
        !scene.metrics(0).contains("podline_control_proxy_serving{")
    });
    load.pass(500);
    assert_eq!(
        scene.service("web").unwrap().metadata.resource_version,
        before
    );
    // New Pods wait for a proxy that has seen them.
    scene.begin_scale("web", 5);
    scene.wait_backends(&web(&scene), 3);
    scene.declare_proxies();
    scene.wait_rolled_out("web");
    scene.wait_backends(&web(&scene), 5);
    assert_alive(&scene, 6);
    assert_nothing_lost("proxies vanished", &load.stop());
}

#[test]
fn faults_a_proxy_is_a_version_older() {
    let Some(mut scene) = Scene::without_controller("older") else {
        return;
    };
    let old = OldProxy::start(&scene.cluster.star.hub);
    let targets: Vec<_> = scene
        .addresses(9902)
        .iter()
        .map(ToString::to_string)
        .collect();
    let targets = format!("{},{}", targets.join(","), old.address);
    scene.start_controller_for("a", &["--proxy", &targets, "--namespace", SYSTEM]);
    wait::until(LONG, "all three serve", || {
        scene.mount();
        let metrics = scene.metrics(0);
        let lines = metrics.lines();
        lines
            .filter(|line| {
                line.starts_with("podline_control_proxy_serving{") && line.ends_with(" 1")
            })
            .count()
            == 3
    });
    scene.run(|client, namespace| async move {
        objects::deployment(&client, &namespace, "web", 3, json!({})).await;
        let service = objects::service("web", direct());
        objects::apply::<Service>(&client, &namespace, service).await;
    });
    scene.wait_agreed();
    scene.wait_backends(&web(&scene), 3);
    let load = scene.load(80);
    load.pass(100);
    let set = web(&scene);
    let has = |count: usize| old.has().1.get(&set) == Some(&count);
    wait::until(LONG, "the old one has it, too", || has(3));

    // Affinity and source ranges are more than it can do: it keeps out of that, and says so.
    let mut service = objects::service("sticky", direct());
    service["spec"]["selector"]["app"] = json!("web");
    service["spec"]["ports"][0]["port"] = json!(81);
    service["spec"]["sessionAffinity"] = json!("ClientIP");
    service["spec"]["loadBalancerSourceRanges"] = json!(["10.0.0.0/8"]);
    apply(&scene, service);
    wait::until(LONG, "the condition says that it is too old", || {
        let condition = scene.condition("sticky", "podline.io/Programmed");
        condition.is_some_and(|(status, reason, message)| {
            status == "False" && reason == "Refused" && message.contains("ProxyTooOld")
        })
    });
    scene.wait_agreed();
    scene.wait_answered(1, 81, "web-");
    let (_, reason, _) = scene.condition("web", "podline.io/Programmed").unwrap();
    assert_eq!(reason, "Programmed");
    assert_alive(&scene, 5);
    wait::until(LONG, "the old one follows", || has(5));
    // A Pod that ends, too.
    assert_nothing_lost("an older proxy", &load.stop());
    scene.scale("web", 2);
    scene.wait_agreed();
    wait::until(LONG, "the old one lets go", || has(2));
    delete(&scene, "sticky");
    assert_eq!(old.has().0, [set]);
    assert_eq!(old.complaints(), [""; 0]);
}

/// Backends with a weight, by the number of their Pods' node.
fn nodes(scene: &Scene, proxy: usize) -> BTreeSet<String> {
    let backends = scene.backends(proxy, &web(scene)).into_iter();
    let addresses = backends.filter(|(_, weight)| *weight > 0);
    addresses
        .map(|(address, _)| address.split('.').nth(2).unwrap().to_owned())
        .collect()
}

fn wait_node(scene: &Scene, name: &'static str, is_ready: bool) {
    wait::until(LONG, "the node's condition follows", || {
        let node =
            scene.run(|client, _| async move { Api::<Node>::all(client).get(name).await.unwrap() });
        let conditions = node.status.unwrap().conditions.unwrap();
        conditions
            .iter()
            .any(|c| c.type_ == "Ready" && (c.status == "True") == is_ready)
    });
}

/// Pods that wait for nothing but our gate are bound though no slice says that they are ready; not if their node is
/// dead.
#[test]
fn faults_a_node_dies_with_gated_pods() {
    let Some(scene) = Scene::set("node-death") else {
        return;
    };
    scene.run(|client, namespace| async move {
        objects::gated_deployment(&client, &namespace, "web", 6, json!({})).await;
        let service = objects::service("web", direct());
        objects::apply::<Service>(&client, &namespace, service).await;
    });
    let all = ["1", "2", "3"].map(str::to_owned);
    let on_all = || (0..2).all(|proxy| nodes(&scene, proxy).iter().eq(&all));
    wait::until(LONG, "gated Pods of all nodes are bound", on_all);
    let load = scene.load(80);
    load.pass(100);
    scene.cluster.control("node node-1 down");
    wait_node(&scene, "node-1", false);
    wait::until(LONG, "those of the dead node get no new work", || {
        (0..2).all(|proxy| nodes(&scene, proxy).iter().eq(&all[1..]))
    });
    load.pass(200);
    scene.cluster.control("node node-1 up");
    wait_node(&scene, "node-1", true);
    wait::until(LONG, "they are back", on_all);
    assert_nothing_lost("a node died", &load.stop());
}

/// A Pod ends and another gets its address before the controller looks: for the proxies it is another backend.
#[test]
fn faults_an_address_is_used_again_within_one_publish() {
    let Some(scene) = Scene::set("reuse") else {
        return;
    };
    // Calls of webhooks that nobody answers would give others the time to take or leave an address.
    crate::rollouts::opt_out(&scene);
    apply(&scene, objects::service("web", direct()));
    // The lowest free address is given: nothing else may take one or leave one meanwhile.
    wait::until(LONG * 2, "node-2 is empty", || {
        let left = scene.run(|client, _| async move {
            let on_it = ListParams::default().fields("spec.nodeName=node-2");
            Api::<Pod>::all(client).list(&on_it).await
        });
        left.is_ok_and(|pods| pods.items.is_empty())
    });
    let first = pod(&scene, "first");
    let of = |proxy: usize| {
        let state = scene.state(proxy);
        let sets = state.backend_sets.into_iter().flat_map(|set| set.backends);
        let backends = sets.filter(|status| !status.draining);
        let backends = backends.filter_map(|status| status.backend);
        let found: Vec<_> = backends
            .map(|b| (b.id.unwrap_or_default(), b.address))
            .collect();
        found
    };
    let is = |pod: &(String, String)| (0..2).all(|proxy| of(proxy) == [pod.clone()]);
    wait::until(LONG, "the first is bound", || is(&first));
    wait::until(LONG, "it answers", || {
        scene.ask(0, 80).is_ok_and(|name| name == "first")
    });
    scene.controllers["a"].signal(Signal::STOP);
    scene.run(|client, namespace| async move {
        let api = Api::<Pod>::namespaced(client, &namespace);
        let now = DeleteParams::default().grace_period(0);
        api.delete("first", &now).await.unwrap();
    });
    let second = pod(&scene, "second");
    assert_eq!(first.1, second.1, "the address was to be used again");
    assert_ne!(first.0, second.0);
    wait_slice_names(&scene, &second.0);
    scene.controllers["a"].signal(Signal::CONT);
    wait::until(LONG, "the second is bound", || is(&second));
    for proxy in 0..2 {
        wait::until(LONG, "it answers", || {
            scene.ask(proxy, 80).is_ok_and(|name| name == "second")
        });
    }
}

/// A Pod of Service `web` on node-2; its uid and socket address once it is ready.
fn pod(scene: &Scene, name: &'static str) -> (String, String) {
    scene.run(move |client, namespace| async move {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}},
            "spec": {"nodeName": "node-2", "terminationGracePeriodSeconds": 1, "containers": [{
                "name": "toy", "image": "toy", "ports": [{"name": "http", "containerPort": 8080}],
            }]},
        });
        objects::apply::<Pod>(&client, &namespace, pod).await;
    });
    let mut found = None;
    wait::until(LONG, "the Pod is ready", || {
        let pod = scene.run(move |client, namespace| async move {
            Api::<Pod>::namespaced(client, &namespace)
                .get(name)
                .await
                .unwrap()
        });
        let status = pod.status.unwrap_or_default();
        let mut conditions = status.conditions.iter().flatten();
        let is_ready = conditions.any(|c| c.type_ == "Ready" && c.status == "True");
        found = status
            .pod_ip
            .filter(|_| is_ready)
            .map(|ip| (pod.metadata.uid.unwrap(), format!("{ip}:8080")));
        found.is_some()
    });
    found.unwrap()
}

fn wait_slice_names(scene: &Scene, uid: &str) {
    wait::until(LONG, "a slice names the Pod", || {
        let slices = scene.run(|client, namespace| async move {
            let api = Api::<EndpointSlice>::namespaced(client, &namespace);
            api.list(&ListParams::default()).await.unwrap().items
        });
        let mut endpoints = slices
            .into_iter()
            .filter_map(|slice| slice.endpoints)
            .flatten();
        endpoints.any(|e| e.target_ref.is_some_and(|r| r.uid.as_deref() == Some(uid)))
    });
}
