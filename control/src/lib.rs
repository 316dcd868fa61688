//! Everything that tells a proxy what to do: `podline-control`, the Kubernetes controller, and `podline`, the command
//! line.
//!
//! This crate knows a proxy only by its API (podline-api): it must not depend on podline-proxy. It is the only one that
//! knows Kubernetes.

pub mod cli;
pub mod observed;
pub mod push;
pub mod snapshot;
