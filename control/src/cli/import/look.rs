//! What becomes of an object's annotations and fields. Pure.
//!
//! Another kind of object is another row of [`KINDS`], with a file of its own that has its tables.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::{config, ingress, service};
use crate::build::annotation::{Annotation, Effect, Read};

/// What becomes of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Verdict {
    Honoured,
    Approximated,
    Ignored,
    Written,
    /// Its value cannot be read.
    Refused,
    /// Its kind is none that is known here.
    NotLookedAt,
}

impl Verdict {
    pub(super) const ALL: [Self; 6] = [
        Self::Honoured,
        Self::Approximated,
        Self::Ignored,
        Self::Written,
        Self::Refused,
        Self::NotLookedAt,
    ];

    /// As it is told.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Honoured => "honoured",
            Self::Approximated => "approximated",
            Self::Ignored => "ignored",
            Self::Written => "written",
            Self::Refused => "refused",
            Self::NotLookedAt => "not looked at",
        }
    }
}

impl From<Effect> for Verdict {
    fn from(effect: Effect) -> Self {
        match effect {
            Effect::Honoured => Self::Honoured,
            Effect::Approximated => Self::Approximated,
            Effect::Ignored => Self::Ignored,
            Effect::Written => Self::Written,
        }
    }
}

/// An annotation or field of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Item {
    /// Its key, or its path.
    pub(super) what: String,
    pub(super) verdict: Verdict,
    pub(super) why: String,
}

/// An annotation or field that is known: `a.b[].c` for a field within a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) name: &'static str,
    pub(super) effect: Effect,
    pub(super) about: &'static str,
}

pub(super) const fn known(name: &'static str, effect: Effect, about: &'static str) -> Known {
    Known {
        name,
        effect,
        about,
    }
}

/// A kind of object that is looked at.
struct Kind {
    /// Empty for the core group.
    group: &'static str,
    name: &'static str,
    look: fn(&Value) -> Result<Vec<Item>, String>,
}

const KINDS: &[Kind] = &[
    Kind {
        group: "",
        name: "Service",
        look: service::look,
    },
    Kind {
        group: "networking.k8s.io",
        name: "Ingress",
        look: ingress::look,
    },
    Kind {
        group: "extensions",
        name: "Ingress",
        look: ingress::look,
    },
    Kind {
        group: "cloud.tencent.com",
        name: "TkeServiceConfig",
        look: config::look,
    },
];

/// What becomes of an object.
///
/// # Errors
/// It is not of its kind's shape: where, and what is wrong.
pub(super) fn look(object: &Value) -> Result<Vec<Item>, String> {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let mut kinds = KINDS.iter();
    let Some(known) = kinds.find(|known| (known.group, known.name) == (group, kind)) else {
        return Ok(vec![Item {
            what: "all of it".to_owned(),
            verdict: Verdict::NotLookedAt,
            why: format!("{version} {kind} is none of Podline's kinds"),
        }]);
    };
    if object["metadata"]["name"]
        .as_str()
        .is_none_or(str::is_empty)
    {
        return Err("metadata.name: is required".to_owned());
    }
    (known.look)(object)
}

/// `Service default/web`.
pub(super) fn name(object: &Value) -> String {
    let meta = &object["metadata"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let kind = text(&object["kind"]).unwrap_or_default();
    let name = text(&meta["name"]).or_else(|| text(&meta["generateName"]));
    let name = name.unwrap_or_default();
    match text(&meta["namespace"]) {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

/// An object's annotations, each as text; what is none is told.
pub(super) fn annotations(object: &Value) -> Result<Vec<(String, String)>, String> {
    let annotations = match &object["metadata"]["annotations"] {
        Value::Null => return Ok(Vec::new()),
        Value::Object(annotations) => annotations,
        _ => return Err("metadata.annotations: must hold fields".to_owned()),
    };
    let read = |(key, value): (&String, &Value)| match value {
        Value::String(text) => Ok((key.clone(), text.clone())),
        // The API server would refuse it; what is meant is plain.
        Value::Bool(_) | Value::Number(_) => Ok((key.clone(), value.to_string())),
        _ => Err(format!("metadata.annotations.{key}: must be a text")),
    };
    annotations.iter().map(read).collect()
}

/// What becomes of an object's annotations: of those that a table knows, and of those that only a cloud's controller
/// does, whose keys begin with one of `prefixes`.
pub(super) fn annotated(
    object: &Value,
    table: &'static [Annotation],
    prefixes: &[&str],
) -> Result<Vec<Item>, String> {
    let texts: BTreeMap<String, String> = annotations(object)?.into_iter().collect();
    let problems = Read::of_table(table, &texts, None).problems;
    let item = |key: &String| {
        let known = table.iter().find(|known| known.key == *key);
        let is_theirs = prefixes.iter().any(|prefix| key.starts_with(prefix));
        let (mut verdict, mut why) = match known {
            Some(known) => (known.effect.into(), known.about.to_owned()),
            None if is_theirs => (Verdict::Ignored, "Podline does not know it.".to_owned()),
            None => return None,
        };
        if let Some(problem) = problems.iter().find(|problem| problem.key == *key) {
            (verdict, why) = (Verdict::Refused, problem.problem.clone());
        }
        let value = &object["metadata"]["annotations"][key];
        if !value.is_string() {
            why = format!("the value has to be quoted, \"{value}\"; {why}");
        }
        Some(Item {
            what: key.clone(),
            verdict,
            why,
        })
    };
    Ok(texts.keys().filter_map(item).collect())
}

/// Every value below `value` that holds no others, with its path, and the path without numbers.
pub(super) fn leaves(value: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    walk(value, "", "", &mut found);
    found
}

fn walk(value: &Value, path: &str, name: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                walk(
                    value,
                    &format!("{path}{dot}{key}"),
                    &format!("{name}{dot}{key}"),
                    found,
                );
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (n, value) in items.iter().enumerate() {
                walk(value, &format!("{path}[{n}]"), &format!("{name}[]"), found);
            }
        }
        Value::Null => {}
        _ => found.push((path.to_owned(), name.to_owned())),
    }
}
