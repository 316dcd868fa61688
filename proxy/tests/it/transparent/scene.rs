//! A client, a proxy that is the Pods' gateway, Pods that tell whom they see, and a responder among them.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::process::Command;

use podline_api::v1;
use podline_lab::{Behaviour, Lab, Namespace, Pod, Topology, wait};

use crate::harness::{LONG, Proxy, Start, http, wire};

/// Where Pods serve.
pub(super) const PORT: u16 = 8080;
/// Where the responder does.
const RESPONDER: u16 = 9904;
/// The listeners, and their sets, by IP version.
pub(super) const WEB: [&str; 2] = ["web", "web-6"];

pub(super) struct Scene {
    pub(super) topology: Topology,
    /// By Pod and IP version.
    pub(super) pods: Vec<[Pod; 2]>,
}

impl Scene {
    pub(super) fn build(lab: &Lab, pods: u8) -> Self {
        let topology = Topology::build(lab, pods).unwrap();
        let start = |index: usize, family: usize| {
            let address = Topology::pod(u8::try_from(index).unwrap())[family];
            let name = format!("pod-{index}");
            let namespace = &topology.pods[index];
            Pod::start_in(namespace, &name, (address, PORT).into(), Behaviour::Peer).unwrap()
        };
        let pods = (0..usize::from(pods)).map(|index| [start(index, 0), start(index, 1)]);
        let pods = pods.collect();
        for address in Topology::pod(0) {
            respond(&topology.pods[0], (address, RESPONDER).into());
        }
        Self { topology, pods }
    }

    pub(super) fn start(&self, args: &[&'static str]) -> Proxy {
        Start {
            namespace: Some(&self.topology.proxy),
            args: args.to_vec(),
            ..Start::default()
        }
        .ready()
    }

    /// Where the listener of an IP version is.
    pub(super) fn address(family: usize) -> SocketAddr {
        (Topology::PROXY[family], 80).into()
    }

    /// One listener and its set, which leads to all Pods; and the network.
    pub(super) fn serve(&self, proxy: &Proxy, family: usize, source: v1::listener::SourceAddress) {
        let addresses: Vec<_> = self.pods.iter().map(|pod| pod[family].address()).collect();
        let name = WEB[family];
        let mut listener = wire::listener(name, Self::address(family), name);
        listener.source_address = Some(source.into());
        let mut request = wire::both(listener, wire::set(name, &addresses));
        request.network = Some(network());
        proxy.apply(request);
        proxy.wait_listening(name);
    }

    pub(super) fn wait_proven(proxy: &Proxy, family: usize) {
        let is_proven = |path: &v1::PathStatus| {
            path.state() == v1::path_status::State::Proven && path.ipv6 == (family == 1)
        };
        wait::until(LONG, "the way is proven", || {
            let network = proxy.get().network.unwrap_or_default();
            network.paths.iter().any(is_proven)
        });
    }

    /// Whom a Pod sees of a new connection.
    pub(super) fn ask(&self, family: usize) -> std::io::Result<SocketAddr> {
        ask(&self.topology.client, Self::address(family))
    }
}

/// Whom a Pod sees of a new connection from `namespace` to the proxy at `address`.
pub(super) fn ask(namespace: &Namespace, address: SocketAddr) -> std::io::Result<SocketAddr> {
    let answer = namespace.run(move || http::ask(address))?;
    Ok(answer
        .parse()
        .unwrap_or_else(|_| panic!("{answer:?} is no address")))
}

/// The only node is the proxy's own host.
pub(super) fn network() -> v1::Network {
    let ends = Topology::pod(0).map(|address| SocketAddr::new(address, RESPONDER).to_string());
    v1::Network {
        nodes: vec![v1::Node {
            name: "here".to_owned(),
            addresses: Topology::GATEWAY
                .map(|address: IpAddr| address.to_string())
                .to_vec(),
            pod_ranges: vec!["10.244.0.0/24".to_owned(), "fd00:244::/64".to_owned()],
            responders: ends.to_vec(),
        }],
        ..v1::Network::default()
    }
}

/// A toy responder: says whom it sees, until the process ends.
fn respond(namespace: &Namespace, address: SocketAddr) {
    let (connections, datagrams) = namespace.run(move || {
        let connections = TcpListener::bind(address).unwrap();
        (connections, UdpSocket::bind(address).unwrap())
    });
    let line = |from: SocketAddr| format!("saw {from} on-link=yes\n");
    std::thread::spawn(move || {
        for stream in connections.incoming() {
            let mut stream = stream.unwrap();
            let Ok(from) = stream.peer_addr() else {
                continue; // it was reset
            };
            stream.write_all(line(from).as_bytes()).ok();
        }
    });
    std::thread::spawn(move || {
        let mut nonce = [0; 16];
        while let Ok((count, from)) = datagrams.recv_from(&mut nonce) {
            let answer = [&nonce[..count], line(from).as_bytes()].concat();
            datagrams.send_to(&answer, from).ok();
        }
    });
}

/// What a command says inside of a namespace.
pub(super) fn shell(namespace: &Namespace, command: &str) -> String {
    let command = command.to_owned();
    let output = namespace.run(move || Command::new("sh").arg("-c").arg(&command).output());
    let output = output.unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}
