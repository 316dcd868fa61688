//! What is wrong with an object, as paths. Pure.

use k8s_openapi::ByteString;
use serde_json::Value;

use crate::certificates;

/// Longer values are cut: several flaws have to fit into one Event.
const MOST_BYTES: usize = 120;

/// What differs between the view of an object and what it is to be, each as a path and what is there. Labels that were
/// added make no difference; anything else does.
pub fn flaws(view: &Value, wish: &Value) -> Vec<String> {
    let mut flaws = Vec::new();
    let labels = wish["metadata"]["labels"].as_object();
    for (key, value) in labels.into_iter().flatten() {
        let found = &view["metadata"]["labels"][key];
        if found != value {
            flaws.push(told(&format!("metadata.labels[{key}]"), found));
        }
    }
    for field in ["webhooks", "spec", "data"] {
        compare(field, &view[field], &wish[field], &mut flaws);
    }
    flaws
}

/// Absent and empty are the same.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Number(_) => false,
    }
}

fn compare(path: &str, found: &Value, wish: &Value, flaws: &mut Vec<String>) {
    if is_empty(found) && is_empty(wish) {
        return;
    }
    match (found, wish) {
        (Value::Object(_), Value::Object(wished)) if !wished.is_empty() => {
            compare_maps(path, found, wish, flaws);
        }
        (Value::Array(is), Value::Array(wished)) => {
            if names(is).zip(names(wished)).is_some() {
                compare_named(path, is, wished, flaws);
            } else if is.len() == wished.len() {
                for (i, (found, wish)) in is.iter().zip(wished).enumerate() {
                    compare(&format!("{path}[{i}]"), found, wish, flaws);
                }
            } else {
                flaws.push(told(path, found));
            }
        }
        (Value::Null, Value::Array(wished)) if names(wished).is_some() => {
            compare_named(path, &[], wished, flaws);
        }
        _ if found == wish => {}
        _ => flaws.push(told(path, found)),
    }
}

fn compare_maps(path: &str, found: &Value, wish: &Value, flaws: &mut Vec<String>) {
    let keys = wish.as_object().into_iter().flatten().map(|(key, _)| key);
    for key in keys {
        let (path, found, wish) = (format!("{path}.{key}"), &found[key], &wish[key]);
        if key == "caBundle" {
            compare_bundles(&path, found, wish, flaws);
        } else {
            compare(&path, found, wish, flaws);
        }
    }
    for (key, value) in found.as_object().into_iter().flatten() {
        if wish.get(key).is_none() && !is_empty(value) {
            flaws.push(told(&format!("{path}.{key}"), value));
        }
    }
}

fn compare_bundles(path: &str, found: &Value, wish: &Value, flaws: &mut Vec<String>) {
    let read = |value: &Value| {
        let bytes = serde_json::from_value::<ByteString>(value.clone());
        bytes.map_or_else(|_| Vec::new(), |bytes| bytes.0)
    };
    for mismatch in certificates::compare(&read(found), &read(wish)) {
        flaws.push(format!("{path} {mismatch}"));
    }
}

/// The names of a list's elements, if all have one.
fn names(list: &[Value]) -> Option<Vec<&str>> {
    list.iter().map(|value| value["name"].as_str()).collect()
}

fn compare_named(path: &str, found: &[Value], wish: &[Value], flaws: &mut Vec<String>) {
    let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    for wish in wish {
        let path = format!("{path}[{}]", name(wish));
        match found.iter().find(|found| found["name"] == wish["name"]) {
            Some(found) => compare(&path, found, wish, flaws),
            None => flaws.push(format!("{path} is missing")),
        }
    }
    for (i, value) in found.iter().enumerate() {
        let is_wished = wish.iter().any(|wish| wish["name"] == value["name"]);
        let is_again = found[..i]
            .iter()
            .any(|other| other["name"] == value["name"]);
        if !is_wished || is_again {
            flaws.push(format!("{path}[{}] is none of Podline's", name(value)));
        }
    }
}

fn told(path: &str, found: &Value) -> String {
    let text = match found {
        Value::Null => return format!("{path} is missing"),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let end = text.floor_char_boundary(MOST_BYTES);
    let dots = if end < text.len() { "..." } else { "" };
    format!("{path} is {}{dots}", &text[..end])
}
