//! The machine itself: what it is, and how fast it is at the moment.

use std::hint::black_box;
use std::time::Instant;

use super::stat;
use crate::result::Machine;

/// Steps of [`pulse`]: about 50 ms of an optimised build.
const STEPS: u32 = 20_000_000;

/// What it is. How fast it was, and what was stolen from it, is for the run to fill in.
pub fn facts() -> Machine {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = stat::memory_kib(&read("/proc/meminfo")).unwrap_or(0);
    let processor = read("/proc/cpuinfo");
    let processor = stat::processor(&processor).unwrap_or(std::env::consts::ARCH);
    Machine {
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        processor: processor.to_owned(),
        cores: u32::try_from(cores).unwrap_or(u32::MAX),
        memory_mib: memory / 1024,
        ..Machine::default()
    }
}

/// Does a fixed piece of work, and tells how many steps of it a second were done. It is the speed of one core: neither
/// memory nor system calls are part of it.
pub fn pulse() -> f64 {
    let began = Instant::now();
    let mut state = black_box(0x9e37_79b9_7f4a_7c15_u64);
    for _ in 0..STEPS {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
    }
    black_box(state);
    f64::from(STEPS) / began.elapsed().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_kernel_cores_and_memory() {
        let facts = facts();
        assert!(
            !facts.kernel.is_empty() && !facts.processor.is_empty(),
            "{facts:?}"
        );
        assert!(facts.cores > 0 && facts.memory_mib > 0, "{facts:?}");
        assert!(pulse() > 0.0);
    }
}
