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
mod ingress;
pub(crate) mod modes;
mod network;
mod node_port;
pub mod note;
mod own;
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
use crate::cluster::{
    Cluster, Entry, Family, Front, Ingress, IngressEntry, Key, Service, Switches, Touched,
};
use crate::snapshot::Snapshot;
pub use claim::Claim;
use config::Owner;
use delta::{Delta, Moves};
use note::Note;
use own::Own;
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
    /// Classes of Ingresses that are ours.
    pub ingress_classes: BTreeSet<String>,
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
            ingress_classes: ["podline", "qcloud"].map(str::to_owned).into(),
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
    /// Terminating backends that lost their weight: one that was closed is never opened again.
    closed: BTreeMap<Front, plan::Closed>,
    /// Who has the slots of the quota, where they matter.
    slots: BTreeMap<Front, plan::OfSets>,
    /// What certificates ports show: they stay though their Secrets go.
    shown: BTreeMap<Front, plan::Shown>,
    /// What everybody was planned to be: some are to stay so.
    last: BTreeMap<Front, frozen::Last>,
    /// What TkeServiceConfigs have set so far, and for which object: it stays though they go.
    kept: BTreeMap<Front, (Arc<str>, config::Kept)>,
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

    fn stand(
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
            slots: self.memory.slots.get(front),
            shown: self.memory.shown.get(front),
            before: self.memory.last.get(front).map(|last| &*last.plan),
        }
    }

    /// Remembers what has to be, beside the plan itself.
    fn remember(&mut self, owner: &Owner<'_>, planned: plan::Planned) -> Plan {
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
        set(&mut self.memory.slots, front, some(planned.slots));
        set(&mut self.memory.shown, front, some(planned.shown));
        if planned.plan.waits_for_health {
            self.waiting.insert(front.clone());
        }
        planned.plan
    }

    /// What TkeServiceConfigs have set so far of this very object, if that is remembered.
    fn kept_of(&self, owner: &Owner<'_>) -> Option<&config::Kept> {
        let (uid, kept) = self.memory.kept.get(owner.front)?;
        (uid == owner.uid).then_some(kept)
    }

    fn leave(&mut self, front: &Front, standing: Option<Standing>) -> Option<Standing> {
        self.memory.closed.remove(front);
        self.memory.slots.remove(front);
        self.memory.shown.remove(front);
        self.memory.kept.remove(front);
        self.memory.last.remove(front);
        standing
    }

    /// What has ended cannot come back. It need not touch whoever remembers it.
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

/// The same of an Ingress.
pub(crate) fn is_our_ingress(ingress: &Ingress, options: &Options) -> bool {
    ingress::claim(ingress, options) == Claim::Ours
}

/// Whether the traffic of an Ingress of ours goes straight to Pods, and new ones join them.
pub(crate) fn is_direct_ingress(
    entry: &IngressEntry,
    switches: &Switches,
    options: &Options,
) -> bool {
    is_our_ingress(&entry.ingress, options) && Own::Ingress(entry).is_direct(switches, options)
}

/// The same of a Service of ours.
pub(crate) fn is_direct(entry: &Entry, switches: &Switches, options: &Options) -> bool {
    Own::Service(entry).is_direct(switches, options)
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
