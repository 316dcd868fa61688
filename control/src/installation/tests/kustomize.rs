//! What kubectl makes of the kustomizations under docker/deploy. Also a part of the tests against a real API server.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docker/deploy");

/// The objects of a kustomization under docker/deploy, such as `overlays/kind`. `None` if there is no kubectl, and says
/// so; panics instead if `PODLINE_REQUIRE` contains `kubectl`.
pub(crate) fn rendered(path: &str) -> Option<Vec<Value>> {
    render(&Path::new(DEPLOY).join(path))
}

/// The same with components beside it, as an overlay of somebody else would have them.
pub(crate) fn with_components(path: &str, components: &[&str]) -> Option<Vec<Value>> {
    with(path, components, &json!({}))
}

/// With further fields of the kustomization, too.
pub(crate) fn with(path: &str, components: &[&str], more: &Value) -> Option<Vec<Value>> {
    let folder = tempfile::tempdir().unwrap();
    let here = fs::canonicalize(folder.path()).unwrap();
    let there = fs::canonicalize(DEPLOY).unwrap();
    // Kustomizations name each other by relative paths alone.
    let up = "../".repeat(here.components().count() - 1);
    let deploy = format!("{up}{}", there.strip_prefix("/").unwrap().display());
    let components: Vec<_> = components
        .iter()
        .map(|name| format!("{deploy}/components/{name}"))
        .collect();
    let mut kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": [format!("{deploy}/{path}")], "components": components,
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        kustomization[key] = value.clone();
    }
    // JSON is YAML.
    let file = here.join("kustomization.yaml");
    fs::write(file, kustomization.to_string()).unwrap();
    render(&here)
}

fn render(folder: &Path) -> Option<Vec<Value>> {
    let ran = Command::new("kubectl")
        .arg("kustomize")
        .arg(folder)
        .output();
    let output = podline_lab::require("kubectl", ran)?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let folder = folder.display();
    assert!(output.status.success(), "{folder}: {told}");
    let is_deprecated = told.to_lowercase().contains("deprecated");
    assert!(!is_deprecated, "{folder}: {told}");
    let text = String::from_utf8(output.stdout).unwrap();
    Some(serde_saphyr::from_multiple(&text).unwrap())
}
