//! What gates cost. The only file here that may look at a clock.

use std::time::Instant;

use super::world::{World, waiting};
use crate::cluster::testing::{endpoint, port, service, slice};
use crate::cluster::{Change, Pod, Service};

const MANY: usize = 1_000;

fn pod_of(n: usize) -> Pod {
    let address = format!("10.1.{}.{}", n >> 8, n & 255);
    let mut pod = waiting(&format!("default/web-5d8f9c7b6-{n:05}"), &address);
    pod.uid = format!("00000000-0000-4000-8000-{n:012}").into();
    pod
}

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

/// One Service has all the Pods; the others have selectors of their own.
#[test]
#[ignore = "measures; run by hand"]
fn a_thousand_pods_and_a_thousand_services_of_one_namespace() {
    let mut world = World::new();
    world.is_unchecked = true;
    for n in 1..MANY {
        world.put_service(Service {
            ports: vec![port("", u16::try_from(n).unwrap() + 1_000)],
            selector: [("app".to_owned(), format!("other-{n}"))].into(),
            ..service(&format!("default/other-{n}"))
        });
    }
    let pods: Vec<_> = (0..MANY).map(pod_of).collect();
    time("a Pod is new", MANY, |n| world.put_pod(&pods[n]));
    let endpoints = |count: usize| pods[..count].iter().map(endpoint).collect();
    time("the slice has one more, with the build", 200, |n| {
        let slice = slice("web-1", "default/web", endpoints(MANY - 200 + n + 1));
        world.change(Change::Slice(slice.key.clone(), Some(slice)));
    });
    time("a Pod changes, with the build", 200, |n| {
        let pod = Pod {
            other_gates_open: n % 2 == 0,
            ..pods[n / 2].clone()
        };
        world.put_pod(&pod);
    });
    time("another Service changes, with the build", 200, |n| {
        world.put_service(Service {
            selector: [("app".to_owned(), format!("other-{n}"))].into(),
            ports: vec![port("", 3_000)],
            created: 2_000 + i64::try_from(n).unwrap(),
            ..service("default/other-1")
        });
    });
    let observed = world.observed.clone();
    time("a proxy says something, nobody is healthy", 200, |_| {
        world.gates.observe(&observed, 1);
    });
    world.pass_all();
    let observed = world.observed.clone();
    time("a proxy says something, all are healthy", 200, |_| {
        world.gates.observe(&observed, 1);
    });
    time("what is to be done", 200, |n| {
        world.gates.act(2 + n as u64);
    });
    time("a node changes, with the build", 5, |n| {
        let mut node = crate::cluster::testing::node("node-1", "10.89.0.11");
        node.is_ready = n % 2 == 1;
        world.change(Change::Node(node.name.clone(), Some(node)));
    });
}
