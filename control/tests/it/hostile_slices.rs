//! Slices by hand: whoever may write one in its namespace must not aim the proxies elsewhere, nor break them.

use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use podline_lab::{Star, wait};
use serde_json::{Value, json};

use crate::faults::{assert_alive, assert_nothing_lost, under_load, web};
use crate::harness::LONG;
use crate::harness::objects::{self, direct};
use crate::harness::scene::Scene;
use crate::hostile::{assert_quiet, wait_event};

/// Another's namespace.
const VICTIM: &str = "victim";

/// A slice of Service `web`, with other `fields`; what the API server says.
fn slice(scene: &Scene, name: &str, fields: &Value) -> Result<(), String> {
    slice_of(
        scene,
        name,
        &json!({"kubernetes.io/service-name": "web"}),
        fields,
    )
}

fn slice_of(scene: &Scene, name: &str, labels: &Value, fields: &Value) -> Result<(), String> {
    let mut object = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": name, "labels": labels},
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}], "endpoints": [],
    });
    for (key, value) in fields.as_object().unwrap() {
        object[key] = value.clone();
    }
    let name = name.to_owned();
    scene.run(|client, namespace| async move {
        let api = Api::<EndpointSlice>::namespaced(client, &namespace);
        let params = PatchParams::apply("user").force();
        let answer = api.patch(&name, &params, &Patch::Apply(&object)).await;
        answer.map(|_| ()).map_err(|error| error.to_string())
    })
}

fn delete_slice(scene: &Scene, name: &str) {
    let name = name.to_owned();
    scene.run(|client, namespace| async move {
        let api = Api::<EndpointSlice>::namespaced(client, &namespace);
        api.delete(&name, &DeleteParams::default()).await.unwrap();
    });
}

/// A Pod as a slice refers to it.
struct Known {
    namespace: String,
    name: String,
    uid: String,
    address: String,
}

impl Known {
    /// Some Pod of a namespace.
    fn of(scene: &Scene, namespace: &str) -> Self {
        let mut found = None;
        wait::until(LONG, "there is a Pod with an address", || {
            let own = namespace.to_owned();
            let pods = scene.run(|client, _| async move {
                let api = Api::<Pod>::namespaced(client, &own);
                api.list(&ListParams::default()).await.unwrap().items
            });
            found = pods.into_iter().find_map(|pod| {
                Some(Self {
                    namespace: namespace.to_owned(),
                    name: pod.metadata.name?,
                    uid: pod.metadata.uid?,
                    address: pod.status?.pod_ip?,
                })
            });
            found.is_some()
        });
        found.unwrap()
    }

    /// An endpoint at `address` that says it is this Pod.
    fn at(&self, address: &str) -> Value {
        let reference =
            json!({"kind": "Pod", "namespace": self.namespace, "name": self.name, "uid": self.uid});
        let ready = json!({"ready": true});
        json!({"endpoints": [{"addresses": [address], "conditions": ready, "targetRef": reference}]})
    }
}

fn at(address: &str) -> Value {
    json!({"endpoints": [{"addresses": [address], "conditions": {"ready": true}}]})
}

#[test]
fn hostile_slices_aim_at_what_they_may_not() {
    let Some((scene, load)) = under_load("slices") else {
        return;
    };
    scene.run(|client, _| async move {
        objects::namespace(&client, VICTIM).await;
        objects::deployment(&client, VICTIM, "secret", 1, json!({})).await;
    });
    let victim = Known::of(&scene, VICTIM);
    let own = Known::of(&scene, &scene.namespace);
    let elsewhere = "not an address of Pod";
    let bad = [
        ("node", at("10.89.0.11"), "an address of node node-1"),
        (
            "proxy",
            at(&Star::spoke(0)[0].to_string()),
            "an address of proxy",
        ),
        ("pod", at(&victim.address), "a Pod in namespace victim"),
        ("reference", victim.at(&victim.address), "names Pod victim/"),
        ("borrowed", own.at(&victim.address), elsewhere),
        ("kubelet", own.at("10.89.0.12"), elsewhere),
    ];
    for (name, fields, told) in &bad {
        slice(&scene, name, fields).unwrap();
        let of_slice = format!("slice {name} ");
        wait_event(&scene, &["EndpointRefused", &of_slice, told]);
        scene.wait_backends(&web(&scene), 3);
        delete_slice(&scene, name);
    }
    // These the API server refuses itself.
    for address in ["127.0.0.1", "169.254.169.254", "224.0.0.1", "0.0.0.0"] {
        slice(&scene, "special", &at(address)).unwrap_err();
    }
    assert_alive(&scene, 4);
    assert_nothing_lost("slices that aim elsewhere", &load.stop());
    scene.run(|client, _| async move {
        let api = Api::<Namespace>::all(client);
        api.delete(VICTIM, &DeleteParams::default()).await.unwrap();
    });
}

#[test]
fn hostile_slices_are_empty_or_odd() {
    let Some((scene, load)) = under_load("odd-slices") else {
        return;
    };
    let own = Known::of(&scene, &scene.namespace);
    let ghost = Known {
        namespace: scene.namespace.clone(),
        name: "ghost".to_owned(),
        uid: "no-uid".to_owned(),
        address: own.address.clone(),
    };
    let endpoints = at(&own.address)["endpoints"].clone();
    let unnumbered = json!([{"name": "http", "protocol": "TCP"}]);
    let names = json!([{"addresses": ["localhost.example"]}]);
    for (name, fields) in [
        ("ghost", ghost.at(&ghost.address)),
        ("names", json!({"addressType": "FQDN", "endpoints": names})),
        ("no-ports", json!({"ports": null, "endpoints": endpoints})),
        (
            "no-number",
            json!({"ports": unnumbered, "endpoints": endpoints}),
        ),
        ("no-endpoints", json!({"endpoints": null})),
    ] {
        slice(&scene, name, &fields).unwrap();
    }
    wait_event(&scene, &["HostNameEndpoints", "slice names"]);
    for (index, value) in ["", "a", &"x".repeat(63), "A.b_C-9"].iter().enumerate() {
        let labels = json!({"kubernetes.io/service-name": value, "x": value});
        slice_of(&scene, &format!("odd-{index}"), &labels, &at("192.0.2.10")).unwrap();
    }
    let labels =
        json!({"a": "", "b.example/c": "x".repeat(63), "kubernetes.io/service-name": "other"});
    scene.merge_service("web", json!({"metadata": {"labels": labels}}));
    scene.wait_backends(&web(&scene), 3);
    assert_quiet(&scene, 0);

    // Without conditions an endpoint is ready.
    scene.run(|client, namespace| async move {
        let mut service = objects::service("bare", direct());
        service["spec"]["ports"][0]["port"] = json!(81);
        service["spec"].as_object_mut().unwrap().remove("selector");
        objects::apply::<Service>(&client, &namespace, service).await;
    });
    let labels = json!({"kubernetes.io/service-name": "bare"});
    let bare = json!({"endpoints": [{"addresses": [own.address], "conditions": {}}]});
    slice_of(&scene, "bare", &labels, &bare).unwrap();
    wait::until(LONG, "it is served", || {
        (0..2).all(|proxy| scene.ask(proxy, 81).is_ok_and(|name| name == own.name))
    });
    assert_alive(&scene, 4);
    assert_nothing_lost("odd slices", &load.stop());
}
