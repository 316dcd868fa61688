//! What the webhooks need is deleted while Pods are rolled: it comes back, the rollout ends, and nothing is lost.

use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use podline_control::installation::{WEBHOOK_CA_SECRET, WEBHOOK_SECRET};
use podline_lab::wait;
use rustix::process::Signal;

use super::{
    ROLLOUT, Watched, assert_lossless, begin_roll, deployment, has_gate, pods, serve, surge,
    wait_eligible, wait_gone, wait_rolled_out, wait_webhooks,
};
use crate::harness::LONG;
use crate::harness::scene::Scene;
use crate::harness::traffic::Plan;
use crate::repair::{self, Act, MUTATING, VALIDATING};

const PODS: u32 = 3;
/// How often all of it is deleted while Pods are rolled.
const TIMES: u32 = 3;

fn delete_all(scene: &Scene) {
    let objects = [
        Act::DeleteConfiguration(MUTATING),
        Act::DeleteConfiguration(VALIDATING),
        Act::DeleteService,
        Act::DeleteSecret(WEBHOOK_CA_SECRET),
        Act::DeleteSecret(WEBHOOK_SECRET),
    ];
    for object in objects {
        repair::act(scene, &object);
    }
}

/// Waits until a roll has made its first Pod, with a gate: it holds the roll up for as long as it does not accept.
fn wait_gated(scene: &Scene, word: &str) {
    wait::until(ROLLOUT, "the roll's first Pod has its gate", || {
        let word = word.to_owned();
        scene.run(|client, namespace| async move {
            let api = Api::<Pod>::namespaced(client, &namespace);
            let pods = api.list(&ListParams::default()).await.unwrap().items;
            let mut pods = pods.into_iter();
            pods.any(|pod| pod.annotations().get("rolled") == Some(&word) && has_gate(&pod))
        })
    });
}

#[test]
fn a_rolling_update_outlives_that_everything_the_webhooks_need_is_deleted() {
    let Some(scene) = Scene::set("roll-damage") else {
        return;
    };
    serve(&scene, deployment(PODS, surge()), PODS, true);
    let good = repair::registered(&scene);
    let watched = Watched::start(&scene, Plan::FULL);
    for turn in 0..TIMES {
        let word = format!("once-{turn}");
        wait_webhooks(&scene);
        begin_roll(&scene, &word);
        wait_gated(&scene, &word);
        let begun = Instant::now();
        delete_all(&scene);
        wait::until(LONG, "all of it is there again", || {
            repair::take(&scene).as_ref() == Ok(&good)
        });
        println!("all of it was there again after {:?}", begun.elapsed());
    }
    wait_rolled_out(&scene);
    wait_gone(&scene, PODS);
    wait_eligible(&scene, PODS);
    assert_lossless("while all was deleted", &watched.stop());

    // Pods that are made while nobody can be asked have no gate, and that is told.
    scene.controllers["a"].signal(Signal::STOP);
    delete_all(&scene);
    begin_roll(&scene, "twice");
    wait::until(ROLLOUT, "there is a Pod more than wanted", || {
        pods(&scene).1 > PODS as usize
    });
    scene.controllers["a"].signal(Signal::CONT);
    wait_rolled_out(&scene);
    wait::until(LONG, "a Pod without a gate is told of", || {
        let events = scene.events();
        events
            .iter()
            .any(|event| event.starts_with("PodsWithoutGate: "))
    });
    wait::until(LONG, "all of it is there again", || {
        repair::take(&scene).as_ref() == Ok(&good)
    });
}
