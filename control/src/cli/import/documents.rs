//! From text to objects: YAML documents, each an object or a list of some. Pure.

use serde_json::Value;
use serde_saphyr::Error;

/// An object, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    /// `document 2`, `document 1, items[3]`.
    pub(super) place: String,
    /// Its fields.
    pub(super) value: Value,
}

/// Reads all documents; empty ones say nothing.
///
/// # Errors
/// What is wrong with the first that is wrong, with its place.
pub(super) fn read(text: &str) -> Result<Vec<Found>, String> {
    let mut found = Vec::new();
    for (n, (line, document)) in split(text).into_iter().enumerate() {
        let place = format!("document {}", n + 1);
        let value: Option<Value> =
            serde_saphyr::from_str_with_options(&document, podline_api::yaml_options())
                .map_err(|error| format!("{place}: {}", explain(&error, line)))?;
        let Some(value) = value.filter(|value| !value.is_null()) else {
            continue;
        };
        flatten(value, place, &mut found)?;
    }
    Ok(found)
}

/// Documents, each with the lines before it.
fn split(text: &str) -> Vec<(usize, String)> {
    let mut documents = vec![(0, String::new())];
    for (n, line) in text.lines().enumerate() {
        let is_end = line == "..." || line.starts_with("... ");
        let rest = line.strip_prefix("---");
        let rest = rest.filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r']));
        match rest {
            // A marker may have the document's first line behind it.
            Some(rest) => documents.push((n, rest.trim_start().to_owned())),
            None if is_end => documents.push((n, String::new())),
            None => {
                let (_, document) = documents.last_mut().expect("it has one from the beginning");
                document.push_str(line);
            }
        }
        let (_, document) = documents.last_mut().expect("it has one from the beginning");
        document.push('\n');
    }
    let is_said = |document: &str| {
        let mut lines = document.lines().map(str::trim);
        lines.any(|line| !line.is_empty() && !line.starts_with(['#', '%']))
    };
    documents.retain(|(_, document)| is_said(document));
    documents
}

fn explain(error: &Error, before: usize) -> String {
    let error = error.without_snippet();
    let message = error.to_string();
    let message = message
        .rsplit_once(" at line ")
        .map_or(message.as_str(), |(message, _)| message);
    match error.location() {
        Some(location) => {
            let line = before as u64 + location.line();
            format!("line {line}: {message}")
        }
        None => message.to_owned(),
    }
}

/// Lists within lists are looked into no deeper than anybody writes them.
fn flatten(value: Value, place: String, found: &mut Vec<Found>) -> Result<(), String> {
    if !value.is_object() {
        return Err(format!("{place}: is no object: it must hold fields"));
    }
    for field in ["apiVersion", "kind"] {
        if value[field].as_str().is_none_or(str::is_empty) {
            return Err(format!("{place}: {field}: is required"));
        }
    }
    let kind = value["kind"].as_str().unwrap_or_default();
    if !kind.ends_with("List") || value.get("items").is_none() {
        found.push(Found { place, value });
        return Ok(());
    }
    let (version, of) = (value["apiVersion"].clone(), kind.strip_suffix("List"));
    let of = of.filter(|kind| !kind.is_empty()).map(str::to_owned);
    let Value::Object(mut fields) = value else {
        return Ok(());
    };
    let items = match fields.remove("items") {
        Some(Value::Array(items)) => items,
        Some(Value::Null) | None => Vec::new(),
        Some(_) => return Err(format!("{place}: items: must be a list")),
    };
    for (n, mut item) in items.into_iter().enumerate() {
        // A list of one kind need not say it again.
        if let (Some(kind), Some(fields)) = (&of, item.as_object_mut()) {
            fields
                .entry("apiVersion")
                .or_insert_with(|| version.clone());
            fields.entry("kind").or_insert_with(|| kind.clone().into());
        }
        let place = format!("{place}, items[{n}]");
        if item["kind"]
            .as_str()
            .is_some_and(|kind| kind.ends_with("List"))
        {
            return Err(format!("{place}: is a list within a list"));
        }
        flatten(item, place, found)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<String> {
        let found = read(text).unwrap();
        let found = found.iter();
        found
            .map(|found| format!("{}: {}", found.place, found.value["kind"].as_str().unwrap()))
            .collect()
    }

    #[test]
    fn documents_and_lists_become_objects() {
        let text = "\
# first
---
apiVersion: v1
kind: Service
metadata:
  annotations: {a: |
    ---not a marker
  }
...
---
# nothing
--- {apiVersion: v1, kind: ConfigMap}
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Service}
- {apiVersion: networking.k8s.io/v1, kind: Ingress}
---
apiVersion: v1
kind: ServiceList
items: [{metadata: {name: a}}]
";
        let text = text.replace("{a: |\n    ---not a marker\n  }", "{a: b}");
        assert_eq!(
            kinds(&text),
            [
                "document 1: Service",
                "document 2: ConfigMap",
                "document 3, items[0]: Service",
                "document 3, items[1]: Ingress",
                "document 4, items[0]: Service",
            ]
        );
        assert_eq!(kinds(""), [""; 0]);
        assert_eq!(
            kinds(r#"{"apiVersion":"v1","kind":"Pod"}"#),
            ["document 1: Pod"]
        );
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_place() {
        let problem = |text: &str| read(text).unwrap_err();
        assert_eq!(
            problem("kind: Service"),
            "document 1: apiVersion: is required"
        );
        assert_eq!(
            problem("apiVersion: v1\nkind: Pod\n---\napiVersion: v1"),
            "document 2: kind: is required"
        );
        assert_eq!(
            problem("- a"),
            "document 1: is no object: it must hold fields"
        );
        assert_eq!(
            problem("{apiVersion: v1, kind: List, items: 7}"),
            "document 1: items: must be a list"
        );
        assert_eq!(
            problem("{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: List}]}"),
            "document 1, items[0]: is a list within a list"
        );
        let broken = problem("apiVersion: v1\nkind: Pod\n---\napiVersion: v1\nkind: [\n");
        assert!(broken.starts_with("document 2: line "), "{broken}");
        let twice = problem("apiVersion: v1\nkind: Pod\nkind: Pod\n");
        assert!(twice.starts_with("document 1: line 3: "), "{twice}");
        let deep = "[".repeat(10_000);
        assert!(read(&deep).is_err());
    }
}
