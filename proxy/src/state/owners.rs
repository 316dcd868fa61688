//! Who has changed the state, and in which reign: an owner's epoch grows with each change of its leader, and a leader
//! that was deposed is refused.

use podline_api::{Owner, Rejected};
use std::collections::BTreeMap;
use std::time::SystemTime;

/// All owners that have changed something since the process started, or used an epoch before.
#[derive(Debug, Default)]
pub(super) struct Owners(BTreeMap<Owner, Reign>);

/// What is known of one owner.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reign {
    /// The highest epoch so far.
    pub(super) epoch: Option<u64>,
    /// When a change was last taken.
    pub(super) applied: Option<SystemTime>,
}

impl Owners {
    /// Whether a request with `epoch` may speak for `owner`.
    pub(super) fn check(&self, owner: &Owner, epoch: Option<u64>) -> Result<(), Rejected> {
        match self.get(owner).epoch {
            Some(current) if epoch.is_none_or(|epoch| epoch < current) => {
                Err(Rejected::StaleEpoch {
                    owner: owner.clone(),
                    epoch,
                    current,
                })
            }
            _ => Ok(()),
        }
    }

    /// A request of `owner` was taken.
    pub(super) fn took(&mut self, owner: &Owner, epoch: Option<u64>) {
        let reign = self.0.entry(owner.clone()).or_default();
        reign.epoch = reign.epoch.max(epoch);
        reign.applied = Some(SystemTime::now());
    }

    /// An owner's epoch from before a restart; it has changed nothing since.
    pub(super) fn restore(&mut self, owner: &Owner, epoch: Option<u64>) {
        let applied = None;
        self.0.insert(owner.clone(), Reign { epoch, applied });
    }

    /// What is known of `owner`.
    pub(super) fn get(&self, owner: &Owner) -> Reign {
        self.0.get(owner).copied().unwrap_or_default()
    }

    /// Owners that have used an epoch.
    pub(super) fn with_epoch(&self) -> impl Iterator<Item = &Owner> {
        self.0
            .iter()
            .filter(|(_, reign)| reign.epoch.is_some())
            .map(|(owner, _)| owner)
    }
}
