//! The control plane fails, or the controller does: traffic goes on, nothing is deleted by mistake, and in the end the
//! proxies are what the objects say.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use podline_lab::wait;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::load::{Load, Tally};
use crate::harness::objects::{self, direct};
use crate::harness::scene::{PROXY_SERVICE, SYSTEM, Scene};
use crate::harness::{LONG, SECOND, installation};

const LEASE: &str = "podline-control";

/// A Service `web` of three Pods at port 80 under load.
pub(crate) fn under_load(name: &str) -> Option<(Scene, Load)> {
    let scene = Scene::set(name)?;
    let load = serve_web(&scene);
    Some((scene, load))
}

fn serve_web(scene: &Scene) -> Load {
    scene.serve("web", 3, direct());
    scene.wait_backends(&web(scene), 3);
    let load = scene.load(80);
    load.pass(100);
    load
}

/// Waits until there is nothing left to write to Service `web`: its source address is told last, once it has held for
/// 10 s.
pub(crate) fn wait_all_told(scene: &Scene) {
    wait::until(LONG, "the source address is told", || {
        let told = scene.condition("web", "podline.io/SourceAddress");
        told.is_some()
    });
}

/// A Service in front of the Pods of `web`, at another port; waits until it is served.
pub(crate) fn serve_at(scene: &Scene, name: &str, port: u16, annotations: Value) {
    let mut service = objects::service(name, annotations);
    service["spec"]["selector"]["app"] = json!("web");
    service["spec"]["ports"][0]["port"] = json!(port);
    apply(scene, service);
    scene.wait_addresses(name);
}

/// Writes a Service.
pub(crate) fn apply(scene: &Scene, service: Value) {
    scene.run(|client, namespace| async move {
        objects::apply::<Service>(&client, &namespace, service).await;
    });
}

/// Its backend set.
pub(crate) fn web(scene: &Scene) -> String {
    format!("{}/web/tcp/80", scene.namespace)
}

pub(crate) fn assert_nothing_lost(what: &str, tally: &Tally) {
    println!(
        "{what}: {} requests, {} failed, the slowest took {:?}",
        tally.requests,
        tally.failures.len(),
        tally.slowest
    );
    assert!(tally.failures.is_empty(), "{what}: {:#?}", tally.failures);
    assert!(tally.requests > 0, "{what}: no request was answered");
}

/// A change made now reaches the proxies, and then they have what the objects say.
pub(crate) fn assert_alive(scene: &Scene, replicas: u32) {
    scene.scale("web", replicas);
    scene.wait_backends(&web(scene), replicas as usize);
    scene.wait_agreed();
}

/// Kubernetes' own controllers wait longer and longer where they failed: started anew they act at once.
fn wake_controllers(scene: &Scene) {
    scene.cluster.control("restart controller-manager");
    scene.cluster.control("restart scheduler");
}

/// Who leads by the Lease, and in which epoch.
pub(crate) fn lease(scene: &Scene) -> (String, i32) {
    let lease = scene.run(|client, _| async move {
        let api = Api::<Lease>::namespaced(client, SYSTEM);
        api.get_opt(LEASE).await.unwrap()
    });
    let spec = lease.and_then(|lease| lease.spec).unwrap_or_default();
    (
        spec.holder_identity.unwrap_or_default(),
        spec.lease_transitions.unwrap_or_default(),
    )
}

/// The highest epoch that a proxy has taken.
fn epoch(scene: &Scene, proxy: usize) -> u64 {
    let owners = scene.state(proxy).owners;
    let ours = owners.iter().find(|status| status.owner == "k8s/default");
    ours.and_then(|status| status.epoch).unwrap_or_default()
}

pub(crate) fn wait_leader(scene: &Scene, name: &str) -> Duration {
    let begun = Instant::now();
    wait::until(LONG, "it leads and has pushed", || {
        let (holder, transitions) = lease(scene);
        let reign = u64::try_from(transitions).unwrap();
        holder == name && (0..2).all(|proxy| epoch(scene, proxy) == reign)
    });
    begun.elapsed()
}

/// Waits until controller "a" has begun its second reign, and says how long that took.
fn wait_second_reign(scene: &Scene) -> Duration {
    let begun = Instant::now();
    wait::until(LONG, "it leads again", || {
        let log = scene.controllers["a"].log();
        log.matches("this replica leads epoch").count() > 1
    });
    begun.elapsed()
}

#[test]
fn faults_the_api_server_is_killed_and_started() {
    let Some((scene, load)) = under_load("api-killed") else {
        return;
    };
    scene.wait_agreed();
    let served = |proxy| {
        let picture = crate::harness::oracle::picture(&scene.state(proxy));
        (picture.listeners, picture.sets)
    };
    let before = [0, 1].map(served);
    scene.cluster.control("kill apiserver");
    load.pass(500);
    assert_eq!([0, 1].map(served), before, "silence changes nothing");
    scene.cluster.control("start apiserver");
    wake_controllers(&scene);
    assert_alive(&scene, 5);
    assert_nothing_lost("API server killed", &load.stop());
}

#[test]
fn faults_the_api_server_hangs() {
    let Some((scene, load)) = under_load("api-hangs") else {
        return;
    };
    scene.cluster.control("pause apiserver");
    wait::until(LONG, "the Lease is lost", || {
        scene.controllers["a"].log().contains("leads no more")
    });
    load.pass(200);
    scene.cluster.control("resume apiserver");
    wake_controllers(&scene);
    let back = wait_second_reign(&scene);
    wait_leader(&scene, "a");
    assert_alive(&scene, 5);
    println!("leads again after {back:?}");
    assert_nothing_lost("API server hung", &load.stop());
}

#[test]
fn faults_the_api_server_is_away_when_a_controller_starts() {
    let Some((mut scene, load)) = under_load("api-away") else {
        return;
    };
    scene.cluster.control("kill apiserver");
    let service = format!("{SYSTEM}/{PROXY_SERVICE}");
    // Without webhooks, whose endpoint could not be written now.
    let namespace = format!("--namespace={SYSTEM}");
    let index = scene.start_controller_for("b", &["--proxy-service", &service, &namespace]);
    wait::until(LONG, "it says what it waits for", || {
        let ready = scene.page(index, "/readyz");
        let log = scene.controllers["b"].log();
        ready.is_err_and(|answer| answer.to_string().contains(" 503 "))
            && log.contains("cannot reach the API server")
    });
    load.pass(200);
    let new = &scene.controllers["b"];
    assert!(new.runs());
    let log = new.log();
    assert!(
        !log.contains("kube_client"),
        "failures are told once: {log}"
    );
    scene.cluster.control("start apiserver");
    wake_controllers(&scene);
    scene.wait_serving_by(index);
    scene.controllers["a"].signal(Signal::KILL);
    wait_leader(&scene, "b");
    assert_alive(&scene, 5);
    assert_nothing_lost("API server away at a start", &load.stop());
}

#[test]
fn faults_watches_expire() {
    let Some((scene, load)) = under_load("expired") else {
        return;
    };
    scene.cluster.control("compact");
    scene.cluster.control("restart apiserver");
    wake_controllers(&scene);
    assert_alive(&scene, 5);
    assert_nothing_lost("watches expired", &load.stop());
    let log = scene.controllers["a"].log();
    assert!(log.contains("too old resource version"), "no watch expired");
}

fn etcd_is_away(name: &str, at_least: Duration) {
    let Some((scene, load)) = under_load(name) else {
        return;
    };
    let begun = Instant::now();
    scene.cluster.control("stop etcd");
    wait::until(LONG, "the Lease is lost", || {
        scene.controllers["a"].log().contains("leads no more")
    });
    while begun.elapsed() < at_least {
        load.pass(100);
    }
    scene.cluster.control("start etcd");
    wake_controllers(&scene);
    let back = wait_second_reign(&scene);
    wait_leader(&scene, "a");
    assert_alive(&scene, 5);
    println!("leads again after {back:?}");
    assert_nothing_lost("etcd stopped", &load.stop());
}

#[test]
fn faults_etcd_is_stopped_until_the_lease_is_lost() {
    etcd_is_away("etcd", Duration::ZERO);
}

#[test]
#[ignore = "by hand: etcd is away for half a minute"]
fn faults_etcd_is_stopped_for_half_a_minute() {
    etcd_is_away("etcd-long", 30 * SECOND);
}

#[test]
fn faults_the_controller_is_killed_and_another_started() {
    let Some((mut scene, load)) = under_load("controller-killed") else {
        return;
    };
    scene.controllers["a"].signal(Signal::KILL);
    assert!(scene.controllers["a"].wait_end(LONG));
    scene.scale("web", 5);
    load.pass(200);
    scene.wait_backends(&web(&scene), 3);
    scene.start_controller("b");
    let took = wait_leader(&scene, "b");
    scene.wait_backends(&web(&scene), 5);
    scene.wait_agreed();
    assert_alive(&scene, 6);
    println!("the new one leads after {took:?}");
    assert_nothing_lost("controller killed", &load.stop());
}

#[test]
fn faults_a_follower_takes_over() {
    let Some((mut scene, load)) = under_load("takeover") else {
        return;
    };
    let index = scene.start_controller("b");
    scene.wait_serving_by(index);
    let (holder, first) = lease(&scene);
    assert_eq!(holder, "a");
    scene.controllers["a"].signal(Signal::KILL);
    let killed = wait_leader(&scene, "b");
    assert!(lease(&scene).1 > first);
    assert_alive(&scene, 5);

    let index = scene.start_controller("c");
    scene.wait_serving_by(index);
    scene.controllers["b"].signal(Signal::TERM);
    let handed = wait_leader(&scene, "c");
    assert!(scene.controllers["b"].wait_end(LONG));
    assert_alive(&scene, 6);
    println!("took over {killed:?} after SIGKILL, {handed:?} after SIGTERM");
    assert_nothing_lost("takeover", &load.stop());
}

#[test]
fn faults_one_that_was_paused_past_its_lease_is_harmless() {
    let Some((mut scene, load)) = under_load("paused") else {
        return;
    };
    let index = scene.start_controller("b");
    scene.wait_serving_by(index);
    wait_all_told(&scene);
    let (before, pushes) = (writes(&scene, 0), pushes(&scene, 0));
    scene.controllers["a"].signal(Signal::STOP);
    let took = wait_leader(&scene, "b");
    assert_alive(&scene, 5);
    // Something to do that "a" has not seen, and would undo or write if it still believed to lead.
    serve_at(&scene, "second", 81, json!({}));
    scene.wait_agreed();
    let (_, reign) = lease(&scene);
    let versions = versions(&scene);
    scene.controllers["a"].signal(Signal::CONT);
    wait::until(LONG, "it knows that it leads no more", || {
        scene.controllers["a"].log().contains("leads no more")
    });
    load.pass(500);
    scene.wait_agreed();
    assert_eq!(
        lease(&scene),
        ("b".to_owned(), reign),
        "nobody took the Lease"
    );
    assert_eq!(self::versions(&scene), versions, "no object was written");
    for proxy in 0..2 {
        assert_eq!(epoch(&scene, proxy), u64::try_from(reign).unwrap());
    }
    assert_eq!(writes(&scene, 0), before, "\"a\" has written");
    assert_eq!(self::pushes(&scene, 0), pushes, "\"a\" has pushed");
    assert_alive(&scene, 6);
    println!("took over after {took:?}");
    assert_nothing_lost("paused", &load.stop());
}

/// The Lease remembers the epoch, and the proxies do: without it a new controller begins below what they have seen.
#[test]
fn faults_the_lease_is_deleted_and_nobody_remembers_the_epoch() {
    let Some((mut scene, load)) = under_load("lease-lost") else {
        return;
    };
    let raised_above = |scene: &Scene, before: u64| {
        wait::until(LONG, "both proxies have heard a higher epoch", || {
            (0..2).all(|proxy| epoch(scene, proxy) > before)
        });
        epoch(scene, 0).max(epoch(scene, 1))
    };
    let mut highest = 0;
    for _ in 0..3 {
        highest = raised_above(&scene, highest);
        scene.controllers["a"].signal(Signal::KILL);
        assert!(scene.controllers["a"].wait_end(LONG));
        scene.start_controller("a");
    }
    highest = raised_above(&scene, highest);
    scene.controllers["a"].signal(Signal::KILL);
    assert!(scene.controllers["a"].wait_end(LONG));
    scene.run(|client, _| async move {
        let api = Api::<Lease>::namespaced(client, SYSTEM);
        api.delete(LEASE, &DeleteParams::default()).await.unwrap();
    });
    scene.start_controller("a");
    raised_above(&scene, highest);
    wait_leader(&scene, "a");
    assert_alive(&scene, 5);
    assert_nothing_lost("Lease deleted", &load.stop());
}

/// Writes of a controller to the API server.
fn writes(scene: &Scene, index: u16) -> u64 {
    sum(&scene.metrics(index), "podline_control_writes_total")
}

/// Requests of a controller that proxies took and that held something.
fn pushes(scene: &Scene, index: u16) -> u64 {
    let metrics = scene.metrics(index);
    let lines = metrics.lines().filter(|line| !line.contains("empty"));
    let lines: Vec<_> = lines.collect();
    sum(&lines.join("\n"), "podline_control_pushes_total")
}

/// A metric, over all its labels.
pub(crate) fn sum(metrics: &str, name: &str) -> u64 {
    let lines = metrics.lines().filter(|line| line.starts_with(name));
    let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
    values.sum()
}

/// Resource versions of the Services.
fn versions(scene: &Scene) -> Vec<Option<String>> {
    let services = ["web", "second"].map(|name| scene.service(name).unwrap());
    let versions = services.map(|service| service.metadata.resource_version);
    versions.to_vec()
}

/// Two that both believe to lead: each has a Lease of its own, and the same certificates.
#[test]
fn faults_two_controllers_fight() {
    const OTHER: &str = "podline-rival";
    let Some((mut scene, load)) = under_load("fighting") else {
        return;
    };
    scene.run(|client, _| async move {
        objects::namespace(&client, OTHER).await;
        let api = Api::<Secret>::namespaced(client.clone(), SYSTEM);
        let to = Api::<Secret>::namespaced(client.clone(), OTHER);
        for mut secret in api.list(&ListParams::default()).await.unwrap().items {
            secret.metadata = kube::api::ObjectMeta {
                name: secret.metadata.name,
                annotations: secret.metadata.annotations,
                ..Default::default()
            };
            let made = to.create(&PostParams::default(), &secret).await;
            assert!(made.is_ok() || made.is_err_and(|error| error.to_string().contains("exists")));
        }
        // Of an older reign, so that its epoch is beyond ours.
        let lease = json!({"metadata": {"name": LEASE}, "spec": {"leaseTransitions": 7}});
        let to = Api::<Lease>::namespaced(client, OTHER);
        to.delete(LEASE, &DeleteParams::default()).await.ok();
        let lease = serde_json::from_value(lease).unwrap();
        to.create(&PostParams::default(), &lease).await.unwrap();
    });
    installation::allow_in(&scene.cluster, OTHER);
    let service = format!("{SYSTEM}/{PROXY_SERVICE}");
    let ways = ["--proxy-service", &service, "--namespace", OTHER];
    scene.start_controller_for("rival", &ways);
    wait::until(LONG, "the rival leads and is heard", || {
        epoch(&scene, 0) >= 8
    });
    wait::until(LONG, "the lower epoch is refused", || {
        let metrics = scene.metrics(0);
        let mut lines = metrics.lines();
        lines.any(|line| line.contains("refusals_total") && line.contains("STALE_EPOCH"))
    });
    load.pass(500);
    scene.scale("web", 5);
    scene.wait_backends(&web(&scene), 5);
    load.pass(500);
    scene.wait_agreed();
    assert_eq!(
        scene.ingress("web").len(),
        2,
        "both proxies stay in the status"
    );
    scene.controllers["rival"].signal(Signal::TERM);
    assert!(scene.controllers["rival"].wait_end(LONG));
    assert_alive(&scene, 6);
    println!("epochs went to {}", epoch(&scene, 0));
    assert_nothing_lost("fighting", &load.stop());
}
