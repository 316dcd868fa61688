//! What passes between timelines and the tasks of the proxies. Decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use podline_api::{BackendKey, Name};
use tokio::sync::{mpsc, watch};

/// What a proxy told of a backend, in our time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The proxy's name.
    pub proxy: Arc<str>,
    /// The backend's set.
    pub set: Name,
    /// The backend.
    pub backend: BackendKey,
    /// What.
    pub what: What,
}

/// What there is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// When its first probe ended and its first connection was made, by a process that runs since `started`; absent:
    /// not yet.
    Firsts {
        /// Before that the proxy knows nothing.
        started: Timestamp,
        /// Passed or failed.
        probe: Option<Timestamp>,
        /// Or flow.
        connection: Option<Timestamp>,
    },
    /// Nothing new can be sent to it.
    Closed(Timestamp),
    /// Its last connection is gone.
    Empty(Timestamp),
    /// An override that had closed it is over.
    Reopened,
}

/// Backends of which the proxies are to be asked for their firsts, by set. Another value is another question.
pub type Wanted = BTreeMap<Name, BTreeSet<BackendKey>>;

/// The proxies' end.
#[derive(Clone, Debug)]
pub struct Ear {
    /// Where to tell it; what finds no room is not told.
    pub told: mpsc::Sender<Told>,
    /// What to ask for.
    pub wanted: watch::Receiver<Arc<Wanted>>,
}

impl Default for Ear {
    /// Of nobody.
    fn default() -> Self {
        Self {
            told: mpsc::channel(1).0,
            wanted: watch::channel(Arc::default()).1,
        }
    }
}
