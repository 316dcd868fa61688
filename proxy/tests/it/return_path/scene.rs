//! A segment with proxies, the node agent on each node, a responder in each Pod, and sockets in a proxy's namespace that
//! imitate the client.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use podline_api::v1;
use podline_api::v1::listener::{Protocol, SourceAddress};
use podline_lab::{Behaviour, Child, Cni, Lab, Namespace, Pod, Segment, SegmentPlan, wait};
use podline_proxy::host::responder::wire::{NONCE, Saw};
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::harness::{LONG, Proxy, SECOND, Start, http, wire};

/// Where Pods serve.
pub(super) const PORT: u16 = 8080;
/// Where responders do.
pub(super) const RESPONDER: u16 = 9904;
/// An answer that takes longer is lost.
const LIMIT: Duration = Duration::from_secs(3);

pub(super) struct Scene {
    pub(super) segment: Segment,
    pub(super) plan: SegmentPlan,
    /// In each Pod.
    _responders: Vec<Process>,
    /// By proxy.
    pub(super) proxies: Vec<Proxy>,
    /// Servers on the first Pod of the first node, one for each IP version; they tell whom they see.
    _pods: Vec<Pod>,
}

impl Scene {
    /// Two nodes with a Pod each; no agents yet.
    pub(super) fn build(lab: &Lab, cni: Cni, tunnelled: bool, proxies: u8) -> Self {
        Self::of(
            lab,
            SegmentPlan {
                cni,
                proxies,
                tunnelled,
                ..SegmentPlan::default()
            },
        )
    }

    pub(super) fn of(lab: &Lab, plan: SegmentPlan) -> Self {
        let segment = Segment::build(lab, plan).unwrap();
        let pods = segment.nodes.iter().flat_map(|node| &node.pods);
        let responders = pods.map(|pod| Process::start(pod, &["responder"]));
        let responders: Vec<_> = responders.collect();
        let peer = |address: IpAddr| {
            let (pod, address) = (&segment.nodes[0].pods[0], (address, PORT).into());
            Pod::start_in(pod, "pod", address, Behaviour::Peer).unwrap()
        };
        let pods = Segment::pod(0, 0).map(peer).into();
        let mut scene = Self {
            plan,
            _responders: responders,
            proxies: Vec::new(),
            _pods: pods,
            segment,
        };
        for index in 0..plan.proxies {
            let proxy = scene.proxy(index);
            scene.proxies.push(proxy);
        }
        scene
    }

    /// A proxy that serves both IP versions on port 80, leads to a responder over TCP and UDP, and keeps what sockets beside it need to imitate clients too.
    fn proxy(&self, index: u8) -> Proxy {
        let namespace = &self.segment.proxies[usize::from(index)];
        let proxy = Start {
            namespace: Some(namespace),
            ..Start::default()
        }
        .ready();
        for family in [0, 1] {
            let name = ["web", "web-6"][family];
            let mut listener = wire::listener(name, Self::address(index, family), name);
            listener.source_address = Some(SourceAddress::PreferTransparent.into());
            let backend = (Segment::pod(0, 0)[family], PORT).into();
            let mut request = wire::both(listener, wire::set(name, &[backend]));
            request.network = Some(self.network(index));
            proxy.apply(request);
            proxy.wait_listening(name);
            for (protocol, kind) in [(Protocol::Tcp, "tcp"), (Protocol::Udp, "udp")] {
                let name = responder_listener(kind, family);
                let address = (Segment::proxy(index)[family], RESPONDER).into();
                let listener = v1::Listener {
                    protocol: Some(protocol.into()),
                    source_address: Some(SourceAddress::PreferTransparent.into()),
                    ..wire::listener(&name, address, &name)
                };
                let backend = (Segment::pod(0, 0)[family], RESPONDER).into();
                proxy.apply(wire::both(listener, wire::set(&name, &[backend])));
                proxy.wait_listening(&name);
            }
        }
        proxy
    }

    /// Who the first node's Pod sees, through a proxy, of so many connections and as many flows from `namespace`: the same
    /// address for all of them.
    pub(super) fn seen_through(
        proxy: u8,
        family: usize,
        times: u16,
        namespace: &Namespace,
    ) -> io::Result<IpAddr> {
        let to = SocketAddr::new(Segment::proxy(proxy)[family], RESPONDER);
        namespace.run(move || {
            let mut first = None;
            for _ in 0..times {
                for saw in [tcp_through(to)?, udp_through(to)?] {
                    let seen = saw.peer.ip();
                    assert_eq!(*first.get_or_insert(seen), seen);
                }
            }
            first.ok_or(ErrorKind::NotFound.into())
        })
    }

    /// Connections, and flows, through a proxy whose backend saw the client; and those that fell back, by reason.
    pub(super) fn counted(
        &self,
        proxy: u8,
        kind: &str,
        family: usize,
    ) -> (u64, BTreeMap<String, u64>) {
        let status = self.proxies[usize::from(proxy)].listener(&responder_listener(kind, family));
        let fallen = status.snat_connections.into_iter().collect();
        (status.transparent_connections, fallen)
    }

    /// Where a proxy listens.
    pub(super) fn address(proxy: u8, family: usize) -> SocketAddr {
        (Segment::proxy(proxy)[family], 80).into()
    }

    fn network(&self, slot: u8) -> v1::Network {
        let node = |index: u8| {
            let ends = Segment::pod(index, 0).map(|pod| SocketAddr::new(pod, RESPONDER));
            let ranges = Segment::pods(index).map(|(net, prefix)| format!("{net}/{prefix}"));
            v1::Node {
                name: format!("node{index}"),
                addresses: Segment::node(index).map(|a| a.to_string()).into(),
                pod_ranges: ranges.into(),
                responders: ends.map(|end| end.to_string()).into(),
            }
        };
        v1::Network {
            nodes: (0..self.plan.nodes).map(node).collect(),
            port_share: Some(v1::PortShare {
                slot: slot.into(),
                slots: 4,
            }),
            ..v1::Network::default()
        }
    }

    /// Waits until a proxy has proven its ways over an IP version.
    pub(super) fn wait_proven(&self, proxy: u8, family: usize) {
        let is_proven = |path: &v1::PathStatus| {
            path.ipv6 != (family == 1) || path.state() == v1::path_status::State::Proven
        };
        wait::until(LONG, "the ways are proven", || {
            let network = self.proxies[usize::from(proxy)]
                .get()
                .network
                .unwrap_or_default();
            !network.paths.is_empty() && network.paths.iter().all(is_proven)
        });
    }

    /// The agent on a node, for all proxies.
    pub(super) fn agent(&self, node: usize, args: &[&str]) -> Process {
        let addresses = (0..self.plan.proxies).flat_map(Segment::proxy);
        let addresses = addresses.map(|address| address.to_string());
        let list = addresses.collect::<Vec<_>>().join(",");
        let all = [&["return-path", "--proxy", &list], args].concat();
        Process::start(&self.segment.nodes[node].host, &all)
    }

    /// Waits until a Pod's answers to an imitated client come back to a proxy.
    pub(super) fn wait_way(&self, proxy: usize, node: u8) {
        for pod in Segment::pod(node, 0) {
            wait::until(LONG, "answers come back through the proxy", || {
                let from = client(pod, 0);
                let proxy = &self.segment.proxies[proxy];
                let saw = proxy.run(move || ask_udp(from, (pod, RESPONDER).into(), SECOND / 5));
                saw.is_ok()
            });
        }
    }

    /// Whom the first node's Pod sees of so many connections, and as many datagrams, of a client that a proxy imitates.
    pub(super) fn assert_seen(&self, proxy: usize, family: usize, connections: u16) {
        let to = SocketAddr::new(Segment::pod(0, 0)[family], RESPONDER);
        let result: io::Result<()> = self.segment.proxies[proxy].run(move || {
            for port in 10_000..10_000 + connections {
                let from = client(to.ip(), port);
                for ask in [ask_tcp, ask_udp] {
                    let saw = ask(from, to, LIMIT)?;
                    assert_eq!(saw.peer, from);
                }
            }
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("lost on the way to {to}: {error}"));
    }

    /// Whom a Pod sees of a connection of the client through a proxy.
    pub(super) fn ask(&self, proxy: u8, family: usize) -> io::Result<IpAddr> {
        let address = Self::address(proxy, family);
        let answer = self.segment.client.run(move || http::ask(address))?;
        let seen: SocketAddr = answer.parse().unwrap();
        Ok(seen.ip())
    }
}

fn responder_listener(kind: &str, family: usize) -> String {
    format!("see-{kind}-{family}")
}

fn tcp_through(to: SocketAddr) -> io::Result<Saw> {
    let mut stream = TcpStream::connect_timeout(&to, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut line = String::new();
    stream.read_to_string(&mut line)?;
    line.parse().map_err(|_| ErrorKind::InvalidData.into())
}

fn udp_through(to: SocketAddr) -> io::Result<Saw> {
    let any: IpAddr = if to.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(LIMIT))?;
    let nonce = [9; NONCE];
    socket.send(&nonce)?;
    let mut answer = [0; 200];
    let len = socket.recv(&mut answer)?;
    Saw::read_answer(nonce, &answer[..len]).map_err(|_| ErrorKind::InvalidData.into())
}

/// The client's address of the same IP version.
pub(super) fn client(to: IpAddr, port: u16) -> SocketAddr {
    (Segment::CLIENT[usize::from(to.is_ipv6())], port).into()
}

/// A socket that has an address of somebody else.
pub(super) fn imitating(from: SocketAddr, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(from), kind, None)?;
    if from.is_ipv4() {
        socket.set_ip_transparent_v4(true)?;
    } else {
        socket.set_ip_transparent_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&from.into())?;
    Ok(socket)
}

/// Asks a responder over TCP as if it were somebody else.
pub(super) fn ask_tcp(from: SocketAddr, to: SocketAddr, limit: Duration) -> io::Result<Saw> {
    let socket = imitating(from, Type::STREAM)?;
    // A reset at the end leaves nothing behind, so that a port can be used again at once.
    socket.set_linger(Some(Duration::ZERO))?;
    socket.connect_timeout(&to.into(), limit)?;
    let mut stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(limit))?;
    let mut line = String::new();
    stream.read_to_string(&mut line)?;
    Ok(line.parse().unwrap())
}

/// Asks a responder over UDP as if it were somebody else.
pub(super) fn ask_udp(from: SocketAddr, to: SocketAddr, limit: Duration) -> io::Result<Saw> {
    let socket: UdpSocket = imitating(from, Type::DGRAM)?.into();
    socket.connect(to)?;
    socket.set_read_timeout(Some(limit))?;
    let nonce = [7; NONCE];
    socket.send(&nonce)?;
    let mut answer = [0; 200];
    let len = socket.recv(&mut answer)?;
    Ok(Saw::read_answer(nonce, &answer[..len]).unwrap())
}

/// The shipped binary in a namespace; killed on drop, its log printed when a test fails.
pub(super) struct Process {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Process {
    pub(super) fn start(namespace: &Namespace, args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_podline-proxy"));
        command.args(args).stderr(Stdio::piped());
        let mut child = namespace.spawn(command).unwrap();
        let mut stderr = child.take_stderr().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let write = Arc::clone(&log);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stderr.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..count]);
                write.lock().unwrap().push_str(&text);
            }
        });
        Self { child, log }
    }

    /// Waits until its log has some text.
    pub(super) fn wait_log(&self, text: &str) {
        wait::until(LONG, text, || self.log.lock().unwrap().contains(text));
    }

    /// Ends it by a signal.
    pub(super) fn end(mut self, signal: Signal) {
        self.child.signal(signal).unwrap();
        let status = self.child.wait(LONG).unwrap().unwrap();
        assert!(signal == Signal::KILL || status.success(), "{status}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log.lock().map(|log| log.clone()).unwrap_or_default();
            eprintln!("--- a log ---\n{log}\n--- end ---");
        }
    }
}

/// What the binary says on standard output when it is run once.
pub(super) fn once(namespace: &Namespace, args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podline-proxy"));
    command.args(args);
    let output = namespace.run(move || command.output()).unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{told}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    told
}
