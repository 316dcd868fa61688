//! What kube-proxy of one node knows: its node, and the Services with their endpoints, in one IP family.
//! It must not know what is made of it.

use std::net::{IpAddr, SocketAddr};

/// Which of kube-proxy's modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// `--proxy-mode iptables`.
    Iptables,
    /// `--proxy-mode nftables`.
    Nftables,
}

/// The IP family of a set of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Whether the address is of this family.
    pub const fn has(self, address: IpAddr) -> bool {
        address.is_ipv4() == matches!(self, Self::V4)
    }
}

/// What a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// As rules write it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// The externalTrafficPolicy of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrafficPolicy {
    /// To any endpoint, from the node's address.
    Cluster,
    /// To endpoints of the node that was asked, from the client's address.
    Local,
}

/// Where a port of a Service leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Address and target port of the Pod.
    pub address: SocketAddr,
    /// The name of the Pod's node.
    pub node: String,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; may be empty.
    pub name: String,
    /// What it speaks.
    pub protocol: Protocol,
    /// The port at the cluster's address and at those of load balancers.
    pub port: u16,
    /// The port at the nodes' addresses.
    pub node_port: Option<u16>,
    /// Those that serve, in kube-proxy's order, which is by address.
    pub endpoints: Vec<Endpoint>,
}

/// A Service with a cluster address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its namespace, of Kubernetes.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The clusterIP.
    pub cluster_address: IpAddr,
    /// Addresses of load balancers that nodes answer for, as with `ipMode: VIP`.
    pub ingress: Vec<IpAddr>,
    /// For node ports and load balancers' addresses. Within the cluster it is always Cluster.
    pub policy: TrafficPolicy,
    /// Where load balancers ask whether the node has endpoints, under [`TrafficPolicy::Local`].
    pub health_check_port: Option<u16>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
}

/// What kube-proxy of one node knows, in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// The family; whatever is of the other one is not in the rules.
    pub family: Family,
    /// The node's name.
    pub node: String,
    /// The node's addresses that take node ports, nftables only; all of its addresses, if this is empty.
    pub addresses: Vec<IpAddr>,
    /// The range of the cluster's Pods and the length of its prefix: what comes from elsewhere to a cluster's address is
    /// sent on from the node's.
    pub pods: Option<(IpAddr, u8)>,
    /// The range of cluster addresses, nftables only: what goes to those of no Service is dropped.
    pub cluster_addresses: Option<(IpAddr, u8)>,
    /// The Services.
    pub services: Vec<Service>,
}

/// What becomes of traffic to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is sent to an endpoint.
    Forwarded,
    /// There is no endpoint at all.
    Rejected,
    /// There are endpoints, but none that this node may use.
    Dropped,
}

/// A port as one node sees it.
#[derive(Debug)]
pub(super) struct PortView<'a> {
    pub(super) service: &'a Service,
    pub(super) port: &'a ServicePort,
    /// All endpoints of the family.
    pub(super) endpoints: Vec<SocketAddr>,
    /// Those on the node.
    pub(super) local: Vec<SocketAddr>,
    /// What becomes of traffic to node ports and load balancers' addresses.
    pub(super) external: Fate,
}

impl PortView<'_> {
    pub(super) fn has_endpoints(&self) -> bool {
        !self.endpoints.is_empty()
    }

    /// Whether anybody outside of the cluster can reach it.
    pub(super) fn is_external(&self) -> bool {
        self.port.node_port.is_some() || !self.service.ingress.is_empty()
    }

    pub(super) fn is_local_policy(&self) -> bool {
        self.service.policy == TrafficPolicy::Local
    }

    /// Load balancers' addresses of the family.
    pub(super) fn ingress(&self, family: Family) -> impl Iterator<Item = IpAddr> {
        self.service
            .ingress
            .iter()
            .copied()
            .filter(move |address| family.has(*address))
    }
}

impl NodeView {
    /// Services of the family, port by port.
    pub(super) fn ports(&self) -> impl Iterator<Item = PortView<'_>> {
        let services = self.services.iter();
        let services = services.filter(|service| self.family.has(service.cluster_address));
        services.flat_map(|service| service.ports.iter().map(|port| self.port(service, port)))
    }

    fn port<'a>(&self, service: &'a Service, port: &'a ServicePort) -> PortView<'a> {
        let usable = port
            .endpoints
            .iter()
            .filter(|to| self.family.has(to.address.ip()));
        let endpoints: Vec<_> = usable.clone().map(|to| to.address).collect();
        let local: Vec<_> = usable
            .filter(|to| to.node == self.node)
            .map(|to| to.address)
            .collect();
        let external = match service.policy {
            _ if endpoints.is_empty() => Fate::Rejected,
            TrafficPolicy::Local if local.is_empty() => Fate::Dropped,
            _ => Fate::Forwarded,
        };
        PortView {
            service,
            port,
            endpoints,
            local,
            external,
        }
    }
}

/// A range as rules write it.
pub(super) fn range((address, prefix): (IpAddr, u8)) -> String {
    format!("{address}/{prefix}")
}
