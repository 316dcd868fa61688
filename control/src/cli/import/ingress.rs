//! What becomes of a TKE Ingress, by the table that the controller reads its annotations by. Pure.

use serde_json::Value;

use super::look::{Item, Known, Verdict, annotations, known, of_table};
use crate::build::annotation::ingress::TABLE;

const FIELDS: &str = "hosts, paths, TLS and the default backend; the table of an Ingress's fields in control/README.md tells each.";

pub(super) fn look(object: &Value) -> Result<Vec<Item>, String> {
    let mut items = vec![Item {
        what: "spec".to_owned(),
        verdict: Verdict::Approximated,
        why: FIELDS.to_owned(),
    }];
    let rows = TABLE.iter();
    let table: Vec<Known> = rows
        .map(|row| known(row.key, row.effect, row.about))
        .collect();
    let prefixes = ["ingress.cloud.tencent.com/", "kubernetes.io/ingress."];
    items.extend(of_table(&annotations(object)?, &table, &prefixes));
    Ok(items)
}
