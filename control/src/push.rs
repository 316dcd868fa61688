//! Keeps every proxy at what the newest snapshot says, and tells how the proxies do.
//!
//! One task for each proxy (`stream`) owns a connection and two pure machines: `sync` decides what is sent next, and
//! `observe` gathers what the proxy tells of itself; `serving` draws the conclusion. [`run`] owns the tasks, and
//! publishes one [`Observed`](crate::observed::Observed). [`find`] says which proxies there are.
//!
//! Only a leader pushes, and each of its requests carries its epoch: a proxy refuses one that was deposed. Followers
//! watch only, and may have single backends kept out ([`overrides`]). Knows nothing of Services: what goes to the proxies is a [`Snapshot`](crate::snapshot::Snapshot).

mod difference;
pub mod find;
mod firsts;
mod fits;
mod fleet;
mod holders;
mod holdings;
mod lag;
mod observe;
pub mod overrides;
mod quarantine;
mod recorder;
mod refusal;
mod serving;
mod shares;
mod stream;
mod sync;
#[cfg(test)]
pub(crate) mod tests;

use std::net::IpAddr;

pub use crate::reign::Reign;
pub(crate) use fits::TOO_OLD;
pub use fleet::{Announcing, Inputs, run};
pub use overrides::Overrides;
pub use recorder::{Pushed, Recorder};

/// Where to find one proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `ip:port` of its API, or `unix:PATH`.
    pub target: String,
    /// Where clients reach it, one of a family at most.
    pub addresses: Vec<IpAddr>,
}

/// What whoever holds the lease must hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notable {
    /// A proxy has taken requests of a higher epoch than ours. Nothing is pushed to it until the reign changes. Told
    /// again every second for as long as that is so.
    Deposed {
        /// Its name.
        proxy: String,
        /// The highest epoch that it has taken from our owner.
        highest_epoch: u64,
    },
}
