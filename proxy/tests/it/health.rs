//! Probes decide who gets traffic.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use podline_api::v1::{self, Health};
use podline_lab::{Behaviour, Pod, wait};

use crate::harness::blackhole::Blackhole;
use crate::harness::{LONG, Proxy, Start, addresses, http, once_within, pod, tcp, wire};

/// Serves Pods with the fastest check.
fn serve_checked(proxy: &Proxy, pods: &[Pod]) -> SocketAddr {
    let address = tcp::free_address();
    let mut set = wire::set("web", &addresses(pods));
    set.health_check = Some(wire::fast_check());
    proxy.serve_with(wire::listener("web", address, "web"), set);
    address
}

fn wait_health(proxy: &Proxy, pod: std::net::SocketAddr, limit: Duration, health: Health) {
    let what = format!("{pod} is {}", health.as_str_name());
    wait::until(limit, &what, || proxy.health("web", pod) == health);
}

#[test]
fn a_dead_backend_leaves_within_its_thresholds_and_comes_back() {
    let mut pods = vec![pod("stays", Behaviour::Name), pod("dies", Behaviour::Name)];
    let proxy = Proxy::alone();
    let address = serve_checked(&proxy, &pods);
    for pod in &pods {
        wait_health(&proxy, pod.address(), LONG, Health::Healthy);
    }
    let dead = pods.pop().unwrap().address(); // closed: probes are refused
    wait_health(&proxy, dead, LONG, Health::Unhealthy);
    let failures = || proxy.backend("web", dead).unwrap().connect_failures;
    // A verdict is published a moment after it can be read.
    wait::until(LONG, "20 requests in a row do without it", || {
        let before = failures();
        for _ in 0..20 {
            assert_eq!(http::ask(address).unwrap(), "stays");
        }
        failures() == before
    });
    assert_eq!((proxy.set("web").eligible, proxy.set("web").total), (1, 2));
    let back = Pod::start("dies", dead, Behaviour::Name).unwrap();
    wait_health(&proxy, dead, LONG, Health::Healthy);
    wait::until(LONG, "it takes its share of 20 requests", || {
        let before = back.counts().requests();
        for _ in 0..20 {
            http::ask(address).unwrap();
        }
        back.counts().requests() - before >= 5
    });
}

#[test]
fn a_backend_that_does_not_answer_probes_leaves_too() {
    let (alive, blackhole) = (pod("alive", Behaviour::Name), Blackhole::new());
    let proxy = Proxy::start();
    let mut set = wire::set("web", &[alive.address(), blackhole.address()]);
    set.health_check = Some(wire::fast_check());
    proxy.serve_with(wire::listener("web", tcp::free_address(), "web"), set);
    wait_health(&proxy, alive.address(), LONG, Health::Healthy);
    wait_health(&proxy, blackhole.address(), LONG, Health::Unhealthy);
    let status = proxy.backend("web", blackhole.address()).unwrap();
    assert!(!status.last_probe.is_empty(), "it says why");
}

#[test]
fn the_first_request_after_a_cold_start_is_answered_within_1500_ms() {
    let pods = [pod("a", Behaviour::Name), pod("b", Behaviour::Name)];
    let blackhole = Blackhole::new();
    let address = tcp::free_address();
    let yaml = format!(
        "
listeners:
- {{name: web, address: \"{address}\", protocol: TCP, backendSet: web}}
backendSets:
- name: web
  healthCheck: {{type: TCP}}
  backends:
  - address: {}
  - address: {}
  - address: {}
",
        blackhole.address(),
        pods[0].address(),
        pods[1].address()
    );
    once_within(Duration::from_millis(1500), || first_answer(&yaml, address));
}

/// How long after its start a proxy with this configuration has answered its first request, by "a" or by "b".
fn first_answer(yaml: &str, address: SocketAddr) -> Duration {
    let start = Start {
        yaml: Some(yaml.to_owned()),
        alone: true,
        ..Start::default()
    };
    let asking = std::thread::spawn(move || {
        let (begun, mut last) = (Instant::now(), None);
        while begun.elapsed() < LONG * 3 {
            // Until the process listens, connects are refused; that is part of the cold start.
            match http::ask(address) {
                Ok(name) => return (name, Instant::now()),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                    last = Some(error);
                }
                Err(error) => panic!("the first request failed: {error}"),
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        panic!("nobody listens: {last:?}");
    });
    let proxy = start.ready();
    let (name, answered) = asking.join().unwrap();
    assert!(["a", "b"].contains(&name.as_str()), "{name}");
    answered - proxy.begun
}

#[test]
fn when_all_are_unhealthy_all_get_traffic() {
    let dead = [tcp::free_address(), tcp::free_address()];
    let proxy = Proxy::start();
    let mut set = wire::set("web", &dead);
    let slow_to_admit = v1::HealthCheck {
        healthy_threshold: Some(10),
        ..wire::fast_check()
    };
    set.health_check = Some(slow_to_admit);
    let address = tcp::free_address();
    proxy.serve_with(wire::listener("web", address, "web"), set);
    for backend in dead {
        wait_health(&proxy, backend, LONG, Health::Unhealthy);
    }
    let status = proxy.set("web");
    assert!(status.fail_open && status.eligible == 0);
    let back = Pod::start("back", dead[1], Behaviour::Name).unwrap(); // at least 5 s from being healthy
    for _ in 0..4 {
        assert_eq!(http::ask(address).unwrap(), "back");
    }
    assert_eq!(proxy.health("web", back.address()), Health::Unhealthy);
}

#[test]
fn a_new_backend_of_a_healthy_set_gets_nothing_before_its_verdict() {
    let pods = [pod("old", Behaviour::Name)];
    let proxy = Proxy::start();
    let address = serve_checked(&proxy, &pods);
    wait_health(&proxy, pods[0].address(), LONG, Health::Healthy);
    let new = Blackhole::new();
    proxy.apply(wire::change("web", &[new.address()], &[]));
    assert_eq!(proxy.health("web", new.address()), Health::Detecting);
    for _ in 0..10 {
        assert_eq!(http::ask(address).unwrap(), "old");
    }
    assert_eq!(
        proxy
            .backend("web", new.address())
            .unwrap()
            .connect_failures,
        0,
        "it was dialed"
    );
}

#[test]
fn a_change_of_weights_does_not_reset_health() {
    let pods = [pod("a", Behaviour::Name), pod("b", Behaviour::Name)];
    let proxy = Proxy::start();
    serve_checked(&proxy, &pods);
    wait_health(&proxy, pods[0].address(), LONG, Health::Healthy);
    let since = |proxy: &Proxy| proxy.backend("web", pods[0].address()).unwrap().since;
    let before = since(&proxy);
    let mut request = wire::change("web", &[pods[0].address()], &[]);
    request.backend_changes[0].upsert[0].weight = Some(99);
    proxy.apply(request);
    assert_eq!(proxy.health("web", pods[0].address()), Health::Healthy);
    assert_eq!(since(&proxy), before);
}

#[test]
fn probes_leave_no_connection_open() {
    let pods = [pod("a", Behaviour::NeverAnswer)];
    let proxy = Proxy::start();
    serve_checked(&proxy, &pods);
    wait::until(LONG, "it was probed", || pods[0].counts().accepted() >= 4);
    wait::until(LONG, "probes are closed", || pods[0].counts().open() == 0);
}
