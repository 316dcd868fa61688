//! Kubernetes objects as a user writes them, and how they get to the API server.

use std::fmt::Debug;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The readiness gate of Pods behind a load balancer.
pub(crate) const GATE: &str = "cloud.tencent.com/load-balancer-backendgroup-ready";

/// Writes an object by server-side apply, as a user's tool does.
pub(crate) async fn apply<K>(client: &Client, namespace: &str, object: Value)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug,
{
    let api = Api::<K>::namespaced(client.clone(), namespace);
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    api.patch(
        &name,
        &PatchParams::apply("user").force(),
        &Patch::Apply(&object),
    )
    .await
    .unwrap();
}

/// Merges `change` into an object.
pub(crate) async fn merge<K>(client: &Client, namespace: &str, name: &str, change: Value)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug,
{
    let api = Api::<K>::namespaced(client.clone(), namespace);
    api.patch(name, &PatchParams::default(), &Patch::Merge(&change))
        .await
        .unwrap();
}

/// The same, of an object that may be gone.
pub(crate) async fn try_merge<K>(client: &Client, namespace: &str, name: &str, change: Value)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug,
{
    let api = Api::<K>::namespaced(client.clone(), namespace);
    let patched = api
        .patch(name, &PatchParams::default(), &Patch::Merge(&change))
        .await;
    gone_or_panic(patched.err());
}

/// A label of the namespaces of tests.
const TEST: &str = "podline.test/namespace";

pub(crate) async fn namespace(client: &Client, name: &str) {
    let api = Api::<Namespace>::all(client.clone());
    let object = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": {TEST: "yes"}},
    });
    api.patch(
        name,
        &PatchParams::apply("user").force(),
        &Patch::Apply(&object),
    )
    .await
    .unwrap();
}

/// Removes what tests that failed left: their Services would hold the ports of the next one.
pub(crate) async fn sweep(client: &Client) {
    let namespaces = Api::<Namespace>::all(client.clone());
    let of_tests = ListParams::default().labels(TEST);
    for namespace in namespaces.list(&of_tests).await.unwrap() {
        let namespace = namespace.metadata.name.unwrap();
        release::<Ingress>(client, &namespace).await;
        release::<Service>(client, &namespace).await;
        let deleted = namespaces
            .delete(&namespace, &DeleteParams::default())
            .await;
        gone_or_panic(deleted.err());
    }
}

/// Deletes all of a kind, whoever holds them.
async fn release<K>(client: &Client, namespace: &str)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug,
{
    let api = Api::<K>::namespaced(client.clone(), namespace);
    for object in api.list(&ListParams::default()).await.unwrap() {
        let name = object.meta().name.clone().unwrap();
        let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        let gone = async {
            api.delete(&name, &DeleteParams::default()).await?;
            api.patch(&name, &PatchParams::default(), &release).await
        };
        gone_or_panic(gone.await.err());
    }
}

/// Lets pass that an object is gone already, or going.
fn gone_or_panic(error: Option<kube::Error>) {
    match error {
        None => {}
        Some(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        Some(error) => panic!("{error}"),
    }
}

/// A Deployment of toy Pods that listen on port 8080, called `http`.
pub(crate) async fn deployment(
    client: &Client,
    namespace: &str,
    name: &str,
    replicas: u32,
    annotations: Value,
) {
    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {"labels": {"app": name}, "annotations": annotations},
                "spec": {
                    "terminationGracePeriodSeconds": 5,
                    "containers": [{
                        "name": "toy", "image": "toy",
                        "ports": [{"name": "http", "containerPort": 8080}],
                    }],
                },
            },
        },
    });
    apply::<Deployment>(client, namespace, object).await;
}

/// A Deployment whose Pods have the readiness gate of a load balancer from the first on: nothing rolls.
pub(crate) async fn gated_deployment(
    client: &Client,
    namespace: &str,
    name: &str,
    replicas: u32,
    annotations: Value,
) {
    deployment(client, namespace, name, 0, annotations).await;
    let gate = json!([{"conditionType": GATE}]);
    let change =
        json!({"spec": {"replicas": replicas, "template": {"spec": {"readinessGates": gate}}}});
    merge::<Deployment>(client, namespace, name, change).await;
}

/// A LoadBalancer Service in front of them: port 80.
#[expect(
    clippy::needless_pass_by_value,
    reason = "it is made where it is given"
)]
pub(crate) fn service(name: &str, annotations: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "type": "LoadBalancer", "loadBalancerClass": "podline.io/clb",
            "selector": {"app": name},
            "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
        },
    })
}

/// What makes a Service direct.
pub(crate) fn direct() -> Value {
    json!({"service.cloud.tencent.com/direct-access": "true"})
}

pub(crate) async fn delete_service(client: &Client, namespace: &str, name: &str) {
    let api = Api::<Service>::namespaced(client.clone(), namespace);
    let deleted = api.delete(name, &DeleteParams::default()).await;
    gone_or_panic(deleted.err());
}
