//! A thousand Services with ten thousand endpoints: how long a change takes, what it costs. The small one runs always and
//! judges no time; the large one is run by hand.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use podline_api::client::ProxyClient;
use podline_api::v1;
use podline_api::v1::watch_response::Event;
use podline_lab::wait;
use serde_json::{Value, json};

use crate::harness::LONG;
use crate::harness::objects::{self, direct};
use crate::harness::scene::Scene;

const PORT: u16 = 9376;
const FIRST_PORT: u16 = 12_000;
/// Endpoints of each Service.
const ENDPOINTS: usize = 10;

/// The address of an endpoint: all of 10.200.0.0/16 is the hub's own.
fn address(number: usize) -> String {
    let [.., high, low] = u32::try_from(number + 1).unwrap().to_be_bytes();
    let middle = u8::try_from((number + 1) >> 16).unwrap();
    format!("10.{}.{high}.{low}", 200 + middle)
}

fn name(service: usize) -> String {
    format!("s{service}")
}

fn port(service: usize) -> u16 {
    FIRST_PORT + u16::try_from(service).unwrap()
}

fn service(number: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name(number), "annotations": direct()},
        "spec": {
            "type": "LoadBalancer", "loadBalancerClass": "podline.io/clb", "allocateLoadBalancerNodePorts": false,
            "ports": [{"port": port(number), "targetPort": PORT}],
        },
    })
}

fn slice(number: usize, addresses: &[String]) -> Value {
    let endpoint = |address| json!({"addresses": [address], "conditions": {"ready": true}});
    let endpoints: Vec<_> = addresses.iter().map(endpoint).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("{}-hand", name(number)), "labels": {"kubernetes.io/service-name": name(number)}},
        "endpoints": endpoints, "ports": [{"port": PORT, "protocol": "TCP"}],
    })
}

fn addresses(number: usize) -> Vec<String> {
    (0..ENDPOINTS)
        .map(|i| address(number * ENDPOINTS + i))
        .collect()
}

/// Everything that a proxy tells, with when it came.
fn follow(scene: &Scene, proxy: usize, tell: &mpsc::Sender<(usize, Instant, Event)>) {
    let (target, tell) = (scene.proxies[proxy].target(), tell.clone());
    scene.run(|_, _| async move {
        let client = ProxyClient::connect(&target).await.unwrap();
        let mut events = client.watch().await.unwrap();
        tokio::spawn(async move {
            while let Ok(Some(response)) = events.message().await {
                let Some(event) = response.event else {
                    continue;
                };
                if tell.send((proxy, Instant::now(), event)).is_err() {
                    return;
                }
            }
        });
    });
}

/// One changed endpoint: until both proxies act on it, and until both send it traffic.
struct Times {
    acted: Duration,
    healthy: Duration,
}

fn change(
    scene: &Scene,
    told: &mpsc::Receiver<(usize, Instant, Event)>,
    number: usize,
    fresh: usize,
) -> Times {
    let mut list = addresses(number);
    list[0] = address(fresh);
    let (changed, backend) = (slice(number, &list), format!("{}:{PORT}", list[0]));
    let set = format!(
        "set/{}/{}/tcp/{}",
        scene.namespace,
        name(number),
        port(number)
    );
    while told.try_recv().is_ok() {}
    let begun = scene.run(|client, namespace| async move {
        let begun = Instant::now();
        objects::apply::<EndpointSlice>(&client, &namespace, changed).await;
        begun
    });
    let (mut acted, mut healthy) = (BTreeMap::new(), BTreeMap::new());
    while acted.len() < 2 || healthy.len() < 2 {
        let (proxy, at, event) = told
            .recv_timeout(LONG)
            .expect("the proxies tell of the change");
        match event {
            Event::Applied(applied) if applied.changes.iter().any(|change| change.what == set) => {
                acted.entry(proxy).or_insert(at);
            }
            Event::Health(change)
                if change.to() == v1::Health::Healthy
                    && change
                        .backend
                        .as_ref()
                        .is_some_and(|b| b.address == backend) =>
            {
                healthy.entry(proxy).or_insert(at);
            }
            _ => {}
        }
    }
    let after =
        |times: &BTreeMap<usize, Instant>| times.values().max().unwrap().duration_since(begun);
    Times {
        acted: after(&acted),
        healthy: after(&healthy),
    }
}

fn quantile(mut times: Vec<Duration>, share: f64) -> Duration {
    times.sort_unstable();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index of a short list"
    )]
    let at = ((times.len() - 1) as f64 * share).round() as usize;
    times[at]
}

/// So many Services, so many single changes; what was seen goes to standard output.
fn measure(name: &str, services: usize, changes: usize) {
    let Some(mut scene) = Scene::set(name) else {
        return;
    };
    listen(&scene);
    let begun = Instant::now();
    create(&scene, services);
    println!("{services} Services created in {:?}", begun.elapsed());
    wait::until(10 * LONG, "every Service is told that it is served", || {
        served(&scene) == services
    });
    println!("all served after {:?}", begun.elapsed());
    // A Service is served before its endpoints have come.
    wait::until(LONG, "every proxy has every endpoint", || {
        (0..2).all(|proxy| {
            let state = scene.state(proxy);
            let backends = state.backend_sets.iter().map(|set| set.backends.len());
            let backends: usize = backends.sum();
            state.listeners.len() == services && backends == services * ENDPOINTS
        })
    });
    wait::until(5 * LONG, "every backend has a verdict", || {
        let sets = scene.state(0).backend_sets;
        sets.iter().all(|set| set.eligible as usize == ENDPOINTS)
    });
    println!("all healthy after {:?}", begun.elapsed());
    let index = start_anew(&mut scene, services);
    change_singly(&scene, services, changes);
    let metrics = scene.metrics(index);
    let told = [
        "podline_control_event_to_ack",
        "podline_control_build_seconds",
    ];
    for line in metrics
        .lines()
        .filter(|line| told.iter().any(|name| line.starts_with(name)))
    {
        println!("{line}");
    }
    let resident = scene.controllers["a"].resident_bytes() >> 20;
    println!("controller: {resident} MiB resident");
}

/// Something answers at every address of the endpoints: it accepts and drops, and probes ask for no more.
fn listen(scene: &Scene) {
    let all = IpAddr::from([10, 200, 0, 1]);
    let hub = &scene.cluster.star.hub;
    hub.address("lo", all, 15).ok(); // an earlier test may have added it
    let bound = hub.run(|| std::net::TcpListener::bind(("0.0.0.0", PORT)));
    let Ok(listener) = bound else {
        return; // an earlier test listens there
    };
    std::thread::spawn(move || for _ in listener.incoming().map_while(Result::ok) {});
}

fn create(scene: &Scene, services: usize) {
    scene.run(|client, namespace| async move {
        for number in 0..services {
            objects::apply::<Service>(&client, &namespace, service(number)).await;
            let slice = slice(number, &addresses(number));
            objects::apply::<EndpointSlice>(&client, &namespace, slice).await;
        }
    });
}

/// Services of which that is so.
fn count(scene: &Scene, is_so: impl Fn(&Service) -> bool) -> usize {
    let list = scene.run(|client, namespace| async move {
        let api = kube::Api::<Service>::namespaced(client, &namespace);
        api.list(&kube::api::ListParams::default()).await.unwrap()
    });
    list.items.iter().filter(|service| is_so(service)).count()
}

/// Services whose status names both proxies.
fn served(scene: &Scene) -> usize {
    let addresses = |service: &Service| {
        let status = service.status.as_ref()?.load_balancer.as_ref()?;
        Some(status.ingress.as_ref()?.len())
    };
    count(scene, |service| addresses(service) == Some(2))
}

/// Services whose status tells whom Pods see, which comes last: once it has held for 10 s.
fn settled(scene: &Scene) -> usize {
    let tells = |service: &Service| {
        let conditions = service.status.as_ref()?.conditions.as_ref()?;
        let mut kinds = conditions.iter().map(|condition| &*condition.type_);
        Some(kinds.any(|kind| kind == "podline.io/SourceAddress"))
    };
    count(scene, |service| tells(service) == Some(true))
}

/// A controller that starts anew, and finds everything as it should be, writes nothing. Its index.
fn start_anew(scene: &mut Scene, services: usize) -> u16 {
    wait::until(LONG, "whom Pods see is told of all", || {
        settled(scene) == services
    });
    wait::until(LONG, "nothing waits to be written", || {
        scene.metric("podline_control_write_queue_depth ") < 0.5
    });
    let before = writes(scene);
    scene.controllers["a"].signal(rustix::process::Signal::TERM);
    assert!(scene.controllers["a"].wait_end(LONG));
    scene.controllers.clear();
    let index = scene.start_controller("a");
    scene.wait_serving_by(index);
    let expected = format!("podline_control_services {services}");
    wait::until(LONG, "the new one knows all", || {
        scene.metrics(index).lines().any(|line| line == expected)
    });
    wait::until(LONG, "the proxies have acknowledged it", || {
        let metrics = scene.metrics(index);
        let lags = metrics
            .lines()
            .filter(|line| line.starts_with("podline_control_proxy_lag_versions{"));
        lags.filter(|line| line.ends_with(" 0")).count() == 2
    });
    assert_eq!(
        writes(scene),
        before,
        "a start without a change has written something"
    );
    index
}

/// Writes to Services and Events that the API server had, by verb and resource. Not deletions: the controller has no right
/// to them, and Kubernetes still cleans up behind an earlier test's namespace.
fn writes(scene: &Scene) -> BTreeMap<String, u64> {
    let counted: BTreeMap<String, u64> =
        serde_json::from_str(&scene.cluster.control("requests")).unwrap();
    let is_write = |what: &str| {
        let verb = what
            .split(' ')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase();
        let of_ours = what.contains("services") || what.contains("events");
        of_ours && ["post", "create", "put", "update", "patch", "apply"].contains(&verb.as_str())
    };
    counted
        .into_iter()
        .filter(|(what, _)| is_write(what))
        .collect()
}

fn change_singly(scene: &Scene, services: usize, changes: usize) {
    let (tell, told) = mpsc::channel();
    for proxy in 0..2 {
        follow(scene, proxy, &tell);
    }
    let change = |i| change(scene, &told, i % services, services * ENDPOINTS + i);
    let (acted, healthy): (Vec<_>, Vec<_>) = (0..changes)
        .map(change)
        .map(|times| (times.acted, times.healthy))
        .unzip();
    for (what, times) in [
        ("slice written to acknowledged by both", acted),
        ("to traffic on both", healthy),
    ] {
        let of = |share| quantile(times.clone(), share);
        println!(
            "{what}: p50 {:?}, p99 {:?}, max {:?}",
            of(0.5),
            of(0.99),
            of(1.0)
        );
    }
}

#[test]
fn many_services_are_served_and_a_start_without_a_change_writes_nothing() {
    measure("many", 40, 10);
}

/// `PODLINE_SCALE` says how many Services, 1,000 by default.
#[test]
#[ignore = "measures; run by hand with --release"]
fn a_thousand_services_with_ten_thousand_endpoints() {
    let services = std::env::var("PODLINE_SCALE").ok();
    let services = services.and_then(|text| text.parse().ok()).unwrap_or(1_000);
    measure("thousand", services, 500);
}
