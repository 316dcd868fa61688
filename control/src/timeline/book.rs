//! What is seen, put together: a row for each Pod that a direct Service of ours binds, or has bound lately. Pure.
//!
//! Rows of Pods that live stay; of those that are gone, an hour's, and no more than [`MOST_GONE`]. Only what this reign saw
//! counts: of a Pod that was there before, it is not known how it came.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use podline_api::{Backend, BackendKey, BackendSet, Name};

use super::ask::{Told, Wanted};
use super::difference::{Difference, named};
use super::news::News;
use super::point::{Point, STEPS};
use super::row::{Ask, Facts, Row, Seat};
use super::words;
use crate::cluster::{Front, Key};
use crate::observed::Observed;

/// Pods that are gone whose rows are kept.
pub const MOST_GONE: usize = 5_000;
/// For so long.
pub const GONE_FOR: SignedDuration = SignedDuration::from_hours(1);
/// A Pod that nobody was seen to connect to is asked about for so long.
const ASK_FOR: SignedDuration = SignedDuration::from_mins(10);
/// How soon to ask again, at first; each time after that twice as late.
const ASK_AFTER: SignedDuration = SignedDuration::from_millis(250);
/// What is learnt is counted after so long: another proxy may know better.
const SETTLE: SignedDuration = SignedDuration::from_secs(1);
/// The event waits so long for the first probe, of which proxies do not tell by themselves.
const TELL_AFTER: SignedDuration = SignedDuration::from_secs(2);
/// The step that ends with the first connection.
pub(super) const CONNECTED_COUNTED: u16 = 1 << 4;

/// All rows.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// This replica leads, as of then; absent: it does not, and nothing is taken in.
    since: Option<Timestamp>,
    rows: HashMap<Arc<str>, Row>,
    /// The row of each Pod that lives.
    living: HashMap<Key, Arc<str>>,
    /// Sets of each Service and Ingress, as last seen.
    fronts: BTreeMap<Front, Vec<Arc<BackendSet>>>,
    /// Rows that wait for the proxies.
    moving: HashSet<Arc<str>>,
    /// Rows that time alone may bring on.
    open: HashSet<Arc<str>>,
    /// In the order in which they went.
    gone: VecDeque<(Timestamp, Arc<str>)>,
    /// What the proxies were at when last heard of.
    observed: Arc<Observed>,
}

/// What a Service is now.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its sets, if it goes straight to its Pods.
    pub sets: Vec<Arc<BackendSet>>,
    /// The snapshot that has them.
    pub version: u64,
    /// When it was seen; absent: it was there before anybody looked.
    pub at: Option<Timestamp>,
}

impl Book {
    /// Whether this replica leads, and so knows anything, and since when.
    pub fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// A reign begins, or ends: nothing from before counts.
    pub fn begin(&mut self, since: Option<Timestamp>) {
        *self = Self {
            since,
            observed: Arc::clone(&self.observed),
            ..Self::default()
        };
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// All rows, in no order.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values()
    }

    /// The backends of one's sets that there is no row for, by the uids of their Pods.
    pub fn unknown<'a>(&self, front: &Front, sets: &'a [Arc<BackendSet>]) -> Vec<&'a str> {
        let known = self.fronts.get(front).map_or(&[][..], Vec::as_slice);
        let changes = sets
            .iter()
            .map(|set| Difference::of(named(known, &set.name), set));
        let entering = changes.flat_map(|change| change.entering);
        let uids = entering.filter_map(|backend| Some(backend.key.id.as_ref()?.as_str()));
        uids.filter(|uid| !self.rows.contains_key(*uid)).collect()
    }

    /// Takes in what a Service or Ingress is. `facts`: of those that are unknown.
    pub fn front(
        &mut self,
        front: &Front,
        seen: Seen,
        facts: &HashMap<Arc<str>, Facts>,
        now: Timestamp,
    ) {
        if self.since.is_none() {
            return;
        }
        let before = self.fronts.remove(front).unwrap_or_default();
        for set in &seen.sets {
            let change = Difference::of(named(&before, &set.name), set);
            for backend in change.entering {
                self.enter(front, set, backend, &seen, facts, now);
            }
            for backend in change.leaving {
                self.leave(&set.name, backend, seen.version);
            }
        }
        for old in &before {
            if named(&seen.sets, &old.name).is_none() {
                for backend in &old.backends {
                    self.leave(&old.name, backend, seen.version);
                }
            }
        }
        if !seen.sets.is_empty() {
            self.fronts.insert(front.clone(), seen.sets);
        }
    }

    fn enter(
        &mut self,
        front: &Front,
        set: &BackendSet,
        backend: &Backend,
        seen: &Seen,
        facts: &HashMap<Arc<str>, Facts>,
        now: Timestamp,
    ) {
        let Some(id) = &backend.key.id else {
            return; // no Pod
        };
        if !self.rows.contains_key(id.as_str()) {
            let Some(facts) = facts.get(id.as_str()) else {
                return; // gone already
            };
            self.insert(facts.clone(), seen.at, now);
        }
        let Some(row) = self.rows.get_mut(id.as_str()) else {
            return;
        };
        row.sit(Seat {
            set: set.name.clone(),
            front: front.clone(),
            backend: backend.key.clone(),
            checked: set.settings.health_check.is_some(),
            since: seen.version,
            out: (backend.weight.get() == 0).then_some(seen.version),
        });
        if row.is_moving() {
            self.moving.insert(Arc::clone(&row.facts.uid));
        }
    }

    fn insert(&mut self, facts: Facts, at: Option<Timestamp>, now: Timestamp) {
        let uid = Arc::clone(&facts.uid);
        let mut row = Row::new(facts, now);
        if let Some(at) = at {
            row.is_new = true;
            row.points.set(Point::Endpoint, at);
            self.open.insert(Arc::clone(&uid));
        }
        if let Some(Some(deleted)) = row.facts.deleted
            && let Ok(deleted) = Timestamp::from_second(deleted)
        {
            row.points.set_told(Point::Terminating, deleted);
        }
        let key = row.facts.key.clone();
        self.rows.insert(Arc::clone(&uid), row);
        if let Some(former) = self.living.insert(key, uid) {
            self.bury(former, now);
        }
    }

    fn bury(&mut self, uid: Arc<str>, now: Timestamp) {
        if let Some(row) = self.rows.get_mut(&uid) {
            row.note(Point::Gone, now, now);
            self.open.insert(Arc::clone(&uid));
            self.moving.insert(Arc::clone(&uid));
            self.gone.push_back((now, uid));
        }
    }

    fn leave(&mut self, set: &Name, backend: &Backend, version: u64) {
        let id = backend.key.id.as_ref();
        if let Some(row) = id.and_then(|id| self.rows.get_mut(id.as_str())) {
            row.leave(set, &backend.key, version);
            self.moving.insert(Arc::clone(&row.facts.uid));
        }
    }

    /// Takes in what a Pod is now; `None`: there is none of this name.
    pub fn pod(&mut self, key: &Key, facts: Option<Facts>, now: Timestamp) {
        let Some(uid) = self.living.get(key).cloned() else {
            return;
        };
        let Some(row) = self.rows.get_mut(&uid) else {
            return;
        };
        match facts {
            Some(facts) if facts.uid == uid => {
                let opened = row.facts.waits && !facts.waits;
                if opened {
                    row.note(Point::GateOpened, now, now);
                }
                if facts.deleted.is_some() && !row.has(Point::Terminating) {
                    row.note(Point::Terminating, now, now);
                    row.ask = row.is_unknown().then_some(Ask { at: now, times: 0 });
                }
                row.facts = facts;
                self.open.insert(Arc::clone(&uid));
                self.moving.insert(uid);
            }
            _ => {
                self.living.remove(key);
                self.bury(uid, now);
            }
        }
    }

    /// The Pods that live, as far as there are rows for them.
    pub fn living(&self) -> Vec<Key> {
        self.living.keys().cloned().collect()
    }

    /// A Pod has come to a point, as somebody else saw.
    pub fn note(&mut self, uid: &Arc<str>, point: Point, at: Timestamp) {
        if let Some(row) = self.rows.get_mut(uid) {
            row.note(point, at, at);
            self.open.insert(Arc::clone(uid));
        }
    }

    /// Takes in what the proxies are at.
    pub fn observe(&mut self, observed: Arc<Observed>, now: Timestamp) {
        self.observed = observed;
        let moving = std::mem::take(&mut self.moving);
        for uid in moving {
            if self.settle(&uid, now) {
                self.moving.insert(uid);
            }
        }
    }

    /// Takes in what a proxy told of a backend.
    pub fn hear(&mut self, told: &Told, now: Timestamp) {
        let id = told.backend.id.as_ref();
        if let Some(row) = id.and_then(|id| self.rows.get_mut(id.as_str())) {
            row.hear(&told.proxy, &told.set, told.what);
            let uid = Arc::clone(&row.facts.uid);
            if !self.settle(&uid, now) {
                self.moving.remove(&uid);
            }
            self.open.insert(uid);
        }
    }

    /// Brings a row to where the proxies are; whether it waits for more.
    fn settle(&mut self, uid: &Arc<str>, now: Timestamp) -> bool {
        let Some(row) = self.rows.get_mut(uid) else {
            return false;
        };
        let was = row.points;
        row.observe(&self.observed, now);
        if row.points != was {
            self.open.insert(Arc::clone(uid));
        }
        let is_news = |point| was.get(point).is_none() && row.has(point);
        if is_news(Point::Healthy) {
            row.ask = Some(Ask { at: now, times: 0 });
        } else if is_news(Point::Bound) {
            let at = now + ASK_AFTER;
            row.ask = Some(Ask { at, times: 0 });
        }
        row.is_moving()
    }

    /// What is due by time alone: what to ask the proxies, what to count, and what to tell.
    pub fn tick(&mut self, now: Timestamp) -> (Wanted, News) {
        let (mut wanted, mut news) = (Wanted::new(), News::default());
        let rows = &mut self.rows;
        self.open.retain(|uid| {
            let Some(row) = rows.get_mut(uid) else {
                return false;
            };
            ask(row, now, &mut wanted);
            count(row, now, &mut news);
            tell(row, now, &mut news);
            let is_quiet = now.duration_since(row.changed) > TELL_AFTER + SETTLE;
            let is_open = !is_quiet || row.ask.is_some();
            if !is_open {
                row.shrink();
            }
            is_open
        });
        self.evict(now);
        (wanted, news)
    }

    fn evict(&mut self, now: Timestamp) {
        let is_old = |at: Timestamp| now.duration_since(at) > GONE_FOR;
        while let Some((at, _)) = self.gone.front()
            && (self.gone.len() > MOST_GONE || is_old(*at))
        {
            if let Some((_, uid)) = self.gone.pop_front() {
                self.rows.remove(&uid);
            }
        }
    }
}

/// Asks for what only the proxies know, later and later.
fn ask(row: &mut Row, now: Timestamp, wanted: &mut Wanted) {
    if !row.is_unknown() {
        row.ask = None;
        return;
    }
    let Some(due) = row.ask.filter(|due| due.at <= now) else {
        return;
    };
    for seat in &row.seats {
        let backends: &mut BTreeSet<BackendKey> = wanted.entry(seat.set.clone()).or_default();
        backends.insert(seat.backend.clone());
    }
    let wait = ASK_AFTER * 2_i32.saturating_pow(due.times.min(12));
    row.ask = (wait * 2 < ASK_FOR).then(|| Ask {
        at: now + wait,
        times: due.times + 1,
    });
}

fn count(row: &mut Row, now: Timestamp, news: &mut News) {
    if now.duration_since(row.changed) < SETTLE {
        return;
    }
    for (index, step) in STEPS.iter().enumerate() {
        let bit = 1 << index;
        if row.counted & bit == 0
            && let Some(seconds) = row.points.seconds(*step)
        {
            row.counted |= bit;
            news.steps.push((step.name, seconds));
        }
    }
}

/// One event for each Pod: once its gate is open, or it needs none.
fn tell(row: &mut Row, now: Timestamp, news: &mut News) {
    if row.is_told || !row.is_new || !row.has(Point::Healthy) {
        return;
    }
    let waits_for_probe = !row.has(Point::Probed)
        && row.seats.iter().any(|seat| seat.checked)
        && now.duration_since(row.changed) < TELL_AFTER;
    if waits_for_probe || row.is_gated && !row.has(Point::GateOpened) {
        return;
    }
    if let Some(words) = words::in_service(&row.points) {
        row.is_told = true;
        let facts = &row.facts;
        news.events
            .push((facts.key.clone(), Arc::clone(&facts.uid), words));
    }
}

#[cfg(test)]
mod tests;
