//! What the proxies are to be: listeners and backend sets, made by `build`, sent by `push`.
//!
//! A snapshot is immutable and cheap to clone: what did not change between two of them is shared, so that the difference
//! is found by comparing pointers. Knows nothing of Kubernetes.

use std::collections::BTreeMap;
use std::sync::Arc;

use podline_api::{BackendSet, Listener, Name, Network};

/// Desired state of one owner, at one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Grows with every change; 0 is before the first build.
    pub version: u64,
    /// By name. Every listener's set is among `sets`.
    pub listeners: BTreeMap<Name, Arc<Listener>>,
    /// By name; backends in the order of their addresses.
    pub sets: BTreeMap<Name, Arc<BackendSet>>,
    /// Backends that are dead and not merely gone from a set: a Pod that has ended. Their connections are cut as soon
    /// as they are removed. Holds the ids of Pods that left a set in this version or the last few.
    pub ended: Arc<std::collections::BTreeSet<podline_api::BackendId>>,
    /// The network between the proxies and the backends; each proxy has a port share of its own besides.
    pub network: Arc<Network>,
}
