//! Backends to which connects keep failing, on their way from the workers to the control side.

use crate::lb::backend::BackendRuntime;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// Told by workers, taken by the control side.
#[derive(Debug, Default)]
pub(crate) struct Failing {
    told: Mutex<Vec<Arc<BackendRuntime>>>,
    rung: Notify,
}

impl Failing {
    /// Leaves one to be taken.
    pub(crate) fn tell(&self, backend: Arc<BackendRuntime>) {
        self.told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(backend);
        self.rung.notify_one();
    }

    /// Those that were told since the last call; waits for the first.
    ///
    /// # Cancel safety
    /// Nothing is taken before it is returned.
    pub(crate) async fn take(&self) -> Vec<Arc<BackendRuntime>> {
        loop {
            let told =
                std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner));
            if !told.is_empty() {
                return told;
            }
            self.rung.notified().await;
        }
    }
}
