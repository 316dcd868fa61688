//! Clients that a PROXY header announces are imitated like those that connect, and nobody is by announcing more.

use podline_api::ProxyHeader;
use podline_api::v1::{self, listener::SourceAddress::PreferTransparent};
use podline_lab::{Lab, Topology, require_netns};
use podline_proxy::proxy_header::{Announced, write};
use std::net::SocketAddr;

use super::scene::{Scene, WEB, network};
use crate::harness::{Proxy, http, wire};

/// Everybody of the client's network has to send a header.
fn serve(scene: &Scene, proxy: &Proxy) {
    let mut listener = wire::listener(WEB[0], Scene::address(0), WEB[0]);
    listener.source_address = Some(PreferTransparent.into());
    listener.proxy_protocol = Some(v1::ProxyProtocol {
        accept: Some(v1::ProxyProtocolAccept {
            from: vec![Topology::CLIENT[0].to_string()],
            timeout: None,
        }),
        ..v1::ProxyProtocol::default()
    });
    let backends = [scene.pods[0][0].address()];
    let mut request = wire::both(listener, wire::set(WEB[0], &backends));
    request.network = Some(network());
    proxy.apply(request);
    proxy.wait_listening(WEB[0]);
}

/// Whom the Pod sees of a connection on behalf of `client`.
fn ask_for(scene: &Scene, client: &str) -> SocketAddr {
    let client: SocketAddr = client.parse().unwrap();
    let announced = Announced::new(client, Scene::address(0));
    let header = write(ProxyHeader::V1, Some(announced), 0);
    let namespace = &scene.topology.client;
    let ask = move || http::ask_after(header.as_bytes(), Scene::address(0));
    namespace.run(ask).unwrap().parse().unwrap()
}

#[test]
fn an_announced_client_is_imitated_unless_nobody_can_be_at_its_address() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let scene = Scene::build(&lab, 1);
    let proxy = scene.start(&[]);
    serve(&scene, &proxy);
    Scene::wait_proven(&proxy, 0);
    for client in ["203.0.113.9:4711", "10.88.1.77:1"] {
        let seen = ask_for(&scene, client).ip();
        assert_eq!(seen, client.parse::<SocketAddr>().unwrap().ip());
    }
    let of_the_proxy = Topology::GATEWAY[0]; // which is the node, too
    let node = SocketAddr::new(of_the_proxy, 1).to_string();
    let (listener, pod) = (Scene::address(0), scene.pods[0][0].address());
    for (client, reason, count) in [
        ("127.0.0.1:1", "SPECIAL_CLIENT", 1),
        ("0.0.0.0:0", "SPECIAL_CLIENT", 2),
        ("224.0.0.1:5", "SPECIAL_CLIENT", 3),
        ("255.255.255.255:5", "SPECIAL_CLIENT", 4),
        (&listener.to_string(), "SPECIAL_CLIENT", 5),
        (&node, "CLIENT_IS_NODE", 1),
        (&pod.to_string(), "CLIENT_IS_BACKEND", 1),
        ("[2001:db8::1]:1", "OTHER_FAMILY", 1),
    ] {
        assert_eq!(ask_for(&scene, client).ip(), of_the_proxy, "{client}");
        let status = proxy.listener(WEB[0]);
        let counted = status.snat_connections.get(reason).copied();
        assert_eq!(
            counted,
            Some(count),
            "{client}: {:?}",
            status.snat_connections
        );
    }
    assert_eq!(proxy.listener(WEB[0]).transparent_connections, 2);
}
