//! What becomes of a TkeServiceConfig's fields, by the table that the controller reads them by. Pure.

use serde_json::Value;

use super::look::{Item, Verdict, leaves};
use crate::build::annotation::Effect;
use crate::cluster::service_config::{FIELDS, Place};

/// Of fields that are not known.
const UNKNOWN: &str = "Podline does not know it.";
/// What says of which listener, domain or rule an entry is.
const ANCHORS: [(Place, &str); 6] = [
    (Place::L4, "protocol"),
    (Place::L4, "port"),
    (Place::L7, "protocol"),
    (Place::L7, "port"),
    (Place::Domain, "domain"),
    (Place::Rule, "url"),
];

pub(super) fn look(object: &Value) -> Result<Vec<Item>, String> {
    if !matches!(object["spec"], Value::Object(_) | Value::Null) {
        return Err("spec: must hold fields".to_owned());
    }
    let item = |(path, name): (String, String)| {
        let (effect, why) = known(&name).unwrap_or((Effect::Ignored, UNKNOWN));
        Item {
            what: format!("spec.{path}"),
            verdict: Verdict::from(effect),
            why: why.to_owned(),
        }
    };
    Ok(leaves(&object["spec"]).into_iter().map(item).collect())
}

/// What becomes of the field `name`, a path below `spec` with `[]` for entries of lists.
fn known(name: &str) -> Option<(Effect, &'static str)> {
    let is_at = |place: Place, path: &str| name.strip_prefix(prefix(place)) == Some(path);
    if ANCHORS.iter().any(|(place, path)| is_at(*place, path)) {
        return Some((Effect::Honoured, "Of what the entry is."));
    }
    let mut rows = FIELDS.iter();
    let row = rows.find(|row| row.places.iter().any(|place| is_at(*place, row.path)))?;
    Some((row.effect, row.about))
}

/// Where the fields of a place are, below `spec`.
const fn prefix(place: Place) -> &'static str {
    match place {
        Place::Whole => "loadBalancer.",
        Place::L4 => "loadBalancer.l4Listeners[].",
        Place::L7 => "loadBalancer.l7Listeners[].",
        Place::Domain => "loadBalancer.l7Listeners[].domains[].",
        Place::Rule => "loadBalancer.l7Listeners[].domains[].rules[].",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_the_table_is_found_where_it_may_stand() {
        for row in FIELDS {
            for place in row.places {
                let name = format!("{}{}", prefix(*place), row.path);
                assert_eq!(known(&name), Some((row.effect, row.about)), "{name}");
            }
        }
        assert_eq!(known("loadBalancer.l4Listeners[].colour"), None);
        assert_eq!(known("loadBalancer.l7Listeners[].session.enable"), None);
    }
}
