//! What becomes of a TKE Ingress, by the table that the controller reads its annotations by. Pure.

use serde_json::Value;

use super::look::{Item, Verdict, annotated};
use crate::build::annotation::ingress::TABLE;
use crate::cluster::ingress::PREFIXES;

const FIELDS: &str = "hosts, paths, TLS and the default backend; the table of an Ingress's fields in control/README.md tells each.";

pub(super) fn look(object: &Value) -> Result<Vec<Item>, String> {
    let mut items = vec![Item {
        what: "spec".to_owned(),
        verdict: Verdict::Approximated,
        why: FIELDS.to_owned(),
    }];
    items.extend(annotated(object, TABLE, PREFIXES)?);
    Ok(items)
}
