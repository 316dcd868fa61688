//! Rolling updates of a Deployment.

use std::time::Duration;

use serde_json::json;

use super::{Watched, assert_lossless, deployment, opt_out, roll, serve, surge, wait_eligible};
use crate::harness::scene::Scene;
use crate::harness::traffic::{Plan, Tally};

/// Pods of the one that always runs.
const FEW: u32 = 5;

fn roll_without_loss(scene: &Scene, replicas: u32, word: &str) -> (Duration, Tally) {
    let watched = Watched::start(scene, Plan::FULL);
    let took = roll(scene, replicas, word);
    wait_eligible(scene, replicas);
    let tally = watched.stop();
    assert_lossless(word, &tally);
    (took, tally)
}

#[test]
fn a_rolling_update_under_load_loses_nothing() {
    let Some(scene) = Scene::set("roll") else {
        return;
    };
    serve(&scene, deployment(FEW, surge()), FEW, true);
    let (took, _) = roll_without_loss(&scene, FEW, "once");
    println!("{FEW} Pods in {took:?}");
}

/// `PODLINE_ROLLOUTS` says how many, ten by default.
#[test]
#[ignore = "long; run by hand"]
fn ten_rolling_updates_in_a_row_lose_nothing() {
    const PODS: u32 = 20;
    let Some(scene) = Scene::set("roll-ten") else {
        return;
    };
    serve(&scene, deployment(PODS, surge()), PODS, true);
    println!("run, s, requests, p50, p99, max, datagrams, streams ended, failures");
    let runs = std::env::var("PODLINE_ROLLOUTS").ok();
    let runs = runs.and_then(|text| text.parse().ok()).unwrap_or(10);
    for run in 1..=runs {
        let (took, tally) = roll_without_loss(&scene, PODS, &format!("run {run}"));
        let [p50, p99, max] = tally.requests.latencies();
        println!(
            "{run}, {:.1}, {}, {p50:?}, {p99:?}, {max:?}, {}, {}, {}",
            took.as_secs_f64(),
            tally.requests.done,
            tally.datagrams.done,
            tally.streams.done,
            tally.failed(),
        );
    }
}

/// So that the others prove something.
#[test]
fn without_gate_and_drain_a_rolling_update_loses_requests() {
    let Some(scene) = Scene::set("roll-without") else {
        return;
    };
    opt_out(&scene);
    serve(&scene, deployment(3, surge()), 3, false);
    let watched = Watched::start(&scene, Plan::FULL);
    let took = roll(&scene, 3, "once");
    let tally = watched.stop();
    println!("without gate and drain: 3 Pods in {took:?}");
    assert!(tally.requests.failed > 0, "{tally}");
}

/// Without webhooks a Deployment can wait long enough on its own, and its Pods linger, if somebody knows how long.
#[test]
#[ignore = "long, and close to others; run by hand"]
fn pods_that_wait_and_linger_on_their_own_lose_nothing() {
    let Some(scene) = Scene::set("roll-patient") else {
        return;
    };
    opt_out(&scene);
    let mut workload = deployment(3, surge());
    workload["spec"]["minReadySeconds"] = json!(5);
    let container = &mut workload["spec"]["template"]["spec"]["containers"][0];
    container["lifecycle"] = json!({"preStop": {"sleep": {"seconds": 2}}});
    serve(&scene, workload, 3, false);
    let watched = Watched::start(&scene, Plan::FULL);
    let took = roll(&scene, 3, "once");
    let tally = watched.stop();
    println!("with pauses: 3 Pods in {took:?}");
    assert_lossless("with pauses", &tally);
}
