//! A Pod, as far as its traffic is concerned.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;

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
    /// Succeeded or Failed: nothing runs any more.
    pub has_ended: bool,
    /// Uses its node's addresses.
    pub is_host_network: bool,
    /// Its label says that it answers for the way to its node.
    pub is_responder: bool,
    /// One of a family at most.
    pub addresses: Vec<IpAddr>,
    /// Where it runs.
    pub node: Option<Arc<str>>,
    /// All its containers are ready.
    pub containers_ready: bool,
    /// What it says of our gate.
    pub gate: Gate,
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
        let phase = status.phase.as_deref();
        Some(Self {
            key: Key::new(meta.namespace.as_deref()?, meta.name.as_deref()?),
            uid: meta.uid.as_deref().unwrap_or_default().into(),
            created: created(meta),
            is_deleting: meta.deletion_timestamp.is_some(),
            has_ended: matches!(phase, Some("Succeeded" | "Failed")),
            is_host_network: spec.and_then(|spec| spec.host_network).unwrap_or(false),
            is_responder: {
                let labels = meta.labels.as_ref();
                let program = labels.and_then(|labels| labels.get(NAME_LABEL));
                program.is_some_and(|program| program == RESPONDER)
            },
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
