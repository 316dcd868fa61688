//! The one task that owns the cluster and its build: takes in what was seen, builds, hands the snapshot to `push` and what
//! the API server is to be told to `reconcile`. What it decides is decided elsewhere, purely.

mod wants;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::admission::undrained::Begun;
use crate::auto_configs;
use crate::build::{Builder, Options, Standing};
use crate::cluster::{Change, Cluster, Front, Key, Kind, Touched};
use crate::gate::{self, Gates};
use crate::metrics::Metrics;
use crate::observed::Observed;
use crate::reconcile;
use crate::reconcile::difference::difference;
use crate::reconcile::source::{self, Settling, Verdict};
use crate::reconcile::wish::{Proxies, wish};
use crate::reconcile::writer::{Job, Queue};
use crate::reign::Reign;
use crate::secrets::Wanted;
use crate::snapshot::Snapshot;
use crate::timeline::follow::Inbox;
use crate::watch::{Seen, What};
use wants::Wants;

/// Changes that are taken in before the next build.
const AT_ONCE: usize = 1_024;
/// How long what the proxies say is gathered before statuses are compared with it.
const GATHER: Duration = Duration::from_millis(50);
/// Clients are told of a proxy until it has not served for so long.
const LISTED_FOR: Duration = Duration::from_secs(10);
/// A new leader takes no address out of a status for so long: it may not have found every proxy yet.
const EARLY_FOR: Duration = Duration::from_secs(10);
/// How often what depends on time alone is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The cluster and its build, for whoever wants to look. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shared(Arc<Mutex<Core>>);

/// The cluster and its build.
#[derive(Debug)]
pub struct Core {
    /// What was seen.
    pub cluster: Cluster,
    /// What came of it.
    pub builder: Builder,
    /// Kinds that were listed whole.
    pub synced: BTreeSet<Kind>,
    /// Certificates of Services are still to be read for the first time.
    lacks_secrets: bool,
    /// Watches that are broken now, and why.
    pub failing: BTreeMap<Kind, String>,
    /// The Pods that wait for our gate.
    pub gates: Gates,
    /// From when the gates' time counts.
    started: Instant,
}

impl Shared {
    /// Nothing seen yet.
    pub fn new(options: Options) -> Self {
        Self(Arc::new(Mutex::new(Core {
            cluster: Cluster::default(),
            builder: Builder::new(options),
            synced: BTreeSet::new(),
            lacks_secrets: false,
            failing: BTreeMap::new(),
            gates: Gates::default(),
            started: Instant::now(),
        })))
    }

    /// A look; must be short, since the engine waits meanwhile.
    pub fn look(&self) -> MutexGuard<'_, Core> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    /// Every kind was listed whole, and the Secrets that are named in it read.
    pub fn is_synced(&self) -> bool {
        self.is_listed() && !self.lacks_secrets
    }

    fn is_listed(&self) -> bool {
        self.synced.len() == Kind::ALL.len()
    }

    /// The gates' time.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// What the engine is connected to.
pub struct Engine {
    /// The cluster and its build.
    pub shared: Shared,
    /// What the API server says.
    pub seen: mpsc::Receiver<Seen>,
    /// What the proxies say.
    pub observed: watch::Receiver<Arc<Observed>>,
    /// Whether this replica leads.
    pub reign: watch::Receiver<Reign>,
    /// What the proxies are to be.
    pub snapshot: watch::Sender<Arc<Snapshot>>,
    /// Which Secrets are to be watched.
    pub secrets: watch::Sender<Arc<Wanted>>,
    /// What is to be written.
    pub queue: Queue,
    /// What is to be written of TkeServiceConfigs that are made for Services and Ingresses.
    pub auto_configs: auto_configs::Wanted,
    /// What is to be written of gates.
    pub gates: gate::writer::Queue,
    /// Whether TKE's controller is known not to be here.
    pub alone: watch::Sender<bool>,
    /// Who follows Pods.
    pub inbox: Inbox,
    /// What it counts in.
    pub metrics: Metrics,
}

/// What the engine remembers beside the cluster.
#[derive(Default)]
struct Memory {
    /// Whose writes are to be looked at again.
    stale: BTreeSet<Front>,
    /// All of them are.
    all_stale: bool,
    /// Proxies that clients are told of, and until when if they do not serve.
    listed: BTreeMap<String, Instant>,
    /// Until when this replica has only begun to lead.
    early_until: Option<Instant>,
    /// Changes that were not acknowledged by every proxy that serves: version, and when the first of them was seen.
    unacknowledged: VecDeque<(u64, Instant)>,
    /// What Services are to say of source addresses, once it has held.
    settling: Settling,
    /// Deletions of Pods that have begun of late.
    deletions: Begun,
    /// When the first of them was seen.
    started: Option<Instant>,
    /// Secrets that Services name.
    wants: Wants,
    /// This replica leads, and the gates know it.
    leads: bool,
    /// Pods that changed since gates were looked at.
    pods: BTreeSet<Key>,
    /// All of them may have.
    all_pods: bool,
}

impl Memory {
    fn now_ms(&mut self) -> u64 {
        let started = self.started.get_or_insert_with(Instant::now);
        u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Engine {
    /// Runs until nobody sends any more.
    pub async fn run(mut self) {
        let mut memory = Memory::default();
        let mut batch = Vec::with_capacity(AT_ONCE);
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut settle: Option<Instant> = None;
        loop {
            let settled = async {
                match settle {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                count = self.seen.recv_many(&mut batch, AT_ONCE) => {
                    if count == 0 {
                        return;
                    }
                    self.take(std::mem::take(&mut batch), &mut memory);
                    self.settle(&mut memory);
                    // Objects that come without a pause do not keep gates waiting.
                    if self.observed.has_changed().is_ok_and(|changed| changed) {
                        self.observe(&mut memory);
                        settle.get_or_insert_with(|| Instant::now() + GATHER);
                    }
                }
                Ok(()) = self.observed.changed() => {
                    self.observe(&mut memory);
                    settle.get_or_insert_with(|| Instant::now() + GATHER);
                }
                () = settled => {
                    settle = None;
                    memory.all_stale = true;
                    self.settle(&mut memory);
                }
                Ok(()) = self.reign.changed() => {
                    let epoch = match *self.reign.borrow_and_update() {
                        Reign::Leader { epoch } => Some(epoch),
                        Reign::Follower => None,
                    };
                    self.metrics.reign(epoch);
                    memory.leads = epoch.is_some();
                    if memory.leads {
                        let mut core = self.shared.look();
                        let now_ms = core.now_ms();
                        core.gates.restart(now_ms);
                        self.open_gates(&mut core, &memory, None);
                    }
                    memory.early_until = epoch.map(|_| Instant::now() + EARLY_FOR);
                    memory.all_stale = true;
                    self.settle(&mut memory);
                }
                _ = look.tick() => {
                    self.judge_deletions(&mut memory);
                    let is_over = memory.early_until.is_some_and(|until| until <= Instant::now());
                    if is_over {
                        memory.early_until = None;
                    }
                    memory.all_stale |= self.list_proxies(&mut memory) || is_over;
                    let ripe = memory.settling.ripe(Instant::now()).cloned();
                    memory.stale.extend(ripe.map(Front::Service));
                    self.open_gates(&mut self.shared.look(), &memory, None);
                    if memory.all_stale || !memory.stale.is_empty() {
                        self.settle(&mut memory);
                    }
                }
            }
        }
    }

    fn take(&self, batch: Vec<Seen>, memory: &mut Memory) {
        let first = batch.first().map_or_else(Instant::now, |seen| seen.at);
        let mut core = self.shared.look();
        let was_synced = core.is_synced();
        let mut touched = Touched::default();
        let (mut pods, mut all_pods) = (BTreeSet::new(), false);
        for seen in batch {
            match seen.what {
                What::Change(change) => {
                    match &change {
                        Change::Service(key, _) => {
                            memory.stale.insert(Front::Service(key.clone()));
                        }
                        Change::Ingress(key, _) => {
                            memory.stale.insert(Front::Ingress(key.clone()));
                        }
                        Change::Pod(key, _) => _ = pods.insert(key.clone()),
                        _ => {}
                    }
                    let Core {
                        cluster, builder, ..
                    } = &*core;
                    let now_ms = memory.now_ms();
                    memory.deletions.note(&change, cluster, builder, now_ms);
                    touched.merge(core.cluster.apply(change));
                }
                What::Listed(kind, list) => {
                    if core.failing.remove(&kind).is_some() || !core.synced.contains(&kind) {
                        tracing::info!(kind = kind.as_str(), objects = list.len(), "listed");
                    }
                    self.metrics.objects(kind, true, list.len());
                    memory.all_stale |= matches!(kind, Kind::Service | Kind::Ingress);
                    all_pods |= kind == Kind::Pod;
                    touched.merge(core.cluster.replace(kind, list));
                    core.synced.insert(kind);
                }
                What::Failed(kind, problem) => {
                    self.metrics.watch_failed(kind);
                    if core.failing.insert(kind, problem.clone()).as_ref() != Some(&problem) {
                        tracing::warn!(
                            kind = kind.as_str(),
                            problem,
                            "a watch is broken; trying again"
                        );
                    }
                }
            }
        }
        memory.pods.extend(pods.iter().cloned());
        memory.all_pods |= all_pods;
        self.inbox.pods(pods, all_pods);
        touched.merge(self.want_secrets(&mut core, memory));
        if !core.is_synced() {
            return; // half a cluster would be built
        }
        let alone = core.cluster.is_off_cloud();
        self.alone
            .send_if_modified(|known| std::mem::replace(known, alone) != alone);
        if !was_synced {
            touched = Touched::all();
            memory.all_stale = true;
            memory.all_pods = true;
        }
        self.decide(&mut core, &touched, first, memory);
        self.open_gates(&mut core, memory, None);
    }

    /// Asks for the Secrets that are wanted now; whom it touches that others are forgotten. Proxies are told nothing
    /// before those are read that the first whole list names: what they show already would be taken from them.
    fn want_secrets(&self, core: &mut Core, memory: &mut Memory) -> Touched {
        let Core {
            cluster, builder, ..
        } = &mut *core;
        let (wanted, touched) = memory.wants.update(cluster, builder.options());
        if let Some(wanted) = wanted {
            self.secrets.send_replace(wanted);
        }
        if core.is_listed() {
            core.lacks_secrets = memory.wants.lacks_first(&core.cluster);
        }
        touched
    }

    /// Counts the deletions that nobody asked about, where this replica leads.
    fn judge_deletions(&self, memory: &mut Memory) {
        let now_ms = memory.now_ms();
        let count = memory.deletions.judge(&self.observed.borrow(), now_ms);
        if count > 0 && matches!(*self.reign.borrow(), Reign::Leader { .. }) {
            self.metrics.undrained(count);
        }
    }

    /// Builds, and decides about gates by what came of it.
    fn decide(&self, core: &mut Core, touched: &Touched, first: Instant, memory: &mut Memory) {
        let mut changed = self.build(core, touched, first, memory);
        let (pods, all_pods) = (std::mem::take(&mut memory.pods), memory.all_pods);
        memory.all_pods = false;
        let now_ms = core.now_ms();
        let what = gate::Changed {
            touched,
            standings: &changed,
            pods: &pods,
            all_pods,
        };
        core.gates.take(&core.cluster, &core.builder, &what, now_ms);
        memory.stale.append(&mut changed);
    }

    /// Asks for what is to be written of gates now. `healthy_at`: when that came in which made Pods healthy, if anything.
    fn open_gates(&self, core: &mut Core, memory: &Memory, healthy_at: Option<Instant>) {
        if core.is_synced() && memory.leads {
            let now_ms = core.now_ms();
            self.gates.put(core.gates.act(now_ms), healthy_at);
        }
    }

    fn build(
        &self,
        core: &mut Core,
        touched: &Touched,
        first: Instant,
        memory: &mut Memory,
    ) -> BTreeSet<Front> {
        if touched.is_empty() {
            return BTreeSet::new();
        }
        let begun = Instant::now();
        let Core {
            cluster, builder, ..
        } = core;
        let before = builder.snapshot().version;
        let changed = builder.build(cluster, touched);
        let version = builder.snapshot().version;
        let ours = builder.standings().len() + builder.ingresses().len();
        self.metrics.built(begun.elapsed(), version, ours);
        self.inbox.fronts(core, &changed, first);
        // The first snapshot is sent even if it is empty: proxies may hold what is no longer.
        if version != before || self.snapshot.borrow().version == 0 {
            let snapshot = core.builder.publish();
            memory.unacknowledged.push_back((snapshot.version, first));
            self.snapshot.send_replace(Arc::new(snapshot));
        }
        changed
    }

    fn observe(&mut self, memory: &mut Memory) {
        let came_at = self.metrics.told_since().unwrap_or_else(Instant::now);
        let observed = Arc::clone(&self.observed.borrow_and_update());
        let lowest = observed.serving().map(|(_, proxy)| proxy.acked).min();
        while let Some((version, at)) = memory.unacknowledged.front()
            && lowest.is_some_and(|lowest| lowest >= *version)
        {
            self.metrics.acknowledged(at.elapsed());
            memory.unacknowledged.pop_front();
        }
        // A follower's are never acknowledged.
        let surplus = memory.unacknowledged.len().saturating_sub(10_000);
        memory.unacknowledged.drain(..surplus);
        let shared = self.shared.clone();
        let mut core = shared.look();
        let touched = core.cluster.apply(Change::Observed(Arc::clone(&observed)));
        if core.is_synced() {
            self.decide(&mut core, &touched, Instant::now(), memory);
            let now_ms = core.now_ms();
            core.gates.observe(&observed, now_ms);
            self.open_gates(&mut core, memory, Some(came_at));
        }
        drop(core);
        self.list_proxies(memory);
    }

    /// Whether the proxies that clients are told of are others than before.
    fn list_proxies(&self, memory: &mut Memory) -> bool {
        let observed = self.observed.borrow();
        let now = Instant::now();
        let before: BTreeSet<_> = memory.listed.keys().cloned().collect();
        for (name, _) in observed.serving() {
            memory.listed.insert(name.to_owned(), now + LISTED_FOR);
        }
        memory
            .listed
            .retain(|name, until| *until > now && observed.proxies.contains_key(name));
        !before.iter().eq(memory.listed.keys())
    }

    /// Looks at what has to be written of the Services that changed.
    fn settle(&self, memory: &mut Memory) {
        let core = self.shared.look();
        if !core.is_synced() || !matches!(*self.reign.borrow(), Reign::Leader { .. }) {
            return;
        }
        let mut stale = std::mem::take(&mut memory.stale);
        if std::mem::take(&mut memory.all_stale) {
            stale.extend(core.builder.fronts().map(|(front, _)| front));
        }
        let listed: BTreeSet<_> = memory.listed.keys().cloned().collect();
        let is_early = memory.early_until.is_some();
        for front in stale {
            match &front {
                Front::Service(key) => {
                    self.put(&core, key, &listed, is_early, &mut memory.settling);
                }
                Front::Ingress(key) => self.put_ingress(&core, key, &listed, is_early),
            }
        }
    }

    /// Nothing is to be written of what is gone.
    fn forget(&self, front: &Front) {
        self.queue.forget(front);
        self.auto_configs.put(front, None);
    }

    fn put_auto_config(&self, front: &Front, standing: Option<&Standing>) {
        let auto = match standing {
            Some(Standing::Ours(plan)) => plan.config.auto.clone(),
            _ => None,
        };
        self.auto_configs.put(front, auto);
    }

    fn put_ingress(&self, core: &Core, key: &Key, listed: &BTreeSet<String>, is_early: bool) {
        let front = Front::Ingress(key.clone());
        let Some(entry) = core.cluster.ingress(key) else {
            self.forget(&front);
            return;
        };
        let standing = core.builder.standing(&front);
        self.put_auto_config(&front, standing);
        let proxies = Proxies {
            observed: core.cluster.observed(),
            listed,
            is_early,
            since: core.builder.since(&front),
            source: None,
        };
        let Some((writes, notes)) = reconcile::ingress::writes(entry, standing, &proxies) else {
            return;
        };
        self.queue.put(Job {
            front,
            uid: Arc::clone(&entry.ingress.uid),
            resource_version: entry.ingress.resource_version.clone(),
            writes,
            notes,
        });
    }

    fn put(
        &self,
        core: &Core,
        key: &Key,
        listed: &BTreeSet<String>,
        is_early: bool,
        settling: &mut Settling,
    ) {
        let front = Front::Service(key.clone());
        let Some(entry) = core.cluster.service(key) else {
            self.forget(&front);
            settling.forget(key);
            return;
        };
        let standing = core.builder.standing(&front);
        self.put_auto_config(&front, standing);
        let verdict = match standing {
            Some(Standing::Ours(plan)) => source::verdict(plan, core.cluster.observed()),
            _ => Verdict::Nothing,
        };
        let source = settling.settle(&entry.service, verdict, Instant::now());
        let proxies = Proxies {
            observed: core.cluster.observed(),
            listed,
            is_early,
            since: core.builder.since(&front),
            source: source.as_ref(),
        };
        let Some(wish) = wish(&entry.service, standing, &proxies) else {
            return;
        };
        self.queue.put(Job {
            front,
            uid: Arc::clone(&entry.service.uid),
            resource_version: entry.service.resource_version.clone(),
            writes: difference(&entry.service, &wish),
            notes: wish.notes,
        });
    }
}

#[cfg(test)]
mod tests;
