//! Which Pods are taken out of traffic before their deletion begins, from which backend sets, and when that is taken back.
//! Pure: times are milliseconds of the caller's clock.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use podline_api::{Backend, BackendId, BackendKey, Name, Weight};

use super::review::{Object, Request};
use crate::build::{Builder, Mode, Plan, Standing, health};
use crate::cluster::{Cluster, Front, Gate, Key};

/// How long a deletion may take to begin after it was allowed: then the Pod gets its weight back.
pub(super) const BEGINS_WITHIN_MS: u64 = 5_000;
/// A question whose answer nobody waits for any more counts as answered after so long.
const ANSWERED_WITHIN_MS: u64 = 3_000;
/// How long the proxies keep a Pod out by themselves, whatever becomes of us.
pub(super) const LASTS_MS: u64 = 30_000;

/// A backend of a set.
pub(super) type Place = (Name, BackendKey);

/// The Pod that is asked to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Doomed {
    /// Namespace and name.
    pub(super) key: Key,
    /// Of this object; another at its name is none of our business.
    pub(super) uid: Arc<str>,
}

/// Whose deletion a request asks for, if it is one that is drained: it has our gate, and nothing has begun. `cluster` knows
/// the Pods that evictions only name.
pub(super) fn doomed(request: &Request, cluster: &Cluster) -> Option<Doomed> {
    if request.is_dry_run() {
        return None;
    }
    let key = Key::new(request.namespace(), request.name());
    let uid: Arc<str> = match request.operation.as_str() {
        "DELETE" if request.is_about_pods("") => {
            let pod = request.old_object.as_ref()?;
            is_drained(pod).then(|| pod.uid().into())?
        }
        "CREATE" if request.is_about_pods("eviction") => {
            let pod = cluster.pod(&key)?;
            let is_drained = pod.gate != Gate::Absent && !pod.is_deleting && !pod.has_ended;
            is_drained.then(|| Arc::clone(&pod.uid))?
        }
        _ => return None,
    };
    let is_wanted = request.wanted_uid().is_none_or(|wanted| *wanted == *uid);
    (is_wanted && !uid.is_empty()).then_some(Doomed { key, uid })
}

fn is_drained(pod: &Object) -> bool {
    pod.has_gate() && !pod.is_deleting() && !pod.is_mirror()
}

/// What is to be done about a Pod that is asked to be deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Todo {
    /// It is taken out of these.
    pub(super) close: Vec<Place>,
    /// It stays in some set that has nobody else (K5).
    pub(super) is_kept: bool,
}

/// From which sets a Pod is to be taken out: those of direct Services in which it has a weight, and another backend that
/// serves. `is_closing` says who is on the way out already, `lost` which backend of a set it was until it lost its
/// weight, where that counts.
pub(super) fn todo(
    cluster: &Cluster,
    builder: &Builder,
    doomed: &Doomed,
    is_closing: impl Fn(&Place) -> bool,
    lost: impl Fn(&Front, &Name) -> Option<BackendKey>,
) -> Todo {
    let mut todo = Todo::default();
    let services = cluster.services_naming(&doomed.key);
    let fronts: BTreeSet<_> = services.flat_map(|key| cluster.fronts_of(key)).collect();
    for front in &fronts {
        let Some(Standing::Ours(plan)) = builder.standing(front) else {
            continue;
        };
        let is_off = cluster
            .annotations_of(front)
            .is_some_and(|it| it.settings.no_drain);
        if plan.mode != Mode::Direct || is_off {
            continue;
        }
        let lost = |set: &Name| lost(front, set);
        add(cluster, plan, doomed, &is_closing, lost, &mut todo);
    }
    todo
}

fn add(
    cluster: &Cluster,
    plan: &Plan,
    doomed: &Doomed,
    is_closing: &impl Fn(&Place) -> bool,
    lost: impl Fn(&Name) -> Option<BackendKey>,
    todo: &mut Todo,
) {
    let observed = cluster.observed();
    for set in &plan.sets {
        let is_its_own = |backend: &&Backend| is_of(&backend.key, &doomed.uid);
        let has_weight = |backend: &&Backend| backend.weight != Weight::NONE;
        let mut own = set.backends.iter().filter(is_its_own).filter(has_weight);
        let own = own.next().map(|backend| backend.key.clone());
        let Some(own) = own.or_else(|| lost(&set.name)) else {
            continue;
        };
        let stays = |backend: &Backend| {
            let pod = backend.key.id.as_ref().map(BackendId::as_str);
            let is_going = |uid| cluster.living_pod(uid).is_none_or(|pod| pod.is_deleting);
            !pod.is_some_and(is_going)
                && health::on_all(observed, &set.name, &backend.key)
                && !is_closing(&(set.name.clone(), backend.key.clone()))
        };
        let mut others = set.backends.iter().filter(has_weight);
        if others.any(|other| !is_of(&other.key, &doomed.uid) && stays(other)) {
            todo.close.push((set.name.clone(), own));
        } else {
            todo.is_kept = true;
        }
    }
}

/// Whether a backend is this Pod.
pub(super) fn is_of(key: &BackendKey, uid: &str) -> bool {
    key.id.as_ref().is_some_and(|id| id.as_str() == uid)
}

/// What has become of a Pod whose deletion was allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its deletion has not begun.
    Lives,
    /// It is being deleted, or gone.
    Goes,
}

/// The Pods that were taken out, until the proxies' own time for that is over.
#[derive(Debug, Default)]
pub(super) struct Drains {
    by_uid: BTreeMap<Arc<str>, Drain>,
    /// Of all of them.
    places: HashSet<Place>,
}

#[derive(Debug)]
struct Drain {
    doomed: Doomed,
    places: Vec<Place>,
    /// When it was asked for last.
    asked_ms: u64,
    /// When the deletion was allowed; absent while it waits, and where nobody waits any more.
    allowed_ms: Option<u64>,
    /// It is being deleted: there is nothing to take back.
    goes: bool,
}

/// Drains at once; more are not looked after, and end by themselves.
const MOST: usize = 4_096;

impl Drains {
    /// Whether somebody is on the way out already.
    pub(super) fn is_closing(&self, place: &Place) -> bool {
        self.places.contains(place)
    }

    /// A Pod is being taken out of these. Whether it can be looked after: if not, it is not to be drained.
    pub(super) fn begin(&mut self, doomed: &Doomed, places: &[Place], now_ms: u64) -> bool {
        let is_new = !self.by_uid.contains_key(&doomed.uid);
        if is_new && self.by_uid.len() >= MOST {
            return false;
        }
        self.forget(&doomed.uid);
        self.places.extend(places.iter().cloned());
        let drain = Drain {
            doomed: doomed.clone(),
            places: places.to_vec(),
            asked_ms: now_ms,
            allowed_ms: None,
            goes: false,
        };
        self.by_uid.insert(Arc::clone(&doomed.uid), drain);
        true
    }

    /// Its deletion may begin.
    pub(super) fn allowed(&mut self, uid: &str, now_ms: u64) {
        if let Some(drain) = self.by_uid.get_mut(uid) {
            drain.allowed_ms = Some(now_ms);
        }
    }

    /// Who is to have its weight back, because its deletion has not begun in time. What is over is forgotten.
    pub(super) fn due(
        &mut self,
        now_ms: u64,
        fate: impl Fn(&Doomed) -> Fate,
    ) -> Vec<(Doomed, Vec<Place>)> {
        let (mut over, mut due) = (Vec::new(), Vec::new());
        for (uid, drain) in &mut self.by_uid {
            drain.goes |= fate(&drain.doomed) == Fate::Goes;
            let since = |at_ms: u64| now_ms.saturating_sub(at_ms);
            let allowed_ms = drain
                .allowed_ms
                .unwrap_or(drain.asked_ms + ANSWERED_WITHIN_MS);
            if since(allowed_ms) >= BEGINS_WITHIN_MS && !drain.goes {
                due.push((drain.doomed.clone(), drain.places.clone()));
                over.push(Arc::clone(uid));
            } else if since(drain.asked_ms) >= LASTS_MS {
                over.push(Arc::clone(uid));
            }
        }
        for uid in over {
            self.forget(&uid);
        }
        due
    }

    fn forget(&mut self, uid: &str) {
        if let Some(drain) = self.by_uid.remove(uid) {
            for place in &drain.places {
                self.places.remove(place);
            }
        }
    }
}

#[cfg(test)]
mod tests;
