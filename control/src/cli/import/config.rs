//! What becomes of a TkeServiceConfig's fields. Pure.

use serde_json::Value;

use super::look::{Item, Known, Verdict, leaves};

/// The fields below `spec`.
const FIELDS: &[Known] = &[];
/// Of fields that are not known.
const UNKNOWN: &str = "TkeServiceConfig is not there yet.";

pub(super) fn look(object: &Value) -> Result<Vec<Item>, String> {
    if !matches!(object["spec"], Value::Object(_) | Value::Null) {
        return Err("spec: must hold fields".to_owned());
    }
    let item = |(path, name): (String, String)| {
        let known = FIELDS.iter().find(|known| known.name == name);
        Item {
            what: format!("spec.{path}"),
            verdict: known.map_or(Verdict::Ignored, |known| known.effect.into()),
            why: known.map_or(UNKNOWN, |known| known.about).to_owned(),
        }
    };
    Ok(leaves(&object["spec"]).into_iter().map(item).collect())
}
