//! The workers' clock: milliseconds, read once per turn of the loop.

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds of the kernel's monotonic clock, to its tick (1 to 10 ms). Never goes back.
pub fn monotonic_ms() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000
        + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}
