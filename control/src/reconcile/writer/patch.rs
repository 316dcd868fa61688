//! The bodies that are sent. Pure, but for the time at which a condition begins.
//!
//! Metadata and status go by server-side apply: only our own fields are named, so nobody else's can be lost, and what is
//! named no longer goes. Every body names the uid: an object made again meanwhile is not touched.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::Job;
use crate::build::annotation::Words;
use crate::cluster::service::{FINALIZER, Ingress};
use crate::reconcile::difference::{Metadata, Status};

fn body(job: &Job, mut metadata: Value) -> Value {
    let key = job.front.key();
    metadata["name"] = json!(&*key.name);
    metadata["namespace"] = json!(&*key.namespace);
    metadata["uid"] = json!(&*job.uid);
    let (version, kind) = (job.front.api_version(), job.front.kind());
    json!({"apiVersion": version, "kind": kind, "metadata": metadata})
}

pub(super) fn metadata(job: &Job, metadata: &Metadata) -> Value {
    let mut fields = json!({});
    if metadata.is_held {
        fields["finalizers"] = json!([FINALIZER]);
        // Only if it is as we saw it: then nobody else had claimed it.
        fields["resourceVersion"] = json!(job.resource_version);
    }
    if !metadata.annotations.is_empty() {
        fields["annotations"] = json!(metadata.annotations);
    }
    body(job, fields)
}

pub(super) fn direct(job: &Job) -> Value {
    let direct_access = Words::of(&job.front).direct_access;
    json!({"metadata": {"uid": &*job.uid, "annotations": {direct_access: "true"}}})
}

pub(super) fn status(job: &Job, status: &Status) -> Value {
    let mut fields = json!({});
    if !status.ingress.is_empty() {
        let entries: Vec<_> = status.ingress.iter().map(told).collect();
        fields["loadBalancer"] = json!({"ingress": entries});
    }
    let condition = |(kind, (condition, since)): (
        &&str,
        &(crate::reconcile::wish::Condition, Option<String>),
    )| {
        json!({
            "type": kind,
            "status": if condition.is_true { "True" } else { "False" },
            "reason": condition.reason,
            "message": condition.message,
            "lastTransitionTime": since.clone().unwrap_or_else(now),
        })
    };
    let conditions: Vec<_> = status.conditions.iter().map(condition).collect();
    if !conditions.is_empty() {
        fields["conditions"] = json!(conditions);
    }
    let mut body = body(job, json!({}));
    // An empty status would stay among the managed fields for ever.
    if fields != json!({}) {
        body["status"] = fields;
    }
    body
}

/// Whole seconds, as Kubernetes keeps them.
fn now() -> String {
    let seconds = Timestamp::now().as_second();
    Timestamp::from_second(seconds)
        .unwrap_or_default()
        .to_string()
}

fn told(entry: &Ingress) -> Value {
    let port = |(port, protocol, error): &(u16, crate::cluster::Transport, Option<String>)| {
        let mut status = json!({"port": port, "protocol": protocol.as_str()});
        if let Some(error) = error {
            status["error"] = json!(error);
        }
        status
    };
    let ports: Vec<_> = entry.ports.iter().map(port).collect();
    let mut value = json!({"ports": ports});
    if let Some(ip) = entry.ip {
        value["ip"] = json!(ip);
    }
    if let Some(mode) = &entry.ip_mode {
        value["ipMode"] = json!(mode);
    }
    value
}
