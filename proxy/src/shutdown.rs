//! When the process is told to stop, and how it does: stop new work, wait, force.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

/// How often the connections that are left are counted.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Connections that the kernel had accepted for a listener are still taken up for so long after it is unbound, so
/// zero connections mean nothing before.
const SETTLE: Duration = Duration::from_millis(200);

/// Listens for SIGTERM and SIGINT from now on. The future resolves at the first, with its name; at the second the
/// process ends at once.
pub fn requested() -> std::io::Result<impl Future<Output = &'static str>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::warn!("told twice to stop: ending at once");
            std::process::exit(1);
        });
        name
    })
}

/// Waits until `active` is zero, at most to the deadline; answers how many are left.
pub(crate) async fn drained(timeout: Duration, active: impl Fn() -> u64) -> u64 {
    let start = Instant::now();
    loop {
        let (left, waited) = (active(), start.elapsed());
        if (left == 0 && waited >= SETTLE.min(timeout)) || waited >= timeout {
            return left;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    #[tokio::test(start_paused = true)]
    async fn draining_ends_with_the_last_connection() {
        let left = AtomicU64::new(50);
        let start = Instant::now();
        let active = || left.fetch_sub(1, Relaxed) - 1;
        assert_eq!(drained(Duration::from_secs(25), active).await, 0);
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "{:?}",
            start.elapsed()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn draining_ends_at_the_deadline() {
        let start = Instant::now();
        assert_eq!(drained(Duration::from_secs(25), || 3).await, 3);
        assert!(start.elapsed() < Duration::from_secs(26));
        assert_eq!(drained(Duration::ZERO, || 3).await, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_still_in_the_queue_is_waited_for() {
        let start = Instant::now();
        let active = || {
            u64::from(
                start.elapsed() > Duration::from_millis(100)
                    && start.elapsed() < Duration::from_secs(1),
            )
        };
        assert_eq!(drained(Duration::from_secs(25), active).await, 0);
        assert!(start.elapsed() >= Duration::from_secs(1));
    }
}
