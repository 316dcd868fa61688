//! An early end, for a load or a whole run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Says that it is over. Clones are one and the same.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// From now on it is over.
    pub fn stop(&self) {
        self.0.store(true, Relaxed);
    }

    /// Whether it is.
    pub fn is_stopped(&self) -> bool {
        self.0.load(Relaxed)
    }
}
