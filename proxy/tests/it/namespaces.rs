//! The proxy on a host of its own, with clients and Pods on others. Skipped where namespaces cannot be made, unless
//! `PODLINE_REQUIRE=netns`.

use std::collections::BTreeSet;
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use podline_api::v1::Health;
use podline_lab::{Behaviour, Lab, Pod, Topology, require_netns, wait};

use crate::harness::{LONG, Proxy, SECOND, Start, http, tcp, wire};

const PORT: u16 = 8080;

/// Pods of one behaviour, one in each namespace, of the family with this index.
fn pods(topology: &Topology, family: usize, behaviour: Behaviour) -> Vec<Pod> {
    let namespaces = topology.pods.iter().enumerate();
    let start = namespaces.map(|(index, namespace)| {
        let address = Topology::pod(u8::try_from(index).unwrap())[family];
        Pod::start_in(
            namespace,
            &format!("pod-{index}"),
            (address, PORT).into(),
            behaviour,
        )
        .unwrap()
    });
    start.collect()
}

fn start(topology: &Topology, alone: bool) -> Proxy {
    let namespace = Some(&topology.proxy);
    Start {
        alone,
        namespace,
        ..Start::default()
    }
    .ready()
}

fn addresses(pods: &[Pod]) -> Vec<SocketAddr> {
    pods.iter().map(Pod::address).collect()
}

fn ask(topology: &Topology, address: SocketAddr) -> std::io::Result<String> {
    topology.client.run(move || http::ask(address))
}

#[test]
fn clients_reach_pods_through_the_proxy_in_all_families() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let topology = Topology::build(&lab, 2).unwrap();
    let proxy = start(&topology, false);
    for (inside, port) in [(0, 80), (1, 81)] {
        let pods = pods(&topology, inside, Behaviour::Name);
        for (outside, host) in Topology::PROXY.into_iter().enumerate() {
            let (name, address) = (
                format!("web-{inside}-{outside}"),
                SocketAddr::new(host, port),
            );
            proxy.serve_with(
                wire::listener(&name, address, &name),
                wire::set(&name, &addresses(&pods)),
            );
            let mut names: Vec<_> = (0..8).map(|_| ask(&topology, address).unwrap()).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names, ["pod-0", "pod-1"]);
        }
    }
}

#[test]
fn bulk_arrives_intact_over_veth_in_both_directions_at_once() {
    const BYTES: u64 = 200_000_000;
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let topology = Topology::build(&lab, 1).unwrap();
    let pods = pods(&topology, 0, Behaviour::Echo);
    let proxy = start(&topology, true);
    let address = SocketAddr::new(Topology::PROXY[0], 80);
    proxy.serve_with(
        wire::listener("web", address, "web"),
        wire::set("web", &addresses(&pods)),
    );
    let mut stream = topology.client.run(move || tcp::connect(address));
    let mut writer = stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        tcp::send_pattern(&mut writer, 0, BYTES).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let (bytes, end) = tcp::read_pattern(&mut stream);
    end.unwrap();
    assert_eq!(bytes, BYTES);
    sending.join().unwrap();
}

#[test]
fn a_pod_that_vanishes_is_retried_elsewhere_then_ejected_and_comes_back() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let topology = Topology::build(&lab, 2).unwrap();
    let pods = pods(&topology, 0, Behaviour::Name);
    let proxy = start(&topology, true);
    let address = SocketAddr::new(Topology::PROXY[0], 80);
    let mut set = wire::set("web", &addresses(&pods));
    set.connect_timeout = wire::time(Duration::from_millis(300));
    set.health_check = Some(wire::fast_check());
    proxy.serve_with(wire::listener("web", address, "web"), set);
    let wait_health = |health| {
        let what = format!("the pod is {health:?}");
        wait::until(LONG, &what, || {
            proxy.health("web", pods[0].address()) == health
        });
    };
    wait_health(Health::Healthy);
    wait::until(LONG, "both take traffic", || {
        let asked = (0..10).map(|_| ask(&topology, address).unwrap());
        asked.collect::<BTreeSet<_>>().len() == 2
    });

    topology.proxy.link_down(&Topology::pod_link(0)).unwrap();
    for _ in 0..6 {
        assert_eq!(
            ask(&topology, address).unwrap(),
            "pod-1",
            "the other one takes over"
        );
    }
    wait_health(Health::Unhealthy);
    // A verdict is published a moment after it can be read.
    let ejected = pods[0].address();
    let failures = || proxy.backend("web", ejected).unwrap().connect_failures;
    wait::until(LONG, "no dial waits for the ejected pod", || {
        let before = failures();
        for _ in 0..10 {
            assert_eq!(ask(&topology, address).unwrap(), "pod-1");
        }
        failures() == before
    });

    topology.proxy.link_up(&Topology::pod_link(0)).unwrap();
    wait_health(Health::Healthy);
    wait::until(LONG, "it answers again", || {
        ask(&topology, address).is_ok_and(|name| name == "pod-0")
    });
}

#[test]
fn a_client_that_vanishes_is_ended_by_the_idle_timeout() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let topology = Topology::build(&lab, 1).unwrap();
    let pods = pods(&topology, 0, Behaviour::Echo);
    let proxy = start(&topology, false);
    let address = SocketAddr::new(Topology::PROXY[0], 80);
    let mut web = wire::listener("web", address, "web");
    web.idle_timeout = wire::time(SECOND);
    proxy.serve_with(web, wire::set("web", &addresses(&pods)));
    let _stream = topology.client.run(move || tcp::connect(address));
    wait::until(LONG, "it is through", || pods[0].counts().accepted() == 1);
    topology.proxy.link_down("client").unwrap();
    wait::until(10 * SECOND, "both sides are free", || {
        proxy.active() == 0 && pods[0].counts().open() == 0
    });
    assert_eq!(
        pods[0].counts().resets(),
        1,
        "the pod saw a reset, not a clean end"
    );
}
