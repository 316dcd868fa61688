//! A Pod, as far as its traffic is concerned.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::family::parse_ip;
use super::key::Key;
use super::service::created;
use crate::installation::{NAME_LABEL, RESPONDER};

/// The readiness gate that waits for the load balancer.
pub const GATE: &str = "cloud.tencent.com/load-balancer-backendgroup-ready";

/// A Pod.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, in any combination"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Namespace and name.
    pub key: Key,
    /// Of this object; its address may be another Pod's tomorrow.
    pub uid: Arc<str>,
    /// Seconds since 1970.
    pub created: i64,
    /// Has a deletion timestamp.
    pub is_deleting: bool,
    /// When its deletion was asked for, in seconds since 1970, if it was.
    pub deleted: Option<i64>,
    /// Succeeded or Failed: nothing runs any more.
    pub has_ended: bool,
    /// Uses its node's addresses.
    pub is_host_network: bool,
    /// Its label says that it answers for the way to its node.
    pub is_responder: bool,
    /// It asks TKE for an address of the cloud's network, apart from its node's.
    pub is_vpc_cni: bool,
    /// One of a family at most.
    pub addresses: Vec<IpAddr>,
    /// Where it runs.
    pub node: Option<Arc<str>>,
    /// All its containers are ready.
    pub containers_ready: bool,
    /// What it says of our gate.
    pub gate: Gate,
    /// Why, in our own words: reason and message of the condition, if it has it.
    pub gate_said: Option<GateSaid>,
    /// Its labels while it waits for our gate: Services that select it may not know it yet. Empty otherwise.
    pub labels: Labels,
    /// The controller that made it, if one did.
    pub owner: Option<Arc<Owner>>,
    /// Every other gate it has is open.
    pub other_gates_open: bool,
}

/// A Pod and our readiness gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It has none.
    Absent,
    /// It waits for us.
    Waiting,
    /// It was let through.
    Open,
}

/// Labels of an object, shared by whoever looks at them.
pub type Labels = Arc<BTreeMap<String, String>>;

/// What the condition of our gate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateSaid {
    /// One word.
    pub reason: Arc<str>,
    /// In words.
    pub message: Arc<str>,
}

/// The object that controls a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// "ReplicaSet", "StatefulSet", ...
    pub kind: String,
    /// In the Pod's namespace.
    pub name: String,
    /// Of that object.
    pub uid: String,
}

impl Owner {
    fn read(meta: &ObjectMeta) -> Option<Arc<Self>> {
        let mut owners = meta.owner_references.iter().flatten();
        let owner = owners.find(|owner| owner.controller == Some(true))?;
        Some(Arc::new(Self {
            kind: owner.kind.clone(),
            name: owner.name.clone(),
            uid: owner.uid.clone(),
        }))
    }
}

/// It names such a network, or takes an interface of one.
fn is_vpc_cni(object: &core::Pod) -> bool {
    const NETWORKS: &str = "tke.cloud.tencent.com/networks";
    let is_network = |name: &str| name.starts_with("tke-") && name.ends_with("-eni");
    let annotations = object.metadata.annotations.as_ref();
    let named = annotations.and_then(|annotations| annotations.get(NETWORKS));
    let is_named = named.is_some_and(|named| named.split(',').any(|it| is_network(it.trim())));
    let is_interface = |name: &String| {
        let name = name.strip_prefix("tke.cloud.tencent.com/");
        name.is_some_and(|name| name == "eni-ip" || name.ends_with("-eni"))
    };
    let containers = object.spec.iter().flat_map(|spec| &spec.containers);
    let resources = containers.filter_map(|container| container.resources.as_ref());
    let mut lists = resources.flat_map(|it| [&it.requests, &it.limits]);
    is_named || lists.any(|list| list.iter().flatten().any(|(name, _)| is_interface(name)))
}

/// The timestamp says when the grace period ends.
fn deleted(meta: &ObjectMeta) -> Option<i64> {
    let end = meta.deletion_timestamp.as_ref()?.0.as_second();
    let grace = meta.deletion_grace_period_seconds.unwrap_or_default();
    end.checked_sub(grace)
}

impl Pod {
    /// Reads the object; `None` if it has no name or namespace, which the API server never sends.
    pub fn read(object: &core::Pod) -> Option<Self> {
        let meta = &object.metadata;
        let spec = object.spec.as_ref();
        let status = object.status.clone().unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        let is_true = |kind: &str| {
            conditions
                .iter()
                .any(|c| c.type_ == kind && c.status == "True")
        };
        let gates = spec.and_then(|spec| spec.readiness_gates.as_ref());
        let gates: Vec<_> = gates
            .into_iter()
            .flatten()
            .map(|gate| gate.condition_type.as_str())
            .collect();
        let gate = match (gates.contains(&GATE), is_true(GATE)) {
            (false, _) => Gate::Absent,
            (true, false) => Gate::Waiting,
            (true, true) => Gate::Open,
        };
        let said = conditions.iter().find(|condition| condition.type_ == GATE);
        let text = |text: &Option<String>| text.as_deref().unwrap_or_default().into();
        let gate_said = said.map(|said| GateSaid {
            reason: text(&said.reason),
            message: text(&said.message),
        });
        let labels = match (gate, &meta.labels) {
            (Gate::Waiting, Some(labels)) => Arc::new(labels.clone()),
            _ => Labels::default(),
        };
        let phase = status.phase.as_deref();
        Some(Self {
            key: Key::new(meta.namespace.as_deref()?, meta.name.as_deref()?),
            uid: meta.uid.as_deref().unwrap_or_default().into(),
            created: created(meta),
            is_deleting: meta.deletion_timestamp.is_some(),
            deleted: deleted(meta),
            has_ended: matches!(phase, Some("Succeeded" | "Failed")),
            is_host_network: spec.and_then(|spec| spec.host_network).unwrap_or(false),
            is_responder: {
                let labels = meta.labels.as_ref();
                let program = labels.and_then(|labels| labels.get(NAME_LABEL));
                program.is_some_and(|program| program == RESPONDER)
            },
            is_vpc_cni: is_vpc_cni(object),
            addresses: status
                .pod_ips
                .iter()
                .flatten()
                .filter_map(|entry| parse_ip(&entry.ip))
                .collect(),
            node: spec
                .and_then(|spec| spec.node_name.as_deref())
                .map(Into::into),
            containers_ready: is_true("ContainersReady"),
            gate,
            gate_said,
            labels,
            owner: Owner::read(meta),
            other_gates_open: gates.iter().all(|kind| *kind == GATE || is_true(kind)),
        })
    }

    /// Has our gate, and waits for nothing else: it is not ready only because we have not opened the gate, or because
    /// the kubelet, and the slice after it, have not followed yet.
    pub fn waits_for_gate_only(&self) -> bool {
        self.containers_ready
            && !self.is_deleting
            && !self.has_ended
            && self.gate != Gate::Absent
            && self.other_gates_open
    }
}
