//! What the API server asks and what it is answered, as JSON: AdmissionReview `admission.k8s.io/v1`, cut down to what is
//! looked at here. Pure.
//!
//! What cannot be understood is refused with words, and the API server goes on without us. What is understood is always
//! allowed.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::cluster::pod::GATE;

/// The only version there is of what is spoken here.
pub(super) const VERSION: &str = "admission.k8s.io/v1";
/// What is spoken here.
pub(super) const KIND: &str = "AdmissionReview";
/// What Kubernetes grants a Pod that does not say.
const USUAL_GRACE_SECONDS: i64 = 30;
/// How much is quoted of what was sent, in bytes.
const QUOTED: usize = 80;

/// What is asked.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request {
    /// Goes back with the answer; never empty.
    pub(super) uid: String,
    /// What it is about: group, version, plural.
    #[serde(default)]
    pub(super) resource: Resource,
    /// `eviction`, or empty.
    #[serde(default)]
    pub(super) sub_resource: Option<String>,
    /// Empty where the object gets its name later, and where many are deleted at once.
    #[serde(default)]
    name: Option<String>,
    /// The object itself may not say it.
    #[serde(default)]
    namespace: Option<String>,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    #[serde(default)]
    pub(super) operation: String,
    /// Nothing is going to come of it.
    #[serde(default)]
    dry_run: Option<bool>,
    /// The object as it is going to be.
    #[serde(default)]
    pub(super) object: Option<Object>,
    /// The object as it is.
    #[serde(default)]
    pub(super) old_object: Option<Object>,
    /// How it is to be done; of a deletion.
    #[serde(default)]
    options: Option<DeleteOptions>,
}

/// A kind of object, as URLs have it.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Resource {
    group: String,
    version: String,
    #[serde(rename = "resource")]
    plural: String,
}

/// A Pod, or an Eviction, which has other fields.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Object {
    metadata: Option<Meta>,
    /// Of a Pod.
    pub(super) spec: Option<Spec>,
    /// Of an Eviction.
    delete_options: Option<DeleteOptions>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    name: Option<String>,
    uid: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<Annotations>,
    deletion_timestamp: Option<IgnoredAny>,
}

/// What is looked at of them.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Annotations {
    /// On a Pod that a kubelet runs from a file, and shows to the API server.
    #[serde(rename = "kubernetes.io/config.mirror")]
    mirror: Option<IgnoredAny>,
}

/// What a Pod is to be.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    readiness_gates: Option<Vec<ReadinessGate>>,
    host_network: Option<bool>,
    containers: Option<Vec<Container>>,
    termination_grace_period_seconds: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ReadinessGate {
    condition_type: String,
}

/// What is run.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Container {
    /// What happens at its beginning and end.
    pub(super) lifecycle: Option<Lifecycle>,
}

/// What happens at a container's beginning and end.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Lifecycle {
    /// What comes before SIGTERM.
    pub(super) pre_stop: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DeleteOptions {
    preconditions: Option<Preconditions>,
    dry_run: Option<Vec<IgnoredAny>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Preconditions {
    uid: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    request: Option<Request>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    api_version: &'a str,
    kind: &'a str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'a str>,
    /// Base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<k8s_openapi::ByteString>,
}

/// Reads what is asked.
///
/// # Errors
/// What was sent is no review of a version that is known here: why, in words that quote little of it.
pub(super) fn read(body: &[u8]) -> Result<Request, String> {
    let asked: Asked = serde_json::from_slice(body).map_err(|error| {
        // serde's words may quote what was sent, whatever it is.
        format!("no AdmissionReview: {}", shorten(&error.to_string()))
    })?;
    if asked.kind != KIND {
        return Err(format!("kind {:?}, not {KIND}", shorten(&asked.kind)));
    }
    if asked.api_version != VERSION {
        let version = shorten(&asked.api_version);
        return Err(format!("apiVersion {version:?}, not {VERSION}"));
    }
    let request = asked.request.ok_or("the review has no request")?;
    if request.uid.is_empty() {
        return Err("the request has no uid".to_owned());
    }
    Ok(request)
}

/// The answer: allowed, with a JSON patch if there is one.
pub(super) fn allow(uid: &str, patch: Option<Vec<u8>>) -> Vec<u8> {
    let told = Told {
        api_version: VERSION,
        kind: KIND,
        response: Response {
            uid,
            allowed: true,
            patch_type: patch.as_ref().map(|_| "JSONPatch"),
            patch: patch.map(k8s_openapi::ByteString),
        },
    };
    serde_json::to_vec(&told).expect("strings and bytes can be written")
}

/// The beginning of a text, on one line.
pub(super) fn shorten(text: &str) -> String {
    let end = text.floor_char_boundary(QUOTED);
    let begin = text[..end].replace(char::is_control, " ");
    if end < text.len() {
        format!("{begin}...")
    } else {
        begin
    }
}

impl Request {
    /// Whether it is about Pods, or about what is said of them under this name.
    pub(super) fn is_about_pods(&self, sub_resource: &str) -> bool {
        let Resource {
            group,
            version,
            plural,
        } = &self.resource;
        (group.as_str(), version.as_str(), plural.as_str()) == ("", "v1", "pods")
            && self.sub_resource.as_deref().unwrap_or_default() == sub_resource
    }

    /// The namespace of the object; empty if it has none.
    pub(super) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }

    /// What the object is called; empty if it has no name yet.
    pub(super) fn name(&self) -> &str {
        let object = self.old_object.as_ref().or(self.object.as_ref());
        let meta = object.and_then(|object| object.metadata.as_ref());
        let own = || meta.and_then(|meta| meta.name.as_deref());
        let name = self.name.as_deref().filter(|name| !name.is_empty());
        name.or_else(own).unwrap_or_default()
    }

    /// Nothing is going to come of it. Evictions may say so within.
    pub(super) fn is_dry_run(&self) -> bool {
        let within = self.object.as_ref().and_then(|o| o.delete_options.as_ref());
        let options = within.into_iter().chain(&self.options);
        let mut wishes = options.filter_map(|options| options.dry_run.as_ref());
        self.dry_run == Some(true) || wishes.any(|wishes| !wishes.is_empty())
    }

    /// The only uid that the one that is asked to be deleted may have, if only one will do.
    pub(super) fn wanted_uid(&self) -> Option<&str> {
        let within = self.object.as_ref().and_then(|o| o.delete_options.as_ref());
        let options = within.or(self.options.as_ref())?;
        options.preconditions.as_ref()?.uid.as_deref()
    }
}

impl Object {
    /// Of this object, not of its name; empty if it has none yet.
    pub(super) fn uid(&self) -> &str {
        let meta = self.metadata.as_ref();
        meta.and_then(|meta| meta.uid.as_deref())
            .unwrap_or_default()
    }

    /// Its labels.
    pub(super) fn labels(&self) -> Option<&BTreeMap<String, String>> {
        self.metadata.as_ref()?.labels.as_ref()
    }

    /// A kubelet's own.
    pub(super) fn is_mirror(&self) -> bool {
        let meta = self.metadata.as_ref();
        let annotations = meta.and_then(|meta| meta.annotations.as_ref());
        annotations.is_some_and(|annotations| annotations.mirror.is_some())
    }

    /// Its deletion has begun.
    pub(super) fn is_deleting(&self) -> bool {
        let meta = self.metadata.as_ref();
        meta.is_some_and(|meta| meta.deletion_timestamp.is_some())
    }

    /// Uses its node's addresses.
    pub(super) fn is_host_network(&self) -> bool {
        let spec = self.spec.as_ref();
        spec.and_then(|spec| spec.host_network).unwrap_or(false)
    }

    /// Has our gate.
    pub(super) fn has_gate(&self) -> bool {
        let gates = self.spec.as_ref().and_then(Spec::gates);
        let mut gates = gates.into_iter().flatten();
        gates.any(|gate| gate.condition_type == GATE)
    }
}

impl Spec {
    fn gates(&self) -> Option<&Vec<ReadinessGate>> {
        self.readiness_gates.as_ref()
    }

    /// Has a list of gates that one can be added to.
    pub(super) fn has_gates(&self) -> bool {
        self.gates().is_some()
    }

    /// In their order.
    pub(super) fn containers(&self) -> &[Container] {
        self.containers.as_deref().unwrap_or_default()
    }

    /// How long the Pod is given to end, in seconds; never negative.
    pub(super) fn grace_seconds(&self) -> u64 {
        let seconds = self.termination_grace_period_seconds;
        u64::try_from(seconds.unwrap_or(USUAL_GRACE_SECONDS)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
