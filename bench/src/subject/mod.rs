//! What stands between clients and Pods: nothing, Podline, Podline in front of NodePorts, or another load balancer, each
//! configured as an expert would. One runs at a time.
//!
//! ```text
//! name, fits     what subjects are called, and which work they can do    tools    where executables are, their versions
//! targets        what a configuration is made of                         start    writes it, starts processes, waits
//! haproxy, nginx, envoy, traefik, podline, pingora: a configuration each running  what callers have of it
//! forwarder  waits for, checks and changes the process                    ways     the way back to who imitates clients
//! ```

mod api;
mod ask;
mod descriptors;
mod envoy;
mod fits;
mod forwarder;
mod haproxy;
mod listening;
mod name;
mod nginx;
mod pingora;
mod podline;
mod process;
mod running;
mod start;
mod targets;
mod tools;
mod traefik;
mod ways;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use podline_lab::Namespace;
use serde::{Deserialize, Serialize};

use crate::certificate::Certificate;

pub use fits::Layer;
pub use name::UnknownSubject;
pub use running::Running;
pub use start::Options;
pub use tools::{Missing, Tools};

/// A path that is measured. Its name is what `--subjects` takes, as `nodeport-iptables-cluster`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// The client talks to a Pod: the limit of what can be.
    Pod,
    /// Podline forwards to Pods.
    Direct,
    /// The same, from the client's own address.
    DirectTransparent,
    /// Podline forwards to the nodes' ports, and kube-proxy's iptables rules to any Pod, from the node's address.
    NodeportIptablesCluster,
    /// The same, to Pods of that node alone, which see whom the node saw.
    NodeportIptablesLocal,
    /// As `nodeport-iptables-cluster`, by nftables rules.
    NodeportNftablesCluster,
    /// As `nodeport-iptables-local`, by nftables rules.
    NodeportNftablesLocal,
    /// HAProxy to Pods, with forced splice and 1 MiB pipes.
    Haproxy,
    /// nginx to Pods: stream for TCP and UDP.
    Nginx,
    /// Envoy to Pods.
    Envoy,
    /// Traefik to Pods.
    Traefik,
    /// pingora-proxy to Pods; HTTP only, and only where it was built in.
    Pingora,
}

/// Ports of the proxy's address at which a subject serves, whatever it is.
pub mod front {
    /// To [`crate::wire::port::HTTP`] of every Pod.
    pub const HTTP: u16 = 8000;
    /// To [`crate::wire::port::FRAMES`] of every Pod, TCP and UDP.
    pub const FRAMES: u16 = 8001;
    /// The same over TCP, for transfers that last: where an expert would give such a port other settings, it has them.
    pub const BULK: u16 = 8002;
    /// gRPC, to [`crate::wire::port::HTTP`] of every Pod; only where requests are looked at.
    pub const GRPC: u16 = 8003;
    /// HTTP/2 by prior knowledge, to the same over HTTP/1.1; only where requests are looked at, and in the clear.
    pub const HTTP2: u16 = 8004;
    /// The first of many ports, where a subject has these instead of the ones above; frames over TCP.
    pub const MANY: u16 = 8100;
    /// The last that one may be: what follows, subjects have for themselves.
    pub const LAST: u16 = 9899;
}

/// Ports of every node that kube-proxy's rules lead to Pods.
pub mod node_port {
    /// To [`crate::wire::port::HTTP`].
    pub const HTTP: u16 = 30080;
    /// To [`crate::wire::port::FRAMES`], TCP and UDP.
    pub const FRAMES: u16 = 30081;
}

/// Where a subject is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// HTTP/1.1.
    pub http: SocketAddr,
    /// HTTP/2.
    pub http2: SocketAddr,
    /// gRPC, over HTTP/2 from end to end.
    pub grpc: SocketAddr,
    /// Frames, TCP and UDP.
    pub frames: SocketAddr,
    /// Frames over TCP that ask for much.
    pub bulk: SocketAddr,
    /// How many ports, beginning with each of these, lead to the same; 1 unless a subject was started with many.
    pub ports: u16,
}

/// A Pod as subjects see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The Pod's index, which its answers carry.
    pub index: u32,
    /// The index of its node.
    pub node: usize,
    /// Its address.
    pub address: IpAddr,
}

/// Where a subject runs, and what is behind it.
#[derive(Debug)]
pub struct Site<'a> {
    /// The namespace of the load balancer.
    pub proxy: &'a Namespace,
    /// The address of the load balancer that clients use.
    pub front: IpAddr,
    /// The nodes, with the addresses at which their node ports are.
    pub nodes: Vec<(&'a Namespace, IpAddr)>,
    /// The Pods.
    pub backends: Vec<Backend>,
    /// What is shown where clients speak TLS.
    pub certificate: &'a Certificate,
    /// A folder for configuration and logs, of this subject alone.
    pub directory: &'a Path,
}
