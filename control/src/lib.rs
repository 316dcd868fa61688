//! Everything that tells a proxy what to do: `podline-control`, the Kubernetes controller, and `podline`, the command
//! line.
//!
//! This crate knows a proxy only by its API (podline-api): it must not depend on podline-proxy. It is the only one that
//! knows Kubernetes.

pub mod admin;
pub mod admission;
pub mod allocate;
pub mod api;
pub mod app;
pub mod auto_configs;
pub mod build;
pub mod certificates;
pub mod cli;
pub mod cluster;
pub mod crd;
pub mod daemon;
pub mod engine;
pub mod events;
#[cfg(test)]
mod fake_server;
mod fault;
pub mod gate;
pub mod installation;
pub mod lease;
mod managers;
pub mod metrics;
pub mod observed;
mod proxies;
pub mod push;
pub mod rbac;
#[cfg(test)]
mod readme;
mod reasons;
pub mod reconcile;
pub mod reign;
pub mod secrets;
pub mod settings;
pub mod snapshot;
pub mod timeline;
pub mod watch;
