//! Pods go for other reasons than a rolling update: fewer are wanted, a node is emptied, the strategy is another one.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Api;
use kube::api::{EvictParams, ListParams, Patch, PatchParams};
use podline_lab::wait;
use serde_json::json;

use super::{
    NAME, ROLLOUT, Watched, assert_lossless, deployment, impatient, roll, serve, stateful_set,
    surge, wait_eligible, wait_gone,
};
use crate::harness::objects;
use crate::harness::scene::Scene;
use crate::harness::traffic::Plan;

#[test]
fn scaling_from_50_to_3_under_load_loses_nothing() {
    let Some(scene) = Scene::set("scale-down") else {
        return;
    };
    serve(&scene, impatient(deployment(50, surge())), 50, true);
    let watched = Watched::start(&scene, Plan::FULL);
    let begun = Instant::now();
    scene.run(|client, namespace| async move {
        let change = json!({"spec": {"replicas": 3}});
        objects::merge::<Deployment>(&client, &namespace, NAME, change).await;
    });
    wait_gone(&scene, 3);
    println!("50 to 3 Pods in {:?}", begun.elapsed());
    wait_eligible(&scene, 3);
    assert_lossless("50 to 3", &watched.stop());
}

#[test]
fn draining_a_node_by_evictions_loses_nothing() {
    const PODS: u32 = 6;
    let Some(scene) = Scene::set("node-drain") else {
        return;
    };
    serve(&scene, impatient(deployment(PODS, surge())), PODS, true);
    budget(&scene);
    let node = busiest_node(&scene);
    let watched = Watched::start(&scene, Plan::FULL);
    let begun = Instant::now();
    cordon(&scene, &node, true);
    let refused = evict_all(&scene, &node);
    wait_gone(&scene, PODS);
    println!(
        "{node} emptied in {:?}, {refused} evictions refused at first",
        begun.elapsed()
    );
    wait_eligible(&scene, PODS);
    let tally = watched.stop();
    cordon(&scene, &node, false);
    assert!(on_node(&scene, &node).is_empty());
    assert_lossless("node drain", &tally);
}

/// One Pod may be away at a time.
fn budget(scene: &Scene) {
    scene.run(|client, namespace| async move {
        let budget = json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": NAME},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": NAME}}},
        });
        objects::apply::<PodDisruptionBudget>(&client, &namespace, budget).await;
    });
    wait::until(super::LONG, "the budget allows a disruption", || {
        scene.run(|client, namespace| async move {
            let api = Api::<PodDisruptionBudget>::namespaced(client, &namespace);
            let status = api.get(NAME).await.unwrap().status;
            status.is_some_and(|status| status.disruptions_allowed == Some(1))
        })
    });
}

/// The Pods of a node that are not being deleted.
fn on_node(scene: &Scene, node: &str) -> Vec<String> {
    let chosen = ListParams::default().fields(&format!("spec.nodeName={node}"));
    scene.run(|client, namespace| async move {
        let api = Api::<Pod>::namespaced(client, &namespace);
        let list = api.list(&chosen).await.unwrap().items;
        let live = list
            .into_iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none());
        live.filter_map(|pod| pod.metadata.name).collect()
    })
}

fn busiest_node(scene: &Scene) -> String {
    let nodes = (1..=3).map(|number| format!("node-{number}"));
    nodes.max_by_key(|node| on_node(scene, node).len()).unwrap()
}

fn cordon(scene: &Scene, node: &str, is_cordoned: bool) {
    let node = node.to_owned();
    scene.run(|client, _| async move {
        let patch = Patch::Merge(json!({"spec": {"unschedulable": is_cordoned}}));
        let api = Api::<Node>::all(client);
        api.patch(&node, &PatchParams::default(), &patch)
            .await
            .unwrap();
    });
}

/// Evicts one Pod after the other, again and again where the budget does not allow it. How often it did not.
fn evict_all(scene: &Scene, node: &str) -> u32 {
    let mut refused = 0;
    for pod in on_node(scene, node) {
        wait::until(ROLLOUT, "the Pod may be evicted", || {
            let own = pod.clone();
            let answer = scene.run(|client, namespace| async move {
                let api = Api::<Pod>::namespaced(client, &namespace);
                api.evict(&own, &EvictParams::default()).await
            });
            match answer {
                Ok(_) => true,
                Err(kube::Error::Api(status)) if status.code == 429 => {
                    refused += 1;
                    std::thread::park_timeout(Duration::from_millis(200));
                    false
                }
                Err(error) => panic!("{pod}: {error}"),
            }
        });
    }
    refused
}

#[test]
fn a_rolling_update_of_a_stateful_set_loses_nothing() {
    const PODS: u32 = 3;
    let Some(scene) = Scene::set("stateful") else {
        return;
    };
    serve(&scene, stateful_set(PODS), PODS, true);
    let watched = Watched::start(&scene, Plan::FULL);
    let begun = Instant::now();
    scene.run(|client, namespace| async move {
        let change =
            json!({"spec": {"template": {"metadata": {"annotations": {"rolled": "once"}}}}});
        objects::merge::<StatefulSet>(&client, &namespace, NAME, change).await;
    });
    wait::until(ROLLOUT, "the StatefulSet is rolled out", || {
        scene.run(|client, namespace| async move {
            let api = Api::<StatefulSet>::namespaced(client, &namespace);
            let found = api.get(NAME).await.unwrap();
            let status = found.status.unwrap_or_default();
            let counts = [status.updated_replicas, status.ready_replicas];
            status.observed_generation == found.metadata.generation
                && status.current_revision == status.update_revision
                && counts
                    .iter()
                    .all(|count| *count == i32::try_from(PODS).ok())
        })
    });
    println!("{PODS} Pods, one after the other, in {:?}", begun.elapsed());
    wait_eligible(&scene, PODS);
    assert_lossless("a StatefulSet", &watched.stop());
}

/// There is a time in which no Pod accepts, so something is lost; but nothing while the old Pod accepts, nothing once the
/// new one is ready, and nobody waits in vain.
#[test]
fn recreating_the_only_pod_loses_nothing_while_there_is_one() {
    let Some(scene) = Scene::set("recreate") else {
        return;
    };
    let mut workload = deployment(1, json!({"type": "Recreate"}));
    let annotations = &mut workload["spec"]["template"]["metadata"]["annotations"];
    annotations["kubelab.podline.io/on-term"] = json!("3s");
    serve(&scene, workload, 1, true);
    let plan = Plan {
        requests: 500,
        datagrams: 0,
        sockets: 0,
        streams: 20,
    };
    let watched = Watched::start(&scene, plan);
    let took = roll(&scene, 1, "once");
    wait_eligible(&scene, 1);
    let changes = watched.changes();
    let tally = watched.stop();
    println!("the only Pod recreated in {took:?}");
    let first_of = |words: &[&str]| {
        let is_it =
            |what: &str| what.starts_with("pod ") && words.iter().all(|word| what.contains(word));
        let found = changes.iter().find(|(_, what)| is_it(what));
        found
            .unwrap_or_else(|| panic!("no Pod was {words:?}: {changes:#?}"))
            .0
    };
    let deleted = first_of(&["deleting"]);
    let new = changes
        .iter()
        .filter(|(at, what)| *at > deleted && what.contains(" ready"));
    let ready = new
        .filter(|(_, what)| !what.contains("deleting"))
        .map(|(at, _)| *at)
        .min();
    let ready = ready.expect("the new Pod became ready");
    for (at, what) in tally.failures() {
        // It accepts for three seconds; we may have heard of its deletion later than it did.
        let accepts = deleted + Duration::from_millis(500);
        assert!(
            at >= accepts && at <= ready,
            "at {at:?}, not in {accepts:?} to {ready:?}: {what}"
        );
        assert!(!what.contains("no answer"), "{what}");
    }
    assert!(tally.requests.done > 0, "{tally}");
}
