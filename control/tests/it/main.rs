//! The controller against a real control plane: kubelab, two proxies, and load from outside.
#![expect(clippy::unwrap_used, reason = "helpers of tests may, as tests do")]

mod addresses;
mod configs;
mod faults;
mod faults_proxies;
mod gates;
mod harness;
mod hostile;
mod hostile_slices;
mod ingresses;
mod installed;
mod manifests;
mod overlays;
mod pages;
mod pool;
mod repair;
mod rollouts;
mod scale;
mod services;
mod timelines;
mod tls;
mod webhooks;
mod whole;
