//! What is read of an Ingress, a row a field.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use serde_json::{Value, json};

use super::*;
use crate::cluster::testing::ip;

fn read(spec: &Value) -> Ingress {
    let object = json!({"metadata": {"namespace": "a", "name": "web"}, "spec": spec});
    Ingress::read(&serde_json::from_value(object).unwrap()).unwrap()
}

fn backend(name: &str, port: &Value) -> Value {
    json!({"service": {"name": name, "port": port}})
}

fn rules(spec: &Value) -> Vec<String> {
    let rules = read(spec).rules.into_iter();
    let shown = rules.map(|rule| {
        let exact = if rule.is_exact { "=" } else { "" };
        let to = match rule.backend {
            Backend::Service(name, port) => format!("{name}:{port}"),
            Backend::Resource(what) => what,
        };
        format!("{} {exact}{} {to}", rule.host, rule.path)
    });
    shown.collect()
}

#[test]
fn every_path_of_every_host_is_a_rule() {
    let path = |path: &Value, kind: &str, backend: &Value| json!({"path": path, "pathType": kind, "backend": backend});
    let (by_number, by_name) = (
        backend("web", &json!({"number": 80})),
        backend("api", &json!({"name": "http"})),
    );
    let bucket = json!({"resource": {"apiGroup": "x", "kind": "Bucket", "name": "icons"}});
    let spec = json!({
        "defaultBackend": backend("other", &json!({"number": 81})),
        "rules": [
            {"host": "a.example", "http": {"paths": [
                path(&json!("/"), "Prefix", &by_number),
                path(&json!("/api"), "Exact", &by_name),
                path(&Value::Null, "ImplementationSpecific", &by_name),
            ]}},
            {"host": "*.b.example"},
            {"http": {"paths": [path(&json!("/icons"), "Prefix", &bucket)]}},
        ],
    });
    let expected = [
        "a.example / web:80",
        "a.example =/api api:http",
        "a.example / api:http",
        "*.b.example / other:81",
        " /icons Bucket icons",
    ];
    assert_eq!(rules(&spec), expected);
    let services = read(&spec).services();
    let names: Vec<_> = services.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["a/api", "a/other", "a/web"]);
    assert_eq!(
        rules(&json!({"rules": [{"host": "a.example"}]})),
        [""; 0],
        "nobody answers"
    );
}

#[test]
fn secrets_for_all_hosts_come_first_and_none_twice() {
    let of = |tls: &Value| {
        let ingress = read(&json!({"tls": tls}));
        let names = ingress.secrets.iter().map(ToString::to_string);
        (ingress.has_tls, names.collect::<Vec<_>>())
    };
    assert_eq!(of(&json!([])), (false, vec![]));
    assert_eq!(of(&json!([{"hosts": ["a.example"]}])), (true, vec![]));
    let some = json!([
        {"hosts": ["a.example"], "secretName": "b"},
        {"secretName": "z"},
        {"hosts": ["b.example"], "secretName": "b"},
        {"secretName": "a,metadata.name=c"},
    ]);
    assert_eq!(of(&some), (true, vec!["z".to_owned(), "b".to_owned()]));
}

#[test]
fn the_field_counts_more_than_the_annotation_and_the_status_is_read() {
    let object = json!({
        "metadata": {"namespace": "a", "name": "web", "uid": "u", "finalizers": [FINALIZER],
            "annotations": {(CLASS): "old", "other/x": "y"}},
        "spec": {"ingressClassName": "podline"},
        "status": {"loadBalancer": {"ingress": [
            {"ip": "10.0.0.1", "ports": [{"port": 80, "protocol": "TCP", "error": "podline.io/X"}]},
            {"hostname": "x"},
        ]}},
    });
    let mut wire: networking::Ingress = serde_json::from_value(object).unwrap();
    let ingress = Ingress::read(&wire).unwrap();
    assert_eq!(ingress.class.as_deref(), Some("podline"));
    assert_eq!(ingress.annotations.len(), 1);
    assert!(ingress.is_held());
    let addresses: Vec<_> = ingress.own_addresses().collect();
    assert_eq!(addresses, [ip("10.0.0.1")]);
    assert_eq!(ingress.told[0].ports[0].0, 80);
    wire.spec = None;
    let ingress = Ingress::read(&wire).unwrap();
    assert_eq!(ingress.class.as_deref(), Some("old"));
}
