//! Why each endpoint of a Service has its weight, or none.

use std::sync::Arc;

use super::*;
use crate::build::Options;
use crate::cluster::service::FINALIZER;
use crate::cluster::testing::{endpoint, key, pod, service, slice};
use crate::cluster::{Change, Pod, Touched};
use crate::engine::Shared;

fn put(core: &mut Core, change: Change) {
    let touched = core.cluster.apply(change);
    core.builder.build(&core.cluster, &touched);
}

fn put_service(core: &mut Core, annotations: &[(&str, &str)]) {
    let mut web = service("default/web");
    web.finalizers.push(FINALIZER.to_owned());
    let annotations = annotations.iter();
    let annotations = annotations.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    web.annotations.extend(annotations);
    put(core, Change::Service(web.key.clone(), Some(Box::new(web))));
}

fn put_pods(core: &mut Core, pods: &[Pod]) {
    for pod in pods {
        put(core, Change::Pod(pod.key.clone(), Some(pod.clone())));
    }
    let slice = slice("web-1", "default/web", pods.iter().map(endpoint).collect());
    put(core, Change::Slice(slice.key.clone(), Some(slice)));
}

fn facts(core: &Core) -> Vec<String> {
    let entry = Arc::clone(core.cluster.service(&key("default/web")).unwrap());
    let endpoints = explain(core, &entry).endpoints;
    endpoints.into_iter().map(|it| it.fact).collect()
}

#[test]
fn weights_and_mode_skip_are_told_apart_from_what_pods_do() {
    const WEIGHTS: &str = "service.cloud.tencent.com/lb-rs-weight";
    const MODE: &str = "service.cloud.tencent.com/mode";
    let shared = Shared::new(Options::default());
    let mut core = shared.look();
    let core = &mut *core;
    core.builder.build(&core.cluster, &Touched::all());
    let a = pod("default/a", "10.0.0.1");
    put_pods(core, std::slice::from_ref(&a));
    put_service(core, &[(WEIGHTS, r#"{"defaultWeight":0}"#)]);
    assert_eq!(facts(core), ["weight 0: lb-rs-weight"]);
    let ending = Pod {
        is_deleting: true,
        ..a.clone()
    };
    put_pods(core, &[ending]);
    assert_eq!(facts(core), ["weight 0: terminating"]);
    put_pods(core, std::slice::from_ref(&a));
    put_service(core, &[(MODE, "skip")]);
    put_pods(core, &[a, pod("default/b", "10.0.0.2")]);
    assert_eq!(facts(core)[1], "not bound: mode skip");
}
