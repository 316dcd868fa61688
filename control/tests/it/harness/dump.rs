//! Everything that an API server has, so that two moments can be compared.

use std::collections::{BTreeMap, BTreeSet};

use kube::Client;
use kube::api::{Api, DynamicObject, ListParams};
use kube::discovery::{Discovery, verbs};
use serde_json::Value;

use super::scene::SYSTEM;

/// Objects by kind, namespace and name, without what changes on its own.
pub(crate) type Dump = BTreeMap<String, Value>;

/// All objects of all kinds that can be listed.
pub(crate) async fn take(client: &Client) -> Dump {
    let found = Discovery::new(client.clone()).run().await.unwrap();
    let mut dump = Dump::new();
    for group in found.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            // Events are served twice; the health of components is no object.
            let is_other_view =
                resource.group == "events.k8s.io" || resource.kind == "ComponentStatus";
            if is_other_view || !capabilities.supports_operation(verbs::LIST) {
                continue;
            }
            let api = Api::<DynamicObject>::all_with(client.clone(), &resource);
            let list = api.list(&ListParams::default()).await;
            let list = list.unwrap_or_else(|error| panic!("{}: {error}", resource.plural));
            for object in list.items {
                let meta = &object.metadata;
                let place = meta.namespace.clone().unwrap_or_default();
                let name = meta.name.clone().unwrap_or_default();
                if let Some(value) = kept(&resource.kind, &place, &object) {
                    dump.insert(
                        format!("{}.{} {place}/{name}", resource.kind, resource.group),
                        value,
                    );
                }
            }
        }
    }
    dump
}

/// What is there still when Podline goes: not what controllers of earlier tests told, which goes with it.
pub(crate) fn lasting(mut dump: Dump) -> Dump {
    dump.retain(|name, _| !name.starts_with("Event. "));
    dump
}

/// What of an object is the same at two quiet moments; `None` if nothing is.
fn kept(kind: &str, namespace: &str, object: &DynamicObject) -> Option<Value> {
    let mut value = serde_json::to_value(object).unwrap();
    match kind {
        // Of other components.
        "Lease" if namespace != SYSTEM => return None,
        "Event" if value["reportingComponent"] != "podline-control" => return None,
        // Heartbeats.
        "Node" => value["status"] = Value::Null,
        _ => {}
    }
    let meta = value["metadata"].as_object_mut().unwrap();
    meta.remove("resourceVersion");
    meta.remove("generation");
    if let Some(entries) = meta.get_mut("managedFields").and_then(Value::as_array_mut) {
        entries.retain(|entry| kind != "Node" || entry["subresource"] != "status");
        for entry in entries {
            entry.as_object_mut().unwrap().remove("time");
        }
    }
    Some(value)
}

/// What differs, for people.
pub(crate) fn differences(before: &Dump, after: &Dump) -> Vec<String> {
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let told = keys
        .into_iter()
        .filter_map(|key| match (before.get(key), after.get(key)) {
            (Some(was), Some(is)) if was == is => None,
            (Some(was), Some(is)) => Some(format!("{key}: was {was}\n  is {is}")),
            (Some(_), None) => Some(format!("{key} is gone")),
            (None, Some(is)) => Some(format!("{key} is new: {is}")),
            (None, None) => unreachable!("it is in one of them"),
        });
    told.collect()
}
