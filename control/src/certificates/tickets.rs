//! Watches the Secret of the keys that seal session tickets, writes it if this replica leads, and tells what it holds.
//! When which key seals is decided in `keys`.

mod keys;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use kube::runtime::{WatchStreamExt, watcher};
use podline_api::TicketKey;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_rustls::rustls::crypto::{self, SecureRandom};

use super::keeper::{CALL, Failure, RETRY, ours, settled};
use super::pace::Pace;
use super::stored::Stored;
use super::{Connections, object};
use crate::build::note::{Note, Reason};
use crate::cluster::{Change, Key};
use crate::events::Regarding;
use crate::fault;
use crate::installation::TICKETS_SECRET;
use crate::watch::{Seen, What};
use keys::{Keys, Why};

/// How often it is looked whether a rotation is due.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// Keeps the keys.
pub struct Tickets {
    to: Connections,
    api: Api<Secret>,
    namespace: String,
    seen: mpsc::Sender<Seen>,
    /// The Secret as it is now; absent if there is none.
    secret: Option<Secret>,
    /// An answer has come.
    is_seen: bool,
    /// What it held when it was last right.
    known: Option<Keys>,
    /// What was told last.
    told: Option<Arc<[TicketKey]>>,
    pace: Pace,
    start: Instant,
    /// Why it cannot be read or written.
    problem: Option<String>,
}

impl Tickets {
    /// Those of the controller's own namespace; what they are is told to `seen`.
    pub fn new(to: Connections, namespace: &str, seen: mpsc::Sender<Seen>) -> Self {
        Self {
            api: Api::namespaced(to.client.clone(), namespace),
            to,
            namespace: namespace.to_owned(),
            seen,
            secret: None,
            is_seen: false,
            known: None,
            told: None,
            pace: Pace::default(),
            start: Instant::now(),
            problem: None,
        }
    }

    /// Watches until `shutdown`, and writes whenever this replica leads.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        let events = watcher::watch_object(self.api.clone(), TICKETS_SECRET);
        let mut events = pin!(events.default_backoff());
        let mut reign = self.to.leadership.reign();
        loop {
            let pause = if self.problem.is_some() {
                RETRY
            } else {
                LOOK_EVERY
            };
            tokio::select! {
                () = &mut shutdown => return,
                Some(event) = events.next() => self.take(event),
                Ok(()) = reign.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
            tokio::select! {
                biased;
                () = &mut shutdown => return,
                is_heard = self.work() => if !is_heard {
                    return;
                }
            }
        }
    }

    fn take(&mut self, event: watcher::Result<Option<Secret>>) {
        match event {
            Ok(secret) => {
                (self.secret, self.is_seen) = (secret, true);
                self.trouble(None);
            }
            Err(error) => self.trouble(Some(format!("cannot watch: {}", fault::watching(&error)))),
        }
    }

    fn trouble(&mut self, problem: Option<String>) {
        if let Some(problem) = problem.as_ref().filter(|_| self.problem != problem) {
            tracing::warn!(secret = TICKETS_SECRET, "ticket keys: {problem}");
        }
        let metrics = &self.to.metrics;
        metrics.blocked(format!("Secret/{TICKETS_SECRET}"), problem.is_some());
        self.problem = problem;
    }

    /// Writes what is to be written, and tells what there is; whether somebody listens.
    async fn work(&mut self) -> bool {
        let leads = self.to.leadership.is_held(Instant::now());
        if leads
            && self.is_seen
            && let Err(failure) = self.mend().await
        {
            match failure {
                Failure::Lost => self.look().await,
                Failure::Failed(problem) => self.trouble(Some(format!("cannot write: {problem}"))),
            }
        }
        self.learn();
        let keys = match &self.known {
            Some(known) => known.told(),
            // Proxies can do without, and nobody has to wait for it.
            None if self.is_seen || self.problem.is_some() => [].into(),
            None => return true,
        };
        if self.told.as_ref() == Some(&keys) {
            return true;
        }
        self.told = Some(Arc::clone(&keys));
        let seen = Seen {
            at: Instant::now(),
            what: What::Change(Change::TicketKeys(keys)),
        };
        self.seen.send(seen).await.is_ok()
    }

    fn found(&self) -> Option<Keys> {
        let stored = self.secret.as_ref().map(object::read)?;
        Keys::read(&stored.data)
    }

    fn learn(&mut self) {
        if let Some(found) = self.found() {
            self.known = Some(found);
        }
    }

    /// Writes what was seen, changed, unless somebody else wrote since.
    async fn mend(&mut self) -> Result<(), Failure> {
        self.learn();
        let (found, now) = (self.found(), Timestamp::now().as_second());
        let is_there = self.secret.is_some();
        let known = self.known.as_ref();
        let next = keys::next(found.as_ref(), is_there, known, &mut draw, now);
        let Some((keys, why)) = next else {
            return Ok(());
        };
        if !self.pace.allows(self.start.elapsed()) {
            return Err(Failure::Failed(
                "somebody else keeps changing it".to_owned(),
            ));
        }
        let stored = Stored {
            data: keys.data(),
            written: None,
        };
        let (begun, parameters) = (Instant::now(), ours());
        let answer = if let Some(secret) = &self.secret {
            let secret = object::with(secret, &stored);
            let written = self.api.replace(TICKETS_SECRET, &parameters, &secret);
            timeout(CALL, written).await
        } else {
            let secret = object::with(&object::new(TICKETS_SECRET, "Opaque"), &stored);
            timeout(CALL, self.api.create(&parameters, &secret)).await
        };
        self.secret = Some(settled(answer, is_there)?);
        self.trouble(None);
        tracing::info!(secret = TICKETS_SECRET, ?why, "ticket keys written");
        if matches!(why, Why::Restored | Why::Lost) {
            let object = format!("Secret/{TICKETS_SECRET}");
            self.to.metrics.repaired(object, begun.elapsed());
            self.tell_of_repair(why).await;
        }
        Ok(())
    }

    async fn look(&mut self) {
        match settled(timeout(CALL, self.api.get_opt(TICKETS_SECRET)).await, true) {
            Ok(found) => self.secret = found,
            Err(Failure::Lost) => {}
            Err(Failure::Failed(problem)) => {
                self.trouble(Some(format!("cannot read: {problem}")));
            }
        }
    }

    /// An Event that gets lost is no reason to stop.
    async fn tell_of_repair(&self, why: Why) {
        let what = match why {
            Why::Lost => {
                "the ticket keys cannot be read; others were made, and sessions begin anew"
            }
            _ => "the ticket keys were changed or deleted; written anew",
        };
        let secret = self.secret.as_ref();
        let uid = secret.and_then(|secret| secret.metadata.uid.clone());
        let key = Key::new(&self.namespace, TICKETS_SECRET);
        let regarding = Regarding::of("v1", "Secret", &key, &uid.unwrap_or_default().into());
        let note = Note::new(Reason::Repaired, what);
        let told = timeout(CALL, self.to.events.publish(&regarding, &note)).await;
        if let Ok(Err(error)) = told {
            tracing::warn!("cannot tell {note}: {}", fault::said(&error));
        }
    }
}

fn draw() -> TicketKey {
    let random: &dyn SecureRandom = crypto::ring::default_provider().secure_random;
    let mut bytes = [0; TicketKey::LENGTH];
    random
        .fill(&mut bytes)
        .expect("the system has random bytes once it runs");
    TicketKey::new(bytes)
}
