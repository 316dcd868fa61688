//! Which ports imitating connections use, and what happens when they run out.

use std::collections::HashSet;

use podline_api::v1;
use podline_api::v1::listener::SourceAddress::{PreferTransparent, Transparent};
use podline_lab::{Lab, Topology, require_netns, wait};

use super::scene::{Scene, WEB, ask, network};
use crate::harness::{LONG, http, wire};

#[test]
fn two_proxies_never_use_the_same_port_of_a_client() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let scene = Scene::build(&lab, 1);
    let proxies = [scene.start(&[]), scene.start(&[])];
    let mut ports: [HashSet<u16>; 2] = Default::default();
    for ((slot, proxy), ports) in (0..).zip(&proxies).zip(&mut ports) {
        let address = (Topology::PROXY[0], 80 + u16::try_from(slot).unwrap()).into();
        let mut listener = wire::listener(WEB[0], address, WEB[0]);
        listener.source_address = Some(PreferTransparent.into());
        let backends = [scene.pods[0][0].address()];
        let mut request = wire::both(listener, wire::set(WEB[0], &backends));
        let mut network = network();
        network.port_share = Some(v1::PortShare { slot, slots: 2 });
        request.network = Some(network);
        proxy.apply(request);
        // The second shares the first one's rules.
        Scene::wait_proven(proxy, 0);
        for _ in 0..300 {
            let seen = ask(&scene.topology.client, address).unwrap();
            assert_eq!(seen.ip(), Topology::CLIENT[0]);
            ports.insert(seen.port());
        }
    }
    assert_eq!(ports[0].intersection(&ports[1]).count(), 0);
    let middle = 1_024 + (65_536 - 1_024) / 2;
    assert!(ports[0].iter().all(|port| u32::from(*port) < middle));
    assert!(ports[1].iter().all(|port| u32::from(*port) >= middle));
}

#[test]
fn when_a_clients_ports_are_taken_the_proxy_shows_itself_or_refuses() {
    const PORTS: usize = 8;
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let scene = Scene::build(&lab, 1);
    let host = &scene.topology.proxy;
    // Not where the proxy itself may listen: the kernel passes over such a port.
    host.sysctl("net/ipv4/ip_local_port_range", "40000 40007")
        .unwrap();
    let proxy = scene.start(&[]);
    scene.serve(&proxy, 0, PreferTransparent);
    Scene::wait_proven(&proxy, 0);
    let open = || {
        let address = Scene::address(0);
        scene.topology.client.run(move || {
            let mut client = http::Client::connect(address)?;
            let seen = client.name()?;
            Ok::<_, std::io::Error>((client, seen))
        })
    };
    let mut held = Vec::new();
    for _ in 0..PORTS {
        let (client, seen) = open().unwrap();
        assert!(seen.starts_with("10.88.1.2:4000"), "{seen}");
        held.push(client);
    }
    let (_client, seen) = open().unwrap();
    assert!(seen.starts_with("10.244.0.1:"), "{seen}");
    let count = || proxy.listener(WEB[0]).snat_connections["PORTS_EXHAUSTED"];
    assert_eq!(count(), 1);
    scene.serve(&proxy, 0, Transparent);
    open().unwrap_err();
    assert_eq!(count(), 2);
    let backend = proxy.backend(WEB[0], scene.pods[0][0].address()).unwrap();
    assert_eq!(backend.connect_failures, 0, "it is not the backend's fault");
    drop(held);
    wait::until(LONG, "there are ports again", || open().is_ok());
}
