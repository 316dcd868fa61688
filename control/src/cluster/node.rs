//! A Node, as far as traffic through it is concerned.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;

use super::family::{Family, names_no_host, parse_ip};
use super::service::created;

/// Keeps a node out of every load balancer.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// What begins the provider's id of a machine of TKE.
const CLOUD: &str = "qcloud://";
/// The label of what a machine is, and what it says of TKE's that are none.
const SUPER_NODE: (&str, &str) = ("node.kubernetes.io/instance-type", "eklet");

/// A Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it is called.
    pub name: Arc<str>,
    /// Of this object.
    pub uid: Arc<str>,
    /// Seconds since 1970.
    pub created: i64,
    /// `InternalIP`s, in their order.
    pub internal: Vec<IpAddr>,
    /// Addresses of every type.
    pub addresses: Vec<IpAddr>,
    /// `spec.podCIDRs`; which need not be where its Pods are.
    pub pod_ranges: Vec<IpNet>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its kubelet says that it does well.
    pub is_ready: bool,
    /// Has the well-known label that keeps it out.
    pub is_excluded: bool,
    /// Is TKE's.
    pub is_of_cloud: bool,
}

impl Node {
    /// Reads the object; `None` if it has no name, which the API server never sends.
    pub fn read(object: &core::Node) -> Option<Self> {
        let meta = &object.metadata;
        let status = object.status.as_ref();
        let addresses = || {
            status
                .and_then(|status| status.addresses.as_ref())
                .into_iter()
                .flatten()
        };
        let of_type = |kind: Option<&'static str>| {
            addresses()
                .filter(move |entry| kind.is_none_or(|kind| entry.type_ == kind))
                .filter_map(|entry| parse_ip(&entry.address))
                .collect()
        };
        let conditions = status.and_then(|status| status.conditions.as_ref());
        let ready = conditions
            .into_iter()
            .flatten()
            .find(|c| c.type_ == "Ready");
        let labels = meta.labels.clone().unwrap_or_default();
        let spec = object.spec.as_ref();
        let ranges = spec.and_then(|spec| spec.pod_cidrs.as_ref());
        let provider = spec.and_then(|spec| spec.provider_id.as_ref());
        let is_machine = provider.is_some_and(|id| id.starts_with(CLOUD));
        let (label, value) = SUPER_NODE;
        Some(Self {
            name: meta.name.as_deref()?.into(),
            uid: meta.uid.as_deref().unwrap_or_default().into(),
            created: created(meta),
            internal: of_type(Some("InternalIP")),
            addresses: of_type(None),
            pod_ranges: ranges
                .into_iter()
                .flatten()
                .filter_map(|text| text.parse::<IpNet>().ok())
                .map(|range| range.trunc())
                .collect(),
            is_ready: ready.is_some_and(|condition| condition.status == "True"),
            is_excluded: labels.contains_key(EXCLUDED),
            is_of_cloud: is_machine || labels.get(label).is_some_and(|it| it == value),
            labels,
        })
    }

    /// Its first internal address of a family that something can be sent to.
    pub fn internal_of(&self, family: Family) -> Option<IpAddr> {
        self.internal
            .iter()
            .copied()
            .find(|ip| Family::of(*ip) == family && !names_no_host(*ip))
    }
}
