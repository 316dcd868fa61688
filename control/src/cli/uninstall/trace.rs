//! What of a Service or an Ingress is ours to take back. Pure.
//!
//! What we applied goes by an apply of nothing, so that what others co-own stays. What has our name goes by its name, too:
//! a backup that was restored knows no managers.

use std::collections::BTreeSet;
use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ManagedFieldsEntry, ObjectMeta};
use kube::Resource;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::build::annotation::{self, Effect, TABLE};
use crate::cluster::service::{CONDITION_PREFIX, FINALIZER, MANAGER};
use crate::cluster::switches;

/// Who writes down for ever what was the default when a Service was made.
pub(super) fn defaults_manager() -> String {
    format!("{MANAGER}-defaults")
}

/// What objects are that have something of ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Service,
    Ingress,
    /// That of TKE's switches.
    ConfigMap,
}

impl Sort {
    const fn api_version(self) -> &'static str {
        match self {
            Self::Service | Self::ConfigMap => "v1",
            Self::Ingress => "networking.k8s.io/v1",
        }
    }

    const fn direct_access(self) -> Option<&'static str> {
        match self {
            Self::Service => Some(annotation::DIRECT_ACCESS),
            Self::Ingress => Some(annotation::ingress::DIRECT_ACCESS),
            Self::ConfigMap => None,
        }
    }
}

impl std::fmt::Display for Sort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Debug::fmt(self, f)
    }
}

/// What may have something of ours.
pub(super) trait Traced:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug
{
    /// What it is.
    const SORT: Sort;
    /// As it is called in paths, and with its status.
    const PLURALS: [&'static str; 2];
    /// What stands in its status.
    fn conditions(&self) -> Option<&Vec<Condition>>;
}

impl Traced for core::Service {
    const SORT: Sort = Sort::Service;
    const PLURALS: [&'static str; 2] = ["services", "services/status"];

    fn conditions(&self) -> Option<&Vec<Condition>> {
        self.status.as_ref()?.conditions.as_ref()
    }
}

impl Traced for networking::Ingress {
    const SORT: Sort = Sort::Ingress;
    const PLURALS: [&'static str; 2] = ["ingresses", "ingresses/status"];

    fn conditions(&self) -> Option<&Vec<Condition>> {
        None
    }
}

impl Traced for core::ConfigMap {
    const SORT: Sort = Sort::ConfigMap;
    const PLURALS: [&'static str; 2] = ["configmaps", "configmaps/status"];

    fn conditions(&self) -> Option<&Vec<Condition>> {
        None
    }
}

/// What an object has of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Trace {
    pub(super) sort: Sort,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    /// Never empty.
    pub(super) parts: BTreeSet<Part>,
}

/// A part of what an object has of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Fields of the status that we applied.
    AppliedStatus,
    /// By name: conditions, whoever wrote them.
    Conditions,
    /// Fields of the metadata that we applied.
    Applied,
    /// By name: finalizer and annotations, whoever wrote them.
    Metadata,
    /// The annotation that makes it direct, and nobody but us wrote it.
    MadeDirect,
}

/// What `object` has of ours; absent if nothing.
pub(super) fn of<K: Traced>(object: &K) -> Option<Trace> {
    let meta = object.meta();
    let entries = || meta.managed_fields.iter().flatten();
    let applied = |subresource: &str| {
        entries().any(|entry| {
            entry.manager.as_deref() == Some(MANAGER)
                && entry.subresource.as_deref().unwrap_or_default() == subresource
        })
    };
    let makers: Vec<_> = entries()
        .filter(|entry| has_direct_access(entry, K::SORT))
        .map(|entry| entry.manager.clone().unwrap_or_default())
        .collect();
    let made_direct = !makers.is_empty() && makers.iter().all(|who| *who == defaults_manager());
    let parts = [
        (Part::AppliedStatus, applied("status")),
        (Part::Conditions, status_without(object).is_some()),
        (Part::Applied, applied("")),
        (Part::Metadata, metadata_without(meta).is_some()),
        (Part::MadeDirect, made_direct),
    ];
    let parts = parts.iter().filter(|(_, is_there)| *is_there);
    let trace = Trace {
        sort: K::SORT,
        namespace: meta.namespace.clone()?,
        name: meta.name.clone()?,
        uid: meta.uid.clone().unwrap_or_default(),
        parts: parts.map(|(part, _)| *part).collect(),
    };
    (!trace.parts.is_empty()).then_some(trace)
}

fn has_direct_access(entry: &ManagedFieldsEntry, sort: Sort) -> bool {
    let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
    let annotations = fields.and_then(|fields| fields.get("f:metadata")?.get("f:annotations"));
    let key = sort.direct_access().map(|key| format!("f:{key}"));
    let has = |fields: &Value| key.is_some_and(|key| fields.get(key).is_some());
    annotations.is_some_and(has)
}

impl Trace {
    /// In a few words.
    pub(super) fn what(&self) -> String {
        let words = self.parts.iter().map(|part| match part {
            Part::AppliedStatus | Part::Conditions => "status",
            Part::Applied if self.sort == Sort::ConfigMap => switches::VERSION,
            Part::Applied | Part::Metadata => "finalizer and annotations",
            Part::MadeDirect => "the annotation that made it direct",
        });
        let mut words: Vec<_> = words.collect();
        words.dedup();
        words.join(", ")
    }

    pub(super) fn has(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    /// What applies nothing, to the object or to its status, and so gives up what was applied. An empty status would
    /// stay as something that we own.
    pub(super) fn nothing(&self) -> Value {
        json!({
            "apiVersion": self.sort.api_version(),
            "kind": self.sort.to_string(),
            "metadata": {"namespace": self.namespace, "name": self.name, "uid": self.uid},
        })
    }

    /// A merge patch that takes the annotation away.
    pub(super) fn not_direct(&self) -> Value {
        let direct_access = self.sort.direct_access().unwrap_or_default();
        json!({"metadata": {"uid": self.uid, "annotations": {direct_access: null}}})
    }
}

/// A merge patch that takes away what has our name in the metadata; absent if there is nothing.
pub(super) fn metadata_without(meta: &ObjectMeta) -> Option<Value> {
    let mut fields = json!({"uid": meta.uid, "resourceVersion": meta.resource_version});
    let mut is_needed = false;
    let finalizers = meta.finalizers.iter().flatten();
    let others: Vec<_> = finalizers.filter(|name| *name != FINALIZER).collect();
    if others.len() < meta.finalizers.as_ref().map_or(0, Vec::len) {
        fields["finalizers"] = json!(others);
        is_needed = true;
    }
    // Others write those of TKE, too.
    let written = TABLE.iter().filter(|a| a.effect == Effect::Written);
    let written = written.filter(|a| a.key.starts_with("podline.io/"));
    for annotation in written.map(|annotation| annotation.key) {
        if meta
            .annotations
            .as_ref()
            .is_some_and(|all| all.contains_key(annotation))
        {
            fields["annotations"][annotation] = Value::Null;
            is_needed = true;
        }
    }
    is_needed.then(|| json!({"metadata": fields}))
}

/// A merge patch that takes away our conditions; absent if there are none.
pub(super) fn status_without<K: Traced>(object: &K) -> Option<Value> {
    let conditions = object.conditions()?;
    let is_ours = |kind: &str| kind.starts_with(CONDITION_PREFIX);
    let others: Vec<_> = conditions.iter().filter(|c| !is_ours(&c.type_)).collect();
    let meta = object.meta();
    (others.len() < conditions.len()).then(|| {
        json!({
            "metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version},
            "status": {"conditions": others},
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::annotation::DIRECT_ACCESS;

    fn service(metadata: &Value, status: &Value) -> core::Service {
        let mut object = json!({"metadata": {"name": "web", "namespace": "a", "uid": "u",
            "resourceVersion": "7"}, "status": status});
        for (key, value) in metadata.as_object().unwrap() {
            object["metadata"][key] = value.clone();
        }
        serde_json::from_value(object).unwrap()
    }

    fn entry(manager: &str, subresource: &str, fields: &Value) -> Value {
        json!({"manager": manager, "operation": "Apply", "subresource": subresource,
            "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": fields})
    }

    fn found(metadata: &Value, status: &Value) -> Option<String> {
        of(&service(metadata, status)).map(|trace| trace.what())
    }

    #[test]
    fn what_others_wrote_is_none_of_ours() {
        let others = json!({
            "finalizers": ["service.kubernetes.io/load-balancer-cleanup"],
            // Its owner's own words, though our name is in them.
            "annotations": {DIRECT_ACCESS: "true", "podline.io/share-vip-with": "b",
                "service.kubernetes.io/loadbalance-id": "lb-6swtxxxx"},
            "managedFields": [
                entry("kubectl", "", &json!({"f:metadata": {"f:annotations":
                    {(format!("f:{DIRECT_ACCESS}")): {}}}})),
                entry("metallb", "status", &json!({})),
            ],
        });
        let status = json!({"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]},
            "conditions": [{"type": "metallb.io/Ready", "status": "True", "reason": "a",
                "message": "", "lastTransitionTime": "2026-11-25T00:00:00Z"}]});
        assert_eq!(found(&others, &status), None);
        assert_eq!(found(&json!({}), &json!({})), None);
    }

    #[test]
    fn what_we_applied_is_ours() {
        let entries = |list: Value| json!({"managedFields": list});
        let check = |list, expected: &str| {
            assert_eq!(found(&entries(list), &json!({})).as_deref(), Some(expected));
        };
        check(
            json!([entry(MANAGER, "", &json!({}))]),
            "finalizer and annotations",
        );
        check(json!([entry(MANAGER, "status", &json!({}))]), "status");
    }

    #[test]
    fn the_annotation_that_we_made_goes_unless_somebody_else_wants_it() {
        let direct = json!({"f:metadata": {"f:annotations": {(format!("f:{DIRECT_ACCESS}")): {}}}});
        let ours = entry(&defaults_manager(), "", &direct);
        let theirs = entry("kubectl", "", &direct);
        let managed = |list: Value| found(&json!({"managedFields": list}), &json!({}));
        assert_eq!(
            managed(json!([ours])).as_deref(),
            Some("the annotation that made it direct")
        );
        assert_eq!(managed(json!([ours, theirs])), None);
    }

    #[test]
    fn the_version_that_we_gave_the_switches_is_ours() {
        let of_switches = |manager: &str| {
            let fields = json!({"f:data": {"f:VERSION": {}}});
            let entries = [entry(manager, "", &fields)];
            let metadata = json!({"name": "x", "namespace": "y", "managedFields": entries});
            let object: core::ConfigMap =
                serde_json::from_value(json!({"metadata": metadata})).unwrap();
            of(&object).map(|trace| trace.what())
        };
        assert_eq!(of_switches(MANAGER).as_deref(), Some("VERSION"));
        assert_eq!(of_switches("kubectl"), None);
    }

    #[test]
    fn what_has_our_name_is_ours_whoever_wrote_it() {
        let condition = |kind: &str| {
            json!({"type": kind, "status": "True", "reason": "a", "message": "",
                "lastTransitionTime": "2026-11-25T00:00:00Z"})
        };
        let object = service(
            &json!({"finalizers": ["other", FINALIZER], "annotations": {"podline.io/last-good": "{}"}}),
            &json!({"conditions": [condition("podline.io/Accepted"), condition("other/Ready")]}),
        );
        assert_eq!(
            of(&object).unwrap().what(),
            "status, finalizer and annotations"
        );
        assert_eq!(
            metadata_without(&object.metadata),
            Some(json!({"metadata": {"uid": "u", "resourceVersion": "7",
                "finalizers": ["other"], "annotations": {"podline.io/last-good": null}}}))
        );
        assert_eq!(
            status_without(&object),
            Some(json!({"metadata": {"uid": "u", "resourceVersion": "7"},
                "status": {"conditions": [condition("other/Ready")]}}))
        );
        let last = service(&json!({"finalizers": [FINALIZER]}), &json!({}));
        assert_eq!(
            metadata_without(&last.metadata).unwrap()["metadata"]["finalizers"],
            json!([])
        );
    }
}
