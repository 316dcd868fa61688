//! The controller against a real control plane: kubelab, two proxies, and load from outside.

mod faults;
mod faults_proxies;
mod harness;
mod hostile;
mod scale;
mod services;
