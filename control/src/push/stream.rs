//! One proxy: keeps a connection to it, and carries what the pure machines decide. Decides nothing but when to connect.
//!
//! A connection is one Watch, one Push where this process leads, and a Get each second. A proxy that answers none of
//! them for 5 s is connected to anew, again and again, so that one that was paused is found as soon as it goes on.

mod calls;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use jiff::Timestamp;
use podline_api::client::ProxyClient;
use podline_api::v1::watch_response::Event;
use podline_api::{PortShare, VirtualAddress, v1};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::firsts::Firsts;
use super::fleet::Shared;
use super::holders::virtual_addresses;
use super::observe::Observation;
use super::overrides::Ask;
use super::serving::{Facts, Pushing, serving};
use super::sync::{Kind, Step, Sync};
use super::{Notable, Pushed, Target};
use crate::observed::ProxyView;
use crate::snapshot::Snapshot;
use calls::{ANSWER, Calls, Came, Ended};

const CONNECT: Duration = Duration::from_secs(3);
/// Beside the answers that are waited for anyway, for calls that only listen.
const KEEP_ALIVE: Duration = ANSWER;
const BACKOFF: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// Connects that fail in a row before a proxy that broke off counts as dead.
const DEAD_AFTER: u32 = 2;
/// How often readiness is asked for.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Sets that changed are asked for at once, but not again so soon, and at most a twentieth of the time: it costs the
/// proxy what they are large.
const ASK_SOON: Duration = Duration::from_millis(250);
const ASK_SHARE: u32 = 19;
/// How often to see whether time alone changed something.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// What is taken in before it is told what came of it.
const AT_ONCE: usize = 1_024;

/// The task of one proxy.
pub(super) struct Line {
    name: String,
    target: watch::Receiver<Target>,
    shared: Arc<Shared>,
    sync: Sync,
    seen: Observation,
    /// What others want to have told.
    asks: mpsc::Receiver<Ask>,
    firsts: Firsts,
    level: u32,
    features: Arc<BTreeSet<String>>,
    /// Why there is no connection.
    trouble: Option<String>,
    /// How often one could not be made, since there was one last.
    failed_connects: u32,
    /// The virtual addresses of what is wanted, and those that the proxy has.
    wanted_addresses: BTreeSet<IpAddr>,
    had_addresses: Vec<VirtualAddress>,
    answered_ms: u64,
    /// What was told last, without single backends; and which state of those.
    told: Option<ProxyView>,
    told_revision: u64,
    /// When the last came of what was taken in.
    came_at: Instant,
}

impl Line {
    /// Tells at once that it is not connected.
    pub(super) fn new(name: String, target: watch::Receiver<Target>, shared: Arc<Shared>) -> Self {
        let mut line = Self {
            sync: Sync::new(shared.owner.clone()),
            seen: Observation::new(shared.owner.clone()),
            asks: shared.overrides.open(&name),
            firsts: Firsts::new(&name),
            name,
            target,
            shared,
            level: 0,
            features: Arc::default(),
            trouble: Some("not connected yet".to_owned()),
            failed_connects: 0,
            wanted_addresses: BTreeSet::new(),
            had_addresses: Vec::new(),
            answered_ms: 0,
            told: None,
            told_revision: 0,
            came_at: Instant::now(),
        };
        line.tell();
        line
    }

    /// Keeps a connection, for ever.
    pub(super) async fn run(mut self) {
        let mut backoff = BACKOFF;
        loop {
            let began = Instant::now();
            let Err(ended) = self.connection().await;
            if self.trouble.is_none() && began.elapsed() > BACKOFF_MAX {
                backoff = BACKOFF;
            }
            if matches!(ended, Ended::Gone) {
                self.failed_connects = DEAD_AFTER;
            } else if self.trouble.is_none() || matches!(ended, Ended::NoCertificate | Ended::Moved)
            {
                self.failed_connects = 0;
            } else {
                self.failed_connects = self.failed_connects.saturating_add(1);
            }
            let why = ended.to_string();
            self.shared.recorder.disconnected(&self.name, &why);
            if self.trouble.is_none() {
                let (proxy, is_leaving) = (&self.name, self.seen.is_leaving());
                tracing::info!(proxy, is_leaving, why, "a proxy is not connected any more");
            }
            self.trouble = Some(why);
            self.sync.disconnected();
            self.tell();
            self.pause(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Waits before the next attempt, unless there is a new reason to try.
    async fn pause(&mut self, backoff: Duration) {
        let mut tls = self.shared.tls.clone();
        tls.mark_unchanged();
        tokio::select! {
            () = sleep(jittered(backoff)) => {}
            Ok(()) = tls.changed() => {}
            Ok(()) = self.target.changed() => {}
        }
    }

    async fn connection(&mut self) -> Result<std::convert::Infallible, Ended> {
        let target = self.target.borrow_and_update().target.clone();
        let (mut desired, mut reign) = (self.shared.desired.clone(), self.shared.reign.clone());
        self.sync
            .reign(*reign.borrow_and_update(), self.shared.now_ms());
        let snapshot = Arc::clone(&desired.borrow_and_update());
        self.want(snapshot);
        let mut reshared = self.shared.reshared.subscribe();
        let mut wanted = self.shared.ear.wanted.clone();
        let mut calls = self.connect(&target).await?;
        loop {
            let wake = self.act(&mut calls)?;
            self.tell();
            tokio::select! {
                came = calls.next() => {
                    self.came_at = Instant::now();
                    self.take_in(came?, &mut calls)?;
                }
                Some(ask) = self.asks.recv(), if calls.has_room() => calls.overrule(ask),
                Ok(()) = desired.changed() => {
                    let snapshot = Arc::clone(&desired.borrow_and_update());
                    self.want(snapshot);
                }
                Ok(()) = reign.changed() => {
                    let reign = *reign.borrow_and_update();
                    self.sync.reign(reign, self.shared.now_ms());
                    // Answers to another reign are nobody's, and a follower holds no place.
                    calls.push = None;
                    calls.reading = None;
                }
                Ok(()) = reshared.changed() => {
                    let share = self.shared.with_shares(|shares| shares.of(&self.name));
                    self.sync.share(share);
                    self.assign_addresses();
                }
                Ok(()) = wanted.changed() => {
                    let wanted = Arc::clone(&wanted.borrow_and_update());
                    wanted.keys().for_each(|set| self.seen.doubt(set.clone()));
                    self.firsts.want(&wanted);
                }
                Ok(()) = self.target.changed() => {
                    if self.target.borrow_and_update().target != target {
                        return Err(Ended::Moved);
                    }
                }
                () = sleep_until(wake) => {}
            }
        }
    }

    /// What the proxy is to be from now on.
    fn want(&mut self, snapshot: Arc<Snapshot>) {
        self.wanted_addresses = virtual_addresses(&snapshot);
        self.sync.want(snapshot, self.shared.now_ms());
        self.assign_addresses();
    }

    /// Which of the virtual addresses the proxy holds from now on.
    fn assign_addresses(&mut self) {
        let reign = self.sync.leads().unwrap_or_default();
        let (wanted, had) = (&self.wanted_addresses, &self.had_addresses);
        let addresses = self.shared.addresses(&self.name, reign, wanted, had);
        self.sync.addresses(addresses);
    }

    /// Takes in what came, and all that waits behind it.
    fn take_in(&mut self, first: Came, calls: &mut Calls) -> Result<(), Ended> {
        let mut came = first;
        for left in (0..AT_ONCE).rev() {
            match came {
                Came::Event(message) => message.event.into_iter().for_each(|e| self.on_event(e)),
                Came::Began(state) => self.seen.start(state),
                Came::Answer(answer) => self.on_answer(&answer),
                Came::Overruled | Came::Checked => {}
                Came::Asked(state, took) => self.on_asked(&state, took, calls),
                Came::Read(state) => {
                    // Only who leads reads: from here on it says which share this proxy has.
                    let told = reported(&state);
                    let share = self.shared.with_shares(|shares| {
                        shares.report(&self.name, told);
                        shares.assign(&self.name)
                    });
                    self.sync.share(Some(share));
                    self.had_addresses = reported_addresses(&state);
                    self.sync.read(state);
                    self.assign_addresses();
                }
            }
            let next = (left > 0).then(|| calls.next().now_or_never()).flatten();
            came = match next {
                Some(next) => next?,
                None => break,
            };
        }
        self.pass_on();
        Ok(())
    }

    /// Connects, and takes in how a Watch begins.
    async fn connect(&mut self, target: &str) -> Result<Calls, Ended> {
        // A proxy speaks plain text on its own machine, and TLS alone over the network.
        let tls = self.shared.tls.borrow().clone();
        if tls.is_none() && !is_here(target) {
            return Err(Ended::NoCertificate);
        }
        let tls = tls.filter(|_| !is_local(target));
        let connecting = ProxyClient::connect_watchful(target, tls.as_ref(), KEEP_ALIVE);
        let client = timeout(CONNECT, connecting)
            .await
            .or(Err(Ended::Silent))??;
        let (calls, hello, state) = Calls::begin(client).await?;
        let told = reported(&state);
        self.shared
            .with_shares(|shares| shares.report(&self.name, told));
        self.level = hello.level;
        self.features = Arc::new(hello.features.into_iter().collect());
        self.trouble = None;
        tracing::info!(proxy = self.name, target, "a proxy is connected");
        self.answered_ms = self.shared.now_ms();
        self.seen.start(state);
        let features = Arc::clone(&self.features);
        self.sync.connected(self.level, features, self.answered_ms);
        Ok(calls)
    }

    /// Does what is to be done now; when to look again.
    fn act(&mut self, calls: &mut Calls) -> Result<Instant, Ended> {
        let now = Instant::now();
        let due = loop {
            match self.sync.poll(self.shared.now_ms()) {
                Step::Wait(due) => break due,
                Step::Lost => return Err(Ended::Silent),
                Step::Read => calls.read(),
                Step::Send(request) => calls.send(*request)?,
            }
        };
        let mut wake = now + LOOK_EVERY;
        calls.doubt(|| self.target.borrow().target.clone());
        if !calls.is_asking() {
            let mut at = calls.ask_at;
            if self.seen.is_in_doubt() {
                at = at.min(calls.ask_sets_at);
            }
            if now >= at {
                calls.ask(self.seen.ask(now >= calls.ask_sets_at));
            } else {
                wake = wake.min(at);
            }
        }
        Ok(due.map_or(wake, |due_ms| wake.min(self.shared.at(due_ms))))
    }

    fn on_event(&mut self, event: Event) {
        self.firsts.on(&event, Timestamp::now());
        self.seen.on(event);
    }

    /// Passes on what was told of single backends. What finds no room is not told.
    fn pass_on(&mut self) {
        for told in self.firsts.take() {
            let _ = self.shared.ear.told.try_send(told);
        }
    }

    fn on_answer(&mut self, answer: &v1::ApplyResponse) {
        let now_ms = self.shared.now_ms();
        if let Some(refusal) = &answer.refusal {
            let reason = refusal.reason.as_str();
            self.shared.recorder.refused(&self.name, reason);
            self.sync.refused(refusal, now_ms);
        } else if let Some((kind, took_ms)) = self.sync.answered(answer, now_ms) {
            let what = match kind {
                Kind::Full => Pushed::Full,
                Kind::Difference => Pushed::Difference,
                Kind::Empty => Pushed::Empty,
            };
            let took = Duration::from_millis(took_ms);
            self.shared.recorder.pushed(&self.name, what, took);
        }
    }

    fn on_asked(&mut self, state: &v1::GetResponse, took: Duration, calls: &mut Calls) {
        self.firsts.answered(state, Timestamp::now(), took);
        self.seen.answered(state);
        self.answered_ms = self.shared.now_ms();
        if self.sync.leads().is_none() {
            let told = reported(state);
            self.shared
                .with_shares(|shares| shares.report(&self.name, told));
        }
        let now = Instant::now();
        calls.ask_at = now + ASK_EVERY;
        if !state.backend_sets.is_empty() {
            calls.ask_sets_at = now + ASK_SOON.max(took * ASK_SHARE);
        }
        let highest = self.seen.epoch().filter(|_| self.sync.is_deposed());
        if let Some(highest_epoch) = highest.filter(|highest| self.sync.leads() < Some(*highest)) {
            let proxy = self.name.clone();
            // Told again with the next answer if there is no room now.
            let _ = self.shared.notable.try_send(Notable::Deposed {
                proxy,
                highest_epoch,
            });
        }
    }

    /// Tells how the proxy does, if that changed.
    fn tell(&mut self) {
        let view = self.view();
        let (healthy, revision) = self.seen.healthy();
        if self.told.as_ref() == Some(&view) && self.told_revision == revision {
            return;
        }
        let told = ProxyView {
            healthy: healthy.clone(),
            drained: self.seen.drained().clone(),
            unhealthy: self.seen.unhealthy().clone(),
            ..view.clone()
        };
        self.told = Some(view);
        self.told_revision = revision;
        self.shared.recorder.told(self.came_at);
        self.shared.tell(&self.name, &self.target, told);
    }

    /// All but single backends, which are too many to compare.
    fn view(&self) -> ProxyView {
        let pushing = self.sync.leads().map(|_| Pushing {
            is_built: self.sync.is_built(),
            is_deposed: self.sync.is_deposed(),
            blocked: self.sync.blocked(),
            is_in_step: self.sync.is_in_step(),
            taken_over_ms: self.sync.taken_over_ms(),
            last_ack_ms: self.sync.last_ack_ms(),
            behind_since_ms: self.sync.behind_since_ms(),
        });
        let facts = Facts {
            disconnected: self.trouble.as_deref(),
            not_ready: self.seen.not_ready(),
            answered_ms: self.answered_ms,
            pushing,
        };
        let serving = serving(&facts, self.shared.now_ms());
        let target = self.target.borrow();
        ProxyView {
            target: target.target.clone(),
            addresses: target.addresses.clone(),
            serving: serving.is_ok(),
            not_serving_reason: serving.err().unwrap_or_default(),
            acked: self.sync.acked(),
            level: self.level,
            features: Arc::clone(&self.features),
            failed_listeners: self.seen.failed_listeners(),
            refused: self.sync.refused_words(),
            paths: Arc::clone(self.seen.network().0),
            transparency_problem: self.seen.network().1.to_owned(),
            virtual_addresses: Arc::clone(self.seen.addresses()),
            is_dead: self.trouble.is_some() && self.failed_connects >= DEAD_AFTER,
            is_leaving: self.seen.is_leaving(),
            ..ProxyView::default()
        }
    }
}

/// Which part of the source ports a proxy says that it was told to use.
fn reported(state: &v1::GetResponse) -> Option<PortShare> {
    let network = state.network.as_ref()?.network.as_ref()?;
    PortShare::try_from(network.port_share?).ok()
}

/// The virtual addresses that a proxy says that it was told of.
fn reported_addresses(state: &v1::GetResponse) -> Vec<VirtualAddress> {
    let network = state.network.as_ref().and_then(|n| n.network.clone());
    let all = network.into_iter().flat_map(|network| network.addresses);
    all.filter_map(|address| VirtualAddress::try_from(address).ok())
        .collect()
}

/// Half of `time` to all of it, so that many do not come back at once.
fn jittered(time: Duration) -> Duration {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let chance = RandomState::new().build_hasher().finish() % 512;
    time.mul_f64(0.5 + chance as f64 / 1_024.0)
}

/// Whether what is said to `target` stays on this machine.
fn is_here(target: &str) -> bool {
    target.starts_with("unix:") || is_local(target)
}

/// Whether `target` is a loopback address; a host name is none.
fn is_local(target: &str) -> bool {
    target
        .parse::<std::net::SocketAddr>()
        .is_ok_and(|address| address.ip().is_loopback())
}
