//! How each Pod came into traffic, and out of it: when what was seen, by its uid.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

/// A point of a Pod's life with the load balancer, in the usual order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Point {
    /// The controller saw it in a slice.
    Endpoint,
    /// Every proxy that serves has it.
    Bound,
    /// Its first probe has ended, on the last proxy.
    Probed,
    /// Its probes pass on every proxy that serves.
    Healthy,
    /// The API server has taken that its gate is open.
    GateOpened,
    /// Its first connection, through any proxy.
    Connected,
    /// Its deletion has begun.
    Terminating,
    /// No proxy can send it anything new.
    Closed,
    /// Its last connection through any proxy is gone.
    Empty,
    /// Its object is gone.
    Gone,
}

/// Timelines of all Pods. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Timelines(Arc<Mutex<HashMap<Arc<str>, Points>>>);

/// What one Pod came to, and when.
type Points = BTreeMap<Point, Timestamp>;

impl Timelines {
    /// Notes that a Pod has come to a point; the first time counts.
    pub fn note(&self, uid: &Arc<str>, point: Point, at: Timestamp) {
        let mut pods = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pods.entry(Arc::clone(uid))
            .or_default()
            .entry(point)
            .or_insert(at);
    }
}
