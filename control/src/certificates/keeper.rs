//! Watches the three Secrets, takes the steps that `plan` decides if this replica leads, and publishes what a controller
//! shows to proxies. Decides nothing itself.

use std::future::Future;
use std::time::Duration;

use futures_util::stream::{self, Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use podline_api::client::ClientTls;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::change::{self, ALL, Change, Secrets, Which};
use super::pace::Pace;
use super::stored::{self, Authorities, Stored};
use super::{Settings, object};
use crate::fault;
use crate::lease::Leadership;

/// How long one call of the API server may take.
const CALL: Duration = Duration::from_secs(5);
/// When to try again after a failure.
const RETRY: Duration = Duration::from_secs(2);
/// A plan that is carried out takes fewer steps.
const MOST_STEPS: usize = 12;

impl Which {
    /// What it holds, in a log.
    fn what(self) -> &'static str {
        match self {
            Self::Authority => "the control channel's CA",
            Self::Proxy => "the proxies' certificates",
            Self::Control => "the controllers' certificates",
        }
    }

    /// The kind of a new one.
    fn kind(self) -> &'static str {
        match self {
            Self::Authority => "Opaque",
            Self::Proxy | Self::Control => "kubernetes.io/tls",
        }
    }
}

/// How the certificates are, as plain values for metrics and /readyz. Ends are in seconds since the Unix epoch, and absent
/// if there is no such certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// When the CA that signs ends.
    pub authority_ends: Option<i64>,
    /// When the proxies' certificate ends.
    pub proxy_ends: Option<i64>,
    /// When the controllers' certificate ends.
    pub control_ends: Option<i64>,
    /// Two CAs are trusted: one is on its way in, or out.
    pub is_rotating: bool,
    /// What could not be read or written the last time, and why; absent if all could.
    pub problem: Option<String>,
}

/// Why a step was not taken.
enum Failure {
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
    /// Absent if there is none.
    secret: Option<Secret>,
    /// Why the watch does not work.
    problem: Option<String>,
    pace: Pace,
}

/// Keeps the Secrets in order.
#[derive(Debug)]
pub struct Keeper {
    api: Api<Secret>,
    settings: Settings,
    leadership: Leadership,
    lagging: watch::Receiver<bool>,
    known: [Known; 3],
    remembered: Authorities,
    /// Why the last write failed.
    problem: Option<String>,
    start: Instant,
    tls: watch::Sender<Option<ClientTls>>,
    report: watch::Sender<Report>,
}

impl Keeper {
    /// `lagging` says whether a proxy is known that does not use yet what its Secret says: rotation waits for it. A
    /// channel that always says false makes rotation wait for the grace alone.
    pub fn new(
        client: kube::Client,
        settings: Settings,
        leadership: Leadership,
        lagging: watch::Receiver<bool>,
    ) -> Self {
        Self {
            api: Api::namespaced(client, &settings.namespace),
            settings,
            leadership,
            lagging,
            known: Default::default(),
            remembered: Authorities::default(),
            problem: None,
            start: Instant::now(),
            tls: watch::Sender::new(None),
            report: watch::Sender::new(Report::default()),
        }
    }

    /// What a controller shows to proxies, and whom it trusts. Stays what it was while the Secret is away or damaged.
    pub fn client_tls(&self) -> watch::Receiver<Option<ClientTls>> {
        self.tls.subscribe()
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
        let (mut reign, mut lagging) = (self.leadership.reign(), self.lagging.clone());
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                Some((which, event)) = events.next() => self.take(which, event),
                Ok(()) = reign.changed() => {}
                Ok(()) = lagging.changed() => {}
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
        let [a, b, c] = ALL.map(|which| {
            watcher::watch_object(self.api.clone(), self.name(which))
                .default_backoff()
                .map(move |event| (which, event))
        });
        stream::select(a, stream::select(b, c))
    }

    fn name(&self, which: Which) -> &str {
        match which {
            Which::Authority => &self.settings.authority_secret,
            Which::Proxy => &self.settings.proxy_secret,
            Which::Control => &self.settings.control_secret,
        }
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
                known.secret = secret;
                known.problem = None;
            }
            Err(error) => known.problem = Some(said(&error)),
        }
    }

    async fn work(&mut self) {
        self.problem = None;
        for _ in 0..MOST_STEPS {
            self.learn();
            if !self.leadership.is_held(Instant::now()) {
                break;
            }
            let (which, outcome) = match self.next() {
                Ok(None) => break,
                Ok(Some(change)) => (change.which, self.write(change).await),
                Err((which, failure)) => (which, Err(failure)),
            };
            match outcome {
                Ok(()) => {}
                Err(Failure::Lost) => self.look(which).await,
                Err(Failure::Failed(problem)) => {
                    let name = self.name(which);
                    self.problem = Some(format!("cannot write Secret {name}: {problem}"));
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
        ALL.map(|which| self.stored(which))
    }

    /// Remembers the CA, and publishes what the controllers' Secret says.
    fn learn(&mut self) {
        let secrets = self.secrets();
        if let Some(authorities) = change::memory(&secrets) {
            self.remembered = authorities;
        }
        let [_, _, control] = secrets;
        let tls = control.and_then(|stored| stored::client_tls(&stored, now()));
        if let Some(tls) = tls {
            self.tls.send_if_modified(|known| {
                let is_new = known.as_ref() != Some(&tls);
                *known = Some(tls);
                is_new
            });
        }
    }

    /// The next change. Absent while a Secret was not seen yet: what is not known is not missing.
    fn next(&self) -> Result<Option<Change>, (Which, Failure)> {
        if self.known.iter().any(|known| !known.is_seen) {
            return Ok(None);
        }
        let is_lagging = *self.lagging.borrow();
        change::next(
            &self.secrets(),
            &self.remembered,
            is_lagging,
            &self.settings,
            now(),
        )
        .map_err(|(which, error)| (which, Failure::Failed(fault::chain(&error))))
    }

    /// Writes what was seen, changed, unless somebody else wrote since. What the server answers is what is known then.
    async fn write(&mut self, change: Change) -> Result<(), Failure> {
        let Change { which, stored, why } = change;
        if !self.known[which as usize].pace.allows(self.start.elapsed()) {
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
        self.known[which as usize].secret = Some(written);
        tracing::info!(secret = self.name(which), "{} written: {why}", which.what());
        Ok(())
    }

    async fn look(&mut self, which: Which) {
        let answer = timeout(CALL, self.api.get_opt(self.name(which))).await;
        match settled(answer, true) {
            Ok(found) => self.known[which as usize].secret = found,
            // It is there in an instant and gone in the next.
            Err(Failure::Lost) => {}
            Err(Failure::Failed(problem)) => {
                self.problem = Some(format!(
                    "cannot read Secret {}: {problem}",
                    self.name(which)
                ));
            }
        }
    }

    /// Publishes how the certificates are, and logs a problem once.
    fn tell(&self) {
        let leaf_ends = |which| {
            let leaf = stored::holding(self.stored(which).as_ref()).leaf.ok()?;
            Some(leaf.certificate.validity.not_after)
        };
        let authority = self.remembered.newest.as_ref();
        let is_two = |which| stored::holding(self.stored(which).as_ref()).roots.len() > 1;
        let report = Report {
            authority_ends: authority.map(|pair| pair.certificate.validity.not_after),
            proxy_ends: leaf_ends(Which::Proxy),
            control_ends: leaf_ends(Which::Control),
            is_rotating: is_two(Which::Proxy) || is_two(Which::Control),
            problem: self.problem.clone().or_else(|| self.watch_problem()),
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
        ALL.into_iter().find_map(|which| {
            let problem = self.known[which as usize].problem.as_ref()?;
            Some(format!(
                "cannot watch Secret {}: {problem}",
                self.name(which)
            ))
        })
    }
}

fn now() -> i64 {
    Timestamp::now().as_second()
}

fn ours() -> PostParams {
    PostParams {
        field_manager: Some(crate::cluster::service::MANAGER.to_owned()),
        ..PostParams::default()
    }
}

/// What came of a call. If the Secret was there, that it is gone is news and no more.
fn settled<T>(
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

fn said(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => fault::said(error),
        watcher::Error::WatchError(status) => status.message.clone(),
        watcher::Error::NoResourceVersion => error.to_string(),
    }
}
