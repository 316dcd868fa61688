//! How one Service or Ingress stands now.

use std::sync::Arc;

use super::places::Place;
use super::{Builder, Claim, Plan, Standing, addresses, claim, frozen, ingress, plan};
use crate::cluster::{Cluster, Entry, Front};

impl Builder {
    pub(super) fn stand(
        &mut self,
        cluster: &Cluster,
        front: &Front,
        before: Option<&Standing>,
    ) -> Option<Standing> {
        self.waiting.remove(front);
        let claim = match front {
            Front::Service(key) => {
                let entry = cluster.service(key);
                entry.map(|entry| claim::claim(&entry.service, &self.options))
            }
            Front::Ingress(key) => {
                let entry = cluster.ingress(key);
                entry.map(|entry| ingress::claim(&entry.ingress, &self.options))
            }
        };
        match claim {
            Some(Claim::Ours) => {}
            Some(Claim::Leaving) => return self.leave(front, Some(Standing::Leaving)),
            Some(Claim::Other(note)) => return self.leave(front, Some(Standing::Other(note))),
            Some(Claim::NotOurs) | None => return self.leave(front, None),
        }
        let shared = |plan: Plan| match before {
            Some(Standing::Ours(before)) if **before == plan => Arc::clone(before),
            _ => Arc::new(share(plan, before)),
        };
        let plan = match front {
            Front::Service(key) => {
                let entry = cluster.service(key)?;
                let places = self.wanted_places(front, entry);
                let plan = if entry.annotations.settings.skip {
                    self.keep(cluster, front, entry)
                } else {
                    self.plan(cluster, front, entry)
                };
                let plan = shared(plan);
                if !plan.is_early {
                    let last = frozen::Last {
                        plan: Arc::clone(&plan),
                        places,
                    };
                    self.memory.last.insert(key.clone(), last);
                }
                plan
            }
            Front::Ingress(key) => {
                let entry = cluster.ingress(key)?;
                let families = ingress::families(cluster, &entry.ingress);
                let addresses = self.addresses(front, &families);
                let planned = ingress::plan(&self.input(cluster, front, &addresses), entry);
                shared(self.remember(front, planned))
            }
        };
        Some(Standing::Ours(plan))
    }

    /// What a Service is that is not to change any more.
    fn keep(&mut self, cluster: &Cluster, front: &Front, entry: &Entry) -> Plan {
        let service = &entry.service;
        let before = match frozen::last(service, &self.memory.last) {
            Some(last) => Arc::clone(&last.plan),
            // Whoever planned it before is gone.
            None if service.is_held() => {
                let plan = self.plan(cluster, front, entry);
                if plan.is_early {
                    return plan;
                }
                Arc::new(plan)
            }
            None => Arc::new(plan::nothing(entry, cluster.switches(), &self.options)),
        };
        let holder = |place: &Place| self.places.holder(place).cloned();
        let (plan, closed) = frozen::keep(cluster, service, &before, &holder);
        if !closed.is_empty() {
            let remembered = self.memory.closed.entry(front.clone()).or_default();
            for (set, mut keys) in closed {
                remembered.entry(set).or_default().append(&mut keys);
            }
        }
        self.waiting.remove(front);
        plan
    }

    fn plan(&mut self, cluster: &Cluster, front: &Front, entry: &Entry) -> Plan {
        let addresses = self.addresses(front, &entry.service.families);
        let input = self.input(cluster, front, &addresses);
        let planned = plan::plan(&input, entry, self.kept_of(entry));
        self.remember_config(entry, &planned.plan);
        self.remember(front, planned)
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
            slots: self.memory.slots.get(front),
            shown: self.memory.shown.get(front),
            modes: &self.memory.modes,
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
