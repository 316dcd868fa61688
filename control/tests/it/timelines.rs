//! How Pods came into traffic and out of it, as `podline timeline` and the events tell it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use podline_lab::wait;
use serde_json::{Value, json};

use crate::harness::LONG;
use crate::harness::installed::{Said, podline};
use crate::harness::objects::{self, direct};
use crate::harness::scene::Scene;

const COMING: [&str; 6] = [
    "endpoint",
    "bound",
    "probed",
    "healthy",
    "gateOpened",
    "connected",
];
const GOING: [&str; 4] = ["terminating", "closed", "empty", "gone"];

fn timeline(scene: &Scene, what: &str, format: &str) -> Said {
    let mut command = podline(&["--control", "127.0.0.1:19200", "-o", format, "timeline"]);
    command.arg(what);
    scene.cluster.star.hub.run(move || Said::by(command))
}

/// The Pods of a Deployment, in JSON.
fn pods(scene: &Scene, what: &str) -> Vec<Value> {
    let said = timeline(scene, what, "json");
    if said.code != Some(0) {
        return Vec::new();
    }
    said.json()["pods"].as_array().cloned().unwrap_or_default()
}

fn at(pod: &Value, point: &str) -> Option<Timestamp> {
    Some(pod[point].as_str()?.parse().unwrap())
}

fn has_all(pod: &Value, points: &[&str]) -> bool {
    points.iter().all(|point| at(pod, point).is_some())
}

/// Three Pods with our readiness gate, which take two seconds to end.
fn gated(scene: &Scene) {
    scene.run(|client, namespace| async move {
        objects::apply::<Service>(&client, &namespace, objects::service("web", direct())).await;
        let slow = json!({"kubelab.podline.io/on-term": "2s"});
        objects::gated_deployment(&client, &namespace, "web", 3, slow).await;
    });
}

/// Events that say that a Pod is in service, by the Pod: how often, and the words.
fn in_service(scene: &Scene) -> BTreeMap<String, (usize, String)> {
    let events = scene.run(|client, namespace| async move {
        let api = Api::<Event>::namespaced(client, &namespace);
        api.list(&ListParams::default()).await.unwrap().items
    });
    let mut told = BTreeMap::new();
    for event in events {
        if event.reason.as_deref() == Some("InService") {
            let pod = event.regarding.and_then(|pod| pod.uid).unwrap();
            let count = event.series.map_or(1, |series| series.count);
            let entry: &mut (usize, String) = told.entry(pod).or_default();
            entry.0 += usize::try_from(count).unwrap();
            entry.1 = event.note.unwrap_or_default();
        }
    }
    told
}

#[test]
fn a_deployment_is_followed_from_its_first_endpoint_to_its_last_connection() {
    let Some(scene) = Scene::set("timelines") else {
        return;
    };
    let unknown = timeline(&scene, "deployment/timelines/web", "table");
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    let typo = timeline(&scene, "deploymnet/timelines/web", "table");
    assert!(typo.err.contains("unknown kind \"deploymnet\""), "{typo:?}");
    gated(&scene);
    let what = "deployment/timelines/web";
    scene.wait_rolled_out("web");
    scene.wait_addresses("web");
    let load = scene.load(80);
    wait::until(LONG, "three Pods have come all the way", || {
        let pods = pods(&scene, what);
        pods.len() == 3 && pods.iter().all(|pod| has_all(pod, &COMING))
    });
    for pod in pods(&scene, what) {
        // A gate opens on the spot; what proxies tell is put down a little later.
        for order in [
            &["endpoint", "bound", "healthy"][..],
            &["endpoint", "probed", "healthy"],
            &["probed", "gateOpened"],
            &["endpoint", "connected"],
        ] {
            let times: Vec<_> = order.iter().map(|point| at(&pod, point)).collect();
            assert!(times.is_sorted(), "{order:?}: {pod:#}");
        }
    }
    wait::until(LONG, "each Pod is told of", || {
        in_service(&scene).len() == 3
    });

    scene.scale("web", 1);
    wait::until(LONG, "two Pods have gone all the way", || {
        let pods = pods(&scene, what);
        pods.iter().filter(|pod| has_all(pod, &GOING)).count() == 2
    });
    let tally = load.stop();
    assert!(tally.requests > 0, "{tally:?}");
    for pod in pods(&scene, what) {
        if at(&pod, "terminating").is_some() {
            for order in [&["closed", "empty"][..], &["terminating", "gone"]] {
                let times: Vec<_> = order.iter().map(|point| at(&pod, point)).collect();
                assert!(times.is_sorted(), "{order:?}: {pod:#}");
            }
        }
    }
    let steps = "podline_control_pod_step_seconds_count";
    wait::until(LONG, "every step is counted", || {
        let count = |step: &str| scene.metric(&format!("{steps}{{step=\"{step}\"}}"));
        count("endpoint_to_gate") >= 3.0 && count("terminating_to_empty") >= 2.0
    });
    for (count, words) in in_service(&scene).into_values() {
        assert_eq!(count, 1, "{words}");
        for part in [
            "bound after",
            "first probe after",
            "healthy after",
            "gate open after",
        ] {
            assert!(words.contains(part), "{words}");
        }
    }
    let table = timeline(&scene, what, "table");
    println!("{}", table.out);
    for words in ["CONNECTED", "TERMINATING", "p50", "max", "3 Pods; "] {
        assert!(table.out.contains(words), "{table:?}");
    }
}
