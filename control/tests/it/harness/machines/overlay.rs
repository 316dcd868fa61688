//! What docker/deploy/overlays/bare-metal makes of the machines, with a pool and upgrades by surge, and a sample behind it.

use std::net::SocketAddr;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::api::{Api, ListParams, Patch, PatchParams};
use podline_lab::{Segment, wait};
use serde_json::{Value, json};

use super::super::asking::{Asking, ask};
use super::super::installed::is_quiet;
use super::super::objects::direct;
use super::super::scene::SYSTEM;
use super::super::{LONG, installation, kustomize, objects};
use super::Machines;

/// Addresses of the segment that no machine has.
const POOL: &str = "10.88.0.200-10.88.0.207";
pub(crate) const SERVICES: [&str; 2] = ["web", "shop"];
/// Pods of the sample.
const SAMPLE: u16 = 3;
/// Requests that have to be answered before the next thing happens.
const MANY: u64 = 200;

impl Machines {
    /// Installs it, and waits until the sample behind it is reached; `None` if there is no kubectl.
    pub(crate) fn prepare(&mut self) -> Option<()> {
        manifests("0.1.0")?;
        wait::until(LONG, "what earlier tests left is gone", || {
            self.scene
                .run(|client, _| async move { is_quiet(&client).await })
        });
        self.label_nodes(json!("true"));
        self.deploy_sample();
        Some(())
    }

    /// Installs it, and waits until the sample's Pods see their clients; where these reach it.
    pub(crate) fn install(&mut self) -> Vec<SocketAddr> {
        self.scene.account =
            installation::account(&self.scene.cluster, self.scene.directory.path());
        self.apply("0.1.0");
        self.wait("it is installed", |machines| {
            machines.is_rolled_out("0.1.0")
        });
        self.wait("the Services have addresses", |machines| {
            machines.addresses().len() == SERVICES.len()
        });
        let at = self.addresses();
        self.wait_client_seen(&at);
        at
    }

    pub(crate) fn apply(&self, tag: &str) {
        let objects = manifests(tag).unwrap();
        let objects = objects.into_iter().map(with_stand_ins).collect();
        self.scene
            .run(|client, _| async move { installation::apply(&client, objects).await });
    }

    /// Which nodes may have a proxy.
    pub(crate) fn label_nodes(&self, value: Value) {
        self.scene.run(|client, _| async move {
            let nodes = Api::<Node>::all(client);
            let change = json!({"metadata": {"labels": {"podline.io/proxy": value}}});
            for node in nodes.list(&ListParams::default()).await.unwrap() {
                let name = node.metadata.name.unwrap();
                let patch = Patch::Merge(&change);
                nodes
                    .patch(&name, &PatchParams::default(), &patch)
                    .await
                    .unwrap();
            }
        });
    }

    /// Whether everything that runs is of this image, and no more and no less than wanted.
    pub(crate) fn is_rolled_out(&self, tag: &str) -> bool {
        let image = format!("podline:{tag}");
        self.scene.run(|client, _| async move {
            let all = ListParams::default();
            let deployments = Api::<Deployment>::namespaced(client.clone(), SYSTEM);
            let deployments = deployments.list(&all).await.unwrap().items;
            let are_deployed = deployments.iter().all(|it| {
                let spec = it.spec.as_ref().unwrap();
                let status = it.status.clone().unwrap_or_default();
                let wanted = spec.replicas;
                status.observed_generation == it.metadata.generation
                    && [
                        status.replicas,
                        status.updated_replicas,
                        status.available_replicas,
                    ] == [wanted; 3]
            });
            let sets = Api::<DaemonSet>::namespaced(client.clone(), SYSTEM);
            let sets = sets.list(&all).await.unwrap().items;
            let are_set = sets.iter().all(|it| {
                let status = it.status.clone().unwrap_or_default();
                let wanted = status.desired_number_scheduled;
                status.observed_generation == it.metadata.generation
                    && wanted > 0
                    && status.updated_number_scheduled == Some(wanted)
                    && status.number_available == Some(wanted)
            });
            let pods = Api::<Pod>::namespaced(client, SYSTEM);
            let pods = pods.list(&all).await.unwrap().items;
            let are_of_it = pods.iter().all(|pod| {
                let spec = pod.spec.as_ref().unwrap();
                spec.containers[0].image.as_deref() == Some(&*image)
            });
            deployments.len() == 2 && sets.len() == 2 && are_deployed && are_set && are_of_it
        })
    }

    /// Where clients reach the Services.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let all = SERVICES.iter().flat_map(|name| self.scene.ingress(name));
        all.map(|ip| SocketAddr::new(ip.parse().unwrap(), 80))
            .collect()
    }

    /// A Deployment of toys and two Services in front of it.
    fn deploy_sample(&mut self) {
        self.scene.run(|client, namespace| async move {
            let annotations = json!({"kubelab.podline.io/listen": "none"});
            objects::deployment(&client, &namespace, "web", SAMPLE.into(), annotations).await;
            for name in SERVICES {
                let mut service = objects::service(name, direct());
                service["spec"]["selector"]["app"] = json!("web");
                objects::apply::<Service>(&client, &namespace, service).await;
            }
        });
        self.wait("the sample runs", Self::is_sample_up);
    }

    /// All its Pods serve, and all Services know of it.
    fn is_sample_up(&self) -> bool {
        self.scene.run(|client, namespace| async move {
            let deployments = Api::<Deployment>::namespaced(client.clone(), &namespace);
            let status = deployments.get("web").await.unwrap().status;
            let is_up =
                status.is_some_and(|status| status.available_replicas == Some(SAMPLE.into()));
            let slices = Api::<EndpointSlice>::namespaced(client, &namespace);
            let slices = slices.list(&ListParams::default()).await.unwrap();
            let endpoints = slices
                .iter()
                .flat_map(|slice| slice.endpoints.iter().flatten());
            let is_ready = |endpoint: &&Endpoint| {
                let conditions = endpoint.conditions.as_ref();
                conditions.is_some_and(|conditions| conditions.ready == Some(true))
            };
            let ready = endpoints.filter(is_ready).count();
            is_up && ready == SERVICES.len() * usize::from(SAMPLE)
        })
    }

    /// Waits until a Pod that is asked at each address sees the client.
    pub(crate) fn wait_client_seen(&mut self, at: &[SocketAddr]) {
        self.wait("Pods see their clients", |machines| {
            let seen = at.iter().map(|address| {
                let address = *address;
                machines.segment.client.run(move || ask(address).ok())
            });
            let seen: Vec<_> = seen.collect();
            seen.iter().all(|peer| *peer == Some(Segment::CLIENT[0]))
        });
    }

    /// Waits until so many requests more were answered.
    pub(crate) fn pass(&mut self, load: &Asking) {
        let before = load.seen().answered();
        self.wait("requests are answered", |_| {
            load.seen().answered() >= before + MANY
        });
    }
}

/// What `kubectl apply -k` would apply of an overlay of somebody's own, with an image of this tag.
fn manifests(tag: &str) -> Option<Vec<Value>> {
    let more = json!({
        "images": [{"name": "podline", "newName": "podline", "newTag": tag}],
        "configMapGenerator": [{
            "name": "podline-settings", "namespace": SYSTEM, "behavior": "merge",
            "literals": [format!("PODLINE_VIP_POOL={POOL}")],
        }],
    });
    kustomize::with("overlays/bare-metal", &["surge"], &more)
}

/// kubelab runs nothing, and what runs here says when it is ready and when it has ended.
fn with_stand_ins(mut object: Value) -> Value {
    let kind = object["kind"].as_str().unwrap_or_default();
    if matches!(kind, "Deployment" | "DaemonSet") {
        let mut annotations = json!({
            "kubelab.podline.io/listen": "none",
            "kubelab.podline.io/on-term": "linger",
        });
        if kind == "Deployment" {
            annotations["kubelab.podline.io/ready"] = json!("false");
        }
        object["spec"]["template"]["metadata"]["annotations"] = annotations;
    }
    object
}
