//! Waiting for a condition with a deadline, instead of sleeping and hoping.

use std::future::Future;
use std::time::{Duration, Instant};

/// Time between two looks.
const TICK: Duration = Duration::from_millis(2);

/// Blocks the thread until the next look.
pub(crate) fn tick() {
    std::thread::park_timeout(TICK);
}

/// Blocks until `is_so`; panics with `what` after `limit`.
pub fn until(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        tick();
    }
}

/// Waits until `look` finds something; panics with `what` after `limit`.
pub async fn find<T, F: Future<Output = Option<T>>>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        tokio::time::sleep(TICK).await;
    }
}
