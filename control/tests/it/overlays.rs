//! What kubectl makes of the overlays under docker/deploy, before a real API server: it would take every object as it is.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::cluster::{Reach, cluster};
use crate::harness::installation;

const DOCKER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docker");

/// What kubectl makes of a kustomization; `None` if there is no kubectl.
pub(crate) fn rendered(folder: &Path) -> Option<Vec<Value>> {
    let required = std::env::var("PODLINE_REQUIRE").is_ok_and(|value| value.contains("kubectl"));
    let output = match Command::new("kubectl")
        .arg("kustomize")
        .arg(folder)
        .output()
    {
        Ok(output) => output,
        Err(error) => {
            assert!(!required, "kubectl is required, but: {error}");
            eprintln!("skipped, no kubectl: {error}");
            return None;
        }
    };
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {told}", folder.display());
    let text = String::from_utf8(output.stdout).unwrap();
    Some(serde_saphyr::from_multiple(&text).unwrap())
}

/// An overlay with components that go with it, and more, as somebody's own would be.
pub(crate) fn kustomized(
    directory: &Path,
    overlay: &str,
    components: &[&str],
    more: &Value,
) -> PathBuf {
    let here = std::fs::canonicalize(directory).unwrap();
    let there = std::fs::canonicalize(format!("{DOCKER}/deploy")).unwrap();
    // Kustomizations name each other by relative paths alone.
    let up = "../".repeat(here.components().count() - 1);
    let path = format!("{up}{}", there.strip_prefix("/").unwrap().display());
    let components: Vec<_> = components
        .iter()
        .map(|name| format!("{path}/components/{name}"))
        .collect();
    let mut kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": [format!("{path}/overlays/{overlay}")], "components": components,
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        kustomization[key] = value.clone();
    }
    // JSON is YAML.
    std::fs::write(here.join("kustomization.yaml"), kustomization.to_string()).unwrap();
    here
}

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
        let folder = Path::new(DOCKER).join("deploy/overlays").join(overlay);
        let Some(objects) = rendered(&folder) else {
            return;
        };
        would_take(&cluster, objects);
    }
    let directory = tempfile::tempdir().unwrap();
    let components = ["surge", "service-monitor"];
    let folder = kustomized(directory.path(), "bare-metal", &components, &json!({}));
    would_take(&cluster, rendered(&folder).unwrap());
    let sample = std::fs::read_to_string(format!("{DOCKER}/kind/sample.yaml")).unwrap();
    let mut sample: Vec<Value> = serde_saphyr::from_multiple(&sample).unwrap();
    for object in &mut sample {
        object["metadata"]["namespace"] = json!("default");
    }
    would_take(&cluster, sample);
}
