//! What builds cost. The only file here that may look at a clock.

use std::time::Instant;

use super::*;
use crate::cluster::testing::{endpoint, key, node, pod, port, service, slice};
use crate::cluster::{Change, Pod, Service, Slice};

const SERVICES: usize = 1_000;
const PODS: usize = 10;

fn pod_of(service: usize, n: usize) -> Pod {
    let number = service * PODS + n;
    let address = format!(
        "10.{}.{}.{}",
        number >> 16,
        (number >> 8) & 255,
        number & 255
    );
    Pod {
        uid: format!("00000000-0000-4000-8000-{number:012}").into(),
        node: Some(format!("node-{}", number % 20).into()),
        ..pod(&format!("default/web-{service}-5d8f9c7b6-{n:05}"), &address)
    }
}

fn slice_of(number: usize, pods: &[Pod]) -> Slice {
    let name = format!("default/web-{number}");
    slice(
        &format!("web-{number}-abcde"),
        &name,
        pods.iter().map(endpoint).collect(),
    )
}

fn megabytes_resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kilobytes = line.split_whitespace().nth(1).unwrap();
    kilobytes.parse::<f64>().unwrap() / 1_024.0
}

/// Milliseconds of the median and the slowest of some runs.
fn time(what: &str, runs: usize, mut run: impl FnMut(usize)) {
    let mut times: Vec<_> = (0..runs)
        .map(|n| {
            let start = Instant::now();
            run(n);
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    let (median, most) = (times[runs / 2], times[runs - 1]);
    println!("{what}: median {median:?}, slowest {most:?} of {runs}");
}

#[test]
#[ignore = "measures; run by hand"]
fn builds_of_a_thousand_services() {
    let before = megabytes_resident();
    let mut cluster = Cluster::default();
    for n in 0..20 {
        let node = node(&format!("node-{n}"), &format!("192.0.2.{n}"));
        cluster.apply(Change::Node(node.name.clone(), Some(node)));
    }
    for number in 0..SERVICES {
        let pods: Vec<_> = (0..PODS).map(|n| pod_of(number, n)).collect();
        let slice = slice_of(number, &pods);
        cluster.apply(Change::Slice(slice.key.clone(), Some(slice)));
        for pod in pods {
            cluster.apply(Change::Pod(pod.key.clone(), Some(pod)));
        }
        let web = Service {
            ports: vec![port("", 1_000 + u16::try_from(number).unwrap())],
            ..service(&format!("default/web-{number}"))
        };
        cluster.apply(Change::Service(web.key.clone(), Some(Box::new(web))));
    }
    let with_cluster = megabytes_resident();
    let mut builder = Builder::new(Options::default());
    builder.build(&cluster, &Touched::all());
    let with_build = megabytes_resident();
    println!(
        "resident: cluster {:.1} MiB, build {:.1} MiB",
        with_cluster - before,
        with_build - with_cluster
    );
    time("from scratch", 5, |_| {
        let mut fresh = Builder::new(Options::default());
        fresh.build(&cluster, &Touched::all());
    });
    time("everything touched, nothing different", 5, |_| {
        let changed = builder.build(&cluster, &Touched::all());
        assert!(changed.is_empty());
    });
    time("a slice has an endpoint less", 200, |n| {
        let pods: Vec<_> = (1..PODS).map(|i| pod_of(n, i)).collect();
        let slice = slice_of(n, &pods);
        let touched = cluster.apply(Change::Slice(slice.key.clone(), Some(slice)));
        assert_eq!(builder.build(&cluster, &touched).len(), 1);
    });
    time("a Pod is being deleted", 200, |n| {
        let pod = Pod {
            is_deleting: true,
            ..pod_of(n, 5)
        };
        let touched = cluster.apply(Change::Pod(pod.key.clone(), Some(pod)));
        assert_eq!(touched.services, [key(&format!("default/web-{n}"))].into());
        builder.build(&cluster, &touched);
    });
}
