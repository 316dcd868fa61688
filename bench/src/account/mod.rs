//! What a round cost: CPU and memory of processes, CPU of the machine, connection tracking.
//!
//! The kernel charges what it does in interrupts to whoever runs at the moment, so the CPU of a proxy alone can look
//! better than it is: look at the machine's beside it.

mod machine;
mod meter;
mod processes;
mod stat;

pub use machine::{facts, pulse};
pub use meter::{Cost, Meter};
pub use processes::{family, pss_kib, tracked};
