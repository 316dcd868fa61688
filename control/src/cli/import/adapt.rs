//! Manifests as they are to be applied: what only a cloud's controller or an API server wrote goes, annotations are texts,
//! and Services get Podline's class. Pure.

use serde_json::{Map, Value};

use super::look::{annotations, look};
use crate::build::Options;
use crate::build::annotation::{Annotation, Effect, TABLE, ingress};

/// What an API server writes, and takes from nobody or only for this one cluster.
const SERVER: &[&str] = &[
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
];
/// What kubectl keeps beside an object that it applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// What TKE's controller holds Services by.
const TKE_FINALIZERS: &[&str] = &["service.k8s.tencent/resources"];
/// A label of TKE's controller.
const TKE_LABEL: &str = "service.cloud.tencent.com/loadbalance-type";

/// Changes an object; what was changed, in words.
///
/// # Errors
/// It is not of its kind's shape.
pub(super) fn adapt(object: &mut Value) -> Result<Vec<String>, String> {
    look(object)?;
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    let mut changes = Vec::new();
    strip(object, &mut changes);
    match (kind.as_str(), object["apiVersion"].as_str()) {
        ("Service", Some("v1")) => service(object, &mut changes)?,
        ("Ingress", Some("networking.k8s.io/v1")) => {
            let texts = annotations(object)?;
            if let Some(meta) = object["metadata"].as_object_mut() {
                annotate(meta, texts, ingress::TABLE, &mut changes);
            }
        }
        _ => {}
    }
    Ok(changes)
}

fn strip(object: &mut Value, changes: &mut Vec<String>) {
    let Some(fields) = object.as_object_mut() else {
        return;
    };
    if fields.remove("status").is_some() {
        changes.push("status taken out".to_owned());
    }
    let Some(Value::Object(meta)) = fields.get_mut("metadata") else {
        return;
    };
    for name in SERVER {
        if meta.remove(*name).is_some() {
            changes.push(format!("metadata.{name} taken out"));
        }
    }
    if take(meta, "annotations", LAST_APPLIED) {
        changes.push(format!("annotation {LAST_APPLIED} taken out"));
    }
}

/// Takes one entry out of a map within a map, and the map if nothing else is in it; whether it was there.
fn take(meta: &mut Map<String, Value>, map: &str, key: &str) -> bool {
    let Some(Value::Object(entries)) = meta.get_mut(map) else {
        return false;
    };
    let was_there = entries.remove(key).is_some();
    if was_there && entries.is_empty() {
        meta.remove(map);
    }
    was_there
}

fn service(object: &mut Value, changes: &mut Vec<String>) -> Result<(), String> {
    if object["spec"]["type"] != "LoadBalancer" {
        return Ok(());
    }
    let texts = annotations(object)?;
    let fields = object.as_object_mut().ok_or("must hold fields")?;
    let mut part = |name: &str| match fields.remove(name) {
        Some(Value::Object(part)) => part,
        _ => Map::new(),
    };
    let (mut meta, mut spec) = (part("metadata"), part("spec"));
    of_metadata(&mut meta, texts, changes);
    of_spec(&mut spec, changes);
    object["metadata"] = Value::Object(meta);
    object["spec"] = Value::Object(spec);
    Ok(())
}

/// Takes annotations out that say nothing here, and makes texts of the others.
fn annotate(
    meta: &mut Map<String, Value>,
    texts: Vec<(String, String)>,
    table: &[Annotation],
    changes: &mut Vec<String>,
) {
    for (key, text) in texts {
        let known = table.iter().find(|known| known.key == key);
        let goes = known.filter(|it| matches!(it.effect, Effect::Ignored | Effect::Written));
        if let Some(known) = goes {
            take(meta, "annotations", &key);
            changes.push(format!("annotation {key} taken out: {}", known.about));
            continue;
        }
        let value = meta
            .get_mut("annotations")
            .and_then(|all| all.get_mut(&key));
        if let Some(value) = value.filter(|value| !value.is_string()) {
            changes.push(format!("annotation {key} quoted: \"{text}\""));
            *value = text.into();
        }
    }
}

fn of_metadata(
    meta: &mut Map<String, Value>,
    texts: Vec<(String, String)>,
    changes: &mut Vec<String>,
) {
    annotate(meta, texts, TABLE, changes);
    if take(meta, "labels", TKE_LABEL) {
        changes.push(format!("label {TKE_LABEL} taken out"));
    }
    let Some(Value::Array(finalizers)) = meta.get_mut("finalizers") else {
        return;
    };
    let count = finalizers.len();
    finalizers.retain(|name| {
        name.as_str()
            .is_none_or(|name| !TKE_FINALIZERS.contains(&name))
    });
    if finalizers.len() < count {
        changes.push("TKE's finalizer taken out".to_owned());
    }
    if finalizers.is_empty() {
        meta.remove("finalizers");
    }
}

fn of_spec(spec: &mut Map<String, Value>, changes: &mut Vec<String>) {
    let class = Options::default().class;
    match spec.get("loadBalancerClass").and_then(Value::as_str) {
        None => {
            changes.push(format!("spec.loadBalancerClass: {class} added"));
            spec.insert("loadBalancerClass".to_owned(), class.into());
        }
        Some(other) if *other != class => {
            let words = "kept, so it stays another controller's";
            changes.push(format!("spec.loadBalancerClass: {other} {words}"));
        }
        Some(_) => {}
    }
    // Of another cluster; a headless one says None, and keeps that.
    if spec.get("clusterIP").is_some_and(|ip| *ip != "None") {
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
        changes.push("spec.clusterIP taken out".to_owned());
    }
}
