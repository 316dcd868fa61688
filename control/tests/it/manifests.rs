//! Manifests as TKE's documentation has them, and what becomes of them.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use podline_lab::wait;
use serde_json::{Value, json};

use crate::harness::LONG;
use crate::harness::objects::{self, direct};
use crate::harness::scene::Scene;

const SWITCHES: &str = "tke-service-controller-config";
const LBID: &str = "service.kubernetes.io/tke-existed-lbid";
const OWN_ID: &str = "service.kubernetes.io/loadbalance-id";

fn manifest(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

/// The documentation's Service, of our class as `podline import --write` makes it.
fn my_service() -> Value {
    let mut service = manifest(include_str!("../tke/direct.yaml"));
    service["spec"]["loadBalancerClass"] = json!("podline.io/clb");
    service
}

/// A workload behind it, with addresses of its nodes' networks.
fn my_app(replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "my-app"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "MyApp", "mode": "global"}},
            "template": {
                "metadata": {"labels": {"app": "MyApp", "mode": "global"}},
                "spec": {"containers": [{
                    "name": "toy", "image": "toy", "ports": [{"containerPort": 9376}],
                }]},
            },
        },
    })
}

/// Another one, with VPC-CNI.
fn my_vpc_app() -> Value {
    manifest(include_str!("../tke/vpc-cni.yaml"))
}

/// The ConfigMap of switches, gone when it is dropped.
struct Switches<'a>(&'a Scene);

impl<'a> Switches<'a> {
    fn put(scene: &'a Scene, global_routes: &str) -> Self {
        let mut switches = manifest(include_str!("../tke/switches.yaml"));
        switches["data"]["GlobalRouteDirectAccess"] = json!(global_routes);
        scene.run(|client, _| async move {
            objects::apply::<ConfigMap>(&client, "kube-system", switches).await;
        });
        Self(scene)
    }
}

impl Drop for Switches<'_> {
    fn drop(&mut self) {
        self.0.run(|client, _| async move {
            let api = Api::<ConfigMap>::namespaced(client, "kube-system");
            api.delete(SWITCHES, &DeleteParams::default()).await.ok();
        });
    }
}

fn wait_version(scene: &Scene, expected: &str) {
    wait::until(LONG, "VERSION is restored", || {
        let switches = scene.run(|client, _| async move {
            let api = Api::<ConfigMap>::namespaced(client, "kube-system");
            api.get(SWITCHES).await.unwrap()
        });
        let data = switches.data.unwrap_or_default();
        data.get("VERSION").map(String::as_str) == Some(expected)
    });
}

fn wait_told(scene: &Scene, reason: &str) {
    wait::until(LONG, reason, || {
        let events = scene.events();
        events.iter().any(|event| event.starts_with(reason))
    });
}

#[test]
fn direct_access_goes_to_pods_of_either_network_mode() {
    let Some(scene) = Scene::set("modes") else {
        return;
    };
    let set = "modes/my-service/tcp/80";
    let switches = Switches::put(&scene, "false");
    scene.run(|client, namespace| async move {
        objects::apply::<Service>(&client, &namespace, my_service()).await;
        objects::apply::<Deployment>(&client, &namespace, my_app(2)).await;
    });
    // Nothing waits for Pods that are never bound.
    scene.wait_rolled_out("my-app");
    wait_told(&scene, "NetworkModeRefused");
    assert!(scene.backends(0, set).is_empty());
    let on = Switches::put(&scene, "true");
    // No node is TKE's: whose release follows the switches is said there, and again when it is edited.
    let own = concat!("podline-v", env!("CARGO_PKG_VERSION"));
    wait_version(&scene, own);
    scene.run(|client, _| async move {
        let edit = json!({"data": {"VERSION": "v9"}});
        let api = Api::<ConfigMap>::namespaced(client, "kube-system");
        let params = PatchParams::default();
        api.patch(SWITCHES, &params, &Patch::Merge(&edit))
            .await
            .unwrap();
    });
    wait_version(&scene, own);
    scene.wait_backends(set, 2);
    scene.wait_agreed();
    for proxy in 0..2 {
        scene.wait_answered(proxy, 80, "my-app-");
        let network = scene.state(proxy).network.unwrap_or_default();
        let routes = network.network.unwrap_or_default().routes;
        let is_to_pods = |to: &str| to.starts_with("10.244.") && to.ends_with(".0/24");
        let v4: Vec<_> = routes.iter().filter(|it| is_to_pods(&it.to)).collect();
        assert!(!v4.is_empty(), "{routes:?}");
        assert!(
            v4.iter().all(|it| it.via.starts_with("10.89.0.")),
            "{routes:?}"
        );
    }
    // A second workload with another mode has to wait until the first has gone.
    scene.run(|client, namespace| async move {
        objects::apply::<StatefulSet>(&client, &namespace, my_vpc_app()).await;
    });
    wait_told(&scene, "NetworkModeMixed");
    scene.wait_backends(set, 2);
    scene.scale("my-app", 0);
    scene.wait_backends(set, 2);
    wait::until(LONG, "the others answer", || {
        (0..2).all(|proxy| {
            let answer = scene.ask(proxy, 80);
            answer.is_ok_and(|pod| ["my-app-0", "my-app-1"].contains(&pod.as_str()))
        })
    });
    drop((switches, on));
}

/// A StatefulSet of toy Pods that is upgraded by hand.
fn stateful(name: &str, replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name},
        "spec": {
            "serviceName": name,
            "replicas": replicas,
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "OnDelete"},
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{
                    "name": "toy", "image": "toy",
                    "ports": [{"name": "http", "containerPort": 8080}],
                }]},
            },
        },
    })
}

#[test]
fn weight_0_takes_a_pod_of_a_stateful_set_out_of_traffic() {
    const WEIGHTS: &str = "service.cloud.tencent.com/lb-rs-weight";
    let Some(scene) = Scene::set("weights") else {
        return;
    };
    let set = "weights/nginx/tcp/80";
    scene.run(|client, namespace| async move {
        objects::apply::<Service>(&client, &namespace, objects::service("nginx", direct())).await;
        objects::apply::<StatefulSet>(&client, &namespace, stateful("nginx", 3)).await;
    });
    scene.wait_addresses("nginx");
    scene.wait_backends(set, 3);
    let load = scene.load(80);
    scene.wait_agreed();
    load.pass(200);
    let drain = r#"{"defaultWeight":10,"groups":[{"key":{"proto":"TCP","port":80},"statefulSets":[{"name":"nginx","weights":[{"weight":0,"podIndexes":[0]}]}]}]}"#;
    let annotate = |value: Value| {
        scene.merge_service(
            "nginx",
            json!({"metadata": {"annotations": {WEIGHTS: value}}}),
        );
    };
    annotate(json!(drain));
    scene.wait_backends(set, 2);
    assert_eq!(scene.backends(0, set).len(), 3, "its connections go on");
    load.pass(200);
    let answered: BTreeSet<_> = (0..30).map(|n| scene.ask(n % 2, 80).unwrap()).collect();
    let others = ["nginx-1", "nginx-2"].map(str::to_owned);
    assert_eq!(answered, others.into());
    load.pass(200);
    annotate(json!(null));
    scene.wait_backends(set, 3);
    scene.wait_agreed();
    load.pass(200);
    let tally = load.stop();
    assert!(tally.failures.is_empty(), "{:#?}", tally.failures);
    assert_eq!(tally.answered_by.len(), 3);
}

#[test]
fn what_is_skipped_stays_as_it_was() {
    const MODE: &str = "service.cloud.tencent.com/mode";
    let Some(scene) = Scene::set("skips") else {
        return;
    };
    let set = "skips/web/tcp/80";
    scene.serve("web", 2, direct());
    scene.wait_backends(set, 2);
    scene.wait_agreed();
    let annotate = |value: Value| {
        scene.merge_service("web", json!({"metadata": {"annotations": {MODE: value}}}));
    };
    annotate(json!("skip"));
    wait_told(&scene, "Skipped");
    let version = || scene.service("web").unwrap().metadata.resource_version;
    let before = scene.backends(0, set);
    let ports = json!([
        {"name": "http", "port": 80, "targetPort": "http"},
        {"name": "more", "port": 81, "targetPort": "http"},
    ]);
    scene.merge_service("web", json!({"spec": {"ports": ports}}));
    let written = version();
    // Pods join that the proxies are told nothing of, and their gates hold nobody up.
    scene.scale("web", 4);
    assert_eq!(scene.backends(0, set), before);
    scene.wait_answered(0, 80, "web-");
    assert!(scene.ask(0, 81).is_err());
    assert_eq!(version(), written, "nothing is written to it");
    annotate(json!(null));
    scene.wait_backends(set, 4);
    scene.wait_backends("skips/web/tcp/81", 4);
}

#[test]
fn services_that_name_one_load_balancer_share_its_address() {
    let arguments = ["--vip-pool", "203.0.113.1-203.0.113.9"];
    let Some(scene) = Scene::with("shares", &arguments) else {
        return;
    };
    let named = |id: &str| {
        let mut annotations = direct();
        annotations[LBID] = json!(id);
        annotations
    };
    let put = |name: &'static str, port: u16, annotations: Value| {
        let mut service = objects::service(name, annotations);
        service["spec"]["ports"][0]["port"] = json!(port);
        scene.run(|client, namespace| async move {
            objects::apply::<Service>(&client, &namespace, service).await;
        });
    };
    let id = |name: &str| {
        let annotations = scene.service(name).unwrap().metadata.annotations;
        annotations.unwrap_or_default().get(OWN_ID).cloned()
    };
    let wait_at = |name: &str, address: &str| {
        wait::until(LONG, &format!("{name} is at {address}"), || {
            scene.ingress(name) == [address]
        });
    };
    put("alone", 80, direct());
    wait_at("alone", "203.0.113.1");
    // A cloud's id: the first that names it gets an address, and the others the same.
    put("first", 80, named("lb-6swtxxxx"));
    wait_at("first", "203.0.113.2");
    put("second", 81, named("lb-6swtxxxx"));
    wait_at("second", "203.0.113.2");
    assert!(id("first").is_some() && id("first") == id("second"));
    assert_ne!(id("first"), id("alone"));
    // Our own: the address of the Service that has it.
    let of_alone = id("alone").unwrap();
    put("third", 82, named(&of_alone));
    wait_at("third", "203.0.113.1");
    assert_eq!(id("third"), Some(of_alone));
    // No port belongs to two.
    put("late", 80, named("lb-6swtxxxx"));
    wait_told(&scene, "PortConflict");
}
