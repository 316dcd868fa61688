//! What the API server asks the controller: Pods get their gate when they are made, are out of traffic when their deletion
//! begins, and come and go all the same when nobody can be asked.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, EvictParams, ListParams, Patch, PatchParams, PostParams};
use podline_api::v1;
use podline_api::v1::override_request::Action;
use podline_lab::wait;
use rustix::process::Signal;
use serde_json::json;

use crate::harness::LONG;
use crate::harness::objects::{self, GATE, direct};
use crate::harness::scene::Scene;

fn pod(name: &str, app: &str) -> Pod {
    let object = json!({
        "metadata": {"name": name, "labels": {"app": app}},
        "spec": {"containers": [{"name": "toy", "image": "toy", "ports": [{"name": "http", "containerPort": 8080}]}]},
    });
    serde_json::from_value(object).unwrap()
}

fn is_gated(pod: &Pod) -> bool {
    let gates = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.readiness_gates.as_ref());
    let mut gates = gates.into_iter().flatten();
    gates.any(|gate| gate.condition_type == GATE)
}

/// Makes a Pod; how the API server has it.
fn make(scene: &Scene, pod: Pod, dry_run: bool) -> Pod {
    scene.run(move |client, namespace| async move {
        let parameters = PostParams {
            dry_run,
            ..PostParams::default()
        };
        let api = Api::<Pod>::namespaced(client, &namespace);
        api.create(&parameters, &pod).await.unwrap()
    })
}

/// Waits until the API server calls the controller.
fn wait_called(scene: &Scene) {
    scene.run(|client, namespace| async move {
        let mut probed = objects::service("probed", direct());
        probed["spec"]["ports"][0]["port"] = json!(8_099);
        objects::apply::<Service>(&client, &namespace, probed).await;
    });
    wait_gated(scene, "probed");
}

/// Waits until a Pod of an app, whose Service is there, would get the gate.
pub(crate) fn wait_gated(scene: &Scene, app: &str) {
    wait::until(LONG, "the API server calls the webhooks", || {
        is_gated(&make(scene, pod("probe", app), true))
    });
}

/// A direct Service on port 80, and Pods that are made after it; waits until they are served.
fn serve(scene: &Scene, replicas: u32) {
    scene.run(|client, namespace| async move {
        let service = objects::service("web", direct());
        objects::apply::<Service>(&client, &namespace, service).await;
        objects::deployment(&client, &namespace, "web", replicas, json!({})).await;
    });
    scene.wait_rolled_out("web");
    let set = format!("{}/web/tcp/80", scene.namespace);
    scene.wait_backends(&set, replicas as usize);
}

fn reviews(scene: &Scene, webhook: &str, outcome: &str) -> u64 {
    counted(
        scene,
        &format!("podline_control_reviews_total{{webhook=\"{webhook}\",outcome=\"{outcome}\"}}"),
    )
}

/// A counter of the first replica; 0 if it is not there.
fn counted(scene: &Scene, name: &str) -> u64 {
    let page = scene.metrics(0);
    let mut values = page
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    values.next().map_or(0, |value| value.parse().unwrap())
}

/// Names of the test's Pods whose deletion has not begun, or all.
fn names(scene: &Scene, app: &str, is_deleting: bool) -> Vec<String> {
    listed(scene, app, |pod| {
        pod.metadata.deletion_timestamp.is_some() == is_deleting
    })
}

/// The names of the Pods of an app that are such.
fn listed(scene: &Scene, app: &str, are_such: impl Fn(&Pod) -> bool) -> Vec<String> {
    let labels = format!("app={app}");
    let all = scene.run(move |client, namespace| async move {
        let api = Api::<Pod>::namespaced(client, &namespace);
        let of_app = ListParams::default().labels(&labels);
        api.list(&of_app).await.unwrap().items
    });
    let found = all.into_iter().filter(are_such);
    found.filter_map(|pod| pod.metadata.name).collect()
}

/// The Pods of an app that are ready, and are not being deleted.
fn ready(scene: &Scene, app: &str) -> Vec<String> {
    listed(scene, app, |pod| {
        let conditions = pod
            .status
            .as_ref()
            .and_then(|status| status.conditions.as_ref());
        let mut conditions = conditions.into_iter().flatten();
        pod.metadata.deletion_timestamp.is_none()
            && conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
    })
}

/// The Pods that a proxy keeps out because their deletion was asked for.
fn drained(scene: &Scene, proxy: usize) -> Vec<v1::OverrideStatus> {
    let overrides = scene.state(proxy).overrides.into_iter();
    let ours = overrides.filter(|over| over.note.starts_with("the deletion of Pod "));
    ours.filter(|over| over.action() == Action::Drain).collect()
}

fn is_out(scene: &Scene, proxy: usize, pod: &str) -> bool {
    let note = format!(
        "the deletion of Pod {}/{pod} was asked for",
        scene.namespace
    );
    drained(scene, proxy).iter().any(|over| over.note == note)
}

/// Asks for an eviction; the answer's code, and how long it took.
fn evict(scene: &Scene, pod: &str) -> (u16, Duration) {
    let pod = pod.to_owned();
    scene.run(|client, namespace| async move {
        let api = Api::<Pod>::namespaced(client, &namespace);
        let begun = Instant::now();
        let answer = api.evict(&pod, &EvictParams::default()).await;
        let code = match answer {
            Ok(_) => 201,
            Err(kube::Error::Api(status)) => status.code,
            Err(error) => panic!("{error}"),
        };
        (code, begun.elapsed())
    })
}

#[test]
fn pods_get_the_gate_when_they_are_made() {
    let Some(scene) = Scene::set("gating") else {
        return;
    };
    wait_called(&scene);
    assert!(
        names(&scene, "probed", false).is_empty(),
        "a dry run left a Pod"
    );
    serve(&scene, 3);
    for name in names(&scene, "web", false) {
        let pod = scene.run(|client, namespace| async move {
            Api::<Pod>::namespaced(client, &namespace)
                .get(&name)
                .await
                .unwrap()
        });
        assert!(is_gated(&pod), "{:?}", pod.metadata.name);
    }
    // Nobody wants it of these.
    scene.run(|client, namespace| async move {
        let mut ports = objects::service("ports", json!({}));
        ports["spec"]["ports"][0]["port"] = json!(8_098);
        objects::apply::<Service>(&client, &namespace, ports).await;
    });
    let mut on_host = pod("on-host", "web");
    on_host.spec.as_mut().unwrap().host_network = Some(true);
    for pod in [pod("other", "nobody"), pod("ports", "ports"), on_host] {
        assert!(!is_gated(&make(&scene, pod, false)));
    }
    // And here nobody is asked.
    opt_out(&scene);
    opt_in(&scene);
}

/// The API server asks nobody about the Pods of this namespace; waits until that is so.
fn opt_out(scene: &Scene) {
    label(scene, json!("disabled"));
    wait::until(LONG, "the namespace is left alone", || {
        !is_gated(&make(scene, pod("probe", "probed"), true))
    });
}

/// Takes that back.
fn opt_in(scene: &Scene) {
    label(scene, json!(null));
    wait::until(LONG, "the namespace is asked about", || {
        is_gated(&make(scene, pod("probe", "probed"), true))
    });
}

fn label(scene: &Scene, value: serde_json::Value) {
    scene.run(|client, namespace| async move {
        let api = Api::<Namespace>::all(client);
        let labels = json!({"metadata": {"labels": {"podline.io/readiness-gate": value}}});
        let patch = Patch::Merge(labels);
        api.patch(&namespace, &PatchParams::default(), &patch)
            .await
            .unwrap();
    });
}

#[test]
fn a_pod_gets_the_gate_that_is_made_in_the_same_instant_as_its_service() {
    let Some(scene) = Scene::set("instant") else {
        return;
    };
    wait_called(&scene);
    for round in 0..20 {
        let name = format!("web-{round}");
        let made = scene.run(|client, namespace| async move {
            let sleepy = json!({
                "service.cloud.tencent.com/direct-access": "true", "podline.io/pre-stop-sleep": "4s",
            });
            let service: Service = serde_json::from_value(objects::service(&name, sleepy)).unwrap();
            let services = Api::<Service>::namespaced(client.clone(), &namespace);
            let pods = Api::<Pod>::namespaced(client, &namespace);
            services.create(&PostParams::default(), &service).await.unwrap();
            let made = pods.create(&PostParams::default(), &pod(&name, &name)).await.unwrap();
            // So that the namespace is asked about anew, and not a second after the last time.
            tokio::time::sleep(Duration::from_millis(if round % 2 == 0 { 0 } else { 1_100 })).await;
            made
        });
        assert!(is_gated(&made), "{round}");
        let container = serde_json::to_value(&made.spec.unwrap().containers[0]).unwrap();
        assert_eq!(
            container["lifecycle"]["preStop"]["sleep"]["seconds"], 4,
            "{container}"
        );
    }
    let page = scene.metrics(0);
    let lines = page.lines().filter(|line| line.contains("_review"));
    println!("{}", lines.collect::<Vec<_>>().join("\n"));
}

#[test]
fn a_pod_gets_the_gate_that_is_made_in_the_same_instant_as_its_ingress() {
    let Some(scene) = Scene::set("moments") else {
        return;
    };
    wait_called(&scene);
    for round in 0..10 {
        let name = format!("web-{round}");
        let made = scene.run(|client, namespace| async move {
            let service = json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
                "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]},
            });
            let backend = json!({"service": {"name": name, "port": {"number": 80}}});
            let path = json!({"path": "/", "pathType": "Prefix", "backend": backend});
            let ingress = json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
                "metadata": {
                    "name": name,
                    "annotations": {"ingress.cloud.tencent.com/direct-access": "true"},
                },
                "spec": {
                    "ingressClassName": "podline",
                    "rules": [{"host": format!("{name}.example"), "http": {"paths": [path]}}],
                },
            });
            objects::apply::<Service>(&client, &namespace, service).await;
            objects::apply::<Ingress>(&client, &namespace, ingress).await;
            let pods = Api::<Pod>::namespaced(client, &namespace);
            let params = PostParams::default();
            let made = pods.create(&params, &pod(&name, &name)).await.unwrap();
            // So that the namespace is asked about anew.
            tokio::time::sleep(Duration::from_millis(250)).await;
            made
        });
        assert!(is_gated(&made), "{round}");
    }
}

#[test]
fn a_pod_is_out_of_traffic_when_its_deletion_begins() {
    let Some(scene) = Scene::set("draining") else {
        return;
    };
    wait_called(&scene);
    let set = "draining/web/tcp/80";
    serve(&scene, 4);
    // By an eviction: when it is answered, every proxy has let go.
    let evicted = names(&scene, "web", false).remove(0);
    let (code, took) = evict(&scene, &evicted);
    println!("an eviction took {took:?}");
    assert_eq!(code, 201);
    assert!((0..2).all(|proxy| is_out(&scene, proxy, &evicted)));
    // Another one has taken its place.
    wait::until(LONG, "four others are ready", || {
        let names = ready(&scene, "web");
        names.len() == 4 && !names.contains(&evicted)
    });
    scene.wait_backends(set, 4);
    // By the ReplicaSet's controller: when its deletion is seen to have begun, every proxy has let go.
    scene.run(|client, namespace| async move {
        use k8s_openapi::api::apps::v1::Deployment;
        let fewer = json!({"spec": {"replicas": 3}});
        objects::merge::<Deployment>(&client, &namespace, "web", fewer).await;
    });
    let mut seen = Vec::new();
    wait::until(LONG, "a deletion begins", || {
        seen = names(&scene, "web", true);
        seen.retain(|name| *name != evicted);
        !seen.is_empty()
    });
    for name in &seen {
        assert!((0..2).all(|proxy| is_out(&scene, proxy, name)), "{name}");
    }
    wait::until(LONG, "the drains end with the Pods", || {
        (0..2).all(|proxy| drained(&scene, proxy).is_empty())
    });
    scene.wait_backends(set, 3);
    assert!(reviews(&scene, "drain", "drained") >= 2);
    assert_eq!(
        counted(&scene, "podline_control_undrained_deletions_total"),
        0
    );
    assert_eq!(counted(&scene, "podline_control_weights_restored_total"), 0);
}

#[test]
fn a_pod_that_is_not_deleted_gets_its_weight_back() {
    let Some(scene) = Scene::set("restoring") else {
        return;
    };
    let set = "restoring/web/tcp/80";
    wait_called(&scene);
    serve(&scene, 2);
    scene.run(|client, namespace| async move {
        let budget = json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"},
            "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "web"}}},
        });
        objects::apply::<PodDisruptionBudget>(&client, &namespace, budget).await;
    });
    let name = names(&scene, "web", false).remove(0);
    let begun = Instant::now();
    let pod = name.clone();
    scene.run(|client, namespace| async move {
        let api = Api::<Pod>::namespaced(client, &namespace);
        let parameters = EvictParams::default();
        // Refused, and the client would ask again after ten seconds.
        let evicting = api.evict(&pod, &parameters);
        let answer = tokio::time::timeout(Duration::from_secs(2), evicting).await;
        assert!(answer.is_err(), "{answer:?}");
    });
    assert!((0..2).all(|proxy| is_out(&scene, proxy, &name)));
    wait::until(LONG, "the Pod is in traffic again", || {
        (0..2).all(|proxy| drained(&scene, proxy).is_empty())
    });
    println!("in traffic again after {:?}", begun.elapsed());
    assert_eq!(counted(&scene, "podline_control_weights_restored_total"), 1);
    let eligible = |proxy| {
        let sets = scene.state(proxy).backend_sets.into_iter();
        let mut ours = sets.filter(|status| status.set.as_ref().is_some_and(|s| s.name == set));
        ours.next().map(|status| status.eligible)
    };
    assert_eq!((eligible(0), eligible(1)), (Some(2), Some(2)));
}

#[test]
fn the_only_pod_serves_until_it_ends() {
    let Some(scene) = Scene::set("only") else {
        return;
    };
    wait_called(&scene);
    serve(&scene, 1);
    let name = names(&scene, "web", false).remove(0);
    assert_eq!(evict(&scene, &name).0, 201);
    assert!((0..2).all(|proxy| !is_out(&scene, proxy, &name)));
    assert_eq!(reviews(&scene, "drain", "kept"), 1);
}

/// How long the API server waits for an answer: a second longer than we do.
const GIVES_UP: Duration = Duration::from_secs(3);

#[test]
fn a_proxy_that_hangs_costs_a_deletion_two_seconds() {
    let Some(scene) = Scene::set("hanging") else {
        return;
    };
    wait_called(&scene);
    serve(&scene, 3);
    // On a machine that stands still it may not hear us.
    for turn in 0..3 {
        let name = names(&scene, "web", false).remove(0);
        scene.proxies[1].signal(Signal::STOP);
        let (code, took) = evict(&scene, &name);
        scene.proxies[1].signal(Signal::CONT);
        println!("with a proxy that hangs an eviction took {took:?}");
        assert_eq!(code, 201);
        assert!(is_out(&scene, 0, &name));
        wait::until(LONG, "another one has taken its place", || {
            let names = ready(&scene, "web");
            names.len() == 3 && !names.contains(&name)
        });
        scene.wait_serving();
        match reviews(&scene, "drain", "late") {
            1 => return,
            0 => assert!(took >= GIVES_UP, "turn {turn}: it was answered in {took:?}"),
            more => panic!("{more} answers for one eviction"),
        }
    }
    panic!("three times nobody was told");
}

#[test]
fn pods_come_and_go_though_nobody_can_be_asked() {
    let Some(mut scene) = Scene::set("unreachable") else {
        return;
    };
    wait_called(&scene);
    let set = "unreachable/web/tcp/80";
    serve(&scene, 3);
    // Nobody is asked any more, and the controller sees what it was not asked about.
    opt_out(&scene);
    let name = names(&scene, "web", false).remove(0);
    assert_eq!(evict(&scene, &name).0, 201);
    wait::until(LONG, "the deletion is told", || {
        counted(&scene, "podline_control_undrained_deletions_total") == 1
    });
    opt_in(&scene);
    scene.wait_rolled_out("web");
    scene.wait_backends(set, 3);
    // It hangs, and then it is gone.
    scene.controllers["a"].signal(Signal::STOP);
    come_and_go(&scene, "hanging");
    scene.controllers["a"].signal(Signal::CONT);
    let controller = scene.controllers.remove("a").unwrap();
    controller.signal(Signal::TERM);
    assert!(controller.wait_end(LONG));
    come_and_go(&scene, "gone");
    scene.start_controller("b");
    scene.wait_serving_by(1);
}

/// A Pod is made, and another one deleted that has the gate.
fn come_and_go(scene: &Scene, name: &'static str) {
    let begun = Instant::now();
    let made = make(scene, pod(name, "web"), false);
    println!("{name}: made in {:?}", begun.elapsed());
    assert!(!is_gated(&made));
    let mut gated = names(scene, "web", false);
    gated.retain(|name| name.starts_with("web-"));
    let (code, took) = evict(scene, &gated[0]);
    println!("{name}: evicted in {took:?}");
    assert_eq!(code, 201);
}
