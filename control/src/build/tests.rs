//! Whole builds, as one reads them in the proxies.

pub(super) mod checked;
mod measure;
mod random;
mod recorded;
mod world;

use std::net::SocketAddr;

use super::*;
use crate::cluster::Change;
use crate::cluster::testing::{endpoint, key, node, pod, service, slice};

/// A cluster of one Service with two Pods, built.
#[test]
fn a_direct_service_becomes_a_listener_and_its_pods() {
    let mut cluster = Cluster::default();
    let pods = [
        pod("default/a", "10.244.1.2"),
        pod("default/b", "10.244.2.2"),
    ];
    let endpoints = pods.iter().map(endpoint).collect();
    cluster.apply(Change::Node(
        "node-1".into(),
        Some(node("node-1", "10.89.0.11")),
    ));
    for pod in pods {
        cluster.apply(Change::Pod(pod.key.clone(), Some(pod)));
    }
    let slice = slice("web-abc", "default/web", endpoints);
    cluster.apply(Change::Slice(slice.key.clone(), Some(slice)));
    let web = key("default/web");
    cluster.apply(Change::Service(
        web.clone(),
        Some(Box::new(service("default/web"))),
    ));
    let mut builder = Builder::new(Options::default());
    let changed = builder.build(&cluster, &Touched::all());
    assert_eq!(changed, BTreeSet::from([web]));
    let snapshot = builder.snapshot();
    let listener = &snapshot.listeners["default/web/tcp/80"];
    assert_eq!(listener.address.to_string(), "0.0.0.0:80");
    let set = &snapshot.sets[listener.backend_set.as_str()];
    let backends: Vec<_> = set
        .backends
        .iter()
        .map(|b| format!("{} {}", b.key, b.weight))
        .collect();
    assert_eq!(
        backends,
        [
            "10.244.1.2:8080 (default-a-10.244.1.2) 10",
            "10.244.2.2:8080 (default-b-10.244.2.2) 10"
        ]
    );
}
