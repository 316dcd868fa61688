//! What the API server asks Podline: `inject` gives Pods their readiness gate when they are made, `drain` takes Pods out of
//! traffic before their deletion begins. Both answer fast or not at all, and a refusal is none of their answers: whatever
//! becomes of Podline, Pods are made and deleted.
//!
//! `registration` says how the API server is to find them, `repair` keeps it so.

pub mod registered;
pub mod registration;
pub mod repair;

/// What the mutating webhook is called within its configuration.
pub const INJECT_HOOK: &str = "gate.podline.io";
/// Where it is served.
pub const INJECT_PATH: &str = "/inject";
/// What the validating webhook is called within its configuration.
pub const DRAIN_HOOK: &str = "drain.podline.io";
/// Where it is served.
pub const DRAIN_PATH: &str = "/drain";
