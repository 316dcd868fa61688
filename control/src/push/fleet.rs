//! All proxies: a task for each, that comes and goes with its target, and one value of what they say.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use podline_api::client::ClientTls;
use podline_api::{Owner, VirtualAddress};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::holders::{self, Holders};
use super::lag::Lag;
use super::overrides::Overrides;
use super::shares::Shares;
use super::stream::Line;
use super::{Notable, Recorder, Reign, Target};
use crate::observed::{Holding, Observed, ProxyView};
use crate::snapshot::Snapshot;
use crate::timeline::Ear;

/// How often port shares are looked at for what time alone changes.
const RESHARE_EVERY: Duration = Duration::from_secs(10);

/// How often it is seen whether time alone moves virtual addresses.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How virtual addresses are held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcing {
    /// Proxies hold and announce them; else somebody else does.
    pub announce: bool,
    /// The link that they are put on; absent: each proxy finds it.
    pub interface: Option<String>,
}

impl Default for Announcing {
    fn default() -> Self {
        Self {
            announce: true,
            interface: None,
        }
    }
}

/// What [`run`] goes by.
#[derive(Clone)]
pub struct Inputs {
    /// Who owns what is pushed.
    pub owner: Owner,
    /// What the proxies are to be; version 0 is not pushed.
    pub desired: watch::Receiver<Arc<Snapshot>>,
    /// Whether to push, or only to watch.
    pub reign: watch::Receiver<Reign>,
    /// What to show and whom to trust; used from the next connection on.
    pub tls: watch::Receiver<Option<ClientTls>>,
    /// Which proxies there are, by name.
    pub targets: watch::Receiver<BTreeMap<String, Target>>,
    /// Who counts what happens.
    pub recorder: Arc<dyn Recorder>,
    /// How others have single backends kept out.
    pub overrides: Overrides,
    /// Who follows single backends.
    pub ear: Ear,
    /// How virtual addresses are held.
    pub announcing: Announcing,
}

impl fmt::Debug for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inputs")
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

/// What all tasks share.
pub(super) struct Shared {
    pub(super) owner: Owner,
    pub(super) desired: watch::Receiver<Arc<Snapshot>>,
    pub(super) reign: watch::Receiver<Reign>,
    pub(super) tls: watch::Receiver<Option<ClientTls>>,
    pub(super) recorder: Arc<dyn Recorder>,
    pub(super) overrides: Overrides,
    pub(super) ear: Ear,
    pub(super) notable: mpsc::Sender<Notable>,
    observed: watch::Sender<Arc<Observed>>,
    shares: Mutex<Shares>,
    announcing: Announcing,
    holders: Mutex<Holders>,
    /// Told when somebody's share, or what somebody holds, may be another.
    pub(super) reshared: watch::Sender<()>,
    started: Instant,
}

impl Shared {
    /// The machines' time.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A moment of the machines' time.
    pub(super) fn at(&self, ms: u64) -> Instant {
        self.started + Duration::from_millis(ms)
    }

    /// Tells how a proxy does, unless it is no `target` of ours any more.
    pub(super) fn tell(&self, name: &str, target: &watch::Receiver<Target>, view: ProxyView) {
        self.observed.send_if_modified(|observed| {
            let is_ours = target.has_changed().is_ok();
            if is_ours {
                let proxies = &mut Arc::make_mut(observed).proxies;
                proxies.insert(name.to_owned(), Arc::new(view));
            }
            is_ours
        });
    }

    /// Works on the shares, and tells those whose share it changes.
    pub(super) fn with_shares<T>(&self, work: impl FnOnce(&mut Shares) -> T) -> T {
        let mut shares: MutexGuard<'_, Shares> =
            self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let before = shares.clone();
        let result = work(&mut shares);
        if *shares != before {
            self.reshared.send_replace(());
        }
        result
    }

    /// What a proxy is to be told of the virtual addresses that are wanted.
    pub(super) fn addresses(
        &self,
        proxy: &str,
        reign: u64,
        wanted: &BTreeSet<IpAddr>,
        had: &[VirtualAddress],
    ) -> Vec<VirtualAddress> {
        let Announcing {
            announce,
            interface,
        } = &self.announcing;
        let had = if *announce { had } else { &[] };
        let holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        holders::for_proxy(proxy, wanted, (&holders, reign), had, interface.as_deref())
    }

    /// Decides anew who holds the virtual addresses, where this process leads, and tells those whom that concerns.
    fn move_addresses(&self) {
        let snapshot = Arc::clone(&self.desired.borrow());
        let reign = *self.reign.borrow();
        let (Reign::Leader { epoch }, true) = (reign, self.announcing.announce) else {
            self.tell_addresses(BTreeMap::new());
            return;
        };
        if snapshot.version == 0 {
            return;
        }
        let wanted = holders::virtual_addresses(&snapshot);
        let observed = Arc::clone(&self.observed.borrow());
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        let before = holders.clone();
        holders.step(epoch, &wanted, &observed, self.now_ms());
        let moves = holders.moves_since(&before);
        let holdings = holders.holdings(&wanted, self.now_ms());
        drop(holders);
        self.tell_addresses(holdings);
        for moved in &moves {
            tracing::info!("{moved}");
        }
        if !moves.is_empty() {
            self.reshared.send_replace(());
        }
    }

    fn tell_addresses(&self, holdings: BTreeMap<IpAddr, Holding>) {
        self.observed.send_if_modified(|observed| {
            let is_news = observed.addresses != holdings;
            if is_news {
                Arc::make_mut(observed).addresses = holdings;
            }
            is_news
        });
    }

    fn forget(&self, name: &str) {
        self.overrides.close(name);
        self.with_shares(|shares| shares.leave(name, self.now_ms()));
        self.observed.send_modify(|observed| {
            Arc::make_mut(observed).proxies.remove(name);
        });
    }
}

/// Pushes to all targets and tells how they do, until whoever says the targets is gone. Dropping the future ends all
/// connections; the proxies keep what they have.
pub async fn run(
    inputs: Inputs,
    observed: watch::Sender<Arc<Observed>>,
    notable: mpsc::Sender<Notable>,
) {
    let mut seen = observed.subscribe();
    let (mut targets, mut desired) = (inputs.targets, inputs.desired.clone());
    targets.mark_changed();
    let shared = Arc::new(Shared {
        owner: inputs.owner,
        desired: inputs.desired,
        reign: inputs.reign,
        tls: inputs.tls,
        recorder: inputs.recorder,
        overrides: inputs.overrides,
        ear: inputs.ear,
        notable,
        observed,
        shares: Mutex::default(),
        announcing: inputs.announcing,
        holders: Mutex::default(),
        reshared: watch::Sender::new(()),
        started: Instant::now(),
    });
    let mut tick = tokio::time::interval(RESHARE_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut lines = Lines::default();
    let mut lag = Lag::default();
    loop {
        tokio::select! {
            changed = targets.changed() => {
                if changed.is_err() {
                    return;
                }
                let targets = targets.borrow_and_update().clone();
                lines.follow(targets, &shared);
            }
            Ok(()) = desired.changed() => {
                let version = desired.borrow_and_update().version;
                lag.want(version, shared.now_ms());
                shared.move_addresses();
            }
            Ok(()) = seen.changed() => {
                let now = Arc::clone(&seen.borrow_and_update());
                for (version, took_ms) in lag.settled(&now, shared.now_ms()) {
                    shared.recorder.settled(version, Duration::from_millis(took_ms));
                }
                shared.move_addresses();
            }
            _ = look.tick() => shared.move_addresses(),
            _ = tick.tick() => shared.with_shares(|shares| shares.tick(shared.now_ms())),
            Some(ended) = lines.tasks.join_next() => {
                // A task never ends but by a panic, or because we ended it.
                if let Err(error) = ended && error.is_panic() {
                    std::panic::resume_unwind(error.into_panic());
                }
            }
        }
    }
}

/// The tasks by the names of their proxies; they end when this is dropped.
#[derive(Default)]
struct Lines {
    running: BTreeMap<String, (watch::Sender<Target>, AbortHandle)>,
    tasks: JoinSet<()>,
}

impl Lines {
    /// Starts, moves and ends tasks until they are those of `targets`.
    fn follow(&mut self, targets: BTreeMap<String, Target>, shared: &Arc<Shared>) {
        let is_gone = |name: &String, _: &mut _| !targets.contains_key(name);
        let gone: BTreeMap<_, _> = self.running.extract_if(.., is_gone).collect();
        for (name, (sender, task)) in gone {
            task.abort();
            drop(sender); // from here on the task tells nothing
            shared.forget(&name);
        }
        let mut begun = Vec::new();
        for (name, target) in targets {
            if let Some((sender, _)) = self.running.get(&name) {
                sender.send_if_modified(|before| {
                    let changed = *before != target;
                    *before = target;
                    changed
                });
            } else {
                let (sender, target) = watch::channel(target);
                let line = Line::new(name.clone(), target, Arc::clone(shared));
                begun.push((name, sender, line));
            }
        }
        // All are known before any serves: the first to serve is not given what is for all of them.
        for (name, sender, line) in begun {
            let task = self.tasks.spawn(line.run());
            self.running.insert(name, (sender, task));
        }
    }
}
