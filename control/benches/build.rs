//! What one event costs in a cluster of 1,000 Services with ten Pods each: it must be what the event touches, not what
//! there is.

#![expect(clippy::unwrap_used, reason = "a bench, whose inputs are its own")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use podline_control::build::{Builder, Options};
use podline_control::cluster::{Change, Cluster, Pod, Service, Slice, Touched};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const SERVICES: usize = 1_000;
const PODS: usize = 10;

fn object<T: DeserializeOwned>(json: Value) -> T {
    serde_json::from_value(json).unwrap()
}

fn address(number: usize) -> String {
    let (high, low) = (number >> 8, number & 255);
    format!("10.{}.{}.{low}", high >> 8, high & 255)
}

fn pod_name(service: usize, n: usize) -> String {
    format!("web-{service}-5d8f9c7b6-{n:05}")
}

fn pod(service: usize, n: usize) -> Pod {
    let number = service * PODS + n;
    let read = Pod::read(&object(json!({
        "metadata": {
            "namespace": "default", "name": pod_name(service, n), "uid": format!("uid-{number}"),
            "creationTimestamp": "2026-01-02T03:04:05Z",
        },
        "spec": {"nodeName": format!("node-{}", number % 20), "containers": []},
        "status": {
            "phase": "Running", "podIPs": [{"ip": address(number)}],
            "conditions": [{"type": "ContainersReady", "status": "True"}],
        },
    })));
    read.unwrap()
}

/// The Pods of a Service from the `first` on.
fn slice(service: usize, first: usize) -> Slice {
    let endpoint = |n: usize| {
        let number = service * PODS + n;
        json!({
            "addresses": [address(number)],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": format!("node-{}", number % 20),
            "targetRef": {
                "kind": "Pod", "namespace": "default", "name": pod_name(service, n), "uid": format!("uid-{number}"),
            },
        })
    };
    let read = Slice::read(&object(json!({
        "metadata": {
            "namespace": "default", "name": format!("web-{service}-abcde"),
            "labels": {"kubernetes.io/service-name": format!("web-{service}")},
            "creationTimestamp": "2026-01-02T03:04:05Z",
        },
        "addressType": "IPv4",
        "ports": [{"name": "", "protocol": "TCP", "port": 8080}],
        "endpoints": (first..PODS).map(endpoint).collect::<Vec<_>>(),
    })));
    read.unwrap()
}

fn service(number: usize) -> Service {
    let read = Service::read(&object(json!({
        "metadata": {
            "namespace": "default", "name": format!("web-{number}"), "uid": format!("uid-web-{number}"),
            "creationTimestamp": "2026-01-02T03:04:05Z", "resourceVersion": "1",
            "annotations": {"service.cloud.tencent.com/direct-access": "true"},
        },
        "spec": {
            "type": "LoadBalancer", "loadBalancerClass": "podline.io/clb", "selector": {"app": "web"},
            "ipFamilies": ["IPv4"],
            "ports": [{"protocol": "TCP", "port": 1_000 + number, "nodePort": 31_000 + number}],
        },
    })));
    read.unwrap()
}

fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    for number in 0..SERVICES {
        for pod in (0..PODS).map(|n| pod(number, n)) {
            cluster.apply(Change::Pod(pod.key.clone(), Some(pod)));
        }
        let slice = slice(number, 0);
        cluster.apply(Change::Slice(slice.key.clone(), Some(slice)));
        let service = service(number);
        cluster.apply(Change::Service(
            service.key.clone(),
            Some(Box::new(service)),
        ));
    }
    cluster
}

fn builds(criterion: &mut Criterion) {
    let mut cluster = cluster();
    let mut builder = Builder::new(Options::default());
    let changed = builder.build(&cluster, &Touched::all());
    assert_eq!(changed.len(), SERVICES);
    assert_eq!(builder.snapshot().listeners.len(), SERVICES);
    let slices = [slice(500, 1), slice(500, 0)];
    let mut turn = 0;
    let name = format!("a slice of one of {SERVICES} Services changes");
    criterion.bench_function(&name, |bencher| {
        bencher.iter(|| {
            let slice = slices[turn % 2].clone();
            turn += 1;
            let touched = cluster.apply(Change::Slice(slice.key.clone(), Some(slice)));
            let changed = builder.build(&cluster, &touched);
            assert_eq!(changed.len(), 1);
            builder.publish()
        });
    });
    criterion.bench_function(
        &format!("nothing changes in {SERVICES} Services"),
        |bencher| {
            bencher.iter(|| builder.build(&cluster, black_box(&Touched::all())));
        },
    );
    criterion.bench_function(&format!("{SERVICES} Services from scratch"), |bencher| {
        bencher.iter(|| Builder::new(Options::default()).build(&cluster, &Touched::all()));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = builds
}
criterion_main!(benches);
