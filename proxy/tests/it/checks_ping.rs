//! Probes by ICMP echo: over both IP versions, with both kinds of sockets, and what is said where neither is allowed.

use std::net::SocketAddr;

use podline_api::v1::{self, Health, health_check::Type};
use podline_lab::{Behaviour, Lab, Pod, Topology, require_netns, wait};

use crate::checks::{check, checked, wait_found};
use crate::harness::{LONG, Proxy, Start, http, tcp, wire};

const PORT: u16 = 8080;
/// Which groups may ping without a privilege.
const GROUPS: &str = "net/ipv4/ping_group_range";
const NAMES: [&str; 2] = ["four", "six"];

fn host(family: usize) -> SocketAddr {
    (Topology::pod(0)[family], PORT).into()
}

fn start(topology: &Topology) -> Proxy {
    let namespace = Some(&topology.proxy);
    Start {
        namespace,
        ..Start::default()
    }
    .ready()
}

fn ping() -> v1::HealthCheck {
    check(Type::Ping)
}

/// Waits for this over both IP versions.
fn wait_both(proxy: &Proxy, health: Health, found: &str) {
    for (family, name) in NAMES.into_iter().enumerate() {
        wait_found(proxy, name, host(family), health, found);
    }
}

#[test]
fn a_host_that_vanishes_is_out_until_it_answers_again() {
    if !require_netns() {
        return;
    }
    for groups in ["1 0", "0 2147483647"] {
        let lab = Lab::new().unwrap();
        let topology = Topology::build(&lab, 1).unwrap();
        topology.proxy.sysctl(GROUPS, groups).unwrap();
        let proxy = start(&topology);
        for (family, name) in NAMES.into_iter().enumerate() {
            checked(&proxy, name, &[host(family)], ping());
        }
        wait_both(&proxy, Health::Healthy, "answered");
        topology.proxy.link_down(&Topology::pod_link(0)).unwrap();
        wait_both(&proxy, Health::Unhealthy, "no answer");
        topology.proxy.link_up(&Topology::pod_link(0)).unwrap();
        wait_both(&proxy, Health::Healthy, "answered");
    }
}

#[test]
fn pings_come_from_the_checks_source_address() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let topology = Topology::build(&lab, 1).unwrap();
    for groups in ["1 0", "0 2147483647"] {
        topology.proxy.sysctl(GROUPS, groups).unwrap();
        let proxy = start(&topology);
        for (family, name) in NAMES.into_iter().enumerate() {
            let from = |ip: &str| v1::HealthCheck {
                source_address: Some(ip.to_owned()),
                ..ping()
            };
            // The pod answers this one through its gateway.
            let ours = Topology::PROXY[family].to_string();
            checked(&proxy, name, &[host(family)], from(&ours));
            wait_found(&proxy, name, host(family), Health::Healthy, "answered");
            let foreign = ["192.0.2.1", "2001:db8::1"][family];
            let name = format!("foreign-{name}");
            checked(&proxy, &name, &[host(family)], from(foreign));
            let found = "the check's source address is none of this machine's";
            wait_found(&proxy, &name, host(family), Health::Unhealthy, found);
        }
    }
}

#[test]
fn a_proxy_that_may_not_ping_says_so_and_takes_nobody_out() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let topology = Topology::build(&lab, 1).unwrap();
    topology.proxy.sysctl(GROUPS, "1 0").unwrap();
    let address: SocketAddr = (Topology::pod(0)[0], PORT).into();
    let _pod = Pod::start_in(&topology.pods[0], "a", address, Behaviour::Name).unwrap();
    let proxy = Start {
        namespace: Some(&topology.proxy),
        without: &["net_raw"],
        ..Start::default()
    }
    .ready();
    let web = SocketAddr::new(Topology::PROXY[0], 80);
    let mut set = wire::set("web", &[address]);
    set.connect_timeout = wire::time(std::time::Duration::from_millis(200));
    set.health_check = Some(ping());
    proxy.serve_with(wire::listener("web", web, "web"), set);
    let found = "no permission: grant CAP_NET_RAW, or let net.ipv4.ping_group_range include this process's group";
    wait_found(&proxy, "web", address, Health::Detecting, found);
    let why = proxy.block_on(proxy.client().explain(v1::ExplainRequest {
        set: "web".to_owned(),
        backend: None,
    }));
    let why = format!("{why:?}");
    assert!(why.contains(found), "{why}");
    let asked = topology.client.run(move || http::ask(web));
    assert_eq!(asked.unwrap(), "a", "a backend without a verdict serves");
    proxy.wait_logged("no permission");
    assert_eq!(proxy.log().matches("no permission").count(), 1);
    // Once it may, nobody has to tell it.
    topology.proxy.sysctl(GROUPS, "0 2147483647").unwrap();
    wait_found(&proxy, "web", address, Health::Healthy, "answered");
}

#[test]
fn one_ping_is_for_all_ports_of_a_host() {
    let proxy = Proxy::start();
    let nobody = [tcp::free_address(), tcp::free_address()];
    checked(&proxy, "web", &nobody, ping());
    checked(&proxy, "six", &[tcp::free_address_v6()], ping());
    wait::until(LONG, "all have a word", || {
        let words = |set: &str| {
            let backends = proxy.set(set).backends.into_iter();
            backends.map(|b| b.last_probe).collect::<Vec<_>>()
        };
        let all = [words("web"), words("six")].concat();
        // A machine may forbid it.
        let is_alike = all.iter().all(|word| *word == all[0]);
        is_alike && (all[0] == "answered" || all[0].starts_with("no permission"))
    });
}
