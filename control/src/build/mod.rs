//! From the cluster to what the proxies are to be, and what there is to tell. Pure and total: whatever the objects say,
//! something comes out, and what was wrong is a note.
//!
//! `Builder` remembers the last build, so that a change costs what it touches; a builder that starts anew with the same
//! memory comes to the same result.

mod addresses;
pub mod annotation;
pub(crate) mod balancer;
mod claim;
pub mod config;
mod delta;
mod direct;
pub mod endpoints;
pub mod explain;
mod frozen;
pub(crate) mod health;
pub(crate) mod modes;
mod network;
mod node_port;
pub mod note;
pub mod places;
mod plan;
mod routes;
pub mod selector;
mod source_ranges;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use podline_api::{BackendId, BackendKey, Listener};

use crate::allocate::{Assignments, Pool, Request};
use crate::cluster::{Cluster, Entry, Key, Service, Switches, Touched};
use crate::snapshot::Snapshot;
use annotation::KEPT_CONFIG;
pub use claim::Claim;
use delta::{Delta, Moves};
use note::Note;
use places::{Place, Places};
pub(crate) use plan::NODE_PORT_SOURCE;
pub use plan::{Mode, Plan, PortOutcome, Source};

/// What the controller was told at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The `loadBalancerClass` that is ours.
    pub class: String,
    /// Services without a class are ours, too.
    pub default_class: bool,
    /// Services that do not say how go straight to Pods.
    pub default_direct: bool,
    /// Backends of one port at most.
    pub quota: usize,
    /// Ports that no Service gets.
    pub reserved_ports: BTreeSet<u16>,
    /// How long connections live on when what they go through is removed.
    pub drain_timeout: Duration,
    /// Where we are, and the responders.
    pub namespace: String,
    /// Addresses that Services get; without a pool clients connect to the proxies' own.
    pub pool: Option<Pool>,
    /// New Pods of direct Services are to have a readiness gate of ours.
    pub gives_gates: bool,
}

impl Options {
    fn is_reserved(&self, port: u16) -> bool {
        self.reserved_ports.contains(&port)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            class: "podline.io/clb".to_owned(),
            default_class: false,
            default_direct: false,
            quota: 200,
            reserved_ports: BTreeSet::new(),
            drain_timeout: Duration::from_mins(15),
            namespace: crate::installation::NAMESPACE.to_owned(),
            pool: None,
            gives_gates: false,
        }
    }
}

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

/// What has to be remembered beyond the cluster itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Terminating backends that lost their weight, by Service: one that was closed is never opened again.
    closed: BTreeMap<Key, plan::Closed>,
    /// Who has the slots of the quota, by Service, where they matter.
    slots: BTreeMap<Key, plan::OfSets>,
    /// What certificates ports show, by Service: they stay though their Secrets go.
    shown: BTreeMap<Key, plan::Shown>,
    /// What Services were planned to be: some are to stay so.
    last: frozen::OfServices,
    /// What TkeServiceConfigs have set so far, by Service and for which object: it stays though they go.
    kept: BTreeMap<Key, (Arc<str>, config::Kept)>,
    /// Who has which address of the pool.
    assigned: Assignments,
}

/// The last build, and how to make the next.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    options: Options,
    memory: Memory,
    places: Places,
    network: network::Parts,
    /// What Services ask of the pool.
    requests: BTreeMap<Key, Request>,
    /// The load balancers that they ask for by an id.
    named: BTreeMap<Key, String>,
    standings: BTreeMap<Key, Standing>,
    /// The snapshot that brought a Service's listeners as they are, or took the last of them away.
    since: BTreeMap<Key, u64>,
    /// Services that wait for a health verdict.
    waiting: BTreeSet<Key>,
    snapshot: Snapshot,
    /// In the order in which they ended.
    ended: std::collections::VecDeque<BackendId>,
}

/// Ended backends that are remembered: more than any proxy can be behind.
const MOST_ENDED: usize = 1_024;

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

    /// The version of the snapshot that brought a Service's listeners as they are; 0 if it never had any.
    pub fn since(&self, key: &Key) -> u64 {
        self.since.get(key).copied().unwrap_or_default()
    }

    /// Pods that a Service of ours is bound to directly, that live and have no readiness gate of ours.
    pub fn pods_without_gate(&self) -> BTreeSet<&Key> {
        let plans = self.standings.values().filter_map(|it| match it {
            Standing::Ours(plan) => Some(plan),
            _ => None,
        });
        plans.flat_map(|plan| &plan.without_gate).collect()
    }

    /// Builds what `touched` names anew. Which Services stand differently now; the snapshot's version grows if it differs.
    pub fn build(&mut self, cluster: &Cluster, touched: &Touched) -> BTreeSet<Key> {
        let mut affected = self.affected(cluster, touched);
        affected.append(&mut self.assign(cluster, &affected));
        let keys: Vec<_> = affected.iter().cloned().collect();
        for key in keys {
            affected.append(&mut self.claim_places(cluster, &key));
        }
        let (mut changed, mut snapshot) = (BTreeSet::new(), Delta::default());
        for key in affected {
            let before = self.standings.get(&key).cloned();
            let now = self.stand(cluster, &key, before.as_ref());
            if before == now {
                continue;
            }
            if listeners(before.as_ref()) != listeners(now.as_ref()) {
                self.since.insert(key.clone(), self.snapshot.version + 1);
            }
            if now.is_none() {
                self.since.remove(&key);
            }
            snapshot.take(before.as_ref(), now.as_ref());
            match now {
                Some(now) => self.standings.insert(key.clone(), now),
                None => self.standings.remove(&key),
            };
            changed.insert(key);
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

    fn affected(&self, cluster: &Cluster, touched: &Touched) -> BTreeSet<Key> {
        let mut keys = touched.services.clone();
        if touched.all {
            keys.extend(cluster.services().map(|(key, _)| key.clone()));
            keys.extend(self.standings.keys().cloned());
        }
        if touched.waiting {
            keys.extend(self.waiting.iter().cloned());
        }
        keys
    }

    /// Gives addresses of the pool, if there is one: whose have changed by what `affected` ask for now.
    fn assign(&mut self, cluster: &Cluster, affected: &BTreeSet<Key>) -> BTreeSet<Key> {
        let Some(pool) = &self.options.pool else {
            return BTreeSet::new();
        };
        let mut differs = false;
        for key in affected {
            let entry = cluster.service(key);
            let ours =
                entry.filter(|entry| claim::claim(&entry.service, &self.options) == Claim::Ours);
            let request = ours.and_then(|entry| self.request(entry));
            let named = ours.map(|entry| &entry.annotations.settings);
            let named = named.filter(|settings| !settings.skip);
            let named = named.and_then(|settings| settings.balancer.clone());
            differs |= self.requests.get(key) != request.as_ref();
            differs |= self.named.get(key) != named.as_ref();
            match named {
                Some(named) => self.named.insert(key.clone(), named),
                None => self.named.remove(key),
            };
            match request {
                Some(request) => self.requests.insert(key.clone(), request),
                None => self.requests.remove(key),
            };
        }
        if !differs {
            return BTreeSet::new();
        }
        let before = &self.memory.assigned;
        let assigned = balancer::assign(pool, &self.requests, &self.named, before);
        let before = std::mem::replace(&mut self.memory.assigned, assigned);
        let now = &self.memory.assigned;
        let keys = before.keys().chain(now.keys());
        keys.filter(|key| before.get(*key) != now.get(*key))
            .cloned()
            .collect()
    }

    /// What a Service asks of the pool.
    fn request(&self, entry: &Entry) -> Option<Request> {
        if !entry.annotations.settings.skip {
            return Some(addresses::request(entry));
        }
        match frozen::last(&entry.service, &self.memory.last) {
            Some(last) => Some(addresses::request_kept(entry, &last.plan.addresses)),
            None => entry.service.is_held().then(|| addresses::request(entry)),
        }
    }

    /// The places that a Service of ours wants.
    fn wanted_places(&self, entry: &Entry) -> BTreeSet<Place> {
        let is_skipped = entry.annotations.settings.skip;
        match frozen::last(&entry.service, &self.memory.last).filter(|_| is_skipped) {
            Some(last) => last.places.clone(),
            None if is_skipped && !entry.service.is_held() => BTreeSet::new(),
            None => plan::places(&entry.service, &self.addresses(entry), &self.options),
        }
    }

    /// Where a Service's listeners stand.
    fn addresses(&self, entry: &Entry) -> Vec<addresses::OfFamily> {
        match &self.options.pool {
            Some(_) => addresses::of_pool(entry, &self.memory.assigned),
            None => addresses::of_proxies(entry),
        }
    }

    /// Says what a Service wants now; whose luck may have changed by it.
    fn claim_places(&mut self, cluster: &Cluster, key: &Key) -> BTreeSet<Key> {
        let entry = cluster.service(key);
        let ours = entry.filter(|entry| claim::claim(&entry.service, &self.options) == Claim::Ours);
        let places = ours.map_or_else(BTreeSet::new, |entry| self.wanted_places(entry));
        let (created, uid) = ours.map_or_else(|| (0, "".into()), |entry| entry.service.rank());
        self.places.want(&(created, uid, key.clone()), places)
    }

    fn stand(
        &mut self,
        cluster: &Cluster,
        key: &Key,
        before: Option<&Standing>,
    ) -> Option<Standing> {
        self.waiting.remove(key);
        let entry = cluster.service(key);
        let claim = entry.map(|entry| claim::claim(&entry.service, &self.options));
        let (entry, claim) = entry.zip(claim).unzip();
        match claim {
            Some(Claim::Ours) => {}
            Some(Claim::Leaving) => return self.leave(key, Some(Standing::Leaving)),
            Some(Claim::Other(note)) => return self.leave(key, Some(Standing::Other(note))),
            Some(Claim::NotOurs) | None => return self.leave(key, None),
        }
        let entry = entry?;
        let places = self.wanted_places(entry);
        let plan = if entry.annotations.settings.skip {
            self.keep(cluster, entry)
        } else {
            self.plan(cluster, entry)
        };
        let plan = match before {
            Some(Standing::Ours(before)) if **before == plan => Arc::clone(before),
            _ => Arc::new(share(plan, before)),
        };
        if !plan.is_early {
            let last = frozen::Last {
                plan: Arc::clone(&plan),
                places,
            };
            self.memory.last.insert(key.clone(), last);
        }
        Some(Standing::Ours(plan))
    }

    /// What a Service is that is not to change any more.
    fn keep(&mut self, cluster: &Cluster, entry: &Entry) -> Plan {
        let service = &entry.service;
        let before = match frozen::last(service, &self.memory.last) {
            Some(last) => Arc::clone(&last.plan),
            // Whoever planned it before is gone.
            None if service.is_held() => {
                let plan = self.plan(cluster, entry);
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
            let remembered = self.memory.closed.entry(service.key.clone()).or_default();
            for (set, mut keys) in closed {
                remembered.entry(set).or_default().append(&mut keys);
            }
        }
        self.waiting.remove(&service.key);
        plan
    }

    fn plan(&mut self, cluster: &Cluster, entry: &Entry) -> Plan {
        let key = &entry.service.key;
        let planned = plan::plan(&plan::Input {
            cluster,
            options: &self.options,
            entry,
            addresses: &self.addresses(entry),
            holder: &|place| self.places.holder(place).cloned(),
            closed: self.memory.closed.get(key).unwrap_or(&plan::Closed::new()),
            slots: self.memory.slots.get(key).unwrap_or(&plan::OfSets::new()),
            shown: self.memory.shown.get(key).unwrap_or(&plan::Shown::new()),
            kept: self.kept_of(key, entry),
        });
        self.remember_config(key, entry, &planned.plan);
        if planned.shown.is_empty() {
            self.memory.shown.remove(key);
        } else {
            self.memory.shown.insert(key.clone(), planned.shown);
        }
        if planned.slots.is_empty() {
            self.memory.slots.remove(key);
        } else {
            self.memory.slots.insert(key.clone(), planned.slots);
        }
        if planned.closed.is_empty() {
            self.memory.closed.remove(key);
        } else {
            self.memory.closed.insert(key.clone(), planned.closed);
        }
        if planned.plan.waits_for_health {
            self.waiting.insert(key.clone());
        }
        planned.plan
    }

    /// What TkeServiceConfigs have set so far of this very Service, if that is remembered.
    fn kept_of(&self, key: &Key, entry: &Entry) -> Option<&config::Kept> {
        let (uid, kept) = self.memory.kept.get(key)?;
        (*uid == entry.service.uid).then_some(kept)
    }

    /// Remembers what is set now. What a Service says of it counts only if nothing is remembered.
    fn remember_config(&mut self, key: &Key, entry: &Entry, plan: &Plan) {
        let service = &entry.service;
        if plan.config.kept.is_empty() && !service.annotations.contains_key(KEPT_CONFIG) {
            self.memory.kept.remove(key);
            return;
        }
        let kept = (Arc::clone(&service.uid), plan.config.kept.clone());
        self.memory.kept.insert(key.clone(), kept);
    }

    fn leave(&mut self, key: &Key, standing: Option<Standing>) -> Option<Standing> {
        self.memory.closed.remove(key);
        self.memory.slots.remove(key);
        self.memory.shown.remove(key);
        self.memory.last.remove(key);
        self.memory.kept.remove(key);
        standing
    }

    /// What has ended cannot come back. It need not touch the Service any more that remembers it.
    fn forget_closed(&mut self, cluster: &Cluster) {
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
    fn remember_ended(&mut self, cluster: &Cluster, moves: &Moves) {
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

/// Whether a Service is ours, wherever it was seen.
pub(crate) fn is_ours(service: &Service, options: &Options) -> bool {
    claim::claim(service, options) == Claim::Ours
}

/// Whether the traffic of a Service of ours goes straight to its Pods, and new Pods join them.
pub(crate) fn is_direct(entry: &Entry, switches: &Switches, options: &Options) -> bool {
    let is_skipped = entry.annotations.settings.skip;
    !is_skipped && plan::mode(entry, switches, options).0 == Mode::Direct
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

fn listeners(standing: Option<&Standing>) -> &[Arc<Listener>] {
    match standing {
        Some(Standing::Ours(plan)) => &plan.listeners,
        _ => &[],
    }
}

#[cfg(test)]
mod tests;
