//! Why each endpoint of a Service has its weight, or none.

use super::*;
use crate::build::Options;
use crate::cluster::service::FINALIZER;
use crate::cluster::testing::{endpoint, ingress, key, pod, rule, service, service_config, slice};
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
    let front = Front::Service(key("default/web"));
    let endpoints = explain(core, &front).unwrap().endpoints;
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

#[test]
fn the_values_of_an_ingress_are_told_with_who_set_them() {
    let shared = Shared::new(Options::default());
    let mut core = shared.look();
    let core = &mut *core;
    let front = Front::Ingress(key("default/site"));
    assert_eq!(explain(core, &front), None, "there is none");
    core.builder.build(&core.cluster, &Touched::all());
    put_pods(core, &[pod("default/a", "10.0.0.1")]);
    put_service(core, &[]);
    let mut site = ingress("default/site");
    site.rules = vec![rule("a.example", "/", "web"), rule("", "/b", "web")];
    let config = "ingress.cloud.tencent.com/tke-service-config".to_owned();
    site.annotations.insert(config, "shop".to_owned());
    let billing = "kubernetes.io/ingress.internetChargeType".to_owned();
    site.annotations.insert(billing, "x".to_owned());
    let listen = "ingress.cloud.tencent.com/listen-ports".to_owned();
    site.annotations
        .insert(listen, "[{\"HTTP\":8081}]".to_owned());
    put(
        core,
        Change::Ingress(site.key.clone(), Some(Box::new(site))),
    );
    let values = |core: &Core| -> Vec<String> {
        let values = explain(core, &front).unwrap().values.into_iter();
        let text = values.map(|it| format!("{}: {} ({})", it.name, it.value, it.origin));
        text.collect()
    };
    let expected = [
        "mode: direct (annotation ingress.cloud.tencent.com/direct-access)",
        "class: podline (spec.ingressClassName)",
        "source ranges: everybody (default)",
        "source address: the proxy's (default)",
        "health check: HTTP / every 5s (default)",
        "backend quota: 200 (--backend-quota)",
        "drain timeout: 15m (--drain-timeout)",
        "ignored: billing. (annotation kubernetes.io/ingress.internetChargeType)",
    ];
    assert_eq!(values(core), expected);
    let spec = "{loadBalancer: {l7Listeners: [{protocol: HTTP, port: 8081, domains: [{domain: a.example, rules: [{url: /, scheduler: IP_HASH, healthCheck: {intervalTime: 7}}]}]}]}}";
    let shop = service_config("default/shop", spec);
    put(
        core,
        Change::ServiceConfig(shop.key.clone(), Some(Box::new(shop))),
    );
    let told = values(core);
    for row in [
        "8081/HTTP a.example/ scheduler: IP_HASH (TkeServiceConfig shop)",
        "8081/HTTP a.example/ session: none (default)",
        "8081/HTTP a.example/ probe interval: 7s (TkeServiceConfig shop)",
        "8081/HTTP a.example/ probe timeout: 2s (default)",
        "8081/HTTP /b scheduler: WRR (default)",
        "8081/HTTP /b probe interval: 5s (default)",
    ] {
        assert!(told.iter().any(|it| it == row), "{row}: {told:#?}");
    }
    put(core, Change::ServiceConfig(key("default/shop"), None));
    let row = "8081/HTTP a.example/ scheduler: IP_HASH (kept from a TkeServiceConfig)";
    assert!(values(core).iter().any(|it| it == row), "{row}");
    let endpoints = explain(core, &front).unwrap().endpoints;
    let sets: Vec<_> = endpoints
        .iter()
        .map(|it| (&*it.address, &*it.fact))
        .collect();
    let bound = ("10.0.0.1:8080", "bound; no proxy serves");
    assert_eq!(sets, [bound, bound], "a set each");
}
