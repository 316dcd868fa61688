//! The body that is sent. Pure.
//!
//! A strategic merge patch of one condition: the list is merged by type, so no other condition can be lost. It names the
//! uid: a Pod made again under that name is not touched.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::cluster::pod::GATE;
use crate::gate::memory::Ask;

/// The condition that a Pod is to have.
pub(crate) fn condition(ask: &Ask, now: Timestamp) -> Value {
    let opens = ask.said.reason.opens();
    let mut condition = json!({
        "type": GATE,
        "status": if opens { "True" } else { "False" },
        "reason": ask.said.reason.as_str(),
        "message": ask.said.message,
    });
    // Other words for a gate that was closed before are no transition.
    if opens || !ask.is_there {
        condition["lastTransitionTime"] = json!(now);
    }
    json!({"metadata": {"uid": &*ask.uid}, "status": {"conditions": [condition]}})
}
