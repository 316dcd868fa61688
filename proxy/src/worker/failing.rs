//! What workers find and the control side has to know: backends to which connects keep failing, ways on which answers get
//! lost.

use crate::lb::backend::BackendRuntime;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// Backends to which connects keep failing.
pub(crate) type Failing = Told<Arc<BackendRuntime>>;

/// Told by workers, taken by the control side.
#[derive(Debug)]
pub(crate) struct Told<T> {
    told: Mutex<Vec<T>>,
    rung: Notify,
}

impl<T> Default for Told<T> {
    fn default() -> Self {
        Self {
            told: Mutex::default(),
            rung: Notify::new(),
        }
    }
}

impl<T> Told<T> {
    /// Leaves one to be taken.
    pub(crate) fn tell(&self, one: T) {
        self.told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(one);
        self.rung.notify_one();
    }

    /// Those that were told since the last call; waits for the first.
    ///
    /// # Cancel safety
    /// Nothing is taken before it is returned.
    pub(crate) async fn take(&self) -> Vec<T> {
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
