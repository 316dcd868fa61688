//! Rolling updates, scaling and node drains under load: nothing is lost. The Pods behave as real ones: they accept 3 s
//! after their start, without a readiness probe that would tell; they accept nothing 1 s after SIGTERM, and bring their
//! long connections to a clean end then.

mod damage;
mod proxies;
mod rolling;
mod scaling;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use kube::api::{Api, ListParams, PostParams};
use podline_lab::wait;
use serde_json::{Value, json};

use crate::harness::LONG;
use crate::harness::cluster::CLIENT;
use crate::harness::objects::GATE;
use crate::harness::objects::{self, direct};
use crate::harness::scene::Scene;
use crate::harness::traffic::{Plan, Tally, Traffic};
use crate::harness::witness::Witness;

/// What is rolled.
const NAME: &str = "web";
/// No rollout takes longer.
const ROLLOUT: Duration = Duration::from_mins(4);

fn template() -> Value {
    let behaviour = json!({
        "kubelab.podline.io/accept-after": "3s",
        "kubelab.podline.io/on-term": "1s",
    });
    json!({
        "metadata": {"labels": {"app": NAME}, "annotations": behaviour},
        "spec": {
            "terminationGracePeriodSeconds": 30,
            "containers": [{
                "name": "toy", "image": "toy",
                "ports": [
                    {"name": "http", "containerPort": 8080},
                    {"name": "udp", "containerPort": 8080, "protocol": "UDP"},
                ],
            }],
        },
    })
}

/// One Pod more while it rolls, never one less.
fn surge() -> Value {
    json!({"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}})
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it is made where it is given"
)]
fn deployment(replicas: u32, strategy: Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": NAME},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": NAME}},
            "strategy": strategy,
            "template": template(),
        },
    })
}

/// Port 80, over TCP and UDP, straight to the Pods, whose UDP port is asked itself.
fn service() -> Value {
    let mut annotations = direct();
    annotations["podline.io/udp-check"] = json!(format!("ping => {NAME}-"));
    let mut service = objects::service(NAME, annotations);
    service["spec"]["ports"] = json!([
        {"name": "http", "port": 80, "targetPort": "http"},
        {"name": "udp", "port": 80, "targetPort": "udp", "protocol": "UDP"},
    ]);
    service
}

/// The same, of Pods that accept nothing from SIGTERM on: who sends them something then loses it.
fn impatient(mut workload: Value) -> Value {
    let annotations = &mut workload["spec"]["template"]["metadata"]["annotations"];
    annotations["kubelab.podline.io/on-term"] = json!("exit");
    workload
}

/// One after the other, the last first.
fn stateful_set(replicas: u32) -> Value {
    let mut object = deployment(replicas, json!({}));
    object["kind"] = json!("StatefulSet");
    let spec = object["spec"].as_object_mut().unwrap();
    spec.remove("strategy");
    spec.insert("serviceName".to_owned(), json!(NAME));
    spec.insert("podManagementPolicy".to_owned(), json!("OrderedReady"));
    object
}

/// Makes the Service and what serves it, and waits until both proxies send traffic to so many Pods. With gates the Pods
/// are made only once the API server asks the webhooks.
fn serve(scene: &Scene, workload: Value, replicas: u32, are_gated: bool) {
    scene.run(|client, namespace| async move {
        objects::apply::<Service>(&client, &namespace, service()).await;
    });
    scene.wait_addresses(NAME);
    if are_gated {
        wait_webhooks(scene);
    }
    scene.run(|client, namespace| async move {
        match workload["kind"].as_str() {
            Some("StatefulSet") => {
                objects::apply::<StatefulSet>(&client, &namespace, workload).await;
            }
            _ => objects::apply::<Deployment>(&client, &namespace, workload).await,
        }
    });
    wait_eligible(scene, replicas);
    wait_gates(scene, are_gated);
}

/// Waits until a Pod would get its gate.
fn wait_webhooks(scene: &Scene) {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod"});
    for (key, value) in template().as_object().unwrap() {
        pod[key] = value.clone();
    }
    pod["metadata"]["name"] = json!("asked-for");
    let pod: Pod = serde_json::from_value(pod).unwrap();
    wait::until(LONG, "a Pod would get its gate", || {
        let pod = pod.clone();
        let made = scene.run(|client, namespace| async move {
            let dry = PostParams {
                dry_run: true,
                ..PostParams::default()
            };
            Api::<Pod>::namespaced(client, &namespace)
                .create(&dry, &pod)
                .await
        });
        made.is_ok_and(|made| has_gate(&made))
    });
}

fn has_gate(pod: &Pod) -> bool {
    let gates = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.readiness_gates.as_ref());
    let mut gates = gates.into_iter().flatten();
    gates.any(|gate| gate.condition_type == GATE)
}

/// Waits until every Pod is ready, with gates or without.
fn wait_gates(scene: &Scene, are_there: bool) {
    wait::until(LONG, "every Pod is ready", || {
        scene.run(|client, namespace| async move {
            let api = Api::<Pod>::namespaced(client, &namespace);
            let pods = api.list(&ListParams::default()).await.unwrap().items;
            assert!(pods.iter().all(|pod| has_gate(pod) == are_there));
            let is_ready = |pod: &Pod| {
                let conditions = pod.status.iter().flat_map(|status| &status.conditions);
                let mut conditions = conditions.flatten();
                conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
            };
            pods.iter().all(is_ready)
        })
    });
}

/// Waits until both proxies send traffic of both ports to so many Pods, and to no others.
fn wait_eligible(scene: &Scene, count: u32) {
    wait_eligible_on(scene, &[0, 1], count);
}

/// The same, of some proxies.
fn wait_eligible_on(scene: &Scene, proxies: &[usize], count: u32) {
    wait::until(2 * LONG, "the proxies send traffic to all Pods", || {
        proxies.iter().all(|proxy| {
            let sets = scene.state(*proxy).backend_sets;
            let is_whole = |set: &podline_api::v1::BackendSetStatus| {
                let live = set.backends.iter().filter(|backend| !backend.draining);
                set.eligible == count && live.count() == count as usize && !set.fail_open
            };
            sets.len() == 2 && sets.iter().all(is_whole)
        })
    });
}

/// Pods whose deletion has not begun, and all.
fn pods(scene: &Scene) -> (usize, usize) {
    scene.run(|client, namespace| async move {
        let api = Api::<Pod>::namespaced(client, &namespace);
        let list = api.list(&ListParams::default()).await.unwrap().items;
        let is_live = |pod: &&Pod| pod.metadata.deletion_timestamp.is_none();
        (list.iter().filter(is_live).count(), list.len())
    })
}

/// Replaces every Pod, and waits until it is so and the old ones are gone. How long the rollout took.
fn roll(scene: &Scene, replicas: u32, word: &str) -> Duration {
    let begun = Instant::now();
    begin_roll(scene, word);
    wait_rolled_out(scene);
    let took = begun.elapsed();
    wait_gone(scene, replicas);
    took
}

fn begin_roll(scene: &Scene, word: &str) {
    let change = json!({"spec": {"template": {"metadata": {"annotations": {"rolled": word}}}}});
    scene.run(|client, namespace| async move {
        objects::merge::<Deployment>(&client, &namespace, NAME, change).await;
    });
}

fn wait_gone(scene: &Scene, replicas: u32) {
    wait::until(2 * LONG, "the old Pods are gone", || {
        pods(scene) == (replicas as usize, replicas as usize)
    });
}

fn wait_rolled_out(scene: &Scene) {
    wait::until(ROLLOUT, "the Deployment is rolled out", || {
        scene.run(|client, namespace| async move {
            let api = Api::<Deployment>::namespaced(client, &namespace);
            let found = api.get(NAME).await.unwrap();
            let wanted = found.spec.and_then(|spec| spec.replicas);
            let status = found.status.unwrap_or_default();
            let all = [
                status.replicas,
                status.updated_replicas,
                status.available_replicas,
            ];
            status.observed_generation == found.metadata.generation
                && all.iter().all(|count| *count == wanted)
        })
    });
}

/// Traffic, and what became of the Pods meanwhile.
struct Watched {
    traffic: Traffic,
    witness: Witness,
    begun: Instant,
}

impl Watched {
    /// Clients of both proxies.
    fn start(scene: &Scene, plan: Plan) -> Self {
        Self::through(scene, &[0, 1], plan)
    }

    /// Clients of some proxies.
    fn through(scene: &Scene, proxies: &[usize], plan: Plan) -> Self {
        let witness = Witness::start(scene);
        let all = scene.addresses(80);
        let addresses: Vec<_> = proxies.iter().map(|proxy| all[*proxy]).collect();
        let client = &scene.cluster.star.spokes[CLIENT];
        let begun = Instant::now();
        let traffic = Traffic::start(client, &addresses, NAME, plan);
        traffic.wait_running(plan);
        Self {
            traffic,
            witness,
            begun,
        }
    }

    /// What became of the Pods so far, and when since the start.
    fn changes(&self) -> Vec<(Duration, String)> {
        self.witness.changes(self.begun)
    }

    /// Stops after some more requests; what was seen. Failures are told together with what became of the Pods.
    fn stop(self) -> Tally {
        self.traffic.pass(2_000);
        let tally = self.traffic.stop();
        println!("{tally}");
        if tally.failed() > 0 {
            let failures = tally.failures();
            let mut lines: Vec<_> = self.witness.changes(self.begun);
            lines.extend(
                failures
                    .iter()
                    .take(200)
                    .map(|(at, what)| (*at, format!("FAILED {what}"))),
            );
            lines.sort();
            for (at, what) in lines {
                println!("{:9.3} {what}", at.as_secs_f64());
            }
            println!("{}", summary(&failures));
        }
        tally
    }
}

/// How many failures of each kind, by what was said first.
fn summary(failures: &[(Duration, String)]) -> String {
    let mut kinds = BTreeMap::<String, u64>::new();
    for (_, what) in failures {
        let words: String = what
            .chars()
            .filter(|letter| !letter.is_ascii_digit())
            .collect();
        *kinds.entry(words).or_default() += 1;
    }
    let told = kinds
        .iter()
        .map(|(what, count)| format!("{count:6} {what}"));
    told.collect::<Vec<_>>().join("\n")
}

fn assert_lossless(what: &str, tally: &Tally) {
    assert_eq!(tally.failed(), 0, "{what}: {tally}");
    assert!(
        tally.requests.done > 0 && tally.datagrams.done > 0,
        "{what}: {tally}"
    );
}

/// The Pods of this namespace get no gate, and their deletion waits for nobody.
pub(crate) fn opt_out(scene: &Scene) {
    scene.run(|client, namespace| async move {
        let labels = json!({"metadata": {"labels": {"podline.io/readiness-gate": "disabled"}}});
        let api = Api::<Namespace>::all(client);
        let patch = kube::api::Patch::Merge(&labels);
        api.patch(&namespace, &kube::api::PatchParams::default(), &patch)
            .await
            .unwrap();
    });
}
