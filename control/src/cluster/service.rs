//! A Service, as far as a load balancer is concerned.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ManagedFieldsEntry, ObjectMeta};

use super::family::{Family, parse_ip};
use super::key::Key;

/// Annotations with these prefixes are read, no others are kept.
pub const PREFIXES: &[&str] = &[
    "podline.io/",
    "service.cloud.tencent.com/",
    "service.kubernetes.io/",
];
/// An annotation longer than this says nothing we know; its beginning is kept, so that it can be shown.
pub const MAX_VALUE_BYTES: usize = 16 << 10;
/// Our writes carry this name.
pub const MANAGER: &str = "podline-control";
/// What holds a Service until the proxies have let go of it.
pub const FINALIZER: &str = "podline.io/load-balancer";
/// Finalizers of the API server's own garbage collection: nobody's claim.
const NEUTRAL_FINALIZERS: &[&str] = &["foregroundDeletion", "orphan", FINALIZER];
/// Types of conditions that are ours.
pub const CONDITION_PREFIX: &str = "podline.io/";

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub key: Key,
    /// Of this object; a Service made again has another.
    pub uid: Arc<str>,
    /// Seconds since 1970. The older of two that want one thing gets it.
    pub created: i64,
    /// Being deleted, and waiting for finalizers.
    pub is_deleting: bool,
    /// `spec.type` is LoadBalancer.
    pub is_load_balancer: bool,
    /// `spec.loadBalancerClass`.
    pub class: Option<String>,
    /// `spec.selector`: labels of its Pods; empty selects none.
    pub selector: BTreeMap<String, String>,
    /// `spec.ports`.
    pub ports: Vec<ServicePort>,
    /// `spec.ipFamilies`, at least one.
    pub families: Vec<Family>,
    /// `spec.clusterIPs`, without `None`.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.sessionAffinity: ClientIP`, with its timeout.
    pub affinity: Option<Duration>,
    /// `spec.externalTrafficPolicy: Local`.
    pub is_local: bool,
    /// Where every node says whether it has Pods of this Service.
    pub health_check_node_port: Option<u16>,
    /// `spec.loadBalancerSourceRanges`, and nothing parsed.
    pub source_ranges: Vec<String>,
    /// `spec.loadBalancerIP`.
    pub wanted_ip: Option<String>,
    /// Those that could be for us.
    pub annotations: BTreeMap<String, String>,
    /// `metadata.finalizers`.
    pub finalizers: Vec<String>,
    /// `status.loadBalancer.ingress`.
    pub ingress: Vec<Ingress>,
    /// Conditions of ours, by type.
    pub conditions: BTreeMap<String, OwnCondition>,
    /// Another controller that has written finalizers or a load balancer's status, if any.
    pub other_manager: Option<String>,
    /// For writes that must not undo somebody else's.
    pub resource_version: String,
}

/// One of `spec.ports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Empty for the only one; joins it to the ports of slices.
    pub name: Arc<str>,
    /// TCP, UDP or SCTP.
    pub protocol: Transport,
    /// What clients connect to.
    pub port: u16,
    /// The same on every node; absent if none is allocated.
    pub node_port: Option<u16>,
    /// What its Pods speak, where that is said and makes a difference.
    pub app_protocol: Option<AppProtocol>,
}

/// What the Pods of a port speak, where its requests are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AppProtocol {
    /// HTTP/2 in the clear, gRPC among it.
    H2c,
    /// HTTP/1.1 inside TLS.
    Https,
}

/// A port's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// An entry of `status.loadBalancer.ingress`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ingress {
    /// Absent if it names a host.
    pub ip: Option<IpAddr>,
    /// `VIP` or `Proxy`.
    pub ip_mode: Option<String>,
    /// Of each port: number, protocol, error.
    pub ports: Vec<(u16, Transport, Option<String>)>,
}

/// What we have said of a Service before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnCondition {
    /// `True` or `False`.
    pub is_true: bool,
    /// One word.
    pub reason: String,
    /// In words.
    pub message: String,
    /// When `is_true` last changed, as it is written there.
    pub since: String,
}

impl Transport {
    /// As Kubernetes writes it; absent means TCP, anything unknown is `None`.
    pub fn parse(text: Option<&str>) -> Option<Self> {
        match text {
            None | Some("TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }

    /// As Kubernetes writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }

    /// As it stands in names.
    pub const fn lower(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl Service {
    /// Reads the object; `None` if it has no name or namespace, which the API server never sends.
    pub fn read(object: &core::Service) -> Option<Self> {
        let meta = &object.metadata;
        let key = Key::new(meta.namespace.as_deref()?, meta.name.as_deref()?);
        let spec = object.spec.clone().unwrap_or_default();
        let status = object.status.as_ref();
        let families: Vec<_> = spec.ip_families.iter().flatten().collect();
        let mut families: Vec<_> = families.iter().filter_map(|f| Family::parse(f)).collect();
        if families.is_empty() {
            families.push(Family::V4);
        }
        let balancer = status.and_then(|status| status.load_balancer.as_ref());
        let ingress: Vec<_> = balancer
            .and_then(|balancer| balancer.ingress.as_ref())
            .into_iter()
            .flatten()
            .map(Ingress::read)
            .collect();
        Some(Self {
            uid: meta.uid.as_deref().unwrap_or_default().into(),
            created: created(meta),
            is_deleting: meta.deletion_timestamp.is_some(),
            is_load_balancer: spec.type_.as_deref() == Some("LoadBalancer"),
            class: spec.load_balancer_class.clone(),
            selector: spec.selector.clone().unwrap_or_default(),
            ports: spec
                .ports
                .iter()
                .flatten()
                .filter_map(ServicePort::read)
                .collect(),
            families,
            cluster_ips: spec
                .cluster_ips
                .iter()
                .flatten()
                .filter_map(|ip| parse_ip(ip))
                .collect(),
            affinity: affinity(&spec),
            is_local: spec.external_traffic_policy.as_deref() == Some("Local"),
            health_check_node_port: spec.health_check_node_port.and_then(port),
            source_ranges: spec.load_balancer_source_ranges.clone().unwrap_or_default(),
            wanted_ip: spec.load_balancer_ip.clone().filter(|ip| !ip.is_empty()),
            annotations: annotations(meta, PREFIXES),
            other_manager: other_manager(meta, !ingress.is_empty()),
            finalizers: meta.finalizers.clone().unwrap_or_default(),
            ingress,
            conditions: status
                .and_then(|status| status.conditions.as_ref())
                .into_iter()
                .flatten()
                .filter(|condition| condition.type_.starts_with(CONDITION_PREFIX))
                .map(|condition| (condition.type_.clone(), OwnCondition::read(condition)))
                .collect(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
            key,
        })
    }

    /// Addresses that lead to this Service, and so never to a Pod.
    pub fn own_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let told = self.ingress.iter().filter_map(|entry| entry.ip);
        self.cluster_ips.iter().copied().chain(told)
    }

    /// Whether a Pod of its namespace with these labels is one of its Pods, as the EndpointSlice controller sees it.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        !self.selector.is_empty()
            && self
                .selector
                .iter()
                .all(|(key, value)| labels.get(key) == Some(value))
    }

    /// Our finalizer is on it.
    pub fn is_held(&self) -> bool {
        self.finalizers
            .iter()
            .any(|finalizer| finalizer == FINALIZER)
    }

    /// Who comes first where two want one thing: the older, then the smaller uid.
    pub fn rank(&self) -> (i64, Arc<str>) {
        (self.created, Arc::clone(&self.uid))
    }
}

impl ServicePort {
    fn read(wire: &core::ServicePort) -> Option<Self> {
        Some(Self {
            name: wire.name.as_deref().unwrap_or_default().into(),
            protocol: Transport::parse(wire.protocol.as_deref())?,
            port: port(wire.port)?,
            node_port: wire.node_port.and_then(port),
            app_protocol: AppProtocol::read(wire.app_protocol.as_deref().unwrap_or_default()),
        })
    }
}

impl AppProtocol {
    /// As Kubernetes and its users write it. WebSockets are HTTP to begin with, and what is not known here says nothing.
    fn read(text: &str) -> Option<Self> {
        let is = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
        if is(&["kubernetes.io/h2c", "h2c", "grpc"]) {
            Some(Self::H2c)
        } else if is(&["https", "kubernetes.io/wss"]) {
            Some(Self::Https)
        } else {
            None
        }
    }
}

impl Ingress {
    fn read(wire: &core::LoadBalancerIngress) -> Self {
        let read = |status: &core::PortStatus| {
            let protocol = Transport::parse(Some(&status.protocol))?;
            Some((port(status.port)?, protocol, status.error.clone()))
        };
        Self {
            ip: wire.ip.as_deref().and_then(parse_ip),
            ip_mode: wire.ip_mode.clone(),
            ports: wire.ports.iter().flatten().filter_map(read).collect(),
        }
    }
}

impl OwnCondition {
    fn read(wire: &Condition) -> Self {
        Self {
            is_true: wire.status == "True",
            reason: wire.reason.clone(),
            message: wire.message.clone(),
            since: wire.last_transition_time.0.to_string(),
        }
    }
}

/// A port number of the API, where 0 means none.
pub(super) fn port(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| *port != 0)
}

/// When an object was made, in seconds since 1970; 0 if it does not say.
pub(super) fn created(meta: &ObjectMeta) -> i64 {
    meta.creation_timestamp
        .as_ref()
        .map_or(0, |time| time.0.as_second())
}

fn affinity(spec: &core::ServiceSpec) -> Option<Duration> {
    /// What the API server fills in where nothing is said.
    const DEFAULT_SECONDS: i32 = 10_800;
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = spec.session_affinity_config.as_ref();
    let client = config.and_then(|config| config.client_ip.as_ref());
    let seconds = client.and_then(|client| client.timeout_seconds);
    let seconds = u64::try_from(seconds.unwrap_or(DEFAULT_SECONDS)).unwrap_or_default();
    Some(Duration::from_secs(seconds.clamp(1, 86_400)))
}

/// Those with these prefixes.
pub(super) fn annotations(meta: &ObjectMeta, prefixes: &[&str]) -> BTreeMap<String, String> {
    let all = meta.annotations.iter().flatten();
    let ours = all.filter(|(key, _)| prefixes.iter().any(|prefix| key.starts_with(prefix)));
    ours.map(|(key, value)| {
        // A character more, so that what was cut is still too long: its beginning alone may mean something else.
        let end = value.floor_char_boundary(MAX_VALUE_BYTES + char::MAX_LEN_UTF8);
        (key.clone(), value[..end].to_owned())
    })
    .collect()
}

/// Who else treats this Service as its load balancer: whoever put a finalizer on it, or wrote an address into its status.
fn other_manager(meta: &ObjectMeta, has_ingress: bool) -> Option<String> {
    let finalizers = meta.finalizers.iter().flatten();
    let foreign = finalizers
        .map(String::as_str)
        .find(|f| !NEUTRAL_FINALIZERS.contains(f));
    if let Some(finalizer) = foreign {
        return Some(format!("finalizer {finalizer}"));
    }
    let wrote = |entry: &&ManagedFieldsEntry| {
        let fields = entry
            .fields_v1
            .as_ref()
            .and_then(|fields| fields.0.get("f:status"));
        fields.is_some_and(|fields| fields.get("f:loadBalancer").is_some())
            && entry
                .manager
                .as_deref()
                .is_some_and(|manager| !manager.starts_with(MANAGER))
    };
    let entries = meta.managed_fields.iter().flatten();
    let entry = entries.filter(|_| has_ingress).find(wrote)?;
    Some(format!(
        "manager {}",
        entry.manager.as_deref().unwrap_or_default()
    ))
}
