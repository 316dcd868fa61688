//! Writes the conditions of gates, and tells events, many at once and only while this process leads.
//!
//! One write a Pod at a time: a newer one takes the place of one that waits. What fails is tried again, later and later;
//! what cannot succeed any more (the Pod is gone, or another one has its name) is dropped. Must not know why anything is
//! written.

pub(super) mod patch;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::memory::{Ask, News, Orders};
use super::reason::Reason;
use crate::cluster::Key;
use crate::cluster::service::MANAGER;
use crate::events::Events;
use crate::fault;
use crate::lease::Leadership;
use crate::metrics::Metrics;
use crate::timeline::{Point, Timelines};

/// Writes under way at once: no fewer than Pods that a rolling update makes at a time, since an API server that is busy
/// answers late.
const AT_ONCE: usize = 64;
/// After the first failure, then doubling.
const FIRST_RETRY: Duration = Duration::from_millis(250);
/// At most.
const LAST_RETRY: Duration = Duration::from_secs(30);
/// One write's limit.
const LIMIT: Duration = Duration::from_secs(10);
/// Facts that wait to be told; of more the oldest are not told.
const MOST_NEWS: usize = 1_000;

/// A condition that waits to be written.
#[derive(Clone, Debug)]
struct Job {
    ask: Ask,
    /// When what made the Pod healthy came in from a proxy, if that is why.
    healthy_at: Option<Instant>,
    not_before: Instant,
    retry: Duration,
}

/// Where writes wait. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Queue(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct State {
    jobs: HashMap<Key, Job>,
    /// In which order they came; those that wait for their next attempt are in `later`.
    order: VecDeque<Key>,
    later: Vec<Key>,
    /// Under way: no second write of the same Pod meanwhile.
    running: HashSet<Key>,
    news: VecDeque<News>,
}

impl State {
    /// The next that may run, or when there may be one.
    fn next(&mut self) -> Result<Job, Option<Instant>> {
        let now = Instant::now();
        let State {
            jobs,
            order,
            later,
            running,
            ..
        } = self;
        later.retain(|key| {
            let Some(job) = jobs.get(key) else {
                return false;
            };
            if job.not_before <= now {
                order.push_back(key.clone());
            }
            job.not_before > now
        });
        for _ in 0..order.len() {
            let Some(key) = order.pop_front() else {
                break;
            };
            if running.contains(&key) {
                order.push_back(key); // a newer one, decided meanwhile
            } else if let Some(job) = jobs.remove(&key) {
                running.insert(key);
                return Ok(job);
            }
        }
        let waiting = later.iter().filter_map(|key| jobs.get(key));
        Err(waiting.map(|job| job.not_before).min())
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what is to be done. `healthy_at`: when that came in from a proxy which made Pods healthy, if it did.
    pub fn put(&self, orders: Orders, healthy_at: Option<Instant>) {
        if orders == Orders::default() {
            return;
        }
        let mut state = self.lock();
        for ask in orders.asks {
            let healthy_at = healthy_at.filter(|_| ask.said.reason == Reason::Healthy);
            let key = ask.pod.clone();
            let job = Job {
                ask,
                healthy_at,
                not_before: Instant::now(),
                retry: FIRST_RETRY,
            };
            // What failed before waits as long as it was to wait; the words are the new ones.
            let before = state.jobs.get(&key);
            let same = before.filter(|before| before.ask.uid == job.ask.uid);
            let job = match same {
                Some(before) => Job {
                    not_before: before.not_before,
                    retry: before.retry,
                    ..job
                },
                None => job,
            };
            if state.jobs.insert(key.clone(), job).is_none() {
                state.order.push_back(key);
            }
        }
        state.news.extend(orders.news);
        let surplus = state.news.len().saturating_sub(MOST_NEWS);
        state.news.drain(..surplus);
        drop(state);
        self.0.filled.notify_one();
    }

    /// Writes that wait or run.
    pub fn depth(&self) -> usize {
        let state = self.lock();
        state.jobs.len() + state.running.len()
    }

    fn finish(&self, job: Job, outcome: Outcome) {
        let mut state = self.lock();
        let key = job.ask.pod.clone();
        state.running.remove(&key);
        if outcome == Outcome::Again && !state.jobs.contains_key(&key) {
            let job = Job {
                not_before: Instant::now() + job.retry,
                retry: (job.retry * 2).min(LAST_RETRY),
                // Only the first attempt is measured.
                healthy_at: None,
                ..job
            };
            state.jobs.insert(key.clone(), job);
            state.later.push(key);
        }
        drop(state);
        self.0.filled.notify_one();
    }

    /// What to do now, news first; when to ask again if there is nothing by then.
    fn work(&self) -> Result<Work, Option<Instant>> {
        let mut state = self.lock();
        match state.news.pop_front() {
            Some(news) => Ok(Work::Tell(news)),
            None => state.next().map(Work::Write),
        }
    }

    fn clear(&self) {
        let mut state = self.lock();
        state.jobs.clear();
        state.order.clear();
        state.later.clear();
        state.news.clear();
    }
}

/// What is done for one entry of the queue.
#[derive(Debug)]
enum Work {
    Tell(News),
    Write(Job),
}

/// How a write went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The API server has it.
    Done,
    /// It failed, and may work later.
    Again,
    /// The Pod is gone, or another one has its name, or this process leads no longer.
    Dropped,
}

/// Writes to the API server.
#[derive(Clone)]
pub struct Writer {
    /// How it is reached.
    pub client: Client,
    /// For events.
    pub events: Events,
    /// Only a leader writes.
    pub leadership: Leadership,
    /// What it counts in.
    pub metrics: Metrics,
    /// Where it notes that a gate was opened.
    pub timelines: Timelines,
}

impl Writer {
    /// Writes what comes into `queue`, for ever.
    ///
    /// # Cancel safety
    /// A write under way is given up; it may have happened.
    pub async fn run(self, queue: Queue) {
        let next = || {
            let work = queue.work()?;
            let (own, queue) = (self.clone(), queue.clone());
            Ok(async move {
                match work {
                    Work::Tell(news) => own.tell(&news).await,
                    Work::Write(job) => {
                        let outcome = own.write(&job).await;
                        queue.finish(job, outcome);
                    }
                }
            })
        };
        let (filled, clear) = (&queue.0.filled, || queue.clear());
        self.leadership.work(AT_ONCE, filled, clear, next).await;
    }

    async fn tell(&self, (about, note): &News) {
        if !self.leadership.is_held(Instant::now()) {
            return;
        }
        let told = tokio::time::timeout(LIMIT, self.events.publish(about, note)).await;
        match told {
            Ok(Ok(())) => self.metrics.wrote("event"),
            Ok(Err(error)) => {
                self.metrics.write_failed();
                let error = fault::said(&error);
                tracing::warn!(what = about.kind, name = %about.name, error, "cannot tell an event");
            }
            Err(_) => self.metrics.write_failed(),
        }
    }

    async fn write(&self, job: &Job) -> Outcome {
        if !self.leadership.is_held(Instant::now()) {
            return Outcome::Dropped; // whoever leads decides anew
        }
        let Ask { pod, uid, said, .. } = &job.ask;
        let api = Api::<core::Pod>::namespaced(self.client.clone(), &pod.namespace);
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let body = Patch::Strategic(patch::condition(&job.ask, Timestamp::now()));
        let sent = job.healthy_at.map(|at| at.elapsed());
        if let Some(sent) = sent {
            self.metrics.gate_sent(sent);
        }
        let patched = api.patch_status(&pod.name, &params, &body);
        let result = tokio::time::timeout(LIMIT, patched).await;
        let (result, outcome) = match &result {
            Ok(Ok(_)) => {
                let answered = job.healthy_at.map(|at| at.elapsed());
                if let Some(answered) = answered {
                    self.metrics.gate_answered(answered);
                }
                if said.reason.opens() {
                    self.timelines
                        .note(uid, Point::GateOpened, Timestamp::now());
                }
                let micros = |after: Option<Duration>| after.map(|after| after.as_micros());
                let (sent_us, answered_us) = (micros(sent), micros(answered));
                tracing::debug!(%pod, reason = %said.reason, message = said.message, sent_us, answered_us, "gate written");
                ("answered", Outcome::Done)
            }
            Ok(Err(error)) if is_gone(error) => ("gone", Outcome::Dropped),
            Ok(Err(error)) => {
                let error = fault::said(error);
                tracing::warn!(%pod, error, "cannot write the Pod's readiness gate; trying again");
                ("failed", Outcome::Again)
            }
            Err(_) => {
                tracing::warn!(%pod, "writing the Pod's readiness gate took too long; trying again");
                ("failed", Outcome::Again)
            }
        };
        self.metrics.gate_patched(result);
        outcome
    }
}

/// The Pod is not there any more (404), or another one has its name: a foreign uid is invalid (422), or a conflict.
fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 404 | 409 | 422))
}

#[cfg(test)]
mod tests;
