//! A real control plane, proxies and controllers as processes, and load from outside; see `cluster` and `scene`.

pub(crate) mod asking;
pub(crate) mod cluster;
pub(crate) mod dump;
pub(crate) mod http;
pub(crate) mod installation;
pub(crate) mod installed;
#[path = "../../../src/installation/tests/kustomize.rs"]
pub(crate) mod kustomize;
pub(crate) mod lab;
pub(crate) mod load;
pub(crate) mod machines;
pub(crate) mod objects;
pub(crate) mod old_proxy;
pub(crate) mod oracle;
pub(crate) mod process;
pub(crate) mod scene;
pub(crate) mod traffic;
pub(crate) mod witness;

use std::time::Duration;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// Longer than anything should take on a busy machine.
pub(crate) const LONG: Duration = Duration::from_mins(1);
