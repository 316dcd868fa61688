//! Watches a channel's Secrets, takes the steps that `plan` decides if this replica leads, and hands on what its Secret
//! says to whoever shows it. Decides nothing itself.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::change::{self, Change, Readers, Secrets};
use super::channel::{Channel, End, Which};
use super::pace::Pace;
use super::plan::Callers;
use super::stored::{self, Authorities, Stored};
use super::{Settings, object};
use crate::build::note::{Note, Reason};
use crate::cluster::Key;
use crate::events::{Events, Regarding};
use crate::lease::Leadership;
use crate::metrics::Metrics;
use crate::{fault, managers};

/// How long one call of the API server may take.
pub(super) const CALL: Duration = Duration::from_secs(5);
/// When to try again after a failure.
pub(super) const RETRY: Duration = Duration::from_secs(2);
/// A plan that is carried out takes fewer steps.
const MOST_STEPS: usize = 12;

/// How the certificates are, as plain values for metrics and /readyz. Ends are in seconds since the Unix epoch, and absent
/// if there is no such certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// When the CA that signs ends, and each leaf, by what metrics call it.
    pub ends: BTreeMap<&'static str, Option<i64>>,
    /// Two CAs are trusted: one is on its way in, or out.
    pub is_rotating: bool,
    /// What could not be read or written the last time, and why; absent if all could.
    pub problem: Option<String>,
}

/// Why a step was not taken.
pub(super) enum Failure {
    /// Somebody else wrote first: look again.
    Lost,
    /// Anything else; in words. Try again later.
    Failed(String),
}

/// What is known of one Secret.
#[derive(Debug, Default)]
struct Known {
    /// An answer has come.
    is_seen: bool,
    /// There was one at some time: that it is missing is damage.
    was_there: bool,
    /// Absent if there is none.
    secret: Option<Secret>,
    /// Since when it is known to be damaged.
    damaged: Option<Instant>,
    /// It was told that somebody else keeps changing it.
    is_contested: bool,
    /// Why the watch does not work.
    problem: Option<String>,
    pace: Pace,
}

impl Known {
    fn set(&mut self, secret: Option<Secret>) {
        self.was_there |= secret.is_some();
        self.secret = secret;
    }
}

/// Is given what the Secret that this process shows from says, whenever it was looked at; and the time.
pub(super) type Show = Box<dyn FnMut(&Stored, i64) + Send + Sync>;

/// What a keeper is connected to.
pub(super) struct Ways {
    pub(super) events: Events,
    pub(super) metrics: Metrics,
    /// Whether a proxy is known that does not use yet what its Secret says.
    pub(super) lagging: watch::Receiver<bool>,
    /// Whom those that call the webhooks trust; absent until that is known.
    pub(super) callers: watch::Receiver<Option<Callers>>,
    /// What this process is.
    pub(super) own: End,
    pub(super) show: Show,
    /// Whom those that call the webhooks are to trust, in PEM.
    pub(super) bundle: watch::Sender<Option<Arc<[u8]>>>,
}

/// Keeps the Secrets of a channel in order.
pub struct Keeper {
    api: Api<Secret>,
    settings: Settings,
    leadership: Leadership,
    ways: Ways,
    known: [Known; 4],
    remembered: Authorities,
    /// Why the last write failed, and of what.
    problem: Option<(Which, String)>,
    start: Instant,
    report: watch::Sender<Report>,
}

impl Keeper {
    pub(super) fn new(
        client: kube::Client,
        settings: Settings,
        leadership: Leadership,
        ways: Ways,
    ) -> Self {
        Self {
            api: Api::namespaced(client, &settings.namespace),
            settings,
            leadership,
            ways,
            known: Default::default(),
            remembered: Authorities::default(),
            problem: None,
            start: Instant::now(),
            report: watch::Sender::new(Report::default()),
        }
    }

    /// How the certificates are.
    pub fn report(&self) -> watch::Receiver<Report> {
        self.report.subscribe()
    }

    /// Watches until `shutdown`, and writes whenever this replica leads.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        tokio::pin!(shutdown);
        let events = self.events();
        tokio::pin!(events);
        let (mut reign, mut lagging) = (self.leadership.reign(), self.ways.lagging.clone());
        let mut callers = self.ways.callers.clone();
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                Some((which, event)) = events.next() => self.take(which, event),
                Ok(()) = reign.changed() => {}
                Ok(()) = lagging.changed() => {}
                Ok(()) = callers.changed() => {}
                () = tokio::time::sleep(self.pause()) => {}
            }
            tokio::select! {
                biased;
                () = &mut shutdown => return,
                () = self.work() => {}
            }
        }
    }

    /// What the watches say, which try again by themselves.
    fn events(&self) -> impl Stream<Item = (Which, watcher::Result<Option<Secret>>)> + use<> {
        let secrets = self.settings.channel.secrets().iter();
        let watches = secrets.map(|which| {
            watcher::watch_object(self.api.clone(), self.name(*which))
                .default_backoff()
                .map(|event| (*which, event))
                .boxed()
        });
        stream::select_all(watches.collect::<Vec<_>>())
    }

    fn name(&self, which: Which) -> &'static str {
        self.settings.channel.name(which)
    }

    fn object(&self, which: Which) -> String {
        format!("Secret/{}", self.name(which))
    }

    fn pause(&self) -> Duration {
        if self.problem.is_some() {
            return RETRY;
        }
        (self.settings.lives.grace / 4).clamp(Duration::from_secs(1), Duration::from_mins(1))
    }

    fn take(&mut self, which: Which, event: watcher::Result<Option<Secret>>) {
        let known = &mut self.known[which as usize];
        match event {
            Ok(secret) => {
                known.is_seen = true;
                known.set(secret);
                known.problem = None;
            }
            Err(error) => known.problem = Some(fault::watching(&error)),
        }
    }

    async fn work(&mut self) {
        self.problem = None;
        for _ in 0..MOST_STEPS {
            self.learn();
            if !self.leadership.is_held(Instant::now()) {
                self.hand_on();
                break;
            }
            let (which, outcome) = match self.next() {
                Ok(None) => {
                    self.hand_on();
                    break;
                }
                Ok(Some(change)) => (change.which, self.write(change).await),
                Err((which, failure)) => (which, Err(failure)),
            };
            match outcome {
                Ok(()) => {}
                Err(Failure::Lost) => self.look(which).await,
                Err(Failure::Failed(problem)) => {
                    let name = self.name(which);
                    self.problem = Some((which, format!("cannot write Secret {name}: {problem}")));
                }
            }
            if self.problem.is_some() {
                break;
            }
        }
        self.tell();
    }

    fn stored(&self, which: Which) -> Option<Stored> {
        let secret = self.known[which as usize].secret.as_ref();
        secret.map(object::read)
    }

    fn secrets(&self) -> Secrets {
        let mut secrets = Secrets::default();
        for which in self.settings.channel.secrets() {
            secrets[*which as usize] = self.stored(*which);
        }
        secrets
    }

    /// Remembers the CA, and shows what the Secret of this process says.
    fn learn(&mut self) {
        let secrets = self.secrets();
        if let Some(authorities) = change::memory(self.settings.channel, &secrets) {
            self.remembered = authorities;
        }
        if let Some(stored) = self.own() {
            (self.ways.show)(&stored, now());
        }
    }

    /// The Secret of this process, unless it holds what must not be shown.
    fn own(&self) -> Option<Stored> {
        let stored = self.stored(Which::from(self.ways.own))?;
        if self.settings.channel == Channel::Control {
            return Some(stored);
        }
        let Authorities { newest, previous } = &self.remembered;
        let ours = newest.iter().chain(previous);
        let mut known: Vec<_> = ours.map(|pair| pair.certificate.clone()).collect();
        let callers = self.ways.callers.borrow();
        known.extend(callers.iter().flat_map(Callers::roots).cloned());
        let leaf = stored::holding(Some(&stored)).leaf.ok()?;
        let is_good = leaf.is_named(self.ways.own, self.settings.names())
            && leaf.signer(self.ways.own, &known, now()).is_some();
        is_good.then_some(stored)
    }

    /// Tells whom the callers of webhooks are to trust, once there is nothing to be mended.
    fn hand_on(&self) {
        let shown = self.own().and_then(|stored| stored::shown(&stored, now()));
        if let Some(shown) = shown {
            let bundle: Arc<[u8]> = shown.roots.into();
            self.ways.bundle.send_if_modified(|known| {
                let is_new = known.as_ref() != Some(&bundle);
                *known = Some(bundle);
                is_new
            });
        }
    }

    /// The next change. Absent while a Secret was not seen yet: what is not known is not missing.
    fn next(&mut self) -> Result<Option<Change>, (Which, Failure)> {
        let channel = self.settings.channel;
        let is_seen = |which: &Which| self.known[*which as usize].is_seen;
        let readers = Readers {
            is_lagging: *self.ways.lagging.borrow(),
            callers: self.ways.callers.borrow().clone(),
        };
        let waits = channel == Channel::Webhook && readers.callers.is_none();
        if waits || !channel.secrets().iter().all(is_seen) {
            return Ok(None);
        }
        let next = change::next(
            &self.secrets(),
            &self.remembered,
            &readers,
            &self.settings,
            now(),
        );
        let next = next.map_err(|(which, error)| (which, Failure::Failed(fault::chain(&error))))?;
        if let Some(change) = next.as_ref().filter(|change| change.why.is_damage) {
            let known = &mut self.known[change.which as usize];
            known.damaged.get_or_insert_with(Instant::now);
        }
        Ok(next)
    }

    /// Writes what was seen, changed, unless somebody else wrote since. What the server answers is what is known then.
    async fn write(&mut self, change: Change) -> Result<(), Failure> {
        let Change { which, stored, why } = change;
        if !self.known[which as usize].pace.allows(self.start.elapsed()) {
            self.contested(which).await;
            return Err(Failure::Failed(
                "somebody else keeps changing it".to_owned(),
            ));
        }
        let (name, parameters) = (self.name(which), ours());
        let known = &self.known[which as usize].secret;
        let answer = if let Some(secret) = known {
            let secret = object::with(secret, &stored);
            timeout(CALL, self.api.replace(name, &parameters, &secret)).await
        } else {
            let secret = object::with(&object::new(name, which.kind()), &stored);
            timeout(CALL, self.api.create(&parameters, &secret)).await
        };
        let written = settled(answer, known.is_some())?;
        let known = &mut self.known[which as usize];
        let (is_first, since) = (!known.was_there, known.damaged.take());
        known.set(Some(written));
        known.is_contested = false;
        let what = self.settings.channel.what(which);
        tracing::info!(secret = name, "{what} written: {}", why.text);
        if why.is_damage && !is_first {
            let took = since.map_or(Duration::ZERO, |since| since.elapsed());
            self.ways.metrics.repaired(self.object(which), took);
            let told = format!("{what}: {}; written anew", why.text);
            self.publish(which, Note::new(Reason::Repaired, told)).await;
        }
        Ok(())
    }

    /// Tells once that somebody else keeps changing a Secret.
    async fn contested(&mut self, which: Which) {
        let known = &mut self.known[which as usize];
        if std::mem::replace(&mut known.is_contested, true) {
            return;
        }
        let secret = known.secret.as_ref();
        let other = secret.and_then(|secret| managers::other(&secret.metadata));
        let told = managers::contested(other.as_ref(), "is written less often meanwhile");
        self.publish(which, Note::new(Reason::RepairContested, told))
            .await;
    }

    /// Tells of a Secret that is there. An Event that gets lost is no reason to stop.
    async fn publish(&self, which: Which, note: Note) {
        let Some(secret) = &self.known[which as usize].secret else {
            return;
        };
        let key = Key::new(&self.settings.namespace, self.name(which));
        let uid = secret.metadata.uid.clone().unwrap_or_default().into();
        let regarding = Regarding::of("v1", "Secret", &key, &uid);
        let told = timeout(CALL, self.ways.events.publish(&regarding, &note)).await;
        if let Ok(Err(error)) = told {
            tracing::warn!("cannot tell {note}: {}", fault::said(&error));
        }
    }

    async fn look(&mut self, which: Which) {
        let answer = timeout(CALL, self.api.get_opt(self.name(which))).await;
        match settled(answer, true) {
            Ok(found) => self.known[which as usize].set(found),
            // It is there in an instant and gone in the next.
            Err(Failure::Lost) => {}
            Err(Failure::Failed(problem)) => {
                let name = self.name(which);
                self.problem = Some((which, format!("cannot read Secret {name}: {problem}")));
            }
        }
    }

    /// Publishes how the certificates are, and logs a problem once.
    fn tell(&mut self) {
        let channel = self.settings.channel;
        let (mut ends, mut is_rotating) = (BTreeMap::new(), false);
        let authority = self.remembered.newest.as_ref();
        let end = authority.map(|pair| pair.certificate.validity.not_after);
        ends.insert(channel.label(Which::Authority), end);
        for end in channel.ends() {
            let which = Which::from(*end);
            let holding = stored::holding(self.stored(which).as_ref());
            is_rotating |= holding.roots.len() > 1;
            let end = holding.leaf.map(|leaf| leaf.certificate.validity.not_after);
            ends.insert(channel.label(which), end.ok());
        }
        for which in channel.secrets() {
            let known = &self.known[*which as usize];
            let is_unwritten = self.problem.as_ref().is_some_and(|(of, _)| of == which);
            let is_damaged = known.damaged.is_some();
            let is_blocked = known.problem.is_some() || is_unwritten;
            let metrics = &self.ways.metrics;
            metrics.damaged(self.object(*which), is_damaged);
            metrics.blocked(self.object(*which), is_blocked);
        }
        let report = Report {
            ends,
            is_rotating,
            problem: self
                .problem
                .clone()
                .map(|(_, problem)| problem)
                .or_else(|| self.watch_problem()),
        };
        self.report.send_if_modified(|known| {
            if *known == report {
                return false;
            }
            if let Some(problem) = report
                .problem
                .as_ref()
                .filter(|_| known.problem != report.problem)
            {
                tracing::warn!("certificates: {problem}");
            }
            *known = report;
            true
        });
    }

    fn watch_problem(&self) -> Option<String> {
        self.settings.channel.secrets().iter().find_map(|which| {
            let problem = self.known[*which as usize].problem.as_ref()?;
            Some(format!(
                "cannot watch Secret {}: {problem}",
                self.name(*which)
            ))
        })
    }
}

fn now() -> i64 {
    Timestamp::now().as_second()
}

pub(super) fn ours() -> PostParams {
    PostParams {
        field_manager: Some(crate::cluster::service::MANAGER.to_owned()),
        ..PostParams::default()
    }
}

/// What came of a call. If the Secret was there, that it is gone is news and no more.
pub(super) fn settled<T>(
    answer: Result<kube::Result<T>, tokio::time::error::Elapsed>,
    was_there: bool,
) -> Result<T, Failure> {
    match answer {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) if was_there && fault::is_absent(&error) => Err(Failure::Lost),
        Ok(Err(error)) if fault::is_conflict(&error) => Err(Failure::Lost),
        Ok(Err(error)) => Err(Failure::Failed(fault::said(&error))),
        Err(_) => Err(Failure::Failed(
            "the API server did not answer in time".to_owned(),
        )),
    }
}
