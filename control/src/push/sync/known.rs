//! What there is to know of a proxy's machine.

use std::collections::BTreeMap;

use podline_api::Name;

use super::super::Reign;
use super::{Phase, Sync};

impl Sync {
    /// The newest version that all workers act on.
    pub(in super::super) fn acked(&self) -> u64 {
        self.acked
    }

    /// What is wanted and not there, and why.
    pub(in super::super) fn refused_words(&self) -> BTreeMap<Name, String> {
        self.quarantine.words(&self.desired, &self.held)
    }

    /// The proxy follows another leader.
    pub(in super::super) fn is_deposed(&self) -> bool {
        self.phase == Phase::Deposed
    }

    /// Whether this process leads, and with which epoch.
    pub(in super::super) fn leads(&self) -> Option<u64> {
        match self.reign {
            Reign::Leader { epoch } => Some(epoch),
            Reign::Follower => None,
        }
    }

    /// The full state was taken since the connection was made and the reign began.
    pub(in super::super) fn is_in_step(&self) -> bool {
        self.is_in_step
    }

    /// When the reign began, if that was later than the connection.
    pub(in super::super) fn taken_over_ms(&self) -> Option<u64> {
        self.taken_over_ms
    }

    /// Something is wanted at all.
    pub(in super::super) fn is_built(&self) -> bool {
        self.desired.version > 0
    }

    /// Why everything is refused, while it is.
    pub(in super::super) fn blocked(&self) -> Option<&str> {
        self.blocked.as_deref()
    }

    /// When a request was taken last.
    pub(in super::super) fn last_ack_ms(&self) -> Option<u64> {
        self.last_ack_ms
    }

    /// Since when the oldest version that workers do not act on yet is wanted.
    pub(in super::super) fn behind_since_ms(&self) -> Option<u64> {
        self.unacked.front().map(|(_, at_ms)| *at_ms)
    }
}
