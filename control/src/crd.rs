//! The kind TkeServiceConfig: how its objects come from the API server, and how the API server is told of it.
//!
//! The schema is of the table of fields, and as permissive as the clouds' own: a value out of range is taken, so that the
//! controller can say what is wrong with it where the load balancer is. Only types are held, and what nobody could read.

use std::borrow::Cow;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::cluster::service_config::{FIELDS, Place, Type};
use crate::installation::{CONTROL, NAME_LABEL, PART_OF};

/// What the definition is called.
pub const NAME: &str = "tkeserviceconfigs.cloud.tencent.com";
/// The group of the kind.
pub const GROUP: &str = "cloud.tencent.com";
/// Its version.
pub const VERSION: &str = "v1alpha1";
/// The kind.
pub const KIND: &str = "TkeServiceConfig";
/// As in paths of the API.
pub const PLURAL: &str = "tkeserviceconfigs";
/// Group and version.
pub const API_VERSION: &str = "cloud.tencent.com/v1alpha1";

/// An object of the kind, nothing parsed.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct TkeServiceConfig {
    /// Its metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What it says.
    #[serde(default)]
    pub spec: Value,
}

impl Resource for TkeServiceConfig {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// The definition of the kind, as docker/deploy/base/crd.yaml has it.
pub fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": NAME,
            "labels": {NAME_LABEL: CONTROL, PART_OF.0: PART_OF.1},
        },
        "spec": {
            "group": GROUP,
            "names": {
                "kind": KIND, "listKind": "TkeServiceConfigList",
                "plural": PLURAL, "singular": "tkeserviceconfig", "shortNames": ["tsc"],
            },
            "scope": "Namespaced",
            "versions": [{
                "name": VERSION,
                "served": true,
                "storage": true,
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "properties": {
                        "apiVersion": {"type": "string"},
                        "kind": {"type": "string"},
                        "metadata": {"type": "object"},
                        "spec": open(json!({"loadBalancer": balancer()})),
                    },
                }},
            }],
        },
    })
}

/// Of a definition that is there, what has to be so. Its schema may be another release's: while one release takes the place
/// of another, both are at work.
pub fn view(found: &Value) -> Value {
    let (spec, wish) = (&found["spec"], definition());
    let mut names = Map::new();
    for name in ["kind", "listKind", "plural", "singular", "shortNames"] {
        names.insert(name.to_owned(), spec["names"][name].clone());
    }
    let versions = spec["versions"].as_array().into_iter().flatten();
    let ours = versions.filter(|version| version["name"] == VERSION);
    let versions = ours.map(|version| {
        let schema = match &version["schema"]["openAPIV3Schema"] {
            Value::Object(_) => wish["spec"]["versions"][0]["schema"].clone(),
            _ => Value::Null,
        };
        json!({
            "name": VERSION,
            "served": version["served"],
            "storage": version["storage"],
            "schema": schema,
        })
    });
    json!({
        "metadata": {"labels": found["metadata"]["labels"]},
        "spec": {
            "group": spec["group"],
            "names": names,
            "scope": spec["scope"],
            "versions": versions.collect::<Vec<_>>(),
        },
    })
}

/// An object with these fields, and whatever else somebody writes: the controller says that it does not know it.
fn open(properties: impl Into<Value>) -> Value {
    json!({
        "type": "object",
        "properties": properties.into(),
        "x-kubernetes-preserve-unknown-fields": true,
    })
}

fn balancer() -> Value {
    let mut properties = fields(Place::Whole);
    properties.insert("l4Listeners".to_owned(), l4());
    properties.insert("l7Listeners".to_owned(), l7());
    open(properties)
}

fn l4() -> Value {
    let protocols = ["TCP", "UDP", "TCP_SSL", "QUIC"];
    let mut entry = entry(fields(Place::L4), &["protocol", "port"]);
    anchor(&mut entry, &protocols);
    let is_hex = |field: &str| {
        json!({
            "rule": format!(
                "!has(self.contextType) || self.contextType != 'HEX' || !has(self.{field}) || \
                 self.{field}.matches('^([0-9A-Fa-f]{{2}})*$')"
            ),
            "message": format!("{field} has to be pairs of hexadecimal digits where contextType is HEX"),
        })
    };
    let check = &mut entry["properties"]["healthCheck"];
    check["x-kubernetes-validations"] = json!([is_hex("sendContext"), is_hex("recvContext")]);
    for field in ["sendContext", "recvContext"] {
        // The API server wants to know what its rules may cost; twice what can be read.
        check["properties"][field]["maxLength"] = json!(1_000);
    }
    json!({"type": "array", "items": entry, "maxItems": 1_000})
}

fn l7() -> Value {
    let mut rule = fields(Place::Rule);
    rule.insert("url".to_owned(), json!({"type": "string"}));
    let mut domain = fields(Place::Domain);
    domain.insert("domain".to_owned(), json!({"type": "string"}));
    let rules = json!({"type": "array", "items": open(rule)});
    domain.insert("rules".to_owned(), rules);
    let mut listener = fields(Place::L7);
    let domains = json!({"type": "array", "items": open(domain)});
    listener.insert("domains".to_owned(), domains);
    let mut entry = entry(listener, &["protocol", "port"]);
    anchor(&mut entry, &["HTTP", "HTTPS"]);
    json!({"type": "array", "items": entry})
}

fn entry(properties: Map<String, Value>, required: &[&str]) -> Value {
    let mut entry = open(properties);
    entry["required"] = json!(required);
    entry
}

/// What an entry is about cannot be anything.
fn anchor(entry: &mut Value, protocols: &[&str]) {
    let properties = &mut entry["properties"];
    properties["protocol"] = json!({"type": "string", "enum": protocols});
    properties["port"] = json!({"type": "integer", "minimum": 1, "maximum": 65_535});
}

/// The fields of a place, by their types.
fn fields(place: Place) -> Map<String, Value> {
    let mut fields = Map::new();
    for row in FIELDS.iter().filter(|row| row.places.contains(&place)) {
        let kind = match row.kind() {
            Type::Bool => json!({"type": "boolean"}),
            Type::Integer => json!({"type": "integer"}),
            Type::Text => json!({"type": "string"}),
            Type::Any => json!({"x-kubernetes-preserve-unknown-fields": true}),
        };
        match row.path.split_once('.') {
            None => _ = fields.insert(row.path.to_owned(), kind),
            Some((group, field)) => {
                let group = fields.entry(group).or_insert_with(|| open(json!({})));
                group["properties"][field] = kind;
            }
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_of_a_definition_is_that_the_kind_is_served() {
        let flaws = |change: fn(&mut Value)| {
            let mut found = definition();
            change(&mut found);
            crate::admission::registration::flaws(&view(&found), &definition())
        };
        assert_eq!(flaws(|_| {}), [""; 0]);
        assert_eq!(
            flaws(|found| {
                // What the API server adds, and another release.
                found["spec"]["conversion"] = json!({"strategy": "None"});
                found["status"] = json!({"storedVersions": ["v1alpha1"]});
                let version = &mut found["spec"]["versions"][0];
                version["schema"] = json!({"openAPIV3Schema": {"type": "object"}});
                let later = json!({"name": "v1", "served": true, "storage": false});
                found["spec"]["versions"]
                    .as_array_mut()
                    .unwrap()
                    .push(later);
            }),
            [""; 0]
        );
        let told = flaws(|found| found["spec"]["versions"][0]["served"] = false.into());
        assert_eq!(told.len(), 1, "{told:?}");
    }

    #[test]
    fn the_manifest_is_the_definition() {
        let objects = crate::installation::tests::objects();
        let found = objects
            .iter()
            .find(|object| object["kind"] == "CustomResourceDefinition");
        let made = serde_json::to_string_pretty(&definition()).unwrap();
        assert_eq!(found, Some(&definition()), "it is to be:\n{made}");
    }
}
