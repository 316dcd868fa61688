//! What timelines have to say to others. Plain values.

use std::sync::Arc;

use crate::cluster::Key;

/// What there is to count, and to tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct News {
    /// Steps that Pods took, by name, and how many seconds that took them.
    pub steps: Vec<(&'static str, f64)>,
    /// Pods that are in service now, by name and uid, and the words to say so.
    pub events: Vec<(Key, Arc<str>, String)>,
}
