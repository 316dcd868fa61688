//! What kubectl makes of the overlays under docker/deploy, before a real API server: it would take every object as it is.

use serde_json::{Value, json};

use crate::harness::cluster::{Reach, cluster};
use crate::harness::{installation, kustomize};

const DOCKER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docker");

/// As much of the operator's definition as our object says: an API server does not know the kind without one.
fn service_monitors() -> Value {
    let text = json!({"type": "string"});
    let texts = json!({"type": "array", "items": text});
    let relabeling =
        json!({"type": "object", "properties": {"sourceLabels": texts, "targetLabel": text}});
    let endpoint = json!({"type": "object", "properties": {
        "port": text, "interval": text, "scrapeTimeout": text,
        "relabelings": {"type": "array", "items": relabeling},
    }});
    let labels = json!({"type": "object", "additionalProperties": text});
    let spec = json!({"type": "object", "required": ["selector", "endpoints"], "properties": {
        "jobLabel": text,
        "selector": {"type": "object", "properties": {"matchLabels": labels}},
        "endpoints": {"type": "array", "items": endpoint},
    }});
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "servicemonitors.monitoring.coreos.com"},
        "spec": {
            "group": "monitoring.coreos.com", "scope": "Namespaced",
            "names": {"kind": "ServiceMonitor", "plural": "servicemonitors"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
        },
    })
}

/// Without a trace in the cluster, but for the namespace, which has to be there, and the operator's kind.
fn would_take(cluster: &Reach, objects: Vec<Value>) {
    let client = cluster.client.clone();
    cluster.run(async move { installation::try_apply(&client, objects).await });
}

#[test]
fn the_api_server_would_take_every_overlay() {
    let Some(cluster) = cluster() else { return };
    let client = cluster.client.clone();
    cluster.run(async move {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "podline-system"}});
        installation::apply(&client, vec![namespace, service_monitors()]).await;
        installation::await_kind(&client, "monitoring.coreos.com/v1", "ServiceMonitor").await;
    });
    for overlay in ["bare-metal", "daemonset", "kind"] {
        let Some(objects) = kustomize::rendered(&format!("overlays/{overlay}")) else {
            return;
        };
        would_take(&cluster, objects);
    }
    let components = ["surge", "service-monitor"];
    let objects = kustomize::with_components("overlays/bare-metal", &components);
    would_take(&cluster, objects.unwrap());
    let sample = std::fs::read_to_string(format!("{DOCKER}/kind/sample.yaml")).unwrap();
    let mut sample: Vec<Value> = serde_saphyr::from_multiple(&sample).unwrap();
    for object in &mut sample {
        object["metadata"]["namespace"] = json!("default");
    }
    would_take(&cluster, sample);
}
