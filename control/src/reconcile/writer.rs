//! Writes what has to be written, a few objects at a time, and only while this process leads.
//!
//! One job an object: a newer one takes the place of one that waits. What fails is tried again, later and later; what
//! cannot succeed any more (the object is gone, or another one) is dropped. Must not know what is worth writing.

mod patch;

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::networking::v1 as networking;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::difference::{Metadata, Writes};
use crate::build::note::Note;
use crate::cluster::Front;
use crate::cluster::service::MANAGER;
use crate::events::{Events, Regarding};
use crate::lease::Leadership;
use crate::metrics::Metrics;

/// Objects that are written at once.
const AT_ONCE: usize = 8;
/// After the first failure, then doubling.
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// At most.
const LAST_RETRY: Duration = Duration::from_mins(1);
/// A warning is told only if it holds so long: between two objects that belong together there is a moment in which it
/// may seem so.
const SETTLED_AFTER: Duration = Duration::from_millis(500);
/// One write's limit.
const LIMIT: Duration = Duration::from_secs(10);

/// What is to be written to one object.
#[derive(Clone, Debug)]
pub struct Job {
    /// Which.
    pub front: Front,
    /// Of which object: another one of that name is left alone.
    pub uid: Arc<str>,
    /// As it was when this was decided.
    pub resource_version: String,
    /// What.
    pub writes: Writes,
    /// All facts that hold: those that are not among them any more may be told again.
    pub notes: Vec<Note>,
}

/// Where jobs go. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Queue(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: HashMap<Front, Waiting>,
    /// Under way: no second write of the same object meanwhile.
    running: HashMap<Front, Job>,
    /// The last that was done: the object may not have been seen again since.
    done: HashMap<Front, (String, Writes)>,
    told: HashMap<Front, Vec<Note>>,
}

#[derive(Debug)]
struct Waiting {
    job: Job,
    not_before: Instant,
    retry: Duration,
}

impl Queue {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a job in, in the place of an older one of the same object; one that writes nothing only takes that back.
    pub fn put(&self, mut job: Job) {
        let mut state = self.lock();
        if let Some(told) = state.told.get_mut(&job.front) {
            told.retain(|note| job.notes.contains(note));
            job.writes.news.retain(|note| !told.contains(note));
        }
        let is_done = state.done.get(&job.front).is_some_and(|(version, writes)| {
            *version == job.resource_version && *writes == job.writes
        });
        let is_running = state.running.get(&job.front).is_some_and(|running| {
            running.resource_version == job.resource_version && running.writes == job.writes
        });
        if job.writes.is_none() || is_done || is_running {
            state.waiting.remove(&job.front);
            return;
        }
        let warns = job.writes.news.iter().any(|note| note.reason.is_warning());
        let settling = if warns { SETTLED_AFTER } else { Duration::ZERO };
        let settled = Instant::now() + settling;
        let (not_before, retry) = match state.waiting.remove(&job.front) {
            Some(old) if old.job.writes == job.writes => (old.not_before, old.retry),
            // An object that never stops changing is told of all the same.
            Some(old) => (settled.min(old.not_before), FIRST_RETRY),
            None => (settled, FIRST_RETRY),
        };
        let waiting = Waiting {
            job,
            not_before,
            retry,
        };
        state.waiting.insert(waiting.job.front.clone(), waiting);
        drop(state);
        self.0.filled.notify_one();
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, front: &Front) {
        let mut state = self.lock();
        state.waiting.remove(front);
        state.done.remove(front);
        state.told.remove(front);
    }

    /// Jobs that wait or run.
    pub fn depth(&self) -> usize {
        let state = self.lock();
        state.waiting.len() + state.running.len()
    }

    /// The next job whose time has come, or when there may be one.
    fn next(&self) -> Result<(Job, Duration), Option<Instant>> {
        let mut state = self.lock();
        let State {
            waiting,
            running,
            told,
            ..
        } = &mut *state;
        loop {
            let free = waiting
                .iter()
                .filter(|(key, _)| !running.contains_key(*key));
            let Some((key, found)) = free.min_by_key(|(_, waiting)| waiting.not_before) else {
                return Err(None);
            };
            if found.not_before > Instant::now() {
                return Err(Some(found.not_before));
            }
            let key = key.clone();
            let Waiting { mut job, retry, .. } = waiting.remove(&key).expect("it was found there");
            // It was decided while the one before was under way, which has told something since.
            if let Some(told) = told.get(&key) {
                job.writes.news.retain(|note| !told.contains(note));
            }
            if !job.writes.is_none() {
                running.insert(key, job.clone());
                return Ok((job, retry));
            }
        }
    }

    /// Takes in how a job went.
    fn finish(&self, job: Job, retry: Duration, outcome: Outcome) {
        let mut state = self.lock();
        state.running.remove(&job.front);
        match outcome {
            Outcome::Done => {
                let news = job.writes.news.iter().cloned();
                state
                    .told
                    .entry(job.front.clone())
                    .or_default()
                    .extend(news);
                state
                    .done
                    .insert(job.front, (job.resource_version, job.writes));
            }
            Outcome::Again if !state.waiting.contains_key(&job.front) => {
                let waiting = Waiting {
                    not_before: Instant::now() + retry,
                    retry: (retry * 2).min(LAST_RETRY),
                    job,
                };
                state.waiting.insert(waiting.job.front.clone(), waiting);
            }
            Outcome::Again | Outcome::Dropped => {}
        }
        drop(state);
        self.0.filled.notify_one();
    }

    fn clear(&self) {
        self.lock().waiting.clear();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    Again,
    /// The object is gone, or may not be written.
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
}

impl Writer {
    /// Writes what comes into `queue`, for ever.
    ///
    /// # Cancel safety
    /// A write under way is given up; it may have happened.
    pub async fn run(self, queue: Queue) {
        let next = || {
            let (job, retry) = queue.next()?;
            let (own, queue) = (self.clone(), queue.clone());
            Ok(async move {
                let outcome = own.write(&job).await;
                queue.finish(job, retry, outcome);
            })
        };
        let (filled, clear) = (&queue.0.filled, || queue.clear());
        self.leadership.work(AT_ONCE, filled, clear, next).await;
    }

    async fn write(&self, job: &Job) -> Outcome {
        if !self.leadership.is_held(Instant::now()) {
            return Outcome::Dropped; // whoever leads decides anew
        }
        let result = tokio::time::timeout(LIMIT, self.try_write(job)).await;
        let error = match result {
            Ok(Ok(())) => return Outcome::Done,
            Ok(Err(error)) => error,
            Err(_) => {
                self.metrics.write_failed();
                tracing::warn!(object = %job.front, "writing took too long; trying again");
                return Outcome::Again;
            }
        };
        match &error {
            kube::Error::Api(status) if matches!(status.code, 404 | 409) => {
                // Who changed it meanwhile is heard of, and what to write is decided anew.
                tracing::debug!(object = %job.front, %error, "it is gone, or another one");
                Outcome::Dropped
            }
            _ => {
                self.metrics.write_failed();
                let error = crate::fault::said(&error);
                tracing::warn!(object = %job.front, error, "cannot write; trying again");
                Outcome::Again
            }
        }
    }

    /// What is claimed is claimed first, and as it was seen: another controller may have been here meanwhile. Events before
    /// the status, which says what was told; one that is refused keeps nothing back. Status before letting go: the object
    /// may vanish with its finalizer.
    async fn try_write(&self, job: &Job) -> Result<(), kube::Error> {
        let metadata = job.writes.metadata.as_ref();
        if let Some(metadata) = metadata.filter(|metadata| metadata.is_held) {
            self.write_metadata(job, metadata).await?;
        }
        let mut told = Ok(());
        let about = Regarding::front(&job.front, &job.uid);
        for note in &job.writes.news {
            match self.events.publish(&about, note).await {
                Ok(()) => self.metrics.wrote("event"),
                Err(error) => told = Err(error),
            }
        }
        self.write_status(job).await?;
        if let Some(metadata) = metadata.filter(|metadata| !metadata.is_held) {
            self.write_metadata(job, metadata).await?;
        }
        told
    }

    async fn write_status(&self, job: &Job) -> Result<(), kube::Error> {
        if let Some(status) = &job.writes.status {
            let params = PatchParams::apply(MANAGER).force();
            let body = Patch::Apply(patch::status(job, status));
            self.patch(job, Part::Status, &params, &body).await?;
            self.metrics.wrote("status");
        }
        if job.writes.make_direct {
            let params = PatchParams {
                field_manager: Some(format!("{MANAGER}-defaults")),
                ..PatchParams::default()
            };
            let body = Patch::Merge(patch::direct(job));
            self.patch(job, Part::Object, &params, &body).await?;
            self.metrics.wrote("annotation");
        }
        Ok(())
    }

    async fn write_metadata(&self, job: &Job, metadata: &Metadata) -> Result<(), kube::Error> {
        let params = PatchParams::apply(MANAGER).force();
        let body = Patch::Apply(patch::metadata(job, metadata));
        self.patch(job, Part::Object, &params, &body).await?;
        self.metrics.wrote("metadata");
        Ok(())
    }

    async fn patch(
        &self,
        job: &Job,
        part: Part,
        params: &PatchParams,
        body: &Patch<Value>,
    ) -> Result<(), kube::Error> {
        let (client, key) = (self.client.clone(), job.front.key());
        match job.front {
            Front::Service(_) => {
                let api = Api::<core::Service>::namespaced(client, &key.namespace);
                part.patch(&api, &key.name, params, body).await
            }
            Front::Ingress(_) => {
                let api = Api::<networking::Ingress>::namespaced(client, &key.namespace);
                part.patch(&api, &key.name, params, body).await
            }
        }
    }
}

/// Of an object.
#[derive(Clone, Copy)]
enum Part {
    Object,
    Status,
}

impl Part {
    async fn patch<K>(
        self,
        api: &Api<K>,
        name: &str,
        params: &PatchParams,
        body: &Patch<Value>,
    ) -> Result<(), kube::Error>
    where
        K: Clone + DeserializeOwned + Debug,
    {
        match self {
            Self::Object => api.patch(name, params, body).await?,
            Self::Status => api.patch_status(name, params, body).await?,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests;
