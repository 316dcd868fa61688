//! A cluster that is built after each change, and what must hold after every build.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use podline_api::{BackendKey, BackendSet, Document, Name, Weight, v1};

use super::super::endpoints::{Candidate, State, gather};
use super::super::modes::Modes;
use super::*;
use crate::cluster::{Change, Key};

/// A cluster and its builder.
pub(in crate::build) struct Checked {
    pub(in crate::build) cluster: Cluster,
    pub(in crate::build) builder: Builder,
    /// How each bound endpoint did after the last build.
    states: HashMap<(Name, BackendKey), (State, Weight)>,
    /// Pods being deleted that had no weight in a set.
    closed: HashMap<Front, HashSet<(Name, BackendKey)>>,
}

impl Checked {
    pub(in crate::build) fn new(options: Options) -> Self {
        Self {
            cluster: Cluster::default(),
            builder: Builder::new(options),
            states: HashMap::new(),
            closed: HashMap::new(),
        }
    }

    /// Takes a change in and builds; says whose standing differs.
    pub(in crate::build) fn change(&mut self, change: Change) -> BTreeSet<Key> {
        let touched = self.cluster.apply(change);
        self.build(&touched)
    }

    /// Builds what was touched, and checks everything; says which Services' standings differ.
    pub(in crate::build) fn build(&mut self, touched: &Touched) -> BTreeSet<Key> {
        let before = self.builder.clone();
        let changed = self.builder.build(&self.cluster, touched);
        self.equals_from_scratch(&before.memory, "with the memory from before");
        self.equals_from_scratch(&self.builder.memory, "with the memory of now");
        self.version_grows_with_differences(&before);
        self.snapshot_is_what_the_plans_say();
        self.proxies_can_take_it();
        self.quotas_hold_and_nothing_closed_is_opened();
        self.what_is_closed_stays_closed();
        self.what_ended_is_told(&before);
        let mut again = self.builder.clone();
        let changed_again: BTreeSet<Front> = again.build(&self.cluster, &Touched::all());
        assert_eq!(changed_again, BTreeSet::new(), "nothing changed");
        assert_eq!(again.memory, self.builder.memory, "nothing changed");
        changed.iter().filter_map(Front::service).cloned().collect()
    }

    fn equals_from_scratch(&self, memory: &Memory, how: &str) {
        let mut fresh = Builder::with_memory(self.builder.options.clone(), memory.clone());
        fresh.build(&self.cluster, &Touched::all());
        let (is, should) = (&self.builder, &fresh);
        assert_eq!(is.standings, should.standings, "{how}");
        assert_eq!(is.ingresses, should.ingresses, "{how}");
        assert_eq!(is.snapshot.listeners, should.snapshot.listeners, "{how}");
        assert_eq!(is.snapshot.sets, should.snapshot.sets, "{how}");
        assert_eq!(is.waiting, should.waiting, "{how}");
        assert_eq!(is.snapshot.network, should.snapshot.network, "{how}");
    }

    fn version_grows_with_differences(&self, before: &Builder) {
        let (was, is) = (&before.snapshot, &self.builder.snapshot);
        let differs =
            was.listeners != is.listeners || was.sets != is.sets || was.network != is.network;
        assert_eq!(is.version, was.version + u64::from(differs));
        assert!(differs || was.ended == is.ended, "told without a version");
    }

    fn plans(&self) -> impl Iterator<Item = (Front, &Plan)> {
        let all = self.builder.fronts();
        all.filter_map(|(front, standing)| match standing {
            Standing::Ours(plan) => Some((front, &**plan)),
            _ => None,
        })
    }

    fn snapshot_is_what_the_plans_say(&self) {
        let listeners = self.plans().flat_map(|(_, plan)| &plan.listeners);
        let listeners: BTreeMap<_, _> = listeners
            .map(|it| (it.name.clone(), Arc::clone(it)))
            .collect();
        let sets = self.plans().flat_map(|(_, plan)| &plan.sets);
        let sets: BTreeMap<_, _> = sets.map(|it| (it.name.clone(), Arc::clone(it))).collect();
        let snapshot = &self.builder.snapshot;
        assert_eq!((&snapshot.listeners, &snapshot.sets), (&listeners, &sets));
        for listener in listeners.values() {
            let mut leads_to = listener.sets().into_iter();
            assert!(leads_to.all(|set| sets.contains_key(set)), "{listener:?}");
        }
    }

    /// The whole state survives the proxies' own check: names, addresses, numbers, nothing twice.
    fn proxies_can_take_it(&self) {
        let snapshot = &self.builder.snapshot;
        let document = Document {
            listeners: snapshot
                .listeners
                .values()
                .map(|it| (**it).clone())
                .collect(),
            backend_sets: snapshot.sets.values().map(|it| (**it).clone()).collect(),
            network: Some((*snapshot.network).clone()),
        };
        let taken = Document::try_from(v1::Document::from(&document));
        assert_eq!(taken, Ok(document));
    }

    fn quotas_hold_and_nothing_closed_is_opened(&mut self) {
        let mut states = HashMap::new();
        let follows = |plan: &Plan| plan.mode == Mode::Direct && !plan.is_skipped;
        for (front, plan) in self.plans().filter(|(_, plan)| follows(plan)) {
            let Some(key) = front.service() else {
                continue;
            };
            let service = &self.cluster.service(key).unwrap().service;
            for port in &service.ports {
                for family in &service.families {
                    let name = super::super::plan::name(service, port, *family, "");
                    let of_port = |set: &&Arc<BackendSet>| name.as_ref() == Some(&set.name);
                    let Some(set) = plan.sets.iter().find(of_port) else {
                        continue;
                    };
                    let modes = Modes::of(&self.cluster, service, plan.modes.get(key).copied());
                    let gathered = gather(&self.cluster, &modes, service, port, *family);
                    let candidates = gathered.candidates;
                    let of: HashMap<_, _> = candidates
                        .iter()
                        .map(|it| (SocketAddr::new(it.address, it.port), it.state))
                        .collect();
                    let mut live = 0;
                    for backend in &set.backends {
                        let state = of[&backend.key.address];
                        live += usize::from(state.is_live());
                        let key = (set.name.clone(), backend.key.clone());
                        states.insert(key, (state, backend.weight));
                    }
                    assert!(live <= self.builder.options.quota, "{set:?}");
                    self.nobody_is_put_out_for_a_newcomer(set, &candidates, &of);
                }
            }
        }
        for (key, (state, weight)) in &states {
            let Some((was, before)) = self.states.get(key) else {
                continue;
            };
            let is_ending = !state.is_live() && !was.is_live();
            let rose = is_ending && *before == Weight::NONE && weight > before;
            assert!(!rose, "{key:?} was {before}, is {weight}");
        }
        self.states = states;
    }

    /// Who was bound and is not ready may have to go for one that is.
    fn nobody_is_put_out_for_a_newcomer(
        &self,
        set: &BackendSet,
        candidates: &[Candidate],
        of: &HashMap<SocketAddr, State>,
    ) {
        let was_bound = |key: &BackendKey| {
            let key = (set.name.clone(), key.clone());
            self.states.contains_key(&key)
        };
        let live = set.backends.iter().map(|backend| &backend.key);
        let live = live.filter(|key| of[&key.address].is_live());
        let newcomers: Vec<_> = live.filter(|key| !was_bound(key)).collect();
        for candidate in candidates.iter().filter(|it| it.state.is_live()) {
            let key = super::super::direct::key(candidate);
            if was_bound(&key) && set.backends.iter().all(|backend| backend.key != key) {
                let mut states = newcomers.iter().map(|new| of[&new.address]);
                let is_better = |new| candidate.state == State::Unready && new == State::Active;
                assert!(states.all(is_better), "{key:?} is put out of {set:?}");
            }
        }
    }

    /// Whatever happens to slices and modes meanwhile, for as long as the Service is ours.
    fn what_is_closed_stays_closed(&mut self) {
        let mut closed = std::mem::take(&mut self.closed);
        closed.retain(|front, _| self.plans().any(|(ours, _)| ours == *front));
        for (front, plan) in self.plans().filter(|(_, plan)| plan.mode == Mode::Direct) {
            let closed = closed.entry(front).or_default();
            for set in &plan.sets {
                for backend in &set.backends {
                    let pod = |id: &BackendId| self.cluster.living_pod(id.as_str());
                    let pod = backend.key.id.as_ref().and_then(pod);
                    if pod.is_none_or(|pod| !pod.is_deleting) {
                        continue;
                    }
                    let this = (set.name.clone(), backend.key.clone());
                    if backend.weight == Weight::NONE {
                        closed.insert(this);
                    } else {
                        assert!(!closed.contains(&this), "{backend:?} is open again");
                    }
                }
            }
        }
        self.closed = closed;
        for front in self.builder.memory.closed.keys() {
            let is_ours = self.plans().any(|(ours, _)| ours == *front);
            assert!(is_ours, "{front} is remembered, and none of ours");
        }
    }

    fn what_ended_is_told(&self, before: &Builder) {
        let (was, is) = (&before.snapshot, &self.builder.snapshot);
        let ids = |set: &BackendSet| -> BTreeSet<BackendId> {
            set.backends
                .iter()
                .filter_map(|b| b.key.id.clone())
                .collect()
        };
        let node = |id: &BackendId| self.cluster.nodes().any(|node| *node.uid == *id.as_str());
        // Flows are never cut.
        let is_cut = |name: &&Name| !name.as_str().contains("/udp/");
        for (name, set) in was.sets.iter().filter(|(name, _)| is_cut(name)) {
            let left = is.sets.get(name).map(|now| (ids(now), true));
            let (now, stays) = left.unwrap_or_default();
            for id in ids(set).difference(&now) {
                let pod = self.cluster.living_pod(id.as_str());
                let is_over = pod.map_or(!node(id), |pod| stays && pod.is_deleting);
                if is_over {
                    assert!(is.ended.contains(id), "{id} left {name}, and ended");
                } else if !was.ended.contains(id) {
                    let over_elsewhere = pod.is_some_and(|pod| pod.is_deleting);
                    assert!(over_elsewhere || !is.ended.contains(id), "{id} lives on");
                }
            }
        }
        for id in is.ended.iter() {
            let bound = is.sets.values().any(|set| ids(set).contains(id));
            let is_deleting = |pod: &crate::cluster::Pod| pod.is_deleting;
            let is_ending = self
                .cluster
                .living_pod(id.as_str())
                .is_some_and(is_deleting);
            assert!(!bound || is_ending, "{id} is bound, and said to have ended");
        }
    }

    /// The backends of a set: last part of the address, beginning of the id, weight.
    pub(in crate::build) fn backends(&self, set: &str) -> Vec<String> {
        let Some(set) = self.builder.snapshot.sets.get(set) else {
            return vec!["no set".to_owned()];
        };
        let show = |backend: &podline_api::Backend| {
            let id = backend.key.id.as_ref().map_or("-", |id| &id.as_str()[..4]);
            format!("{} {id} {}", backend.key.address, backend.weight)
        };
        set.backends.iter().map(show).collect()
    }

    /// What all proxies say if every probe passes at once: everything that is bound is healthy.
    pub(in crate::build) fn all_pass(&self) -> Arc<crate::observed::Observed> {
        let sets = self.builder.snapshot.sets.iter();
        let healthy = sets.map(|(name, set)| {
            let keys = set.backends.iter().map(|backend| backend.key.clone());
            (name.clone(), keys.collect())
        });
        let proxy = crate::observed::ProxyView {
            serving: true,
            healthy: healthy.collect(),
            ..crate::observed::ProxyView::default()
        };
        Arc::new(crate::observed::Observed {
            proxies: [("proxy-1".to_owned(), Arc::new(proxy))].into(),
            ..crate::observed::Observed::default()
        })
    }
}
