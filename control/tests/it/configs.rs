//! Services follow TkeServiceConfigs, and what these have set outlives them, their kind, and the controller.

use std::time::Duration;

use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use podline_api::{BackendSet, HealthCheck, Policy, SetSettings};
use podline_control::crd;
use podline_lab::wait;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::LONG;
use crate::harness::objects::direct;
use crate::harness::scene::Scene;

const CONFIG: &str = "service.cloud.tencent.com/tke-service-config";
const AUTO: &str = "service.cloud.tencent.com/tke-service-config-auto";
const KEPT: &str = "podline.io/kept-config";

fn configs(client: kube::Client, namespace: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk(crd::GROUP, crd::VERSION, crd::KIND);
    let resource = ApiResource::from_gvk_with_plural(&kind, crd::PLURAL);
    Api::namespaced_with(client, namespace, &resource)
}

/// Whether the API server knows the kind.
fn is_known(scene: &Scene) -> bool {
    scene.run(|client, namespace| async move {
        let api = configs(client, &namespace);
        api.list(&ListParams::default()).await.is_ok()
    })
}

fn definitions(client: kube::Client) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let plural = "customresourcedefinitions";
    Api::all_with(client, &ApiResource::from_gvk_with_plural(&kind, plural))
}

/// The uid of the kind's definition, if there is one.
fn definition(scene: &Scene) -> Option<String> {
    let found = scene.run(|client, _| async move {
        let api = definitions(client);
        api.get_opt(crd::NAME).await.unwrap()
    });
    found.and_then(|found| found.metadata.uid)
}

/// Deletes the kind, and every object of it; the uid of its definition.
fn undefine(scene: &Scene) -> Option<String> {
    let uid = definition(scene);
    scene.run(|client, _| async move {
        let api = definitions(client);
        let deleted = api.delete(crd::NAME, &DeleteParams::default()).await;
        deleted.unwrap();
    });
    uid
}

fn wait_known(scene: &Scene) {
    wait::until(LONG, "the kind is served", || is_known(scene));
}

/// Waits for another definition than that which is being deleted: an object that is written meanwhile goes with it.
fn wait_known_again(scene: &Scene, gone: Option<&str>) {
    wait::until(LONG, "the kind is defined again", || {
        let uid = definition(scene);
        uid.is_some() && uid.as_deref() != gone
    });
    wait_known(scene);
}

/// Writes an object as a user's tool does: what was there is replaced.
fn put(scene: &Scene, name: &'static str, balancer: &Value) {
    let object = json!({
        "apiVersion": crd::API_VERSION, "kind": crd::KIND,
        "metadata": {"name": name}, "spec": {"loadBalancer": balancer},
    });
    // The kind may just be going, or coming.
    wait::until(LONG, "the object is written", || {
        let object = object.clone();
        scene.run(|client, namespace| async move {
            let api = configs(client, &namespace);
            let params = PatchParams::apply("user").force();
            api.patch(name, &params, &Patch::Apply(&object))
                .await
                .is_ok()
        })
    });
}

pub(crate) fn merge(scene: &Scene, name: &'static str, change: Value) {
    scene.run(|client, namespace| async move {
        let api = configs(client, &namespace);
        api.patch(name, &PatchParams::default(), &Patch::Merge(&change))
            .await
            .unwrap();
    });
}

pub(crate) fn get(scene: &Scene, name: &'static str) -> Option<DynamicObject> {
    scene.run(|client, namespace| async move {
        configs(client, &namespace).get_opt(name).await.unwrap()
    })
}

pub(crate) fn delete(scene: &Scene, name: &'static str) {
    scene.run(|client, namespace| async move {
        let api = configs(client, &namespace);
        api.delete(name, &DeleteParams::default()).await.unwrap();
    });
}

fn annotate(scene: &Scene, key: &str, value: &Value) {
    scene.merge_service("web", json!({"metadata": {"annotations": {key: value}}}));
}

/// The settings of a set in a proxy, and of those below it: rules of an Ingress that differ from others.
fn settings(scene: &Scene, proxy: usize, set: &str) -> Vec<SetSettings> {
    let sets = scene.state(proxy).backend_sets.into_iter();
    let below = format!("{set}/");
    let is_it = |name: &str| name == set || name.starts_with(&below);
    let found = sets.filter_map(|status| status.set.filter(|found| is_it(&found.name)));
    let read = found.map(|found| BackendSet::try_from(found).unwrap().settings);
    read.collect()
}

/// Until a set, or one below it, has these settings in every proxy.
pub(crate) fn wait_settings(
    scene: &Scene,
    set: &str,
    what: &str,
    are: impl Fn(&SetSettings) -> bool,
) {
    wait::until(LONG, what, || {
        (0..2).all(|proxy| settings(scene, proxy, set).iter().any(&are))
    });
}

fn wait_reason(scene: &Scene, expected: &str) -> String {
    let mut told = String::new();
    wait::until(LONG, &format!("Accepted says {expected}"), || {
        let condition = scene.condition("web", "podline.io/Accepted");
        let found = condition.filter(|(_, reason, _)| reason == expected);
        let is_there = found.is_some();
        told = found.map(|(_, _, message)| message).unwrap_or_default();
        is_there
    });
    told
}

/// The example of TKE's page, whose timeout is no less than its interval.
fn example() -> Value {
    json!({"l4Listeners": [{
        "protocol": "TCP",
        "port": 80,
        "deregisterTargetRst": true,
        "session": {"enable": true, "sessionExpireTime": 100},
        "healthCheck": {
            "enable": true, "intervalTime": 10, "healthNum": 2, "unHealthNum": 3, "timeout": 10,
        },
        "scheduler": "WRR",
    }]})
}

fn is_as_in_the_example(settings: &SetSettings) -> bool {
    let affinity = settings.affinity.as_ref();
    let session = affinity.and_then(podline_api::Affinity::client_ip_timeout);
    let seconds = Duration::from_secs;
    settings.deregister_target_rst
        && session == Some(seconds(100))
        && settings.health_check.as_ref().is_some_and(|check| {
            let usual = HealthCheck::new(podline_api::CheckKind::Tcp);
            *check
                == HealthCheck {
                    interval: seconds(10),
                    healthy_threshold: 2,
                    ..usual
                }
        })
}

#[test]
fn a_service_follows_the_object_that_it_names_and_keeps_what_it_set() {
    let Some(mut scene) = Scene::set("configs") else {
        return;
    };
    let set = "configs/web/tcp/80";
    scene.serve("web", 1, direct());
    annotate(&scene, CONFIG, &json!("sample"));
    wait_reason(&scene, "ServiceConfigMissing");
    wait_known(&scene);
    put(&scene, "sample", &example());
    wait_settings(&scene, set, "the example holds", is_as_in_the_example);
    let told = wait_reason(&scene, "ServiceConfigInvalid");
    assert!(told.contains("healthCheck.timeout 10"), "{told}");
    assert!(told.contains("9 is nearest"), "{told}");

    // What is not said stays.
    let edited =
        json!({"l4Listeners": [{"protocol": "TCP", "port": 80, "scheduler": "LEAST_CONN"}]});
    put(&scene, "sample", &edited);
    let is_edited = |settings: &SetSettings| {
        settings.policy == Policy::LeastConnections && is_as_in_the_example(settings)
    };
    wait_settings(&scene, set, "the edit holds", is_edited);
    annotate(&scene, CONFIG, &json!(null));
    wait::until(LONG, "what was set is written down", || {
        let annotations = scene.service("web").unwrap().metadata.annotations;
        let kept = annotations.and_then(|all| all.get(KEPT).cloned());
        kept.is_some_and(|kept| kept.contains("LEAST_CONN") && kept.contains("100"))
    });
    wait_reason(&scene, "Direct");

    // Another controller knows nothing but what is written.
    let controller = scene.controllers.remove("a").unwrap();
    controller.signal(Signal::TERM);
    assert!(controller.wait_end(LONG));
    undefine(&scene);
    wait::until(LONG, "the kind is gone", || !is_known(&scene));
    let index = scene.start_controller("b");
    scene.wait_serving_by(index);
    scene.scale("web", 2);
    scene.wait_backends(set, 2);
    wait_settings(&scene, set, "all of it stays", is_edited);
    annotate(&scene, CONFIG, &json!("sample"));
    wait_reason(&scene, "ServiceConfigMissing");
    wait_settings(&scene, set, "all of it stays", is_edited);

    // The controller has made the kind again, and does so while it runs.
    wait_known(&scene);
    put(&scene, "sample", &json!({}));
    wait_reason(&scene, "Direct");
    let gone = undefine(&scene);
    wait_reason(&scene, "ServiceConfigMissing");
    wait_known_again(&scene, gone.as_deref());
    put(
        &scene,
        "sample",
        &json!({"l4Listeners": [{"protocol": "TCP", "port": 80, "session": {"enable": false}}]}),
    );
    wait_settings(&scene, set, "clients move again", |settings| {
        settings.affinity.is_none() && settings.policy == Policy::LeastConnections
    });
    delete(&scene, "sample");
    wait_reason(&scene, "ServiceConfigMissing");
}

#[test]
fn an_object_is_made_for_a_service_and_belongs_to_whoever_edits_it() {
    let Some(scene) = Scene::set("autos") else {
        return;
    };
    let (set, name) = ("autos/web/tcp/80", "web-auto-service-config");
    scene.serve("web", 1, direct());
    annotate(&scene, AUTO, &json!("true"));
    wait::until(LONG, "it is made", || get(&scene, name).is_some());
    let made = get(&scene, name).unwrap();
    let owner = made.metadata.owner_references.unwrap().remove(0);
    let service = scene.service("web").unwrap();
    assert_eq!(Some(owner.uid), service.metadata.uid);
    let listeners =
        |object: &DynamicObject| object.data["spec"]["loadBalancer"]["l4Listeners"].clone();
    assert_eq!(
        made.data["spec"]["loadBalancer"]["l4Listeners"],
        json!([{"protocol": "TCP", "port": 80}])
    );

    let mine = json!([{"protocol": "TCP", "port": 80, "scheduler": "LEAST_CONN"}]);
    merge(
        &scene,
        name,
        json!({"spec": {"loadBalancer": {"l4Listeners": mine}}}),
    );
    wait_settings(&scene, set, "the edit holds", |settings| {
        settings.policy == Policy::LeastConnections
    });
    let http = json!({"name": "http", "port": 80, "targetPort": "http"});
    let more = json!({"name": "more", "port": 81, "targetPort": 8080});
    scene.merge_service("web", json!({"spec": {"ports": [http, more]}}));
    let expected = json!([mine[0], {"protocol": "TCP", "port": 81}]);
    wait::until(LONG, "there is an entry for the new port", || {
        get(&scene, name).is_some_and(|object| listeners(&object) == expected)
    });
    scene.merge_service("web", json!({"spec": {"ports": [http]}}));
    wait::until(LONG, "it goes with its port", || {
        get(&scene, name).is_some_and(|object| listeners(&object) == mine)
    });

    delete(&scene, name);
    wait::until(LONG, "it is made again", || get(&scene, name).is_some());
    wait_settings(&scene, set, "what was set stays", |settings| {
        settings.policy == Policy::LeastConnections
    });
    scene.run(|client, namespace| async move {
        let api = Api::<k8s_openapi::api::core::v1::Service>::namespaced(client, &namespace);
        api.delete("web", &DeleteParams::default()).await.unwrap();
    });
    wait::until(LONG, "it goes with its Service", || {
        get(&scene, name).is_none()
    });
}
