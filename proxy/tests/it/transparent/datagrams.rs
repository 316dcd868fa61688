//! UDP backends that see their clients' addresses and ports.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use podline_api::v1;
use podline_api::v1::listener::SourceAddress::{PreferTransparent, Transparent};
use podline_lab::{Lab, Namespace, Topology, require_netns, wait};

use super::scene::{Scene, network};
use crate::harness::{LONG, Proxy, SECOND, Start, udp, wire};

const PORT: u16 = 5353;
const DNS: [&str; 2] = ["dns", "dns-6"];

/// A Pod that tells whom it sees, until the process ends.
fn tell(namespace: &Namespace, name: char, address: SocketAddr) {
    let socket = namespace.run(move || UdpSocket::bind(address).unwrap());
    std::thread::spawn(move || {
        while let Ok((_, from)) = socket.recv_from(&mut [0; 2_000]) {
            socket
                .send_to(format!("{name} {from}").as_bytes(), from)
                .ok();
        }
    });
}

struct Datagrams {
    scene: Scene,
    pods: Vec<[SocketAddr; 2]>,
}

impl Datagrams {
    fn build(lab: &Lab, pods: u8) -> Self {
        let scene = Scene::build(lab, pods);
        let places = (0..pods).map(|n| Topology::pod(n).map(|ip| SocketAddr::new(ip, PORT)));
        let pods: Vec<_> = places.collect();
        for (n, places) in pods.iter().enumerate() {
            let name = char::from(b'a' + u8::try_from(n).unwrap());
            for place in places {
                tell(&scene.topology.pods[n], name, *place);
            }
        }
        Self { scene, pods }
    }

    fn address(family: usize) -> SocketAddr {
        (Topology::PROXY[family], 53).into()
    }

    fn serve(&self, proxy: &Proxy, family: usize, source: v1::listener::SourceAddress) {
        let name = DNS[family];
        let listener = v1::Listener {
            source_address: Some(source.into()),
            ..udp::listener(name, Self::address(family), name)
        };
        let pods: Vec<_> = self.pods.iter().map(|places| places[family]).collect();
        let mut request = wire::both(listener, wire::set(name, &pods));
        request.network = Some(network());
        proxy.apply(request);
        proxy.wait_listening(name);
    }

    fn client(&self, family: usize) -> UdpSocket {
        let (host, to) = (Topology::CLIENT[family], Self::address(family));
        client_in(&self.scene.topology.client, host.to_string(), to)
    }
}

fn client_in(namespace: &Namespace, host: String, to: SocketAddr) -> UdpSocket {
    namespace.run(move || udp::client_at(&host, to))
}

/// Which Pod answers, and whom it sees.
fn seen(client: &UdpSocket) -> (char, SocketAddr) {
    let answer = String::from_utf8(udp::ask(client, b"?")).unwrap();
    let (name, from) = answer.split_once(' ').unwrap();
    (name.chars().next().unwrap(), from.parse().unwrap())
}

#[test]
fn pods_see_the_address_and_port_of_each_flow() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let datagrams = Datagrams::build(&lab, 2);
    let proxy = datagrams.scene.start(&["--access-log"]);
    for family in [0, 1] {
        datagrams.serve(&proxy, family, PreferTransparent);
        Scene::wait_proven(&proxy, family);
        let clients: Vec<_> = (0..200).map(|_| datagrams.client(family)).collect();
        for client in clients.iter().chain(&clients) {
            let own = client.local_addr().unwrap();
            assert_eq!(seen(client).1, SocketAddr::new(own.ip(), own.port()));
        }
        let status = proxy.listener(DNS[family]);
        assert_eq!(status.transparent_connections, 200);
        assert_eq!(status.snat_connections.len(), 0, "{status:?}");
        assert_eq!(status.dropped_datagrams, 0);
        wait::until(LONG, "each flow has a socket, and no more are open", || {
            proxy.get().descriptors_in_use == 200 * (1 + family as u64)
        });
        // A Pod leaves: its flows go on at the other, under the same address and port.
        let leaving = datagrams.pods[0][family];
        proxy.apply(wire::change(DNS[family], &[], &[leaving]));
        for client in &clients {
            let own = client.local_addr().unwrap();
            assert_eq!(seen(client), ('b', SocketAddr::new(own.ip(), own.port())));
        }
    }
}

#[test]
fn flows_of_one_client_port_are_kept_apart() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let datagrams = Datagrams::build(&lab, 1);
    let proxy = datagrams.scene.start(&[]);
    datagrams.serve(&proxy, 0, Transparent);
    let second = SocketAddr::new(Topology::PROXY[0], 54);
    let listener = v1::Listener {
        source_address: Some(Transparent.into()),
        ..udp::listener("second", second, DNS[0])
    };
    proxy.apply(v1::ApplyRequest {
        listeners: vec![listener],
        ..wire::request()
    });
    proxy.wait_listening("second");
    // One client port asks at both listeners, which lead to one Pod: answers to one must not reach the other.
    let host = Topology::CLIENT[0];
    let client = datagrams.scene.topology.client.run(move || {
        let socket = UdpSocket::bind((host, 0)).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        socket
    });
    let own = client.local_addr().unwrap();
    wait::until(LONG, "the way is open", || {
        client.set_read_timeout(Some(SECOND / 5)).unwrap();
        client.send_to(b"?", Datagrams::address(0)).unwrap();
        client.recv(&mut [0; 64]).is_ok()
    });
    std::thread::park_timeout(Duration::from_millis(300));
    while client.recv(&mut [0; 64]).is_ok() {}
    client.set_read_timeout(Some(LONG)).unwrap();
    for server in [Datagrams::address(0), second, Datagrams::address(0), second] {
        client.send_to(b"?", server).unwrap();
        let mut buffer = [0; 64];
        let (length, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!(from, server);
        let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let seen: SocketAddr = answer.split_once(' ').unwrap().1.parse().unwrap();
        assert_eq!(seen.ip(), own.ip());
        assert_eq!(seen.port() == own.port(), server != second, "{seen}");
    }
}

#[test]
fn beyond_its_share_of_descriptors_a_flow_is_not_imitated_and_says_why() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let datagrams = Datagrams::build(&lab, 1);
    let proxy = Start {
        namespace: Some(&datagrams.scene.topology.proxy),
        descriptors: Some(256),
        workers: 1,
        ..Start::default()
    }
    .ready();
    datagrams.serve(&proxy, 0, PreferTransparent);
    Scene::wait_proven(&proxy, 0);
    let budget = usize::try_from(proxy.get().descriptor_budget).unwrap();
    let shared = datagrams.client(0);
    let clients: Vec<_> = (0..budget).map(|_| datagrams.client(0)).collect();
    let imitated = |client: &UdpSocket, limit| {
        udp::who_within(client, limit).ends_with(&client.local_addr().unwrap().to_string())
    };
    let half = budget / 2;
    let count = half - half / 8;
    let (first, rest) = clients.split_at(count);
    assert!(first.iter().all(|client| imitated(client, LONG)));
    let mut rest = rest.iter().chain([&shared]);
    assert!(rest.all(|client| !imitated(client, SECOND / 10)));
    let dropped = (budget + 1 - half) as u64;
    wait::until(LONG, "the last one is dropped", || {
        let status = proxy.listener(DNS[0]);
        status.dropped_by_reason.get("NO_SOCKET") == Some(&dropped)
    });
    let status = proxy.listener(DNS[0]);
    assert_eq!(status.transparent_connections, count as u64);
    assert_eq!(status.snat_connections["TOO_MANY_FLOWS"], (half / 8) as u64);
}
