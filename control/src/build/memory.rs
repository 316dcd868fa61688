//! What a builder remembers from one build to the next.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use podline_api::{BackendId, BackendKey, Name};

use super::config::Owner;
use super::delta::Moves;
use super::{Builder, Plan, Standing, config, frozen, plan, set};
use crate::allocate::Assignments;
use crate::cluster::{Cluster, Front};

/// What has to be remembered beyond the cluster itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Terminating backends that lost their weight: one that was closed is never opened again.
    pub(super) closed: BTreeMap<Front, plan::Closed>,
    /// Who has no slot of the quota: who ends gets none.
    pub(super) left_out: BTreeMap<Front, plan::OfSets>,
    /// What certificates ports show: they stay though their Secrets go.
    pub(super) shown: BTreeMap<Front, plan::Shown>,
    /// What everybody was planned to be: some are to stay so.
    pub(super) last: BTreeMap<Front, frozen::Last>,
    /// What TkeServiceConfigs have set so far, and for which object: it stays though they go.
    pub(super) kept: BTreeMap<Front, (Arc<str>, config::Kept)>,
    /// Who has which address of the pool.
    pub(super) assigned: Assignments,
}

/// Ended backends that are remembered: more than any proxy can be behind.
const MOST_ENDED: usize = 1_024;

impl Builder {
    /// Remembers what has to be, beside the plan itself.
    pub(super) fn remember(&mut self, owner: &Owner<'_>, planned: plan::Planned) -> Plan {
        fn some<K, V>(map: BTreeMap<K, V>) -> Option<BTreeMap<K, V>> {
            (!map.is_empty()).then_some(map)
        }
        let front = owner.front;
        // What the object says of what is set counts only if nothing is remembered.
        let kept = &planned.plan.config.kept;
        let kept =
            (!kept.is_empty() || owner.has_kept()).then(|| (Arc::clone(owner.uid), kept.clone()));
        set(&mut self.memory.kept, front, kept);
        set(&mut self.memory.closed, front, some(planned.closed));
        set(&mut self.memory.left_out, front, some(planned.left_out));
        set(&mut self.memory.shown, front, some(planned.shown));
        if planned.plan.waits_for_health {
            self.waiting.insert(front.clone());
        }
        planned.plan
    }

    /// What TkeServiceConfigs have set so far of this very object, if that is remembered.
    pub(super) fn kept_of(&self, owner: &Owner<'_>) -> Option<&config::Kept> {
        let (uid, kept) = self.memory.kept.get(owner.front)?;
        (uid == owner.uid).then_some(kept)
    }

    /// The backends of a set that are on the way out and lost their weight here.
    pub(crate) fn closed(&self, front: &Front, set: &Name) -> impl Iterator<Item = &BackendKey> {
        let closed = self.memory.closed.get(front);
        closed.and_then(|sets| sets.get(set)).into_iter().flatten()
    }

    pub(super) fn leave(&mut self, front: &Front, standing: Option<Standing>) -> Option<Standing> {
        self.memory.closed.remove(front);
        self.memory.left_out.remove(front);
        self.memory.shown.remove(front);
        self.memory.kept.remove(front);
        self.memory.last.remove(front);
        standing
    }

    /// What has ended cannot come back. It need not touch whoever remembers it.
    pub(super) fn forget_closed(&mut self, cluster: &Cluster) {
        let may_come_back = |key: &BackendKey| {
            let id = key.id.as_ref();
            id.is_none_or(|id| cluster.living_pod(id.as_str()).is_some())
        };
        self.memory.closed.retain(|_, sets| {
            sets.retain(|_, keys| {
                keys.retain(may_come_back);
                !keys.is_empty()
            });
            !sets.is_empty()
        });
    }

    /// Backends that left their set because they have ended, and not merely the Service. What is being deleted ends as
    /// it leaves a set that stays (K4): the slice may tell before the Pod does. What goes with its set may live on.
    pub(super) fn remember_ended(&mut self, cluster: &Cluster, moves: &Moves) {
        let nodes: HashSet<&str> = cluster.nodes().map(|node| &*node.uid).collect();
        let has_ended = |id: &&BackendId| match cluster.living_pod(id.as_str()) {
            Some(pod) => pod.is_deleting && moves.left.contains(*id),
            None => !nodes.contains(id.as_str()),
        };
        let gone = moves.left.union(&moves.left_with_set);
        let ended: BTreeSet<_> = gone.filter(has_ended).cloned().collect();
        let before = self.ended.len();
        let is_past = |id: &BackendId| moves.joined.contains(id) || ended.contains(id);
        self.ended.retain(|id| !is_past(id));
        if ended.is_empty() && before == self.ended.len() {
            return;
        }
        self.ended.extend(ended);
        let surplus = self.ended.len().saturating_sub(MOST_ENDED);
        self.ended.drain(..surplus);
        self.snapshot.ended = Arc::new(self.ended.iter().cloned().collect());
    }
}
