//! What was set so far, as text for an annotation: `{"TCP/80":{"scheduler":"WRR"}}`. Pure.

use serde_json::{Map, Value};

use super::Kept;
use crate::cluster::service::MAX_VALUE_BYTES;
use crate::cluster::service_config::{Anchor, Fragment};

/// The text, none if there is nothing to keep, and whether all of it is in it: an annotation has its limit.
pub(super) fn write(kept: &Kept) -> (Option<String>, bool) {
    if kept.is_empty() {
        return (None, true);
    }
    // The braces.
    let mut length = 2;
    let mut all = Map::new();
    for (anchor, said) in kept {
        let (name, said) = (anchor.to_string(), said.to_json());
        let entry = Map::from_iter([(name.clone(), said.clone())]);
        // With a comma, instead of braces of its own.
        length += Value::Object(entry).to_string().len() - 1;
        if length > MAX_VALUE_BYTES {
            let text = (!all.is_empty()).then(|| Value::Object(all).to_string());
            return (text, false);
        }
        all.insert(name, said);
    }
    (Some(Value::Object(all).to_string()), true)
}

/// What such a text says, as far as it can be read.
pub(super) fn read(text: &str) -> Kept {
    let all: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
    let read = |(name, said): (String, Value)| {
        let anchor: Anchor = name.parse().ok()?;
        let said = Fragment::from_json(&anchor, &said);
        Some((anchor, said))
    };
    all.into_iter().filter_map(read).collect()
}
