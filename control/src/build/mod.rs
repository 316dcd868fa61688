//! From the cluster to what the proxies are to be, and what there is to tell. Pure and total: whatever the objects say,
//! something comes out, and what was wrong is a note.
//!
//! `Builder` remembers the last build, so that a change costs what it touches; a builder that starts anew with the same
//! memory comes to the same result.

mod addresses;
pub mod annotation;
mod asked;
pub(crate) mod balancer;
mod claim;
pub mod config;
mod delta;
mod direct;
pub mod endpoints;
pub mod explain;
mod frozen;
pub(crate) mod health;
mod ingress;
mod memory;
pub(crate) mod modes;
mod network;
mod node_port;
pub mod note;
mod options;
mod own;
pub mod places;
mod plan;
mod routes;
pub mod selector;
mod source_ranges;
mod stand;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use podline_api::{BackendId, Listener};

use crate::allocate::Request;
use crate::cluster::{Cluster, Family, Front, Key, Touched};
use crate::snapshot::Snapshot;
pub(crate) use asked::{is_direct, is_direct_ingress, is_our_ingress, is_ours};
pub use claim::Claim;
use delta::Delta;
pub use memory::Memory;
use note::Note;
pub use options::Options;
use own::Own;
use places::{Place, Places};
pub(crate) use plan::NODE_PORT_SOURCE;
pub use plan::{Mode, Plan, PortOutcome, Source};

/// How a Service stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is ours.
    Ours(Arc<Plan>),
    /// It was ours, and waits to be let go.
    Leaving,
    /// Another controller has it.
    Other(Note),
}

/// The last build, and how to make the next.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    options: Options,
    memory: Memory,
    places: Places,
    network: network::Parts,
    /// What is asked of the pool.
    requests: BTreeMap<Front, Request>,
    /// The load balancers that are asked for by an id.
    named: BTreeMap<Front, String>,
    standings: BTreeMap<Key, Standing>,
    /// The same of Ingresses.
    ingresses: BTreeMap<Key, Standing>,
    /// The snapshot that brought one's listeners as they are, or took the last of them away.
    since: BTreeMap<Front, u64>,
    /// Those that wait for a health verdict.
    waiting: BTreeSet<Front>,
    snapshot: Snapshot,
    /// In the order in which they ended.
    ended: std::collections::VecDeque<BackendId>,
}

impl Builder {
    /// A builder that has built nothing.
    pub fn new(options: Options) -> Self {
        Self::with_memory(options, Memory::default())
    }

    /// A builder that has built nothing, and remembers what another did.
    pub fn with_memory(options: Options, memory: Memory) -> Self {
        Self {
            options,
            memory,
            ..Self::default()
        }
    }

    /// What the controller was told at its start.
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// What has to be remembered.
    pub const fn memory(&self) -> &Memory {
        &self.memory
    }

    /// What the proxies are to be.
    pub const fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The snapshot, to be sent: from here on its version is at least 1.
    pub fn publish(&mut self) -> Snapshot {
        self.snapshot.version = self.snapshot.version.max(1);
        self.snapshot.clone()
    }

    /// How Services stand; those that are none of our business are not there.
    pub const fn standings(&self) -> &BTreeMap<Key, Standing> {
        &self.standings
    }

    /// How Ingresses stand; those that are none of our business are not there.
    pub const fn ingresses(&self) -> &BTreeMap<Key, Standing> {
        &self.ingresses
    }

    /// How all of them stand.
    pub fn fronts(&self) -> impl Iterator<Item = (Front, &Standing)> {
        let services = self.standings.iter();
        let services = services.map(|(key, it)| (Front::Service(key.clone()), it));
        let ingresses = self.ingresses.iter();
        services.chain(ingresses.map(|(key, it)| (Front::Ingress(key.clone()), it)))
    }

    /// One's standing, if it is any of our business.
    pub fn standing(&self, front: &Front) -> Option<&Standing> {
        match front {
            Front::Service(key) => self.standings.get(key),
            Front::Ingress(key) => self.ingresses.get(key),
        }
    }

    /// The version of the snapshot that brought one's listeners as they are; 0 if it never had any.
    pub fn since(&self, front: &Front) -> u64 {
        self.since.get(front).copied().unwrap_or_default()
    }

    /// Pods that a Service or Ingress of ours is bound to directly, that live and have no readiness gate of ours.
    pub fn pods_without_gate(&self) -> BTreeSet<&Key> {
        let standings = self.standings.values().chain(self.ingresses.values());
        let plans = standings.filter_map(|it| match it {
            Standing::Ours(plan) => Some(plan),
            _ => None,
        });
        plans.flat_map(|plan| &plan.without_gate).collect()
    }

    /// Builds what `touched` names anew. Who stands differently now; the snapshot's version grows if it differs.
    pub fn build(&mut self, cluster: &Cluster, touched: &Touched) -> BTreeSet<Front> {
        let mut affected = self.affected(cluster, touched);
        affected.append(&mut self.assign(cluster, &affected));
        let fronts: Vec<_> = affected.iter().cloned().collect();
        for front in fronts {
            affected.append(&mut self.claim_places(cluster, &front));
        }
        let (mut changed, mut snapshot) = (BTreeSet::new(), Delta::default());
        for front in affected {
            let before = self.standing(&front).cloned();
            let now = self.stand(cluster, &front, before.as_ref());
            if before == now {
                continue;
            }
            if listeners(before.as_ref()) != listeners(now.as_ref()) {
                self.since.insert(front.clone(), self.snapshot.version + 1);
            }
            if now.is_none() {
                self.since.remove(&front);
            }
            snapshot.take(before.as_ref(), now.as_ref());
            self.set_standing(&front, now);
            changed.insert(front);
        }
        self.forget_closed(cluster);
        let moves = std::mem::take(&mut snapshot.moves);
        let namespace = &self.options.namespace;
        let network = self.network.update(cluster, touched, namespace);
        let network = network.filter(|network| *network != *self.snapshot.network);
        let other_network = network.is_some();
        if let Some(network) = network {
            self.snapshot.network = Arc::new(network);
        }
        if snapshot.apply(&mut self.snapshot) || other_network {
            self.remember_ended(cluster, &moves);
            self.snapshot.version += 1;
        }
        changed
    }

    fn set_standing(&mut self, front: &Front, now: Option<Standing>) {
        let (standings, key) = match front {
            Front::Service(key) => (&mut self.standings, key),
            Front::Ingress(key) => (&mut self.ingresses, key),
        };
        match now {
            Some(now) => standings.insert(key.clone(), now),
            None => standings.remove(key),
        };
    }

    fn affected(&self, cluster: &Cluster, touched: &Touched) -> BTreeSet<Front> {
        let services = touched.services.iter();
        let mut fronts: BTreeSet<_> = services.flat_map(|key| cluster.fronts_of(key)).collect();
        fronts.extend(touched.ingresses.iter().cloned().map(Front::Ingress));
        if touched.all {
            let known = self.standings.keys();
            let services = cluster.services().map(|(key, _)| key).chain(known);
            fronts.extend(services.cloned().map(Front::Service));
            let known = self.ingresses.keys();
            let ingresses = cluster.ingresses().map(|(key, _)| key).chain(known);
            fronts.extend(ingresses.cloned().map(Front::Ingress));
        }
        if touched.waiting {
            fronts.extend(self.waiting.iter().cloned());
        }
        fronts
    }

    /// Gives addresses of the pool, if there is one: whose have changed by what `affected` ask for now.
    fn assign(&mut self, cluster: &Cluster, affected: &BTreeSet<Front>) -> BTreeSet<Front> {
        let Some(pool) = &self.options.pool else {
            return BTreeSet::new();
        };
        let mut differs = false;
        for front in affected {
            let own = self.own(cluster, front);
            let request = own.map(|own| own.request(cluster));
            let named = own.and_then(|own| own.settings().balancer.clone());
            differs |= set(&mut self.requests, front, request);
            differs |= set(&mut self.named, front, named);
        }
        if !differs {
            return BTreeSet::new();
        }
        let before = &self.memory.assigned;
        let assigned = balancer::assign(pool, &self.requests, &self.named, before);
        let before = std::mem::replace(&mut self.memory.assigned, assigned);
        let now = &self.memory.assigned;
        let fronts = before.keys().chain(now.keys());
        fronts
            .filter(|front| before.get(*front) != now.get(*front))
            .cloned()
            .collect()
    }

    /// Where one's listeners stand.
    fn addresses(&self, front: &Front, families: &[Family]) -> Vec<addresses::OfFamily> {
        match &self.options.pool {
            Some(_) => addresses::of_pool(front, families, &self.memory.assigned),
            None => addresses::of_proxies(families),
        }
    }

    /// One that is ours.
    fn own<'a>(&self, cluster: &'a Cluster, front: &Front) -> Option<Own<'a>> {
        let own = Own::find(cluster, front)?;
        (own.claim(&self.options) == Claim::Ours).then_some(own)
    }

    /// The places that one of ours wants.
    fn wanted_places(&self, cluster: &Cluster, front: &Front, own: Own<'_>) -> BTreeSet<Place> {
        let is_skipped = own.settings().skip;
        match self.last(front, own).filter(|_| is_skipped) {
            Some(last) => last.places.clone(),
            None if is_skipped && !own.is_held() => BTreeSet::new(),
            None => {
                let addresses = self.addresses(front, &own.families(cluster));
                own.places(&addresses, &self.options)
            }
        }
    }

    /// What one was planned to be before, if it is to stay so: nothing if that was another object of its name.
    fn last(&self, front: &Front, own: Own<'_>) -> Option<&frozen::Last> {
        let last = self.memory.last.get(front)?;
        (last.plan.uid == *own.uid()).then_some(last)
    }

    /// Says what one wants now; whose luck may have changed by it.
    fn claim_places(&mut self, cluster: &Cluster, front: &Front) -> BTreeSet<Front> {
        let own = self.own(cluster, front);
        let wanted = own.map(|own| (own.rank(), self.wanted_places(cluster, front, own)));
        let (rank, places) = wanted.unwrap_or_else(|| ((0, "".into()), BTreeSet::new()));
        let (created, uid) = rank;
        self.places.want(&(created, uid, front.clone()), places)
    }
}

/// Puts a value, or none, in a place; whether another one was there.
fn set<V: PartialEq>(all: &mut BTreeMap<Front, V>, front: &Front, now: Option<V>) -> bool {
    let differs = all.get(front) != now.as_ref();
    match now {
        Some(now) => all.insert(front.clone(), now),
        None => all.remove(front),
    };
    differs
}

fn listeners(standing: Option<&Standing>) -> &[Arc<Listener>] {
    match standing {
        Some(Standing::Ours(plan)) => &plan.listeners,
        _ => &[],
    }
}

#[cfg(test)]
mod tests;
