//! Carries to the book what the engine, the proxies and the lease say, and from it what is to be asked, counted and told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use podline_api::BackendSet;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::Timelines;
use super::ask::{Ear, Told, Wanted};
use super::book::Seen;
use super::news::News;
use super::row::Facts;
use super::tell::{self, Teller};
use crate::build::{Mode, Standing};
use crate::cluster::{Front, Key, Pod};
use crate::engine::{Core, Shared};
use crate::events::{Events, Regarding};
use crate::lease::Leadership;
use crate::metrics::Metrics;
use crate::observed::Observed;
use crate::reign::Reign;

/// How often what time alone brings on is looked at.
const TICK: Duration = Duration::from_millis(250);
/// What proxies told and was not taken in; beyond that they do not tell.
const TOLD: usize = 16_384;
/// What the proxies are at is taken in at once, but no more than a twentieth of the time.
const OBSERVE_SHARE: u32 = 19;
/// Taken in at once.
const AT_ONCE: usize = 1_024;

/// What the engine saw and nobody has looked at. Cheap to clone. No larger than the cluster.
#[derive(Clone, Debug, Default)]
pub struct Inbox(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    waiting: Mutex<Waiting>,
    rung: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    fronts: BTreeMap<Front, Change>,
    pods: BTreeSet<Key>,
    /// All that are known are to be looked at.
    all_pods: bool,
}

#[derive(Debug)]
struct Change {
    /// Those of the newest snapshot.
    sets: Vec<Arc<BackendSet>>,
    version: u64,
    /// Of the first change that was not looked at: nothing is made to look quicker than it was.
    at: Instant,
}

impl Inbox {
    /// These stand differently since `at`. Called by the engine with its core in its hands: quick.
    pub fn fronts(&self, core: &Core, fronts: &BTreeSet<Front>, at: Instant) {
        if fronts.is_empty() {
            return;
        }
        let version = core.builder.snapshot().version;
        let mut waiting = self.waiting();
        for front in fronts {
            let sets = sets(core.builder.standing(front));
            let known = waiting.fronts.get(front).map(|change| change.at);
            let at = known.map_or(at, |known| known.min(at));
            let change = Change { sets, version, at };
            waiting.fronts.insert(front.clone(), change);
        }
        drop(waiting);
        self.0.rung.notify_one();
    }

    /// These Pods changed.
    pub fn pods(&self, keys: BTreeSet<Key>, all: bool) {
        if keys.is_empty() && !all {
            return;
        }
        let mut waiting = self.waiting();
        waiting.pods.extend(keys);
        waiting.all_pods |= all;
        drop(waiting);
        self.0.rung.notify_one();
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.0
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sets of one that goes straight to its Pods.
fn sets(standing: Option<&Standing>) -> Vec<Arc<BackendSet>> {
    match standing {
        Some(Standing::Ours(plan)) if plan.mode == Mode::Direct => plan.sets.clone(),
        _ => Vec::new(),
    }
}

impl From<&Pod> for Facts {
    fn from(pod: &Pod) -> Self {
        Self {
            key: pod.key.clone(),
            uid: Arc::clone(&pod.uid),
            owner: pod.owner.clone(),
            created: pod.created,
            waits: pod.gate == crate::cluster::Gate::Waiting,
            deleted: pod.is_deleting.then_some(pod.deleted),
        }
    }
}

/// What a follower goes by.
pub struct Sources {
    /// The cluster and its build.
    pub shared: Shared,
    /// What the proxies say.
    pub observed: watch::Receiver<Arc<Observed>>,
    /// Whether this replica leads.
    pub leadership: Leadership,
    /// Where Pods' events go.
    pub events: Events,
    /// What it counts in.
    pub metrics: Metrics,
}

/// What others hold of it.
pub struct Ends {
    /// What is known.
    pub timelines: Timelines,
    /// The engine's.
    pub inbox: Inbox,
    /// The proxies'.
    pub ear: Ear,
}

/// Who follows Pods.
pub struct Follower {
    timelines: Timelines,
    inbox: Inbox,
    sources: Sources,
    reign: watch::Receiver<Reign>,
    told: mpsc::Receiver<Told>,
    wanted: watch::Sender<Arc<Wanted>>,
    teller: Teller,
    telling: Option<mpsc::Receiver<tell::Waiting>>,
    /// What was there when the reign began was taken in.
    is_begun: bool,
}

impl Follower {
    /// One that has followed nothing yet.
    pub fn new(sources: Sources) -> (Self, Ends) {
        let (timelines, inbox) = (Timelines::default(), Inbox::default());
        let (told, hearing) = mpsc::channel(TOLD);
        let (wanted, asked) = watch::channel(Arc::default());
        let (teller, telling) = Teller::new(sources.metrics.clone());
        let follower = Self {
            timelines: timelines.clone(),
            inbox: inbox.clone(),
            reign: sources.leadership.reign(),
            sources,
            told: hearing,
            wanted,
            teller,
            telling: Some(telling),
            is_begun: false,
        };
        let wanted = asked;
        let ear = Ear { told, wanted };
        let ends = Ends {
            timelines,
            inbox,
            ear,
        };
        (follower, ends)
    }

    /// Follows, and tells, until nobody says anything any more.
    pub async fn run(mut self) {
        let Sources {
            events,
            leadership,
            metrics,
            ..
        } = &self.sources;
        let (events, leadership, metrics) = (events.clone(), leadership.clone(), metrics.clone());
        let telling = self.telling.take();
        let tell = async {
            match telling {
                Some(waiting) => tell::run(waiting, events, leadership, metrics).await,
                None => std::future::pending().await,
            }
        };
        tokio::join!(self.follow(), tell);
    }

    async fn follow(mut self) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let inbox = self.inbox.clone();
        let mut heard = Vec::new();
        let mut observe_at = Instant::now();
        self.reign.mark_changed();
        loop {
            tokio::select! {
                changed = self.reign.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let leads = matches!(*self.reign.borrow_and_update(), Reign::Leader { .. });
                    self.lead(leads);
                }
                () = inbox.0.rung.notified() => self.look(),
                Ok(()) = changed_from(&mut self.sources.observed, observe_at) => {
                    let begun = Instant::now();
                    let observed = Arc::clone(&self.sources.observed.borrow_and_update());
                    self.timelines.book().observe(observed, Timestamp::now());
                    observe_at = Instant::now() + begun.elapsed() * OBSERVE_SHARE;
                }
                count = self.told.recv_many(&mut heard, AT_ONCE), if !self.told.is_closed() => {
                    let now = Timestamp::now();
                    let mut book = self.timelines.book();
                    heard.drain(..count).for_each(|told| book.hear(&told, now));
                }
                _ = tick.tick() => self.tick(),
            }
        }
    }

    /// A reign begins or ends. One that only gets a higher epoch goes on.
    fn lead(&mut self, leads: bool) {
        if leads != self.timelines.book().since().is_some() {
            self.is_begun = false;
            self.timelines.book().begin(leads.then(Timestamp::now));
            self.look();
        }
    }

    /// Takes in what the engine saw.
    fn look(&mut self) {
        let waiting = std::mem::take(&mut *self.inbox.waiting());
        if self.timelines.book().since().is_none() {
            return;
        }
        if !self.is_begun {
            return self.begin();
        }
        for (front, change) in waiting.fronts {
            let at = timestamp(change.at);
            self.front(&front, change.sets, change.version, Some(at));
        }
        let mut pods = waiting.pods;
        if waiting.all_pods {
            pods.extend(self.timelines.book().living());
        }
        for key in pods {
            let facts = self
                .sources
                .shared
                .look()
                .cluster
                .pod(&key)
                .map(Facts::from);
            self.timelines.book().pod(&key, facts, Timestamp::now());
        }
    }

    /// Takes in what is there, once all of it is known.
    fn begin(&mut self) {
        let core = self.sources.shared.look();
        if !core.is_synced() {
            return;
        }
        let version = core.builder.snapshot().version;
        let all = core.builder.fronts();
        let all: Vec<_> = all
            .map(|(front, standing)| (front, sets(Some(standing))))
            .collect();
        drop(core);
        self.is_begun = true;
        for (front, sets) in all {
            self.front(&front, sets, version, None);
        }
    }

    fn front(
        &self,
        front: &Front,
        sets: Vec<Arc<BackendSet>>,
        version: u64,
        at: Option<Timestamp>,
    ) {
        // One after the other: nobody holds both.
        let uids: Vec<Arc<str>> = {
            let book = self.timelines.book();
            book.unknown(front, &sets)
                .into_iter()
                .map(Into::into)
                .collect()
        };
        let mut facts = HashMap::new();
        if !uids.is_empty() {
            let core = self.sources.shared.look();
            for uid in uids {
                if let Some(pod) = core.cluster.living_pod(&uid) {
                    facts.insert(uid, Facts::from(pod));
                }
            }
        }
        let seen = Seen { sets, version, at };
        let mut book = self.timelines.book();
        book.front(front, seen, &facts, Timestamp::now());
    }

    fn tick(&self) {
        let (wanted, News { steps, events }) = self.timelines.book().tick(Timestamp::now());
        if !wanted.is_empty() {
            self.wanted.send_replace(Arc::new(wanted));
        }
        for (step, seconds) in steps {
            self.sources.metrics.pod_step(step, seconds);
        }
        for (key, uid, words) in events {
            self.teller.in_service(Regarding::pod(&key, &uid), words);
        }
    }
}

/// Waits until then, and for a change.
///
/// # Cancel safety
/// No change is lost.
async fn changed_from<T>(
    value: &mut watch::Receiver<T>,
    at: Instant,
) -> Result<(), watch::error::RecvError> {
    sleep_until(at).await;
    value.changed().await
}

/// When that was, by the wall clock.
fn timestamp(at: Instant) -> Timestamp {
    let ago = SignedDuration::try_from(at.elapsed()).unwrap_or_default();
    Timestamp::now().checked_sub(ago).unwrap_or_default()
}

#[cfg(test)]
mod tests;
