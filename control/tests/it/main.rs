//! The controller against a real control plane: kubelab, two proxies, and load from outside.

mod harness;
mod installed;
mod scale;
mod services;
