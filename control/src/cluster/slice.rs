//! An EndpointSlice: where a part of a Service's endpoints are, and how they do.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::discovery::v1 as discovery;

use super::family::{Family, parse_ip};
use super::key::Key;
use super::service::{Transport, created, port};

/// Names the Service that a slice belongs to.
pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// An EndpointSlice of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Namespace and name.
    pub key: Key,
    /// The Service, by its label.
    pub service: Key,
    /// Seconds since 1970.
    pub created: i64,
    /// Absent for host names, which cannot be forwarded to.
    pub family: Option<Family>,
    /// Ports that every endpoint of the slice has. Those without a number are left out.
    pub ports: Vec<SlicePort>,
    /// In no particular order.
    pub endpoints: Vec<Endpoint>,
}

/// A port of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// The name of the Service's port.
    pub name: Arc<str>,
    /// TCP, UDP or SCTP.
    pub protocol: Transport,
    /// Where the endpoints listen.
    pub port: u16,
}

/// One endpoint of a slice, as the slice tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its first address, the only one that counts; absent if it is none.
    pub address: Option<IpAddr>,
    /// Absent means ready.
    pub is_ready: bool,
    /// Would be ready if it were not terminating; absent means as ready as `is_ready`.
    pub is_serving: bool,
    /// Its Pod is being deleted.
    pub is_terminating: bool,
    /// The Pod behind it, and its uid; empty if the slice does not say.
    pub pod: Option<(Key, Arc<str>)>,
    /// Where it runs.
    pub node: Option<Arc<str>>,
}

impl Slice {
    /// Reads the object; `None` if no label says whose it is.
    pub fn read(object: &discovery::EndpointSlice) -> Option<Self> {
        let meta = &object.metadata;
        let key = Key::new(meta.namespace.as_deref()?, meta.name.as_deref()?);
        let service = meta.labels.as_ref()?.get(SERVICE_LABEL)?;
        Some(Self {
            service: Key {
                namespace: Arc::clone(&key.namespace),
                name: service.as_str().into(),
            },
            created: created(meta),
            family: Family::parse(&object.address_type),
            ports: object
                .ports
                .iter()
                .flatten()
                .filter_map(SlicePort::read)
                .collect(),
            endpoints: object
                .endpoints
                .iter()
                .flatten()
                .map(|endpoint| Endpoint::read(endpoint, &key.namespace))
                .collect(),
            key,
        })
    }
}

impl SlicePort {
    fn read(wire: &discovery::EndpointPort) -> Option<Self> {
        Some(Self {
            name: wire.name.as_deref().unwrap_or_default().into(),
            protocol: Transport::parse(wire.protocol.as_deref())?,
            port: wire.port.and_then(port)?,
        })
    }
}

impl Endpoint {
    fn read(wire: &discovery::Endpoint, namespace: &Arc<str>) -> Self {
        let conditions = wire.conditions.clone().unwrap_or_default();
        let is_ready = conditions.ready.unwrap_or(true);
        let target = wire.target_ref.as_ref();
        let pod = target.filter(|target| target.kind.as_deref() == Some("Pod"));
        Self {
            address: wire.addresses.first().and_then(|text| parse_ip(text)),
            is_ready,
            is_serving: conditions.serving.unwrap_or(is_ready),
            is_terminating: conditions.terminating.unwrap_or(false),
            pod: pod.map(|target| {
                let key = Key {
                    namespace: target
                        .namespace
                        .as_deref()
                        .map_or_else(|| Arc::clone(namespace), Into::into),
                    name: target.name.as_deref().unwrap_or_default().into(),
                };
                (key, target.uid.as_deref().unwrap_or_default().into())
            }),
            node: wire.node_name.as_deref().map(Into::into),
        }
    }
}
