//! Readiness gates: when the condition of a Pod's gate is to be what, and why. `verdict` decides for one Pod, purely; the
//! rest remembers, waits and writes.
//!
//! A gate is opened once and never closed again (a Pod that is not ready any more leaves every Service, and not only ours).
//! It opens at once when every proxy that serves has seen the Pod healthy behind every listener that is bound to it; and
//! after a moment when the Pod can never be bound, so that no Pod is stranded. Until then the condition says what is missing.

mod memory;
pub mod reason;
mod stand;
mod verdict;
pub mod writer;

pub use memory::{Ask, Changed, Gates, News, Orders, Wait};
pub use reason::Reason;
pub use verdict::{Said, Verdict};
pub(crate) use writer::patch::condition;

#[cfg(test)]
mod tests;
