//! A small cluster for tests: Pods of one direct Service behind two proxies, questions about them, and an API server that
//! lists Services and Ingresses.

use std::sync::{Arc, Mutex};

use http::{Request as HttpRequest, Response};
use kube::client::Body;

use podline_api::{BackendKey, Name};
use serde_json::{Value, json};

use super::drain::{self, Doomed, Drains, Todo};
use super::review::{self, Request};
use crate::build::{Builder, Options};
use crate::cluster::pod::GATE;
use crate::cluster::testing::{endpoint, key, node, pod, service, slice};
use crate::cluster::{Change, Cluster, Endpoint, Gate, Pod, Service, Touched, Transport};
use crate::engine::Shared;
use crate::observed::{Observed, ProxyView};

/// Pods `default/web-N` of Service `default/web`, all of them healthy.
pub(super) struct World {
    pub(super) cluster: Cluster,
    pub(super) builder: Builder,
    pub(super) pods: Vec<Pod>,
    service: Service,
}

impl World {
    pub(super) fn new(count: usize) -> Self {
        let gated = |n: usize| Pod {
            gate: Gate::Open,
            ..pod(
                &format!("default/web-{n}"),
                &format!("10.0.{}.{}", n / 200, n % 200 + 1),
            )
        };
        let mut world = Self {
            cluster: Cluster::default(),
            builder: Builder::new(Options::default()),
            pods: (0..count).map(gated).collect(),
            service: service("default/web"),
        };
        let node = node("node-1", "192.0.2.1");
        world
            .cluster
            .apply(Change::Node(Arc::clone(&node.name), Some(node)));
        for pod in world.pods.clone() {
            world.cluster.apply(Change::Pod(pod.key.clone(), Some(pod)));
        }
        world.put_slice(&[]);
        world.change_service(|_| {});
        let all: Vec<_> = (0..count).collect();
        world.healthy(&[&all, &all]);
        world
    }

    /// The Pods that each proxy calls healthy; all proxies serve.
    pub(super) fn healthy(&mut self, proxies: &[&[usize]]) {
        let views = proxies.iter().enumerate().map(|(n, healthy)| {
            let keys = healthy.iter().map(|pod| self.backend(*pod));
            let view = ProxyView {
                serving: true,
                features: Arc::new(["override".to_owned()].into()),
                healthy: [(self.set(), keys.collect())].into_iter().collect(),
                ..ProxyView::default()
            };
            (format!("proxy-{n}"), Arc::new(view))
        });
        let proxies = views.collect();
        self.cluster.apply(Change::Observed(Arc::new(Observed {
            proxies,
            ..Observed::default()
        })));
        self.build();
    }

    /// The name of its backend set.
    pub(super) fn set(&self) -> Name {
        let protocol = match self.service.ports[0].protocol {
            Transport::Udp => "udp",
            _ => "tcp",
        };
        format!("default/web/{protocol}/80").parse().unwrap()
    }

    /// Its slice says that these Pods end.
    pub(super) fn terminating(&mut self, pods: &[usize]) {
        self.put_slice(pods);
        self.build();
    }

    fn put_slice(&mut self, terminating: &[usize]) {
        let endpoints = self.pods.iter().enumerate().map(|(n, pod)| Endpoint {
            is_terminating: terminating.contains(&n),
            ..endpoint(pod)
        });
        let mut slice = slice("web-1", "default/web", endpoints.collect());
        slice.ports[0].protocol = self.service.ports[0].protocol;
        let change = Change::Slice(slice.key.clone(), Some(slice));
        self.cluster.apply(change);
    }

    pub(super) fn backend(&self, pod: usize) -> BackendKey {
        let pod = &self.pods[pod];
        BackendKey {
            id: Some((&*pod.uid).try_into().unwrap()),
            address: (pod.addresses[0], 8080).into(),
        }
    }

    pub(super) fn change(&mut self, index: usize, change: impl FnOnce(&mut Pod)) {
        change(&mut self.pods[index]);
        let pod = self.pods[index].clone();
        self.cluster.apply(Change::Pod(pod.key.clone(), Some(pod)));
        self.build();
    }

    pub(super) fn change_service(&mut self, change: impl FnOnce(&mut Service)) {
        change(&mut self.service);
        let service = Box::new(self.service.clone());
        self.cluster
            .apply(Change::Service(key("default/web"), Some(service)));
        self.build();
    }

    pub(super) fn annotate(&mut self, annotation: &str, value: &str) {
        self.change_service(|service| {
            service
                .annotations
                .insert(annotation.to_owned(), value.to_owned());
        });
    }

    pub(super) fn build(&mut self) {
        self.builder.build(&self.cluster, &Touched::all());
    }

    /// As whoever asks sees it.
    pub(super) fn share(&self) -> Shared {
        let shared = Shared::new(Options::default());
        self.show(&shared);
        shared
    }

    /// Shows what was changed since.
    pub(super) fn show(&self, shared: &Shared) {
        let mut core = shared.look();
        core.cluster = self.cluster.clone();
        core.builder = self.builder.clone();
    }

    pub(super) fn todo(&self, doomed: &Doomed, drains: &Drains) -> Todo {
        let is_closing = |place: &drain::Place| drains.is_closing(place);
        drain::todo(&self.cluster, &self.builder, doomed, is_closing, |_, _| {
            None
        })
    }
}

/// How the API server behaves.
#[derive(Clone, Debug, Default)]
pub(super) enum Mood {
    /// It has nothing.
    #[default]
    Empty,
    /// It has these Services and Ingresses, in whatever namespace.
    Has(Vec<Value>),
    Hangs,
    Forbids,
}

/// An API server that lists Services and Ingresses. Cheap to clone: one server.
#[derive(Clone, Debug, Default)]
pub(super) struct ApiServer {
    pub(super) mood: Arc<Mutex<Mood>>,
    /// What was asked.
    pub(super) asked: Arc<Mutex<Vec<String>>>,
}

impl ApiServer {
    pub(super) fn client(&self) -> kube::Client {
        let server = self.clone();
        let service = tower::service_fn(move |request| server.clone().answer(request));
        kube::Client::new(service, "default")
    }

    /// How often somebody looked: Ingresses come first.
    pub(super) fn lists(&self) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|it| it.contains("/ingresses")).count()
    }

    async fn answer(self, request: HttpRequest<Body>) -> Result<Response<Body>, std::io::Error> {
        self.asked.lock().unwrap().push(request.uri().to_string());
        let mood = self.mood.lock().unwrap().clone();
        // So that others may ask meanwhile.
        tokio::task::yield_now().await;
        let (code, items) = match mood {
            Mood::Empty => (200, Vec::new()),
            Mood::Has(objects) => {
                let wants_ingresses = request.uri().path().ends_with("/ingresses");
                let is_ingress = |it: &Value| !it["spec"]["rules"].is_null();
                let objects = objects.into_iter();
                let wanted = objects.filter(|it| is_ingress(it) == wants_ingresses);
                (200, wanted.collect())
            }
            Mood::Hangs => std::future::pending().await,
            Mood::Forbids => (403, Vec::new()),
        };
        let body = if code == 200 {
            json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items})
        } else {
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": code, "message": "no"})
        };
        let body = Body::from(body.to_string().into_bytes());
        Ok(Response::builder().status(code).body(body).unwrap())
    }
}

/// A direct Service of ours in front of `app=NAME`, as the API server has it.
pub(super) fn direct(name: &str) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "default", "uid": name,
            "annotations": {"service.cloud.tencent.com/direct-access": "true"},
        },
        "spec": {
            "type": "LoadBalancer", "loadBalancerClass": "podline.io/clb", "selector": {"app": name},
            "ports": [{"port": 80}],
        },
    })
}

/// A direct Ingress of ours that leads to a Service, as the API server has it.
pub(super) fn site(service: &str) -> Value {
    let backend = json!({"service": {"name": service, "port": {"number": 80}}});
    json!({
        "metadata": {
            "name": "site", "namespace": "default", "uid": "site",
            "annotations": {"ingress.cloud.tencent.com/direct-access": "true"},
        },
        "spec": {
            "ingressClassName": "podline",
            "rules": [{"http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}],
        },
    })
}

pub(super) fn review(request: &Value) -> Value {
    json!({"apiVersion": review::VERSION, "kind": review::KIND, "request": request})
}

pub(super) fn asked(request: &Value) -> Request {
    review::read(review(request).to_string().as_bytes()).unwrap()
}

/// The deletion of a Pod, as the API server asks about it.
pub(super) fn deletion(world: &World, pod: usize) -> Value {
    let pod = &world.pods[pod];
    json!({
        "uid": "review", "operation": "DELETE", "namespace": &*pod.key.namespace, "name": &*pod.key.name,
        "resource": {"group": "", "version": "v1", "resource": "pods"}, "object": null,
        "oldObject": {
            "metadata": {"name": &*pod.key.name, "namespace": &*pod.key.namespace, "uid": &*pod.uid},
            "spec": {"readinessGates": [{"conditionType": GATE}], "containers": [{"name": "a"}]},
        },
        "options": {"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"},
    })
}

/// The creation of a Pod in namespace `default`, as the API server asks about it.
pub(super) fn creation(labels: &Value) -> Value {
    json!({
        "uid": "review", "operation": "CREATE", "namespace": "default",
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "object": {"metadata": {"generateName": "web-", "labels": labels}, "spec": {"containers": [{"name": "a"}]}},
    })
}

/// The eviction of a Pod in namespace `default`.
pub(super) fn eviction(pod: &str) -> Value {
    json!({
        "uid": "review", "operation": "CREATE", "namespace": "default", "name": pod,
        "resource": {"group": "", "version": "v1", "resource": "pods"}, "subResource": "eviction",
        "object": {"kind": "Eviction", "apiVersion": "policy/v1", "metadata": {"name": pod, "namespace": "default"}},
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
    })
}
