//! What the API server asks Podline: `inject` gives Pods their readiness gate when they are made, `drain` takes Pods out of
//! traffic before their deletion begins. Both answer fast or not at all, and a refusal is none of their answers: whatever
//! becomes of Podline, Pods are made and deleted.
//!
//! `server` is HTTPS, `review` what is spoken over it. `answer` joins them with what is decided, purely, in `inject` and
//! `drain`: `live` asks the API server for Services and Ingresses that are too new, `closing` has the proxies let go of a
//! Pod.
//! `undrained` notices deletions that nobody asked about.
//!
//! `registration` says how the API server is to find all this, `repair` keeps it so, `registered` knows how that stands.

mod answer;
mod closing;
mod drain;
mod inject;
mod live;
pub mod registered;
pub mod registration;
pub mod repair;
mod review;
mod server;
#[cfg(test)]
mod testing;
pub(crate) mod undrained;

pub use answer::Reviews;
pub use server::{Tls, serve};

/// What the mutating webhook is called within its configuration.
pub const INJECT_HOOK: &str = "gate.podline.io";
/// Where it is served.
pub const INJECT_PATH: &str = "/inject";
/// What the validating webhook is called within its configuration.
pub const DRAIN_HOOK: &str = "drain.podline.io";
/// Where it is served.
pub const DRAIN_PATH: &str = "/drain";
