//! The proxy's state: what owners want, what workers act on, how backends do.
//!
//! Start with [`State`], the handle that everybody has. The `engine` behind it is the only writer: it checks a
//! transaction (`check`), changes its entries (`entry`, `listeners`, `sets`), tells what changed (`change`), publishes a
//! route table, and lets health and drains move on (`progress`). `view` shows it in the words of the API. The workers
//! are a port ([`ports::DataPlane`]).

mod addresses;
mod change;
mod check;
mod engine;
mod entry;
mod explain;
mod host;
mod listeners;
pub(crate) mod network;
mod overrides;
mod owners;
mod passive;
pub mod ports;
mod progress;
mod routes;
pub mod saved;
mod sets;
mod tasks;
mod view;

use crate::lb::ListenerId;
use crate::lb::health::ProbeOutcome;
use crate::lb::trie::Tier;
use crate::probe::finding::Finding;
use crate::probe::schedule::ProbeKey;
use engine::{Applied, Engine};
use entry::SetEntry;
use podline_api::{Apply, Name, Override, Owner, Rejected, v1};
use ports::{DataPlane, ForceClose};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;
use v1::watch_response::Event;

/// How long workers may take to acknowledge before they are reported by name.
const ACKNOWLEDGE: Duration = Duration::from_secs(1);
/// How long a moving address waits for workers to cut its connections.
const CUT: Duration = Duration::from_millis(100);
/// After a probe for which this machine had no means.
const POSTPONED: Duration = Duration::from_secs(1);
/// Events a watcher may be behind before it is cut off.
const WATCH_EVENTS: usize = 16_384;
/// A set without a verdict keeps a starting proxy unready for so long at most.
const VERDICT_MS: u64 = 20_000;
/// Grows with each release of the API.
const LEVEL: u32 = 5;
/// What this release can do beyond level 1; controllers send nothing that a proxy does not name.
const FEATURES: [&str; 25] = [
    "push",
    "explain",
    "override",
    "epoch",
    "maglev",
    "client-ip-affinity",
    "http-check",
    "grpc-check",
    "passive-check",
    "limits",
    "source-ranges",
    "drain-timeout-of-change",
    "proxy-protocol",
    "udp-check",
    "ping",
    "udp",
    "source-address",
    "network",
    "firsts",
    "http",
    "tls",
    "backend-tls",
    "http2",
    "addresses",
    "handover",
];

/// A watcher's start: the hello, the whole state, and every event after that state.
pub type Watch = (
    v1::WatchResponse,
    v1::WatchResponse,
    broadcast::Receiver<Arc<v1::WatchResponse>>,
);

/// The handle to the proxy's state. Cheap to clone.
#[derive(Clone)]
pub struct State(Arc<Inner>);

struct Inner {
    engine: Mutex<Engine>,
    plane: Arc<dyn DataPlane>,
    events: broadcast::Sender<Arc<v1::WatchResponse>>,
    /// Rung when a health change waits to be published.
    health: Notify,
    /// Rung when probes may be due earlier than thought.
    probes: Notify,
    /// Rung when there are drains or failed listeners to look at.
    work: Notify,
    /// Rung when an override or an ejection may end earlier than thought.
    ends: Notify,
    /// Rung when the network, or what listeners want of it, may differ.
    network: Notify,
    /// Rung when the virtual addresses may be others.
    addresses: Notify,
    /// Rung when it is known whether clients can be imitated.
    means: Notify,
    /// Rung when what is saved may differ.
    changed: Notify,
    /// Why the proxy is not ready, beside missing verdicts.
    holds: Mutex<BTreeSet<&'static str>>,
    /// The first state that had sets had a verdict for each: what comes later does not make the proxy unready.
    settled: AtomicBool,
    started: SystemTime,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

impl State {
    /// A state with nothing in it, over `plane`. Nothing moves on its own until [`Self::run`] runs.
    pub fn new(plane: Arc<dyn DataPlane>) -> Self {
        Self(Arc::new(Inner {
            engine: Mutex::new(Engine::new(Arc::clone(&plane))),
            plane,
            events: broadcast::channel(WATCH_EVENTS).0,
            health: Notify::new(),
            probes: Notify::new(),
            work: Notify::new(),
            ends: Notify::new(),
            changed: Notify::new(),
            network: Notify::new(),
            addresses: Notify::new(),
            means: Notify::new(),
            holds: Mutex::default(),
            settled: AtomicBool::new(false),
            started: SystemTime::now(),
        }))
    }

    /// Takes a transaction whole or refuses it whole. Answers when every worker acts on it.
    ///
    /// # Errors
    /// Says whose fault it is and whether to retry; nothing was taken.
    ///
    /// # Cancel safety
    /// The transaction may be taken though the future is dropped.
    pub async fn apply(&self, apply: Apply) -> Result<v1::ApplyResponse, Rejected> {
        let started = Instant::now();
        if !apply.validate_only && apply.listeners.iter().any(network::imitates) {
            self.prepare_imitation().await;
        }
        let named: Vec<Name> = apply.listeners.iter().map(|l| l.name.clone()).collect();
        let applied = self.take(&apply, &named)?;
        // Also where nothing differs: what was taken before counts only once every worker acts on it.
        let acts = async {
            match applied.published {
                Some(version) if !apply.validate_only => self.silent_workers(version).await,
                _ => Vec::new(),
            }
        };
        // The question queues behind the new sockets.
        let hears = async {
            if !applied.binds {
                return Vec::new();
            }
            let deaf = self.workers_answer().await.err().unwrap_or_default();
            if !deaf.is_empty() {
                tracing::warn!(workers = ?deaf, "workers do not take their new listeners");
            }
            deaf
        };
        let (mut silent_workers, deaf) = tokio::join!(acts, hears);
        silent_workers.extend(deaf);
        silent_workers.sort_unstable();
        silent_workers.dedup();
        let engine = self.engine();
        let listeners = named
            .iter()
            .filter_map(|name| engine.listeners.get(name))
            .map(view::listener)
            .collect();
        Ok(v1::ApplyResponse {
            version: applied.version,
            changes: applied.changes,
            listeners,
            took: prost_types::Duration::try_from(started.elapsed()).ok(),
            silent_workers,
            refusal: None,
        })
    }

    /// Waits until every worker acts on `version`; those that do not in time. What this closes is told.
    async fn silent_workers(&self, version: u64) -> Vec<u32> {
        let answer = self.0.plane.acknowledged(version, ACKNOWLEDGE).await;
        match answer {
            Ok(()) => {
                self.change(|engine| engine.move_drains(version));
                Vec::new()
            }
            Err(silent_workers) => {
                tracing::warn!(version, ?silent_workers, "workers do not acknowledge");
                silent_workers
            }
        }
    }

    /// Drains a backend or changes its weight beside its owner, for `by`. Answers when every worker acts on it, or after
    /// a second.
    ///
    /// # Errors
    /// There is no such set or backend, or there are too many overrides; nothing was changed.
    ///
    /// # Cancel safety
    /// Once polled, the override holds; dropping the future only loses the answer.
    pub async fn override_backend(
        &self,
        request: Override,
        by: &str,
    ) -> Result<v1::OverrideResponse, Rejected> {
        let done = {
            let mut engine = self.engine();
            let done = engine.override_backend(&request, by)?;
            let events = engine.take_events();
            self.emit(&engine, events);
            done
        };
        self.ring();
        self.silent_workers(done.version).await;
        Ok(v1::OverrideResponse {
            version: done.version,
            status: done.status,
            changed: done.changed,
        })
    }

    /// Rouses all that may have something to do after a change.
    fn ring(&self) {
        self.0.probes.notify_one();
        self.0.work.notify_waiters();
        self.0.ends.notify_one();
        self.0.network.notify_one();
        self.0.addresses.notify_one();
        self.0.changed.notify_one();
    }

    /// Takes a transaction and says so, before anybody can take another.
    fn take(&self, apply: &Apply, named: &[Name]) -> Result<Applied, Rejected> {
        let mut engine = self.engine();
        // Whether or not somebody has asked: what is about to come must not undo it.
        self.unsettled(&engine);
        let applied = engine.apply(apply)?;
        if apply.validate_only {
            return Ok(applied);
        }
        if applied.changes.is_empty() {
            // A controller that only shows that it lives must not have the whole state saved each time.
            if applied.raises_epoch {
                self.0.changed.notify_one();
            }
            return Ok(applied);
        }
        let mut events = vec![Event::Applied(v1::Applied {
            version: applied.version,
            owner: apply.owner.to_string(),
            changes: applied.changes.clone(),
        })];
        events.extend(engine.take_events());
        events.extend(named.iter().filter_map(|name| engine.listener_event(name)));
        self.emit(&engine, events);
        drop(engine);
        self.ring();
        Ok(applied)
    }

    /// Whose set this is.
    pub fn owner_of_set(&self, set: &Name) -> Option<Owner> {
        Some(self.engine().sets.get(set)?.owner.clone())
    }

    /// The version that is served.
    pub fn version(&self) -> u64 {
        self.engine().version()
    }

    /// What the proxy has and how it does.
    pub fn get(&self, request: &v1::GetRequest) -> v1::GetResponse {
        self.state_of(&self.engine(), request)
    }

    fn state_of(&self, engine: &Engine, request: &v1::GetRequest) -> v1::GetResponse {
        let ready = self.readiness(engine);
        let (listeners, backend_sets) = view::select(engine, request);
        let (descriptors_in_use, descriptor_budget) = self.0.plane.descriptors();
        let (affinity_clients, affinity_capacity) = self.0.plane.affinity();
        v1::GetResponse {
            version: engine.version(),
            release: env!("CARGO_PKG_VERSION").to_owned(),
            started: Some(view::timestamp(self.0.started)),
            workers: self.0.plane.workers(),
            ready: ready.is_ok(),
            not_ready_reason: ready.err().unwrap_or_default(),
            listeners,
            backend_sets,
            active_connections: self.0.plane.active_connections(),
            descriptors_in_use,
            descriptor_budget,
            affinity_clients,
            affinity_capacity,
            overrides: view::overrides(engine),
            owners: view::owners(engine),
            network: engine.network_status(),
            now: Some(view::timestamp(SystemTime::now())),
            leaving: engine.is_leaving,
        }
    }

    /// Why backends get new connections, or why not.
    ///
    /// # Errors
    /// There is no such set or backend.
    pub fn explain(&self, request: &v1::ExplainRequest) -> Result<v1::ExplainResponse, Rejected> {
        view::explain(&self.engine(), request)
    }

    /// Starts to watch: the events are those that happen after the state, none missing and none twice.
    pub fn watch(&self) -> Watch {
        let engine = self.engine();
        let receiver = self.0.events.subscribe();
        let state = self.state_of(&engine, &v1::GetRequest::default());
        drop(engine);
        let hello = v1::Hello {
            version: state.version,
            level: LEVEL,
            features: FEATURES.iter().map(ToString::to_string).collect(),
        };
        (
            response(Event::Hello(hello)),
            response(Event::State(state)),
            receiver,
        )
    }

    /// Whether the proxy may get traffic.
    ///
    /// # Errors
    /// Why not.
    pub fn ready(&self) -> Result<(), String> {
        self.readiness(&self.engine())
    }

    fn readiness(&self, engine: &Engine) -> Result<(), String> {
        let holds: Vec<_> = lock(&self.0.holds).iter().copied().collect();
        if !holds.is_empty() {
            // All of them: one that goes in a moment must not hide one that stays.
            return Err(holds.join("; "));
        }
        match self.unsettled(engine) {
            Some(name) => Err(format!(
                "backend set \"{name}\" waits for its first health verdict"
            )),
            None => Ok(()),
        }
    }

    /// A set that keeps the proxy unready, at its start only: a set that joins one that serves concerns nobody else.
    fn unsettled<'a>(&self, engine: &'a Engine) -> Option<&'a Name> {
        if self.0.settled.load(Relaxed) {
            return None;
        }
        let now_ms = self.0.plane.now_ms();
        let waits = |entry: &SetEntry| {
            let set = engine.table.set(entry.id);
            let awaits_verdict = set.is_some_and(|set| {
                let count = |tier| set.tally(tier).count;
                count(Tier::Detecting) > 0
                    && count(Tier::Eligible) == 0
                    && count(Tier::Fallback) == 0
            });
            awaits_verdict && now_ms < entry.created_ms + VERDICT_MS
        };
        let mut sets = engine.sets.iter();
        let waiting = sets.find(|(_, entry)| waits(entry)).map(|(name, _)| name);
        if waiting.is_none() && !engine.sets.is_empty() {
            self.0.settled.store(true, Relaxed);
        }
        waiting
    }

    /// Keeps the proxy unready for `reason` until [`Self::release`].
    pub fn hold(&self, reason: &'static str) {
        lock(&self.0.holds).insert(reason);
    }

    /// Takes back what [`Self::hold`] said.
    pub fn release(&self, reason: &'static str) {
        lock(&self.0.holds).remove(reason);
    }

    /// Stops accepting everywhere; connections live on. For shutdown.
    pub fn unbind_all(&self) {
        let mut engine = self.engine();
        engine.stopping = Some(SystemTime::now());
        for entry in engine.listeners.values().filter(|l| l.failure.is_none()) {
            self.0.plane.unbind(entry.id);
        }
    }

    /// Connections now, those that the end of the process waits for.
    pub fn live_connections(&self) -> u64 {
        self.0.plane.live_connections()
    }

    /// Datagrams that came from no backend, where only backends are to send.
    pub fn stray_datagrams(&self) -> u64 {
        self.0.plane.stray_datagrams()
    }

    /// Asks every worker for a word now.
    ///
    /// # Errors
    /// The numbers of those that gave none within a second.
    pub(crate) async fn workers_answer(&self) -> Result<(), Vec<u32>> {
        self.0.plane.answering(ACKNOWLEDGE).await
    }

    /// Times that a worker stopped accepting because descriptors ran out.
    pub fn accept_pauses(&self) -> u64 {
        self.0.plane.accept_pauses()
    }

    /// Cuts every connection. For the end of shutdown.
    pub fn cut_all(&self) {
        self.0.plane.force_close(ForceClose::Everything);
    }

    /// Cuts the connections to the listeners at an address, and waits until that is done, for a moment at most. For good:
    /// before that nobody is let in any more.
    pub(crate) async fn cut_at(&self, ip: IpAddr, for_good: bool) {
        let each = |plane: &dyn DataPlane, id| {
            if for_good {
                plane.unbind(id);
            }
            plane.force_close(ForceClose::Listener(id));
        };
        self.at(ip, each).await;
    }

    /// The address is about to go to another host: what is there lives on without, and waits until that is so, for a
    /// moment at most. For good: before that nobody is let in any more.
    pub(crate) async fn detach_at(&self, ip: IpAddr, for_good: bool) {
        let each = |plane: &dyn DataPlane, id| {
            if for_good {
                plane.unbind(id);
            }
            plane.detach(id, ip);
        };
        self.at(ip, each).await;
    }

    /// Has the workers do something about each listener at an address.
    async fn at(&self, ip: IpAddr, each: impl Fn(&dyn DataPlane, ListenerId)) {
        let listeners = self.engine().listeners_at(ip);
        for id in &listeners {
            each(&*self.0.plane, *id);
        }
        if !listeners.is_empty() {
            // Who does not answer does not serve, either.
            let _ = self.0.plane.answering(CUT).await;
        }
    }

    /// Probes that are due, at most `most`, and how long until the next one is.
    pub(crate) fn due_probes(&self, most: usize) -> (Vec<(u64, ProbeKey)>, Option<Duration>) {
        let now_ms = self.0.plane.now_ms();
        let mut engine = self.engine();
        let due: Vec<_> = std::iter::from_fn(|| engine.probes.due(now_ms))
            .take(most)
            .collect();
        let next = engine
            .probes
            .next_ms()
            .map(|at| Duration::from_millis(at.saturating_sub(now_ms)));
        (due, next)
    }

    /// Takes in a probe's outcome.
    pub(crate) fn on_probe(&self, id: u64, outcome: ProbeOutcome, finding: Finding) {
        let mut engine = self.engine();
        engine.on_probe(id, outcome, finding);
        if engine.dirty {
            self.0.health.notify_one();
        }
    }

    /// Probes again soon: this time nothing was learnt of the backend, except why not.
    pub(crate) fn postpone_probe(&self, id: u64, finding: Finding) {
        let now_ms = self.0.plane.now_ms();
        let mut engine = self.engine();
        engine.note_probe(id, finding);
        engine.probes.again(id, now_ms, POSTPONED);
    }

    /// Waits until probes may be due earlier than was said.
    pub(crate) async fn probes_changed(&self) {
        self.0.probes.notified().await;
    }

    /// Changes the engine and says what happened.
    fn change(&self, change: impl FnOnce(&mut Engine) -> Vec<Event>) {
        let mut engine = self.engine();
        let events = change(&mut engine);
        self.emit(&engine, events);
    }

    /// Sends events while their cause is locked, so that they come in the order in which things happened.
    fn emit(&self, _engine: &Engine, events: Vec<Event>) {
        for event in events {
            // Nobody watching is no error.
            let _ = self.0.events.send(Arc::new(response(event)));
        }
    }

    fn engine(&self) -> MutexGuard<'_, Engine> {
        lock(&self.0.engine)
    }
}

fn response(event: Event) -> v1::WatchResponse {
    v1::WatchResponse {
        time: Some(view::timestamp(SystemTime::now())),
        event: Some(event),
    }
}

/// A writer that panicked has left whole entries behind: each step of the engine changes one at a time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
