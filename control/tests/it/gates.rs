//! Readiness gates on a real control plane: rolling updates wait for the proxies, nobody is stranded, and every Pod is
//! written to once.

use std::thread;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use podline_lab::wait;
use rustix::process::{Pid as ProcessId, Signal, setpriority_process};
use serde_json::{Value, json};

use crate::faults::{apply, wait_leader, web};
use crate::faults_proxies::{squat, wait_not_serving};
use crate::harness::LONG;
use crate::harness::cluster::client;
use crate::harness::installation;
use crate::harness::objects::{self, GATE, direct};
use crate::harness::process::Process;
use crate::harness::scene::Scene;

/// A Pod, as far as its gate goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    name: String,
    is_ready: bool,
    /// Of our condition; empty if it is not there.
    status: String,
    reason: String,
    message: String,
}

fn seen(pod: Pod) -> Seen {
    let conditions = pod.status.and_then(|status| status.conditions);
    let conditions = conditions.unwrap_or_default();
    let find = |kind: &str| conditions.iter().find(|condition| condition.type_ == kind);
    let gate = find(GATE).cloned();
    let gate = gate.as_ref();
    Seen {
        name: pod.metadata.name.unwrap_or_default(),
        is_ready: find("Ready").is_some_and(|it| it.status == "True"),
        status: gate.map(|it| it.status.clone()).unwrap_or_default(),
        reason: gate.and_then(|it| it.reason.clone()).unwrap_or_default(),
        message: gate.and_then(|it| it.message.clone()).unwrap_or_default(),
    }
}

/// The Pods of an app that are not being deleted.
fn pods(scene: &Scene, app: &str) -> Vec<Seen> {
    let labels = ListParams::default().labels(&format!("app={app}"));
    let pods = scene.run(|client, namespace| async move {
        let api = Api::<Pod>::namespaced(client, &namespace);
        api.list(&labels).await.unwrap().items
    });
    let living = pods
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none());
    living.map(seen).collect()
}

/// Waits until all Pods of an app, so many, have gates that say this.
fn wait_gates(scene: &Scene, app: &str, count: usize, status: &str, reason: &str) {
    let mut last = Vec::new();
    wait::until(LONG, "all gates say it", || {
        let now = pods(scene, app);
        if now != last {
            println!("wanted {count} {status} {reason}: {now:#?}"); // shown if it fails
        }
        last = now;
        let says = |pod: &&Seen| pod.status == status && pod.reason == reason;
        last.len() == count && last.iter().filter(says).count() == count
    });
}

/// A Deployment of gated toy Pods; `template` is merged into the Pods' template.
fn deploy(scene: &Scene, name: &str, replicas: u32, template: Value) {
    let own = name.to_owned();
    let gate = json!({"spec": {"readinessGates": [{"conditionType": GATE}]}});
    scene.run(|client, namespace| async move {
        // Without replicas at first, so that no Pod is made without a gate.
        objects::deployment(&client, &namespace, &own, 0, json!({})).await;
        for template in [gate, template] {
            let change = json!({"spec": {"template": template}});
            objects::merge::<Deployment>(&client, &namespace, &own, change).await;
        }
        let change = json!({"spec": {"replicas": replicas}});
        objects::merge::<Deployment>(&client, &namespace, &own, change).await;
    });
}

/// Changes the template of a Deployment.
fn merge_template(scene: &Scene, name: &str, template: Value) {
    let own = name.to_owned();
    scene.run(|client, namespace| async move {
        let change = json!({"spec": {"template": template}});
        objects::merge::<Deployment>(&client, &namespace, &own, change).await;
    });
}

/// A direct Service of gated Pods, which are all ready.
fn serve(scene: &Scene, replicas: u32) {
    apply(scene, objects::service("web", direct()));
    deploy(scene, "web", replicas, json!({}));
    wait_gates(scene, "web", replicas as usize, "True", "Healthy");
    scene.wait_rolled_out("web");
}

fn silent() -> Value {
    json!({"metadata": {"annotations": {"kubelab.podline.io/listen": "none"}}})
}

fn mended() -> Value {
    json!({"metadata": {"annotations": {"kubelab.podline.io/listen": null, "mended": "yes"}}})
}

/// Conditions of gates of the test's own Pods that the API server has taken from a replica.
fn written(scene: &Scene, controller: &str) -> usize {
    let log = scene.controllers[controller].log();
    let own = format!("gate written pod={}/", scene.namespace);
    log.lines().filter(|line| line.contains(&own)).count()
}

/// The same, once so many are told of: a condition is there before its writer says so.
fn wait_written(scene: &Scene, controller: &str, least: usize) -> usize {
    wait::until(LONG, "the conditions are told of", || {
        written(scene, controller) >= least
    });
    written(scene, controller)
}

/// Prints how long it took from verdicts to their patches, and what builds took, by the controller's own histograms.
fn print_times(scene: &Scene, what: &str) {
    let metrics = scene.metrics(0);
    let is_told = |line: &&str| {
        let is_gate = line.starts_with("podline_control_gate_") && line.contains("_seconds");
        is_gate || line.starts_with("podline_control_build_seconds")
    };
    for line in metrics.lines().filter(is_told) {
        println!("{what}: {line}");
    }
}

/// A direct Service of Pods of an app of its own name, at some port.
fn service(name: &str, port: u16) -> Value {
    let mut service = objects::service(name, direct());
    service["spec"]["ports"][0]["port"] = json!(port);
    service
}

/// Waits until an object of the test's namespace was told of by an Event.
fn wait_event(scene: &Scene, begins: &str) {
    let limit = Duration::from_mins(3);
    wait::until(limit, "there is an Event", || {
        let events = scene.events();
        events.iter().any(|event| event.starts_with(begins))
    });
}

#[test]
fn gates_a_rollout_waits_for_an_unhealthy_pod_and_goes_on_when_it_is_mended() {
    let Some(scene) = Scene::set("gate-rollout") else {
        return;
    };
    serve(&scene, 3);
    merge_template(&scene, "web", silent());
    wait::until(LONG, "the new Pod's gate says why it is closed", || {
        let all = pods(&scene, "web");
        all.iter().any(|pod| pod.reason == "Unhealthy")
    });
    let all = pods(&scene, "web");
    let closed: Vec<_> = all.iter().filter(|pod| pod.status != "True").collect();
    assert_eq!((all.len(), closed.len()), (4, 1), "{all:#?}");
    assert!(!closed[0].is_ready);
    assert!(closed[0].message.starts_with("proxy "), "{closed:#?}");
    println!("closed: {}", closed[0].message);
    merge_template(&scene, "web", mended());
    scene.wait_rolled_out("web");
    wait_gates(&scene, "web", 3, "True", "Healthy");
}

/// Each of them would wait for ever for a proxy that can never reach it.
#[test]
fn gates_pods_that_can_never_be_bound_are_not_stranded() {
    let arguments = ["--backend-quota", "2"];
    let Some(scene) = Scene::with("gate-stranded", &arguments) else {
        return;
    };
    // Nobody selects it.
    deploy(&scene, "none", 1, json!({}));
    // Their probes fail until their Services change.
    for (name, port) in [("gone", 81), ("switched", 82)] {
        apply(&scene, service(name, port));
        deploy(&scene, name, 1, silent());
    }
    apply(&scene, service("host", 83));
    deploy(&scene, "host", 1, json!({"spec": {"hostNetwork": true}}));
    let mut portless = service("portless", 84);
    portless["spec"]["ports"][0]["targetPort"] = json!("other");
    apply(&scene, portless);
    deploy(&scene, "portless", 1, json!({}));
    let mut sctp = service("sctp", 85);
    sctp["spec"]["ports"][0]["protocol"] = json!("SCTP");
    apply(&scene, sctp);
    deploy(&scene, "sctp", 1, json!({}));
    for (name, reason) in [
        ("none", "NoLoadBalancer"),
        ("host", "HostNetwork"),
        ("portless", "PortNotOnPod"),
        ("sctp", "Skipped"),
    ] {
        wait_gates(&scene, name, 1, "True", reason);
    }
    for name in ["gone", "switched"] {
        wait_gates(&scene, name, 1, "False", "Unhealthy");
    }
    scene.run(|client, namespace| async move {
        objects::delete_service(&client, &namespace, "gone").await;
    });
    let node_port = json!({"service.cloud.tencent.com/direct-access": "false"});
    scene.merge_service("switched", json!({"metadata": {"annotations": node_port}}));
    wait_gates(&scene, "gone", 1, "True", "NoLoadBalancer");
    wait_gates(&scene, "switched", 1, "True", "NodePortMode");
    for name in ["none", "gone", "switched", "host", "portless", "sctp"] {
        scene.wait_rolled_out(name);
    }
    // One patch each; two were told first why they were closed.
    assert_eq!(wait_written(&scene, "a", 8), 8);
    let log = scene.controllers["a"].log();
    assert!(
        !log.contains("cannot write the Pod's readiness gate"),
        "{log}"
    );
}

#[test]
fn gates_beyond_the_quota_open_and_a_new_pod_takes_a_slot_that_is_free() {
    let Some(scene) = Scene::with("gate-quota", &["--backend-quota", "2"]) else {
        return;
    };
    apply(&scene, objects::service("web", direct()));
    deploy(&scene, "web", 3, json!({}));
    scene.wait_rolled_out("web");
    let of = |reason: &str| -> Vec<String> {
        let all = pods(&scene, "web").into_iter();
        let all = all.filter(|pod| pod.reason == reason && pod.status == "True");
        all.map(|pod| pod.name).collect()
    };
    let (bound, beyond) = (of("Healthy"), of("BeyondQuota"));
    assert_eq!((bound.len(), beyond.len()), (2, 1));
    let gone = bound[0].clone();
    scene.run(|client, namespace| async move {
        let api = Api::<Pod>::namespaced(client, &namespace);
        api.delete(&gone, &DeleteParams::default()).await.unwrap();
    });
    wait::until(LONG, "it is gone, and all gates are open", || {
        let all = pods(&scene, "web");
        let open = all
            .iter()
            .filter(|pod| pod.status == "True" && pod.is_ready);
        open.count() == 3 && all.iter().all(|pod| pod.name != bound[0])
    });
    // Whoever came first: the new Pod was not in a slice yet when the slot was free.
    let (now, still) = (of("Healthy"), of("BeyondQuota"));
    println!("bound {bound:?} then {now:?}; beyond {beyond:?} then {still:?}");
    assert!(now.contains(&bound[1]), "who was bound stays bound");
    scene.wait_backends(&web(&scene), 2);
}

#[test]
fn gates_wait_for_both_proxies() {
    let Some(scene) = Scene::set("gate-both") else {
        return;
    };
    // Port 81 of one proxy belongs to somebody else.
    squat(&scene, true);
    apply(&scene, service("web", 81));
    deploy(&scene, "web", 2, json!({}));
    wait_gates(&scene, "web", 2, "False", "InvalidConfig");
    let message = &pods(&scene, "web")[0].message;
    assert!(
        message.contains("refuses gate-both/web/tcp/81"),
        "{message}"
    );
    squat(&scene, false);
    wait_gates(&scene, "web", 2, "True", "Healthy");
    let message = &pods(&scene, "web")[0].message;
    assert!(message.ends_with("on proxies: 2"), "{message}");
}

#[test]
fn gates_go_on_when_one_proxy_hangs_and_wait_when_none_serves() {
    let Some(scene) = Scene::set("gate-hung") else {
        return;
    };
    serve(&scene, 2);
    let change = |replicas: u32| {
        scene.run(|client, namespace| async move {
            let change = json!({"spec": {"replicas": replicas}});
            objects::merge::<Deployment>(&client, &namespace, "web", change).await;
        });
    };
    scene.proxies[1].signal(Signal::STOP);
    let begun = Instant::now();
    change(4);
    wait_gates(&scene, "web", 4, "True", "Healthy");
    println!(
        "one of two proxies hung: gates open after {:?}",
        begun.elapsed()
    );
    let all = pods(&scene, "web");
    let by_one = all
        .iter()
        .filter(|pod| pod.message.ends_with("on proxies: 1"));
    assert_eq!(by_one.count(), 2, "{all:#?}");
    scene.proxies[0].signal(Signal::STOP);
    wait_not_serving(&scene, 0);
    change(5);
    wait::until(LONG, "the new Pod waits for a proxy", || {
        let all = pods(&scene, "web");
        let waits = all.iter().filter(|pod| pod.reason == "NoServingProxy");
        all.len() == 5 && waits.count() == 1
    });
    wait_event(&scene, "NoServingProxy: no proxy serves");
    for proxy in &scene.proxies {
        proxy.signal(Signal::CONT);
    }
    wait_gates(&scene, "web", 5, "True", "Healthy");
}

#[test]
fn gates_are_taken_over_by_another_replica() {
    let Some(mut scene) = Scene::set("gate-take-over") else {
        return;
    };
    serve(&scene, 3);
    let second = scene.start_controller("b");
    scene.wait_serving_by(second);
    merge_template(&scene, "web", silent());
    wait::until(LONG, "the first says why a gate is closed", || {
        pods(&scene, "web")
            .iter()
            .any(|pod| pod.reason == "Unhealthy")
    });
    assert_eq!(written(&scene, "b"), 0, "a follower writes nothing");
    scene.controllers["a"].signal(Signal::KILL);
    wait_leader(&scene, "b");
    merge_template(&scene, "web", mended());
    scene.wait_rolled_out("web");
    wait_gates(&scene, "web", 3, "True", "Healthy");
    let all = wait_written(&scene, "b", 3);
    println!("the second replica wrote {all} conditions for 3 new Pods");
    // It may have said once more why the silent one was closed, in other words.
    assert!((3..=4).contains(&all), "{all}");
}

#[test]
fn gates_are_written_once_for_each_pod() {
    let Some(scene) = Scene::set("gate-once") else {
        return;
    };
    let begun = Instant::now();
    serve(&scene, 20);
    println!("20 Pods rolled out after {:?}", begun.elapsed());
    assert_eq!(wait_written(&scene, "a", 20), 20);
    let begun = Instant::now();
    scene.roll("web");
    println!("20 Pods rolled after {:?}", begun.elapsed());
    wait_gates(&scene, "web", 20, "True", "Healthy");
    assert_eq!(wait_written(&scene, "a", 40), 40);
    print_times(&scene, "20 at once, then one by one");
}

#[test]
fn gates_of_long_waits_are_told() {
    let Some(scene) = Scene::set("gate-slow") else {
        return;
    };
    apply(&scene, objects::service("web", direct()));
    scene.run(|client, namespace| async move {
        let container = json!({
            "name": "toy", "image": "toy", "ports": [{"name": "http", "containerPort": 8080}],
        });
        let set = json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "web"},
            "spec": {
                "replicas": 2, "serviceName": "web", "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {
                        "labels": {"app": "web"},
                        "annotations": {"kubelab.podline.io/listen": "none"},
                    },
                    "spec": {"readinessGates": [{"conditionType": GATE}], "containers": [container]},
                },
            },
        });
        objects::apply::<StatefulSet>(&client, &namespace, set).await;
    });
    wait_gates(&scene, "web", 1, "False", "Unhealthy");
    wait_event(&scene, "GateClosed: it waits for the load balancer");
    wait_event(&scene, "GateClosed: the next Pod waits for web-0");
    assert_eq!(pods(&scene, "web").len(), 1);
}

/// What the controller's account is answered to a patch of a Pod's status.
fn patched(scene: &Scene, pod: &str, patch: Patch<Value>) -> u16 {
    let (account, pod) = (scene.account.clone(), pod.to_owned());
    scene.run(|_, namespace| async move {
        let client = client(account).await.unwrap();
        let api = Api::<Pod>::namespaced(client, &namespace);
        match api
            .patch_status(&pod, &PatchParams::default(), &patch)
            .await
        {
            Ok(_) => 200,
            Err(kube::Error::Api(status)) => {
                println!("{}: {}", status.code, status.message);
                status.code
            }
            Err(error) => panic!("{error}"),
        }
    })
}

#[test]
fn gates_are_all_that_the_account_may_change_of_pods() {
    let Some(mut scene) = Scene::bare("gate-policy") else {
        return;
    };
    scene.account = installation::account(&scene.cluster, scene.directory.path());
    deploy(&scene, "web", 1, json!({}));
    wait::until(LONG, "the Pod runs", || {
        let pods = scene.run(|client, namespace| async move {
            let api = Api::<Pod>::namespaced(client, &namespace);
            api.list(&ListParams::default()).await.unwrap().items
        });
        let phases = pods
            .iter()
            .filter_map(|pod| pod.status.as_ref()?.phase.as_deref());
        phases.filter(|phase| *phase == "Running").count() == 1
    });
    let name = pods(&scene, "web")[0].name.clone();
    let condition = |kind: &str, status: &str| {
        let condition = json!({"type": kind, "status": status, "reason": "Test", "message": "x"});
        Patch::Strategic(json!({"status": {"conditions": [condition]}}))
    };
    let refused = |what: &str, patch: Patch<Value>| {
        assert_eq!(patched(&scene, &name, patch), 403, "{what}");
    };
    // The policy holds a moment after it was written.
    wait::until(LONG, "the policy holds", || {
        patched(&scene, &name, condition("Ready", "True")) == 403
    });
    refused("another condition", condition("example.com/gate", "True"));
    refused("a kubelet's", condition("ContainersReady", "False"));
    let status = |status: Value| Patch::Merge(json!({"status": status}));
    refused("the phase", status(json!({"phase": "Succeeded"})));
    refused(
        "the addresses",
        status(json!({"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]})),
    );
    refused("a new field", status(json!({"message": "x"})));
    refused("a field less", status(json!({"startTime": null})));
    let gate = json!({"type": GATE, "status": "True", "reason": "Healthy", "message": "x"});
    refused("others' conditions", status(json!({"conditions": [gate]})));
    refused("all conditions", status(json!({"conditions": null})));
    let meta = |meta: Value| Patch::Merge(json!({"metadata": meta}));
    refused("a label", meta(json!({"labels": {"app": "other"}})));
    refused("all labels", meta(json!({"labels": null})));
    refused("an annotation", meta(json!({"annotations": {"a": "b"}})));
    refused(
        "a finalizer",
        meta(json!({"finalizers": ["example.com/a"]})),
    );
    // With ours in the same request.
    let both = json!({"metadata": {"labels": {"a": "b"}}, "status": {"conditions": [gate]}});
    refused("a label with the gate", Patch::Strategic(both));
    let foreign = json!({"metadata": {"uid": "other"}, "status": {"conditions": [gate]}});
    let foreign = patched(&scene, &name, Patch::Strategic(foreign));
    assert!([409, 422].contains(&foreign), "{foreign}");
    assert_eq!(pods(&scene, "web")[0].status, "");
    assert_eq!(patched(&scene, &name, condition(GATE, "False")), 200);
    assert_eq!(patched(&scene, &name, condition(GATE, "True")), 200);
    assert_eq!(pods(&scene, "web")[0].reason, "Test");
    // Whoever else may write it may write it.
    scene.run(|client, namespace| async move {
        let api = Api::<Pod>::namespaced(client, &namespace);
        let patch = Patch::Merge(json!({"metadata": {"labels": {"by": "somebody"}}}));
        let params = PatchParams::default();
        api.patch_status(&name, &params, &patch).await.unwrap();
    });
    scene.wait_rolled_out("web");
}

/// Lets a process run before all others, as one with a processor of its own: the control plane, which in a cluster has
/// machines of its own, would have taken the two of this one.
fn put_first(process: &Process) {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.pid())).unwrap();
    for task in tasks {
        let name = task.unwrap().file_name();
        let id = name.to_str().and_then(|id| id.parse().ok()).unwrap();
        setpriority_process(ProcessId::from_raw(id), -15).unwrap();
    }
}

/// A thousand Pods of one Service, fifty at a time, each of which is written to once. By hand, with release builds.
#[test]
#[ignore = "measures; run by hand"]
fn gates_of_a_thousand_pods_that_roll() {
    const PODS: u32 = 1_000;
    let arguments = ["--backend-quota", "2000"];
    let Some(scene) = Scene::with("gate-thousand", &arguments) else {
        return;
    };
    put_first(&scene.controllers["a"]);
    for node in 4..=6 {
        scene.cluster.control(&format!("node node-{node} up"));
    }
    apply(&scene, objects::service("web", direct()));
    deploy(&scene, "web", 0, json!({}));
    let deployment = |change: Value| {
        scene.run(|client, namespace| async move {
            objects::merge::<Deployment>(&client, &namespace, "web", change).await;
        });
    };
    let wait_rolled = |what: &str| {
        let begun = Instant::now();
        wait::until(Duration::from_mins(15), what, || {
            // Who asks without a pause measures his own load of the server.
            thread::park_timeout(Duration::from_millis(250));
            let deployment = scene.run(|client, namespace| async move {
                let api = Api::<Deployment>::namespaced(client, &namespace);
                api.get("web").await.unwrap()
            });
            let status = deployment.status.unwrap_or_default();
            let counts = [
                status.replicas,
                status.updated_replicas,
                status.available_replicas,
            ];
            let is_whole = counts
                .iter()
                .all(|count| *count == Some(PODS.cast_signed()));
            is_whole && status.observed_generation == deployment.metadata.generation
        });
        println!("{what} after {:?}", begun.elapsed());
    };
    let surge = json!({"rollingUpdate": {"maxSurge": 50, "maxUnavailable": 0}});
    deployment(json!({"spec": {"replicas": PODS, "strategy": surge}}));
    wait_rolled("a thousand Pods are there");
    print_times(&scene, "all at once");
    let before = written(&scene, "a");
    deployment(json!({"spec": {"template": {"metadata": {"annotations": {"rolled": "yes"}}}}}));
    wait_rolled("a thousand Pods are rolled");
    print_times(&scene, "and fifty at a time");
    println!("written to {} Pods", written(&scene, "a") - before);
    let log = scene.controllers["a"].log();
    let of_roll = log
        .lines()
        .rev()
        .filter(|line| line.contains("gate written"));
    let of_roll: Vec<_> = of_roll.take(PODS as usize).collect();
    for field in ["sent_us=", "answered_us="] {
        let times = of_roll.iter().filter_map(|line| {
            let after = line.split(field).nth(1)?.split_whitespace().next()?;
            Some(Duration::from_micros(after.parse().ok()?))
        });
        print_quantiles(field, times.collect());
    }
    for at_once in [1, 50] {
        let times = bare_patches(&scene, at_once);
        print_quantiles(&format!("bare patches, {at_once} at once"), times);
    }
}

fn print_quantiles(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let (median, late) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!("{what} median {median:?}, p99 {late:?} of {}", times.len());
}

/// What the API server takes for patches of Pods' statuses that nobody waits for.
fn bare_patches(scene: &Scene, at_once: usize) -> Vec<Duration> {
    const COUNT: usize = 300;
    let names: Vec<_> = pods(scene, "web").into_iter().map(|pod| pod.name).collect();
    scene.run(move |client, namespace| async move {
        let api = Api::<Pod>::namespaced(client, &namespace);
        let patch = |name: String| {
            let (api, value) = (api.clone(), format!("{at_once} at once"));
            async move {
                let condition = json!({"type": "example.com/measured", "status": "True", "reason": "Measured", "message": value});
                let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
                let begun = Instant::now();
                let params = PatchParams::default();
                api.patch_status(&name, &params, &patch).await.unwrap();
                begun.elapsed()
            }
        };
        let patches = names.into_iter().take(COUNT).map(patch);
        futures_util::StreamExt::collect(futures_util::StreamExt::buffer_unordered(
            futures_util::stream::iter(patches),
            at_once,
        ))
        .await
    })
}
