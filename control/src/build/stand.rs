//! How one Service or Ingress stands now.

use std::sync::Arc;

use super::places::Place;
use super::{Builder, Claim, Own, Plan, Standing, addresses, frozen, plan};
use crate::cluster::{Cluster, Front};

impl Builder {
    pub(super) fn stand(
        &mut self,
        cluster: &Cluster,
        front: &Front,
        before: Option<&Standing>,
    ) -> Option<Standing> {
        self.waiting.remove(front);
        let own = Own::find(cluster, front);
        let own = match own.map(|own| (own, own.claim(&self.options))) {
            Some((own, Claim::Ours)) => own,
            Some((_, Claim::Leaving)) => return self.leave(front, Some(Standing::Leaving)),
            Some((_, Claim::Other(note))) => return self.leave(front, Some(Standing::Other(note))),
            Some((_, Claim::NotOurs)) | None => return self.leave(front, None),
        };
        let places = self.wanted_places(cluster, front, own);
        let plan = if own.settings().skip {
            self.keep(cluster, front, own)
        } else {
            self.plan(cluster, front, own)
        };
        let plan = match before {
            Some(Standing::Ours(before)) if **before == plan => Arc::clone(before),
            _ => Arc::new(share(plan, before)),
        };
        if !plan.is_early {
            let plan = Arc::clone(&plan);
            let last = frozen::Last { plan, places };
            self.memory.last.insert(front.clone(), last);
        }
        Some(Standing::Ours(plan))
    }

    /// What one is that is not to change any more.
    fn keep(&mut self, cluster: &Cluster, front: &Front, own: Own<'_>) -> Plan {
        let before = match self.last(front, own) {
            Some(last) => Arc::clone(&last.plan),
            // Whoever planned it before is gone.
            None if own.is_held() => {
                let plan = self.plan(cluster, front, own);
                if plan.is_early {
                    return plan;
                }
                Arc::new(plan)
            }
            None => Arc::new(own.nothing(cluster.switches(), &self.options)),
        };
        let holder = |place: &Place| self.places.holder(place).cloned();
        let (plan, closed) = frozen::keep(cluster, front, &before, &holder);
        if !closed.is_empty() {
            let remembered = self.memory.closed.entry(front.clone()).or_default();
            for (set, mut keys) in closed {
                remembered.entry(set).or_default().append(&mut keys);
            }
        }
        self.waiting.remove(front);
        plan
    }

    fn plan(&mut self, cluster: &Cluster, front: &Front, own: Own<'_>) -> Plan {
        let addresses = self.addresses(front, &own.families(cluster));
        let owner = own.owner(front);
        let input = self.input(cluster, front, &addresses);
        let planned = own.plan(&input, self.kept_of(&owner));
        self.remember(&owner, planned)
    }

    /// What a plan is made of, beside the object itself.
    fn input<'a>(
        &'a self,
        cluster: &'a Cluster,
        front: &'a Front,
        addresses: &'a [addresses::OfFamily],
    ) -> plan::Input<'a> {
        plan::Input {
            cluster,
            options: &self.options,
            front,
            addresses,
            places: &self.places,
            closed: self.memory.closed.get(front),
            left_out: self.memory.left_out.get(front),
            shown: self.memory.shown.get(front),
            before: self.memory.last.get(front).map(|last| &*last.plan),
        }
    }
}

/// Lets a plan have what did not change from the one before, so that nobody need compare it.
fn share(mut plan: Plan, before: Option<&Standing>) -> Plan {
    let Some(Standing::Ours(before)) = before else {
        return plan;
    };
    for listener in &mut plan.listeners {
        if let Some(same) = before.listeners.iter().find(|old| *old == listener) {
            *listener = Arc::clone(same);
        }
    }
    for set in &mut plan.sets {
        if let Some(same) = before.sets.iter().find(|old| *old == set) {
            *set = Arc::clone(same);
        }
    }
    plan
}
