//! The loop that reads and writes the Lease as `decide` says, and publishes who leads. Decides nothing itself.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, PostParams};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::decide::{Candidate, Next, Terms};
use super::leadership::{Held, Leadership};
use super::record;
use crate::fault;
use crate::reign::Reign;

/// How long giving the Lease back may take at the end.
const RELEASE: Duration = Duration::from_secs(2);
const EXHAUSTED: &str =
    "the Lease's leaseTransitions is at its highest: nobody can lead until it is deleted";

/// Which Lease, and who we are.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the Lease is: the controller's own namespace.
    pub namespace: String,
    /// The Lease's name.
    pub name: String,
    /// Who we are. No two replicas may have the same: the Pod's name.
    pub identity: String,
    /// How long things last.
    pub terms: Terms,
}

/// Why a call did not do what it should.
enum Failure {
    /// Somebody else wrote first: look again.
    Lost,
    /// Anything else; in words. Try again later.
    Failed(String),
}

/// One replica's part in the election.
#[derive(Debug)]
pub struct Election {
    api: Api<Lease>,
    settings: Settings,
    candidate: Candidate,
    /// The Lease as we saw it last.
    lease: Option<Lease>,
    /// Where its clock begins.
    start: Instant,
    held: watch::Sender<Option<Held>>,
    reign: watch::Sender<Reign>,
    problem: watch::Sender<Option<String>>,
    raise: Arc<watch::Sender<u64>>,
    raised: watch::Receiver<u64>,
}

impl Election {
    /// A follower, until it runs.
    pub fn new(client: kube::Client, settings: Settings) -> Self {
        let (raise, raised) = watch::channel(0);
        Self {
            api: Api::namespaced(client, &settings.namespace),
            candidate: Candidate::new(settings.identity.clone(), settings.terms),
            settings,
            lease: None,
            start: Instant::now(),
            held: watch::Sender::new(None),
            reign: watch::Sender::new(Reign::Follower),
            problem: watch::Sender::new(None),
            raise: Arc::new(raise),
            raised,
        }
    }

    /// What others hold. It says Follower for ever once [`Self::run`] has ended.
    pub fn leadership(&self) -> Leadership {
        Leadership {
            held: self.held.subscribe(),
            reign: self.reign.subscribe(),
            problem: self.problem.subscribe(),
            raise: Arc::clone(&self.raise),
        }
    }

    /// Takes part until `shutdown`, then gives the Lease back so that another leads at once. Whoever acts on the
    /// leadership must have stopped before `shutdown` resolves.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                () = self.step() => {}
            }
        }
        self.candidate.step_down();
        self.publish();
        if timeout(RELEASE, self.release()).await.is_err() {
            tracing::warn!("the Lease was not given back in time; it expires by itself");
        }
    }

    /// # Cancel safety
    /// A write may take effect though its answer is lost; the next look shows it.
    async fn step(&mut self) {
        self.hear();
        match self.candidate.decide(self.now()) {
            Next::Look => self.look().await,
            Next::Create { epoch } | Next::TakeOver { epoch } | Next::Renew { epoch } => {
                self.write(epoch).await;
            }
            Next::Wait(time) => self.wait(time).await,
            Next::StepDown => self.candidate.step_down(),
            Next::Exhausted => {
                self.candidate.lost(self.now());
                self.wait(self.settings.terms.lease).await;
            }
        }
        self.publish();
    }

    /// What proxies told of higher epochs.
    fn hear(&mut self) {
        if !self.raised.has_changed().unwrap_or(false) {
            return;
        }
        let told = *self.raised.borrow_and_update();
        if !self.candidate.raise(told) {
            tracing::error!(
                "a proxy has seen epoch {told}, which no Lease can exceed: restart it without its state file"
            );
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    async fn wait(&mut self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            // Heard in the next step. Our own sender lives as long as we do.
            _ = self.raised.changed() => self.raised.mark_changed(),
        }
    }

    async fn look(&mut self) {
        let asked = self.now();
        let answer = self.call(self.api.get_opt(&self.settings.name)).await;
        match answer {
            Ok(found) => {
                let seen = found.as_ref().map(record::read);
                self.candidate.saw(seen, self.now());
                self.lease = found;
                let is_stuck = self.candidate.decide(self.now()) == Next::Exhausted;
                self.report(is_stuck.then(|| EXHAUSTED.to_owned()));
            }
            Err(Failure::Lost) => self.candidate.failed(asked),
            Err(Failure::Failed(problem)) => {
                self.candidate.failed(asked);
                self.report(Some(format!("cannot read the Lease: {problem}")));
            }
        }
    }

    async fn write(&mut self, epoch: u64) {
        let Settings {
            name,
            identity,
            terms,
            ..
        } = &self.settings;
        let asked = self.now();
        let parameters = ours();
        let answer = match &self.lease {
            None => {
                let lease = record::new(name);
                let lease = record::held(&lease, identity, epoch, terms.lease, Timestamp::now());
                self.call(self.api.create(&parameters, &lease)).await
            }
            Some(seen) => {
                let lease = record::held(seen, identity, epoch, terms.lease, Timestamp::now());
                self.call(self.api.replace(name, &parameters, &lease)).await
            }
        };
        match answer {
            Ok(written) => {
                self.candidate
                    .wrote(record::read(&written), asked, self.now());
                self.lease = Some(written);
                self.report(None);
            }
            Err(Failure::Lost) => self.candidate.lost(self.now()),
            Err(Failure::Failed(problem)) => {
                self.candidate.failed(asked);
                self.report(Some(format!("cannot write the Lease: {problem}")));
            }
        }
    }

    /// A call that ends before our time does, so that we step down when it is over.
    async fn call<T>(&self, call: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
        let left = match self.candidate.held() {
            Some(held) => held.until.saturating_sub(self.now()),
            None => self.settings.terms.call,
        };
        let limit = left.min(self.settings.terms.call);
        match timeout(limit, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if fault::is_conflict(&error) => Err(Failure::Lost),
            Ok(Err(error)) if self.lease.is_some() && fault::is_absent(&error) => {
                Err(Failure::Lost)
            }
            Ok(Err(error)) => Err(Failure::Failed(fault::said(&error))),
            Err(_) => Err(Failure::Failed(
                "the API server did not answer in time".to_owned(),
            )),
        }
    }

    /// Gives the Lease back if it names us.
    async fn release(&mut self) {
        if self.lease.is_none() || !self.candidate.is_named() {
            return;
        }
        // A write of ours may have been under way: then the first attempt is refused.
        for _ in 0..2 {
            let Some(seen) = &self.lease else { return };
            let free = record::released(seen, Timestamp::now());
            let answer = self.api.replace(&self.settings.name, &ours(), &free).await;
            match answer {
                Ok(_) => return tracing::info!("the Lease is given back"),
                Err(error) if fault::is_conflict(&error) => self.look().await,
                Err(error) if fault::is_absent(&error) => return,
                Err(error) => {
                    return tracing::warn!("the Lease is not given back: {}", fault::said(&error));
                }
            }
            if !self.candidate.is_named() {
                return;
            }
        }
    }

    fn report(&self, problem: Option<String>) {
        self.problem.send_if_modified(|known| {
            if *known == problem {
                return false;
            }
            if let Some(problem) = &problem {
                tracing::warn!("leader election: {problem}");
            } else {
                tracing::info!("leader election: the Lease can be used again");
            }
            *known = problem;
            true
        });
    }

    fn publish(&self) {
        let now = self.now();
        let held = self.candidate.held_at(now).map(|held| Held {
            epoch: held.epoch,
            until: self.start + held.until,
        });
        // First what is asked before acting, then what wakes those that act.
        self.held.send_replace(held);
        let reign = held.map_or(Reign::Follower, |held| Reign::Leader { epoch: held.epoch });
        self.reign.send_if_modified(|known| {
            if *known == reign {
                return false;
            }
            match reign {
                Reign::Leader { epoch } => tracing::info!(epoch, "this replica leads"),
                Reign::Follower => tracing::info!("this replica leads no more"),
            }
            *known = reign;
            true
        });
    }
}

fn ours() -> PostParams {
    PostParams {
        field_manager: Some(crate::cluster::service::MANAGER.to_owned()),
        ..PostParams::default()
    }
}

impl Drop for Election {
    /// Cut short, it must not leave a leader behind.
    fn drop(&mut self) {
        self.held.send_replace(None);
        self.reign.send_replace(Reign::Follower);
    }
}
