//! What is remembered of every Pod that waits for our gate: what its verdict depends on, since when it holds, and what was
//! asked for. Pure: time is an argument, in milliseconds of any clock that only goes forward.
//!
//! A change costs what it touches: only the Pods of the Services that changed are looked at in sets and slices again, in
//! one pass a Service. What the proxies say costs a few lookups for each Pod that waits.

mod orders;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::reason::Reason;
use super::stand::{Stand, stands};
use super::verdict::{Said, Verdict, verdict};
use crate::build::Builder;
use crate::cluster::pod::{GateSaid, Labels, Owner};
use crate::cluster::{Cluster, Entry, Front, Gate, Key, Pod, Touched};
use crate::observed::Observed;
pub use orders::{Ask, News, Orders};

/// What changed in the cluster and its build.
#[derive(Clone, Copy, Debug)]
pub struct Changed<'a> {
    /// As the cluster told it.
    pub touched: &'a Touched,
    /// Who stands differently.
    pub standings: &'a BTreeSet<Front>,
    /// Pods that changed.
    pub pods: &'a BTreeSet<Key>,
    /// All of them may have.
    pub all_pods: bool,
}

/// The gates of all Pods that wait.
#[derive(Clone, Debug, Default)]
pub struct Gates {
    pods: BTreeMap<Key, Waiting>,
    /// The Pods whose verdict depends on a Service.
    dependents: HashMap<Key, BTreeSet<Key>>,
    /// As they were when they were last looked at.
    services: HashMap<Key, Arc<Entry>>,
    /// Since when no proxy serves.
    silent_since_ms: Option<u64>,
    /// Services that were told so.
    told_silent: BTreeSet<Key>,
}

/// A Pod that waits.
#[derive(Clone, Debug)]
struct Waiting {
    uid: Arc<str>,
    labels: Labels,
    owner: Option<Arc<Owner>>,
    /// What its condition says.
    said: Option<GateSaid>,
    /// Why it would not be ready even if the gate were open.
    not_yet: Option<&'static str>,
    /// By the Services that its verdict depends on.
    stands: BTreeMap<Key, Vec<Stand>>,
    verdict: Verdict,
    /// Since when the verdict has this reason.
    since_ms: u64,
    /// Since when it waits for nothing but us.
    waits_since_ms: Option<u64>,
    asked: Option<Asked>,
    /// That it waits for long was told.
    is_told: bool,
}

/// What the API server was last asked to write.
#[derive(Clone, Debug)]
struct Asked {
    said: Said,
    at_ms: u64,
}

/// A Pod that waits, for whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait<'a> {
    /// Which.
    pub pod: &'a Key,
    /// Of that very object.
    pub uid: &'a Arc<str>,
    /// What there is to say of its gate.
    pub verdict: &'a Verdict,
    /// Since when the verdict has this reason.
    pub since_ms: u64,
}

const NEW: &str = "it was just seen";

impl Waiting {
    fn of(pod: &Pod, now_ms: u64) -> Self {
        Self {
            uid: Arc::clone(&pod.uid),
            labels: Labels::default(),
            owner: None,
            said: None,
            not_yet: Some(NEW),
            stands: BTreeMap::new(),
            verdict: Verdict::Pending(NEW),
            since_ms: now_ms,
            waits_since_ms: None,
            asked: None,
            is_told: false,
        }
    }

    /// Decides anew.
    fn decide(&mut self, observed: &Observed, now_ms: u64) {
        let now = match self.not_yet {
            Some(why) => Verdict::Pending(why),
            None => verdict(&self.stands, observed),
        };
        if reason(&now) != reason(&self.verdict) {
            self.since_ms = now_ms;
        }
        self.verdict = now;
        if self.not_yet.is_some() {
            self.waits_since_ms = None;
        } else {
            self.waits_since_ms.get_or_insert(now_ms);
        }
    }
}

/// What a verdict is held by.
const fn reason(verdict: &Verdict) -> Option<Reason> {
    match verdict {
        Verdict::Pending(_) => None,
        Verdict::Closed(said) | Verdict::Open { said, .. } => Some(said.reason),
    }
}

/// Why a Pod would not be ready even if our gate were open.
fn not_yet(cluster: &Cluster, pod: &Pod) -> Option<&'static str> {
    if !pod.containers_ready {
        return Some("its containers are not ready");
    }
    if !pod.other_gates_open {
        return Some("another readiness gate of it is not open");
    }
    let node = pod.node.as_ref().and_then(|name| cluster.node(name));
    // What a dead kubelet said last counts for nothing.
    (!node.is_some_and(|node| node.is_ready)).then_some("its node is not ready")
}

impl Gates {
    /// Takes in that this replica leads from now on: what was asked for by whoever led before is not known, and nothing has
    /// held yet.
    pub fn restart(&mut self, now_ms: u64) {
        self.silent_since_ms = self.silent_since_ms.map(|_| now_ms);
        self.told_silent.clear();
        for waiting in self.pods.values_mut() {
            waiting.since_ms = now_ms;
            waiting.waits_since_ms = waiting.waits_since_ms.map(|_| now_ms);
            waiting.asked = None;
            waiting.is_told = false;
        }
    }

    /// Takes in what changed, after it was built.
    pub fn take(&mut self, cluster: &Cluster, builder: &Builder, what: &Changed<'_>, now_ms: u64) {
        let mut work: BTreeMap<Key, BTreeSet<Key>> = BTreeMap::new();
        let mut affected = self.take_pods(cluster, what, &mut work, now_ms);
        affected.append(&mut self.take_services(cluster, what, &mut work));
        for (service, keys) in work {
            let pods: Vec<_> = keys.iter().filter_map(|key| cluster.pod(key)).collect();
            let stands = stands(cluster, builder, &service, &pods);
            for (pod, stand) in pods.into_iter().zip(stands) {
                if let Some(waiting) = self.pods.get_mut(&pod.key) {
                    waiting.stands.insert(service.clone(), stand);
                }
            }
            affected.extend(keys);
        }
        let observed = cluster.observed();
        self.note_silence(observed, now_ms);
        for key in affected {
            if let Some(waiting) = self.pods.get_mut(&key) {
                waiting.decide(observed, now_ms);
            }
        }
    }

    /// Takes in what the proxies say now.
    pub fn observe(&mut self, observed: &Observed, now_ms: u64) {
        self.note_silence(observed, now_ms);
        for waiting in self.pods.values_mut() {
            waiting.decide(observed, now_ms);
        }
    }

    fn note_silence(&mut self, observed: &Observed, now_ms: u64) {
        if observed.serving().next().is_some() {
            self.silent_since_ms = None;
            self.told_silent.clear();
        } else {
            self.silent_since_ms.get_or_insert(now_ms);
        }
    }

    /// The Pods that wait.
    pub fn waiting(&self) -> impl Iterator<Item = Wait<'_>> {
        self.pods.iter().map(|(pod, waiting)| Wait {
            pod,
            uid: &waiting.uid,
            verdict: &waiting.verdict,
            since_ms: waiting.since_ms,
        })
    }

    /// One of them.
    pub fn wait(&self, pod: &Key) -> Option<&Verdict> {
        Some(&self.pods.get(pod)?.verdict)
    }

    fn take_pods(
        &mut self,
        cluster: &Cluster,
        what: &Changed<'_>,
        work: &mut BTreeMap<Key, BTreeSet<Key>>,
        now_ms: u64,
    ) -> BTreeSet<Key> {
        let mut changed = what.pods.clone();
        if what.all_pods {
            changed.extend(self.pods.keys().cloned());
            changed.extend(cluster.waiting_pods().map(|pod| pod.key.clone()));
        }
        for key in &changed {
            let waits =
                |pod: &&Pod| pod.gate == Gate::Waiting && !pod.has_ended && !pod.is_deleting;
            match cluster.pod(key).filter(waits) {
                Some(pod) => self.learn(cluster, pod, work, now_ms),
                None => self.forget(key),
            }
        }
        if what.touched.all {
            for (key, waiting) in &mut self.pods {
                let now = cluster.pod(key).and_then(|pod| not_yet(cluster, pod));
                if now != waiting.not_yet {
                    waiting.not_yet = now;
                    changed.insert(key.clone());
                }
            }
        }
        changed
    }

    fn learn(
        &mut self,
        cluster: &Cluster,
        pod: &Pod,
        work: &mut BTreeMap<Key, BTreeSet<Key>>,
        now_ms: u64,
    ) {
        let key = &pod.key;
        if self.pods.get(key).is_some_and(|it| it.uid != pod.uid) {
            self.forget(key);
        }
        let waiting = self.pods.entry(key.clone());
        let waiting = waiting.or_insert_with(|| Waiting::of(pod, now_ms));
        waiting.labels = Arc::clone(&pod.labels);
        waiting.owner.clone_from(&pod.owner);
        waiting.said.clone_from(&pod.gate_said);
        waiting.not_yet = not_yet(cluster, pod);
        let before: BTreeSet<Key> = waiting.stands.keys().cloned().collect();
        let selecting = cluster.services_in(&key.namespace);
        let selecting = selecting.filter(|entry| entry.service.selects(&pod.labels));
        let selecting = selecting.map(|entry| &entry.service.key);
        let naming = cluster.services_naming(key);
        let naming = naming.filter(|service| service.namespace == key.namespace);
        let now: BTreeSet<Key> = selecting.chain(naming).cloned().collect();
        for service in before.difference(&now) {
            self.part(service, key);
        }
        for service in now {
            self.join(&service, key);
            work.entry(service).or_default().insert(key.clone());
        }
    }

    fn forget(&mut self, key: &Key) {
        let Some(waiting) = self.pods.remove(key) else {
            return;
        };
        for service in waiting.stands.keys() {
            self.part(service, key);
        }
    }

    /// Lets a Pod's verdict depend on a Service.
    fn join(&mut self, service: &Key, pod: &Key) {
        if let Some(waiting) = self.pods.get_mut(pod) {
            let stands = waiting.stands.entry(service.clone());
            stands.or_default();
            let dependents = self.dependents.entry(service.clone()).or_default();
            dependents.insert(pod.clone());
        }
    }

    /// Lets a Pod's verdict depend on a Service no longer.
    fn part(&mut self, service: &Key, pod: &Key) {
        if let Some(waiting) = self.pods.get_mut(pod) {
            waiting.stands.remove(service);
        }
        if let Some(dependents) = self.dependents.get_mut(service) {
            dependents.remove(pod);
            if dependents.is_empty() {
                self.dependents.remove(service);
            }
        }
    }

    fn take_services(
        &mut self,
        cluster: &Cluster,
        what: &Changed<'_>,
        work: &mut BTreeMap<Key, BTreeSet<Key>>,
    ) -> BTreeSet<Key> {
        let behind = what.standings.iter().map(|it| cluster.services_behind(it));
        let mut keys: BTreeSet<Key> = behind.flatten().collect();
        keys.extend(what.touched.services.iter().cloned());
        if what.touched.all {
            keys.extend(cluster.services().map(|(key, _)| key.clone()));
            keys.extend(self.services.keys().cloned());
        }
        let mut affected = BTreeSet::new();
        for service in keys {
            let pods = self.candidates(cluster, &service);
            let entry = cluster.service(&service).cloned();
            for pod in pods {
                let is_selected = entry.as_ref().is_some_and(|entry| {
                    let labels = self.pods.get(&pod).map(|waiting| &waiting.labels);
                    labels.is_some_and(|labels| entry.service.selects(labels))
                });
                let is_named = || cluster.services_naming(&pod).any(|key| *key == service);
                if is_selected || is_named() {
                    self.join(&service, &pod);
                    work.entry(service.clone()).or_default().insert(pod);
                } else {
                    self.part(&service, &pod);
                    affected.insert(pod);
                }
            }
            match entry {
                Some(entry) => self.services.insert(service, entry),
                None => self.services.remove(&service),
            };
        }
        affected
    }

    /// The Pods that wait and whose verdict depends on a Service, or may do so now.
    fn candidates(&self, cluster: &Cluster, service: &Key) -> BTreeSet<Key> {
        let from = Key::new(&service.namespace, "");
        let in_namespace = self.pods.range(from..).map(|(key, _)| key);
        let mut in_namespace = in_namespace
            .take_while(|key| key.namespace == service.namespace)
            .peekable();
        if in_namespace.peek().is_none() {
            return BTreeSet::new();
        }
        let is_same = match (cluster.service(service), self.services.get(service)) {
            (Some(now), Some(before)) => Arc::ptr_eq(now, before),
            (now, before) => now.is_none() && before.is_none(),
        };
        if !is_same {
            return in_namespace.cloned().collect();
        }
        let mut candidates = self.dependents.get(service).cloned().unwrap_or_default();
        let endpoints = cluster
            .slices_of(service)
            .flat_map(|slice| &slice.endpoints);
        let pods = endpoints.filter_map(|endpoint| endpoint.pod.as_ref());
        let waiting = pods.map(|(key, _)| key);
        candidates.extend(waiting.filter(|key| self.pods.contains_key(*key)).cloned());
        candidates
    }
}
