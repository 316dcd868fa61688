//! What everybody but the election itself holds: who leads, since which epoch, and whether that is still true now. Knows
//! no Lease.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::reign::Reign;

/// A reign, and when it ends if nothing renews it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) epoch: u64,
    pub(super) until: Instant,
}

/// Whether we lead. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Leadership {
    pub(super) held: watch::Receiver<Option<Held>>,
    pub(super) reign: watch::Receiver<Reign>,
    pub(super) problem: watch::Receiver<Option<String>>,
    pub(super) raise: Arc<watch::Sender<u64>>,
}

impl Leadership {
    /// Whether we lead at `now`, which the caller reads just before it acts: a process that was stopped for a while
    /// learns here that its time is over, before any task of the election ran.
    pub fn is_held(&self, now: Instant) -> bool {
        self.at(now) != Reign::Follower
    }

    /// Whether we lead at `now`, and with which epoch.
    pub fn at(&self, now: Instant) -> Reign {
        match *self.held.borrow() {
            Some(held) if now < held.until => Reign::Leader { epoch: held.epoch },
            _ => Reign::Follower,
        }
    }

    /// Tells of each change. What it shows may be past its time: ask [`Self::at`] before acting.
    pub fn reign(&self) -> watch::Receiver<Reign> {
        self.reign.clone()
    }

    /// A proxy refused our epoch because it has seen `highest`: if we lead, the Lease and our epoch are raised above it.
    pub fn raise(&self, highest: u64) {
        self.raise.send_if_modified(|known| {
            let is_higher = highest > *known;
            *known = highest.max(*known);
            is_higher
        });
    }

    /// Why the Lease could not be read or written the last time, for /readyz; absent if it could.
    pub fn problem(&self) -> Option<String> {
        self.problem.borrow().clone()
    }
}

/// Commands a [`Leadership`] in tests of those that obey it.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Commander {
    held: watch::Sender<Option<Held>>,
    reign: watch::Sender<Reign>,
    problem: watch::Sender<Option<String>>,
    raise: Arc<watch::Sender<u64>>,
}

#[cfg(test)]
impl Commander {
    pub(crate) fn new() -> Self {
        Self {
            held: watch::Sender::new(None),
            reign: watch::Sender::new(Reign::Follower),
            problem: watch::Sender::new(None),
            raise: Arc::default(),
        }
    }

    pub(crate) fn leadership(&self) -> Leadership {
        Leadership {
            held: self.held.subscribe(),
            reign: self.reign.subscribe(),
            problem: self.problem.subscribe(),
            raise: Arc::clone(&self.raise),
        }
    }

    /// Its time is over, and nobody has been told yet.
    pub(crate) fn expire(&self) {
        self.held.send_replace(None);
    }

    /// From now on it is so, for a year.
    pub(crate) fn set(&self, reign: Reign) {
        let held = match reign {
            Reign::Follower => None,
            Reign::Leader { epoch } => Some(Held {
                epoch,
                until: Instant::now() + std::time::Duration::from_hours(365 * 24),
            }),
        };
        self.held.send_replace(held);
        self.reign.send_replace(reign);
    }
}
