//! What happens while pushing, for whoever counts it. Plain values: knows no metrics.

use std::time::Duration;

use tokio::time::Instant;

/// What was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pushed {
    /// All that is ours.
    Full,
    /// What differed.
    Difference,
    /// Nothing: whether the proxy is well.
    Empty,
}

/// Hears what happens. Called by the tasks of the proxies: must not block. Versions and how far each proxy is behind
/// stand in [`Observed`](crate::observed::Observed).
pub trait Recorder: Send + Sync {
    /// A proxy took a request, so long after it was sent.
    fn pushed(&self, _proxy: &str, _what: Pushed, _took: Duration) {}

    /// A proxy refused a request, for a reason such as `CONFLICT`.
    fn refused(&self, _proxy: &str, _reason: &str) {}

    /// How a proxy does is told anew, for what came from it at this moment or before.
    fn told(&self, _at: Instant) {}

    /// The connection to a proxy ended, or none could be made.
    fn disconnected(&self, _proxy: &str, _why: &str) {}

    /// All proxies that serve act on a version, so long after it was wanted.
    fn settled(&self, _version: u64, _took: Duration) {}
}

/// Nobody counts.
impl Recorder for () {}
