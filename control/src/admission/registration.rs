//! The objects through which the API server finds the webhooks, as they are to be, and what is wrong with those that are
//! there. Pure: knows no API server.
//!
//! Only what matters is looked at: known fields of the webhooks, of the Service those that decide who is reached, and our
//! labels. Labels, annotations and whatever else somebody adds stay. But an addition that changes who is called, or when,
//! is a flaw like any other; so is a webhook of somebody else in a configuration of ours, which would block Pods in
//! Podline's name, and go with it.

mod flaws;
#[cfg(test)]
mod tests;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::Service;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

pub use flaws::flaws;

use super::{DRAIN_HOOK, DRAIN_PATH, INJECT_HOOK, INJECT_PATH};
use crate::cluster::pod::GATE;
use crate::cluster::switches;
use crate::crd;
use crate::installation::{
    CONTROL, GATE_LABEL, NAME_LABEL, PART_OF, WEBHOOK_SERVICE, WEBHOOKS, port,
};

/// The namespace of the cluster's own Pods.
const KUBE_SYSTEM: &str = "kube-system";
/// The port of the Service.
const SERVICE_PORT: u16 = 443;
/// What of a Service decides who is reached through it.
const OF_SERVICE: [&str; 8] = [
    "selector",
    "ports",
    "type",
    "publishNotReadyAddresses",
    "internalTrafficPolicy",
    "sessionAffinity",
    "externalIPs",
    "externalName",
];

/// What the objects are made from.
#[derive(Clone, Copy, Debug)]
pub struct Basis<'a> {
    /// Where the controllers are.
    pub namespace: &'a str,
    /// Whether webhooks are served at all.
    pub is_on: bool,
    /// Whom the API server is to trust, in PEM; absent while that is not known.
    pub bundle: Option<&'a [u8]>,
    /// TKE's controller is known not to be here.
    pub is_alone: bool,
}

/// A kind of object that is kept as it is to be: one object of it. Another one joins as another row of [`KEPT`].
#[derive(Debug)]
pub struct Kept {
    /// "v1", "apps/v1", ...
    pub api_version: &'static str,
    /// "Service", ...
    pub kind: &'static str,
    /// As in paths of the API.
    pub plural: &'static str,
    /// The namespace that it lies in, given Podline's; absent: in none.
    pub home: fn(&str) -> Option<&str>,
    /// Others make it, and Podline keeps a part of it: that this never was as it is to be is no damage.
    pub is_of_others: bool,
    /// What it is called.
    pub name: &'static str,
    /// As it is to be, given the object that is there; absent if that is not known, or if it makes no difference.
    pub wish: fn(&Basis<'_>, Option<&Value>) -> Option<Value>,
    /// Of an object that is there, what matters.
    pub view: fn(&Value) -> Value,
    /// Each bundle in such an object; empty if there is none.
    pub bundles: fn(&Value) -> Vec<Vec<u8>>,
    /// What is told when it was made.
    pub made: &'static str,
}

/// What is told of the objects through which webhooks are called.
const MADE: &str = "made: the API server calls Podline through it";

/// All that is kept for the webhooks.
pub static KEPT: &[Kept] = &[
    Kept {
        api_version: "v1",
        kind: "Service",
        plural: "services",
        home: |own| Some(own),
        is_of_others: false,
        name: WEBHOOK_SERVICE,
        wish: |basis, _| basis.is_on.then(|| service(basis.namespace)),
        view: |found| view::<Service>(found, of_service),
        bundles: |_| Vec::new(),
        made: MADE,
    },
    Kept {
        api_version: "admissionregistration.k8s.io/v1",
        kind: "MutatingWebhookConfiguration",
        plural: "mutatingwebhookconfigurations",
        home: |_| None,
        is_of_others: false,
        name: WEBHOOKS,
        wish: |basis, found| wish(basis, found, "MutatingWebhookConfiguration", injecting),
        view: |found| view::<MutatingWebhookConfiguration>(found, of_webhooks),
        bundles,
        made: MADE,
    },
    Kept {
        api_version: "admissionregistration.k8s.io/v1",
        kind: "ValidatingWebhookConfiguration",
        plural: "validatingwebhookconfigurations",
        home: |_| None,
        is_of_others: false,
        name: WEBHOOKS,
        wish: |basis, found| wish(basis, found, "ValidatingWebhookConfiguration", draining),
        view: |found| view::<ValidatingWebhookConfiguration>(found, of_webhooks),
        bundles,
        made: MADE,
    },
];

/// Kinds of objects that Podline brings along. Whoever else brings one has it; of Podline's own the schema may be another
/// release's.
pub static KINDS: &[Kept] = &[Kept {
    api_version: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
    home: |_| None,
    is_of_others: false,
    name: crd::NAME,
    wish: |_, found| {
        let is_ours = |found: &Value| found["metadata"]["labels"][PART_OF.0] == PART_OF.1;
        found.is_none_or(is_ours).then(crd::definition)
    },
    view: crd::view,
    bundles: |_| Vec::new(),
    made: "made: listeners can be configured by objects of this kind",
}];

/// The ConfigMap of switches, if somebody made it. Podline follows it, and says so in it.
pub static SWITCHES: &[Kept] = &[Kept {
    api_version: "v1",
    kind: "ConfigMap",
    plural: "configmaps",
    home: |_| Some(switches::NAMESPACE),
    is_of_others: true,
    name: switches::NAME,
    wish: |basis, found| {
        let is_ours = found.is_some() && basis.is_alone;
        is_ours.then(version_of_switches)
    },
    view: |found| json!({"data": {(switches::VERSION): found["data"][switches::VERSION]}}),
    bundles: |_| Vec::new(),
    made: "",
}];

fn version_of_switches() -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": switches::NAME, "namespace": switches::NAMESPACE},
        "data": {(switches::VERSION): switches::own_version()},
    })
}

/// A configuration with one webhook; with none if webhooks are off, and the one that is there would call this namespace.
fn wish(
    basis: &Basis<'_>,
    found: Option<&Value>,
    kind: &str,
    webhook: fn(&Basis<'_>, &[u8]) -> Value,
) -> Option<Value> {
    let webhooks = if basis.is_on {
        vec![webhook(basis, basis.bundle?)]
    } else if found.is_some_and(|found| calls(found, basis.namespace)) {
        Vec::new()
    } else {
        return None;
    };
    let metadata = metadata(WEBHOOKS, None);
    let api_version = "admissionregistration.k8s.io/v1";
    Some(json!({
        "apiVersion": api_version, "kind": kind, "metadata": metadata, "webhooks": webhooks,
    }))
}

/// Whether a configuration calls Podline's Service in this namespace.
fn calls(found: &Value, namespace: &str) -> bool {
    let ours = json!({"namespace": namespace, "name": WEBHOOK_SERVICE});
    let webhooks = found["webhooks"].as_array();
    webhooks.into_iter().flatten().any(|webhook| {
        let service = &webhook["clientConfig"]["service"];
        service["namespace"] == ours["namespace"] && service["name"] == ours["name"]
    })
}

fn metadata(name: &str, namespace: Option<&str>) -> Value {
    let mut metadata = json!({
        "name": name,
        "labels": {NAME_LABEL: CONTROL, PART_OF.0: PART_OF.1},
    });
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    metadata
}

/// Gives Pods their gate. It may be asked again after others changed the Pod.
fn injecting(basis: &Basis<'_>, bundle: &[u8]) -> Value {
    let rules = json!([rule("CREATE", "pods")]);
    let conditions = json!([
        {"name": "not-mirror", "expression": not_mirror("object")},
        {
            "name": "not-host-network",
            "expression": "!has(object.spec.hostNetwork) || !object.spec.hostNetwork",
        },
    ]);
    let mut webhook = webhook(basis, bundle, INJECT_HOOK, INJECT_PATH);
    webhook["rules"] = rules;
    webhook["matchConditions"] = conditions;
    webhook["timeoutSeconds"] = json!(2);
    webhook["sideEffects"] = json!("None");
    webhook["reinvocationPolicy"] = json!("IfNeeded");
    webhook
}

/// Drains Pods before their deletion. An eviction names its Pod only; the webhook looks it up.
fn draining(basis: &Basis<'_>, bundle: &[u8]) -> Value {
    let rules = json!([rule("DELETE", "pods"), rule("CREATE", "pods/eviction")]);
    let gated = format!(
        "oldObject == null || (has(oldObject.spec.readinessGates) && \
         oldObject.spec.readinessGates.exists(gate, gate.conditionType == '{GATE}'))"
    );
    let conditions = json!([
        {"name": "gated", "expression": gated},
        {
            "name": "not-terminating",
            "expression": "oldObject == null || !has(oldObject.metadata.deletionTimestamp)",
        },
        {
            "name": "not-mirror",
            "expression": format!("oldObject == null || {}", not_mirror("oldObject")),
        },
    ]);
    let mut webhook = webhook(basis, bundle, DRAIN_HOOK, DRAIN_PATH);
    webhook["rules"] = rules;
    webhook["matchConditions"] = conditions;
    webhook["timeoutSeconds"] = json!(3);
    webhook["sideEffects"] = json!("NoneOnDryRun");
    webhook
}

/// What both have in common. Whatever becomes of Podline, Pods are made and deleted: failures are ignored, and the
/// namespaces that Podline itself needs are left out.
fn webhook(basis: &Basis<'_>, bundle: &[u8], name: &str, path: &str) -> Value {
    json!({
        "name": name,
        "clientConfig": {
            "service": {
                "namespace": basis.namespace, "name": WEBHOOK_SERVICE,
                "path": path, "port": SERVICE_PORT,
            },
            "caBundle": ByteString(bundle.to_vec()),
        },
        "failurePolicy": "Ignore",
        "matchPolicy": "Equivalent",
        "namespaceSelector": {"matchExpressions": [
            {
                "key": "kubernetes.io/metadata.name", "operator": "NotIn",
                "values": [KUBE_SYSTEM, basis.namespace],
            },
            {"key": GATE_LABEL, "operator": "NotIn", "values": ["disabled"]},
        ]},
        "objectSelector": {},
        "admissionReviewVersions": ["v1"],
    })
}

fn rule(operation: &str, resource: &str) -> Value {
    json!({
        "operations": [operation], "apiGroups": [""], "apiVersions": ["v1"],
        "resources": [resource], "scope": "Namespaced",
    })
}

fn not_mirror(object: &str) -> String {
    format!(
        "(!has({object}.metadata.annotations) || \
         !('kubernetes.io/config.mirror' in {object}.metadata.annotations))"
    )
}

/// Leads to the controllers that are ready.
fn service(namespace: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": metadata(WEBHOOK_SERVICE, Some(namespace)),
        "spec": {
            "type": "ClusterIP",
            "selector": {NAME_LABEL: CONTROL},
            "ports": [{
                "name": "webhook", "protocol": "TCP",
                "port": SERVICE_PORT, "targetPort": port::CONTROL_WEBHOOK,
            }],
            "publishNotReadyAddresses": false,
            "internalTrafficPolicy": "Cluster",
            "sessionAffinity": "None",
        },
    })
}

/// Drops fields that this release does not know, and what does not matter.
fn view<K: DeserializeOwned + Serialize>(found: &Value, matters: fn(&Value) -> Value) -> Value {
    let read = serde_json::from_value::<K>(found.clone()).and_then(serde_json::to_value);
    let found = read.unwrap_or_default();
    let mut view = matters(&found);
    view["metadata"]["labels"] = found["metadata"]["labels"].clone();
    view
}

fn of_webhooks(found: &Value) -> Value {
    json!({"webhooks": found["webhooks"]})
}

fn of_service(found: &Value) -> Value {
    let mut spec: Map<_, _> = OF_SERVICE
        .into_iter()
        .map(|field| (field.to_owned(), found["spec"][field].clone()))
        .collect();
    // A Service without an address leads nowhere; any other address does.
    if found["spec"]["clusterIP"] == "None" {
        spec.insert("clusterIP".to_owned(), json!("None"));
    }
    json!({"spec": spec})
}

fn bundles(found: &Value) -> Vec<Vec<u8>> {
    let webhooks = found["webhooks"].as_array().into_iter().flatten();
    let read = |webhook: &Value| {
        let bundle = webhook["clientConfig"]["caBundle"].clone();
        serde_json::from_value::<ByteString>(bundle).map_or_else(|_| Vec::new(), |bytes| bytes.0)
    };
    let bundles: Vec<_> = webhooks.map(read).collect();
    if bundles.is_empty() {
        return vec![Vec::new()];
    }
    bundles
}

/// What makes of a view what is wished for, where naming our own fields does not suffice: whole lists, and what was added
/// goes. `view` is of an object that has this resourceVersion.
pub fn merge(view: &Value, wish: &Value, resource_version: &Value) -> Value {
    let mut body = match (view, wish) {
        (Value::Object(view), Value::Object(wish)) => merged(view, wish),
        _ => json!({}),
    };
    body["metadata"] = json!({"resourceVersion": resource_version});
    if let Some(labels) = wish["metadata"].get("labels") {
        body["metadata"]["labels"] = labels.clone();
    }
    body
}

fn merged(view: &Map<String, Value>, wish: &Map<String, Value>) -> Value {
    let mut body = Map::new();
    for (key, found) in view {
        let value = match (found, wish.get(key)) {
            (_, None) => Value::Null,
            (Value::Object(found), Some(Value::Object(wish))) => merged(found, wish),
            (_, Some(wish)) => wish.clone(),
        };
        body.insert(key.clone(), value);
    }
    for (key, value) in wish {
        body.entry(key.clone()).or_insert_with(|| value.clone());
    }
    Value::Object(body)
}
