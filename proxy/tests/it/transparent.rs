//! Backends that see their clients' own addresses, in namespaces: the proxy is the Pods' gateway, and a toy responder
//! stands among the Pods. Skipped where namespaces cannot be made, unless `PODLINE_REQUIRE=netns`.

mod scene;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use podline_api::v1;
use podline_api::v1::listener::SourceAddress::{PreferTransparent, Transparent};
use podline_lab::{Behaviour, Lab, Namespace, Pod, Topology, require_netns, wait};

use crate::harness::{LONG, Proxy, SECOND, Start, http, tcp, wire};
use scene::{PORT, Scene, WEB};

/// What `command` says inside of a namespace.
fn shell(namespace: &Namespace, command: &str) -> String {
    let command = command.to_owned();
    let output = namespace.run(move || Command::new("sh").arg("-c").arg(&command).output());
    let output = output.unwrap();
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8(text).unwrap()
}

#[test]
fn pods_see_their_clients_over_both_ip_versions_and_none_is_lost() {
    const CONNECTIONS: u64 = 1_000;
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let scene = Scene::build(&lab, 2);
    let proxy = scene.start(&[]);
    for family in [0, 1] {
        scene.serve(&proxy, family, PreferTransparent);
        scene.wait_proven(&proxy, family);
        let expected = Topology::CLIENT[family];
        for _ in 0..CONNECTIONS {
            assert_eq!(scene.ask(family).unwrap().ip(), expected);
        }
        let status = proxy.listener(WEB[family]);
        assert_eq!(status.transparent_connections, CONNECTIONS);
        assert_eq!(status.snat_connections.len(), 0, "{status:?}");
    }
}
