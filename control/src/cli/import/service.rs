//! What becomes of a Service: its annotations as the controller's own table has them, its fields, and values that it could
//! not read. Pure.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::look::{Item, Known, Verdict, annotated, annotations, known};
use crate::build::annotation::Effect::{Approximated, Honoured, Ignored};
use crate::build::annotation::TABLE;
use crate::cluster::Service;
use crate::cluster::service::PREFIXES;

/// Fields that a load balancer has to do with.
pub(super) const FIELDS: &[Known] = &[
    known(
        "spec.loadBalancerClass",
        Honoured,
        "podline.io/clb is Podline's; none is with --default-class.",
    ),
    known(
        "spec.loadBalancerIP",
        Honoured,
        "with a pool the address to have.",
    ),
    known(
        "spec.loadBalancerSourceRanges",
        Honoured,
        "enforced by the proxies.",
    ),
    known(
        "spec.sessionAffinity",
        Honoured,
        "ClientIP, enforced by the proxies.",
    ),
    known(
        "spec.externalTrafficPolicy",
        Honoured,
        "with node ports: Local binds only nodes with Pods; straight to Pods it makes no difference.",
    ),
    known(
        "spec.healthCheckNodePort",
        Honoured,
        "with node ports and Local: what nodes are probed by.",
    ),
    known(
        "spec.allocateLoadBalancerNodePorts",
        Honoured,
        "without node ports only straight to Pods.",
    ),
    known("spec.ipFamilies", Honoured, "a listener for each family."),
    known(
        "spec.ports[].appProtocol",
        Approximated,
        "of ports that specify-protocol makes HTTP or HTTPS.",
    ),
    known("spec.externalIPs", Ignored, "kube-proxy's."),
    known(
        "spec.internalTrafficPolicy",
        Ignored,
        "about traffic inside the cluster.",
    ),
    known(
        "spec.trafficDistribution",
        Ignored,
        "about traffic inside the cluster.",
    ),
];

pub(super) fn look(object: &Value) -> Result<Vec<Item>, String> {
    let annotations = annotations(object)?;
    let service = typed(object, &annotations)?;
    if !service.is_load_balancer {
        return Ok(vec![Item {
            what: "spec.type".to_owned(),
            verdict: Verdict::NotLookedAt,
            why: "only Services of type LoadBalancer are Podline's".to_owned(),
        }]);
    }
    let mut items = annotated(object, TABLE, PREFIXES)?;
    items.extend(fields(object, &service));
    Ok(items)
}

/// As the controller would see it; what the API server would not take is told.
fn typed(object: &Value, annotations: &[(String, String)]) -> Result<Service, String> {
    let mut object = object.clone();
    if let Some(meta) = object["metadata"].as_object_mut() {
        let annotations = annotations.iter();
        let texts = annotations.map(|(key, text)| (key.clone(), Value::from(text.clone())));
        meta.insert("annotations".to_owned(), Value::Object(texts.collect()));
        meta.entry("namespace").or_insert_with(|| "default".into());
    }
    Service::read(&read(&object)?).ok_or_else(|| "metadata.name: is required".to_owned())
}

/// Reads a Service, or says which field is wrong.
fn read(object: &Value) -> Result<core::Service, String> {
    let whole = serde_json::from_value::<core::Service>(object.clone());
    whole.map_err(|error| {
        odd_field::<core::ServiceSpec>("spec", &object["spec"])
            .or_else(|| odd_field::<ObjectMeta>("metadata", &object["metadata"]))
            .or_else(|| odd_field::<core::ServiceStatus>("status", &object["status"]))
            .unwrap_or_else(|| error.to_string())
    })
}

/// The first field that cannot be read by itself. None is required.
fn odd_field<T: DeserializeOwned>(path: &str, part: &Value) -> Option<String> {
    let Some(fields) = part.as_object() else {
        return (!part.is_null()).then(|| format!("{path}: must hold fields"));
    };
    fields.iter().find_map(|(name, value)| {
        let alone = serde_json::from_value::<T>(json!({name: value}));
        let error = alone.err()?;
        Some(format!("{path}.{name}: {error}"))
    })
}

fn fields(object: &Value, service: &Service) -> Vec<Item> {
    let mut items = Vec::new();
    for port in &service.ports {
        if port.protocol == crate::cluster::Transport::Sctp {
            items.push(Item {
                what: format!("spec.ports: {}", port.port),
                verdict: Verdict::Ignored,
                why: "SCTP is not forwarded.".to_owned(),
            });
        }
    }
    let is_there = |known: &&Known| match known.name.split_once("[].") {
        Some((list, field)) => {
            let list = field_of(object, list).and_then(Value::as_array);
            list.is_some_and(|list| list.iter().any(|item| item.get(field).is_some()))
        }
        None => field_of(object, known.name).is_some_and(|value| !value.is_null()),
    };
    items.extend(FIELDS.iter().filter(is_there).map(|known| Item {
        what: known.name.to_owned(),
        verdict: known.effect.into(),
        why: known.about.to_owned(),
    }));
    items
}

fn field_of<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    let mut names = path.split('.');
    names.try_fold(object, |value, name| value.get(name))
}
