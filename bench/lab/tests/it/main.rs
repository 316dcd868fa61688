//! Tests of the lab itself.
#![expect(clippy::unwrap_used, reason = "helpers of tests may, as tests do")]

mod crash;
mod kube_proxy;
mod pods;
mod segment;
mod topology;
