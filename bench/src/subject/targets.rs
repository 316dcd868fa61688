//! What a configuration is made of: where to listen, and whom to forward to. Pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::{Backend, Entry, Layer, Subject, front, node_port};
use crate::certificate::Certificate;
use crate::wire::port;

/// Everything that a subject's configuration depends on.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// Where clients come.
    pub(super) front: IpAddr,
    /// Whom to forward to.
    pub(super) targets: Targets,
    /// Threads or processes that forward.
    pub(super) workers: u16,
    /// What to look at.
    pub(super) layer: Layer,
    /// How many ports lead to frames over TCP, from [`front::MANY`] on, instead of the usual ports; `None` for those.
    pub(super) listeners: Option<u16>,
    /// Whether Podline probes its backends.
    pub(super) has_checks: bool,
    /// Whether it takes backends out to which connects fail.
    pub(super) has_passive_check: bool,
    /// File descriptors that a process may have.
    pub(super) descriptors: u64,
    /// What is shown to clients, if [`Layer::has_tls`].
    pub(super) certificate: Certificate,
    /// Where configuration, sockets and logs are.
    pub(super) directory: PathBuf,
}

/// Whom to forward to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Targets {
    /// What is asked for over HTTP.
    pub(super) http: Vec<SocketAddr>,
    /// Frames, TCP and UDP.
    pub(super) frames: Vec<SocketAddr>,
}

/// A port that is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Port<'a> {
    /// As `http`; of many ports that lead to the same, the same.
    pub(super) name: &'static str,
    /// Where clients come.
    pub(super) listen: SocketAddr,
    /// Whom they are forwarded to.
    pub(super) targets: &'a [SocketAddr],
}

/// A file of a configuration: its name within the subject's folder, and its text.
pub(super) type File = (&'static str, String);

impl Port<'_> {
    /// A name that no other port has.
    pub(super) fn label(&self) -> String {
        match self.listen.port() {
            front::HTTP | front::HTTP2 | front::GRPC | front::FRAMES | front::BULK => {
                self.name.to_owned()
            }
            port => format!("{}-{port}", self.name),
        }
    }
}

impl Wanted {
    /// The port for HTTP.
    pub(super) fn http(&self) -> Port<'_> {
        self.port("http", front::HTTP, &self.targets.http)
    }

    /// The port for frames, TCP and UDP; none where only HTTP is served.
    fn frames(&self) -> Option<Port<'_>> {
        let first = self.listeners.map_or(front::FRAMES, |_| front::MANY);
        let port = self.port("frames", first, &self.targets.frames);
        (self.layer == Layer::L4).then_some(port)
    }

    /// The port for transfers that last; none where only HTTP is served.
    fn bulk(&self) -> Option<Port<'_>> {
        let port = self.port("bulk", front::BULK, &self.targets.frames);
        (self.layer == Layer::L4).then_some(port)
    }

    /// The port for gRPC; none where connections are forwarded whatever they carry.
    fn grpc(&self) -> Option<Port<'_>> {
        let port = self.port("grpc", front::GRPC, &self.targets.http);
        self.layer.reads_requests().then_some(port)
    }

    /// The port for HTTP/2 by prior knowledge, which some cannot tell from HTTP/1.1; with TLS the one for HTTP serves both.
    fn http2(&self) -> Option<Port<'_>> {
        let port = self.port("http2", front::HTTP2, &self.targets.http);
        (self.layer == Layer::L7).then_some(port)
    }

    /// All TCP ports.
    pub(super) fn tcp(&self) -> impl Iterator<Item = Port<'_>> {
        let usual = match self.listeners {
            None => [
                Some(self.http()),
                self.http2(),
                self.grpc(),
                self.frames(),
                self.bulk(),
            ],
            Some(_) => [None; 5],
        };
        let many = 0..self.listeners.unwrap_or(0);
        let many = many.map(|n| {
            self.port(
                "frames",
                front::MANY.saturating_add(n),
                &self.targets.frames,
            )
        });
        usual.into_iter().flatten().chain(many)
    }

    /// The UDP port, if there is one.
    pub(super) fn udp(&self) -> Option<Port<'_>> {
        self.frames().filter(|_| self.listeners.is_none())
    }

    /// The ports whose targets are told apart: all others lead where one of these does.
    pub(super) fn sets(&self) -> impl Iterator<Item = Port<'_>> {
        let http = self.listeners.is_none().then(|| self.http());
        http.into_iter().chain(self.grpc()).chain(self.frames())
    }

    /// Where it is reached.
    pub(super) fn entry(&self) -> Entry {
        let at = |port| SocketAddr::new(self.front, port);
        if let Some(ports) = self.listeners {
            return Entry {
                http: at(front::MANY),
                http2: at(front::MANY),
                grpc: at(front::MANY),
                frames: at(front::MANY),
                bulk: at(front::MANY),
                ports,
            };
        }
        Entry {
            http: at(front::HTTP),
            http2: at(match self.layer {
                Layer::L4 | Layer::Tls => front::HTTP,
                Layer::L7 => front::HTTP2,
            }),
            grpc: at(match self.layer {
                Layer::L4 => front::HTTP,
                Layer::L7 | Layer::Tls => front::GRPC,
            }),
            frames: at(front::FRAMES),
            bulk: at(front::BULK),
            ports: 1,
        }
    }

    /// The path of a file in the subject's folder, as text.
    pub(super) fn path(&self, name: &str) -> String {
        self.directory.join(name).to_string_lossy().into_owned()
    }

    fn port<'a>(&self, name: &'static str, port: u16, targets: &'a [SocketAddr]) -> Port<'a> {
        Port {
            name,
            listen: SocketAddr::new(self.front, port),
            targets,
        }
    }
}

impl Targets {
    /// Those of a subject: Pods, or the nodes' ports.
    pub(super) fn of(subject: Subject, nodes: &[IpAddr], backends: &[Backend]) -> Self {
        if !subject.is_nodeport() {
            let pods: Vec<_> = backends.iter().map(|backend| backend.address).collect();
            return Self::at(&pods, port::HTTP, port::FRAMES);
        }
        let with_pods: BTreeSet<usize> = backends.iter().map(|backend| backend.node).collect();
        let nodes = nodes.iter().enumerate();
        let nodes = nodes.filter(|(index, _)| !subject.is_local() || with_pods.contains(index));
        let nodes: Vec<_> = nodes.map(|(_, address)| *address).collect();
        Self::at(&nodes, node_port::HTTP, node_port::FRAMES)
    }

    fn at(addresses: &[IpAddr], http: u16, frames: u16) -> Self {
        let with = |port| {
            let addresses = addresses.iter();
            let addresses = addresses.map(|address| SocketAddr::new(*address, port));
            addresses.collect()
        };
        Self {
            http: with(http),
            frames: with(frames),
        }
    }
}

/// The files in which the certificate is: its chain, its key, and both.
pub(super) const CHAIN: &str = "tls.crt";
pub(super) const KEY: &str = "tls.key";
pub(super) const BOTH: &str = "tls.pem";

/// What TLS 1.3 is to choose from: as what clients offer first is what processors with AES do fastest, so do all.
pub(super) const SUITES: &str = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384";
/// What TLS 1.2 is to choose from.
pub(super) const CIPHERS: &str = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384";

/// The texts of all items, one after the other.
pub(super) fn joined<T>(items: &[T], text: impl Fn(&T) -> String) -> String {
    items.iter().map(text).collect::<Vec<_>>().concat()
}

/// A small configuration that the tests of configurations share.
#[cfg(test)]
pub(super) fn example(layer: Layer) -> Wanted {
    let pod = |host| SocketAddr::from(([10, 244, 1, host], 8080));
    let frames = |host| SocketAddr::from(([10, 244, 1, host], 8081));
    Wanted {
        front: [10, 88, 0, 100].into(),
        targets: Targets {
            http: vec![pod(10), pod(11)],
            frames: vec![frames(10), frames(11)],
        },
        workers: 2,
        layer,
        listeners: None,
        has_checks: false,
        has_passive_check: false,
        descriptors: 20_000,
        certificate: Certificate {
            chain: "(chain)\n".to_owned(),
            key: "(key)\n".to_owned(),
            der: Vec::new(),
        },
        directory: PathBuf::from("/run/bench"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: [IpAddr; 3] = [
        IpAddr::V4(std::net::Ipv4Addr::new(10, 88, 0, 11)),
        IpAddr::V4(std::net::Ipv4Addr::new(10, 88, 0, 12)),
        IpAddr::V6(std::net::Ipv6Addr::new(0xfd00, 0x88, 0, 0, 0, 0, 0, 13)),
    ];

    fn pod(index: u32, node: usize) -> Backend {
        let last = u8::try_from(index).unwrap();
        Backend {
            index,
            node,
            address: [10, 244, 1, last].into(),
        }
    }

    fn http(subject: Subject, backends: &[Backend]) -> String {
        let targets = Targets::of(subject, &NODES, backends);
        let http: Vec<_> = targets.http.iter().map(ToString::to_string).collect();
        assert_eq!(http.len(), targets.frames.len());
        http.join(" ")
    }

    #[test]
    fn pods_are_asked_at_their_ports_and_nodes_at_theirs() {
        let pods = [pod(1, 0), pod(2, 2), pod(3, 2)];
        for subject in [Subject::Direct, Subject::Envoy, Subject::Pod] {
            let expected = "10.244.1.1:8080 10.244.1.2:8080 10.244.1.3:8080";
            assert_eq!(http(subject, &pods), expected);
        }
        assert_eq!(
            http(Subject::NodeportNftablesCluster, &pods),
            "10.88.0.11:30080 10.88.0.12:30080 [fd00:88::d]:30080"
        );
        assert_eq!(
            http(Subject::NodeportIptablesLocal, &pods),
            "10.88.0.11:30080 [fd00:88::d]:30080"
        );
        assert_eq!(http(Subject::NodeportIptablesLocal, &[]), "");
    }

    #[test]
    fn only_http_is_served_where_requests_are_looked_at() {
        let ports = |layer| {
            let wanted = example(layer);
            wanted
                .tcp()
                .map(|port| port.listen.port())
                .collect::<Vec<_>>()
        };
        assert_eq!(ports(Layer::L4), [8000, 8001, 8002]);
        assert_eq!(ports(Layer::L7), [8000, 8004, 8003]);
        assert_eq!(ports(Layer::Tls), [8000, 8003]);
        assert_eq!(example(Layer::L7).entry().http2.port(), 8004);
        assert_eq!(example(Layer::Tls).entry().http2.port(), 8000);
    }

    #[test]
    fn many_ports_lead_to_frames_and_have_names_of_their_own() {
        let wanted = Wanted {
            listeners: Some(3),
            ..example(Layer::L4)
        };
        let labels: Vec<_> = wanted.tcp().map(|port| port.label()).collect();
        assert_eq!(labels, ["frames-8100", "frames-8101", "frames-8102"]);
        let sets: Vec<_> = wanted.sets().map(|port| port.name).collect();
        assert_eq!((sets, wanted.udp()), (vec!["frames"], None));
        let entry = wanted.entry();
        assert_eq!((entry.frames.port(), entry.ports), (8100, 3));
        let usual = example(Layer::L4);
        let sets: Vec<_> = usual.sets().map(|port| port.label()).collect();
        assert_eq!(sets, ["http", "frames"]);
        assert!(usual.udp().is_some());
    }
}
