//! Leader election over a Lease: at most one replica pushes and writes, and each reign has an epoch that proxies check.
//!
//! `decide` is the pure core: what to do next, from what the Lease says and when we saw it. `record` reads and edits the
//! Lease object. `election` is the loop that talks to the API server; `leadership` is what everybody else holds, and `work`
//! how jobs are run while it is held. None of them knows what a leader does.
//!
//! The rules (8 s lease, 5 s renewal deadline, 1 s retry): a leader that could not renew for 5 s leads no more, by its
//! own clock. The others take over 8 s after they first saw its last renewal, by theirs. So clocks are never compared
//! between machines, and two leaders at once would need clocks that differ in speed by more than half. Whatever else
//! goes wrong, the epoch grows with every acquisition, and proxies refuse the lower one.

mod decide;
mod election;
mod leadership;
mod record;
#[cfg(test)]
mod tests;
mod work;

pub use decide::Terms;
pub use election::{Election, Settings};
#[cfg(test)]
pub(crate) use leadership::Commander;
pub use leadership::Leadership;
