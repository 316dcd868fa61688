//! What one proxy is sent next: a state machine over what is wanted, what was sent and what was answered. Pure: time
//! is an argument, in milliseconds since any moment.
//!
//! After a connection is made, or a reign begins, the proxy is asked what it has of ours, and the full state is sent;
//! then differences only, one request at a time, always towards the newest snapshot. What the proxy had is read so that
//! a set or listener that it refuses can stay as it was (`quarantine`), and so that the versions of its sets are known,
//! which guard changes of single backends; after that the answers tell them.

mod known;
mod refused;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use podline_api::{Name, Owner, PortShare, VirtualAddress, v1};

use super::Reign;
use super::difference::{Effect, How, May, Plan, Sent, difference, full};
use super::fits::{ADDRESSES, DRAIN_TIMEOUT_OF_CHANGE, NETWORK, PASSIVE_CHECK, SOURCE_ADDRESS};
use super::holdings::{HeldNetwork, Holdings};
use super::quarantine::Quarantine;
use crate::snapshot::Snapshot;

/// Longer than any answer of a proxy that lives: it waits 1 s at most for its workers.
pub(super) const ANSWER_MS: u64 = 5_000;
/// When nothing was sent for so long, an empty request asks whether the proxy is well.
const QUIET_MS: u64 = 2_000;
/// The network is sent so often at most: where it follows single Pods it changes with each of them.
const NETWORK_MS: u64 = 1_000;
/// From this level on an empty request waits for the workers too.
const LEVEL_OF_WAITING: u32 = 3;
/// Versions whose times are kept apart; more are counted as old as the last of them.
const MAX_UNACKED: usize = 1_024;

/// What to do now.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing before this time, or before something happens.
    Wait(Option<u64>),
    /// Ask the proxy for its whole state, and give it to [`Sync::read`].
    Read,
    /// Push this.
    Send(Box<v1::ApplyRequest>),
    /// No answer came in time: connect anew.
    Lost,
}

/// What an answer was about, for whoever counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// All that is ours.
    Full,
    /// What differs.
    Difference,
    /// Nothing: whether the proxy is well.
    Empty,
}

/// One proxy.
#[derive(Debug)]
pub(super) struct Sync {
    owner: Owner,
    reign: Reign,
    /// When the reign began, if that was later than the connection.
    taken_over_ms: Option<u64>,
    desired: Arc<Snapshot>,
    /// The proxy's part of the source ports.
    share: Option<PortShare>,
    /// The virtual addresses, and which of them the proxy holds.
    addresses: Arc<[VirtualAddress]>,
    proxy: Option<Abilities>,
    phase: Phase,
    in_flight: Option<InFlight>,
    held: Holdings,
    quarantine: Quarantine,
    /// Sets of which the proxy has something else than we know.
    whole: BTreeSet<Name>,
    /// Something may have to be sent.
    is_due: bool,
    /// When the network was sent last, and when it is to be sent again if it waits for that.
    network_sent_ms: Option<u64>,
    network_due_ms: Option<u64>,
    /// A full state was taken since the connection was made and the reign began.
    is_in_step: bool,
    last_sent_ms: u64,
    last_ack_ms: Option<u64>,
    /// The newest version that the proxy has taken, and that its workers act on.
    taken: u64,
    acked: u64,
    /// Workers were silent when last asked.
    is_silent: bool,
    unacked: VecDeque<(u64, u64)>,
    /// How often in a row something was refused without hope.
    strikes: u32,
    /// The proxy's words then.
    blocked: Option<String>,
}

#[derive(Debug)]
struct Abilities {
    level: u32,
    features: Arc<BTreeSet<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The proxy's state is to be read, not before this time.
    ToRead { at_ms: u64 },
    /// It is being read.
    Reading { since_ms: u64 },
    /// It is known: the full state comes next.
    Full,
    /// The full state was taken: differences.
    Steady,
    /// Another one leads.
    Deposed,
}

#[derive(Debug)]
struct InFlight {
    kind: Kind,
    /// What it was made from.
    snapshot: Arc<Snapshot>,
    /// All of the snapshot is taken with this.
    is_last: bool,
    sent: Sent,
    effect: Effect,
    sent_ms: u64,
}

impl Sync {
    /// A proxy that there is no connection to.
    pub(super) fn new(owner: Owner) -> Self {
        Self {
            owner,
            reign: Reign::Follower,
            taken_over_ms: None,
            desired: Arc::default(),
            share: None,
            addresses: Arc::default(),
            proxy: None,
            phase: Phase::ToRead { at_ms: 0 },
            in_flight: None,
            held: Holdings::default(),
            quarantine: Quarantine::default(),
            whole: BTreeSet::new(),
            is_due: true,
            network_sent_ms: None,
            network_due_ms: None,
            is_in_step: false,
            last_sent_ms: 0,
            last_ack_ms: None,
            taken: 0,
            acked: 0,
            is_silent: false,
            unacked: VecDeque::new(),
            strikes: 0,
            blocked: None,
        }
    }

    /// There is a connection to a proxy of this level and these features.
    pub(super) fn connected(&mut self, level: u32, features: Arc<BTreeSet<String>>, now_ms: u64) {
        self.proxy = Some(Abilities { level, features });
        self.strikes = 0;
        self.start_over(now_ms);
    }

    /// The connection is gone, and with it what was in flight.
    pub(super) fn disconnected(&mut self) {
        self.proxy = None;
        self.taken_over_ms = None;
        self.in_flight = None;
        self.last_ack_ms = None;
    }

    /// Another reign. What was in flight is not waited for: a new push begins.
    pub(super) fn reign(&mut self, reign: Reign, now_ms: u64) {
        if self.reign != reign {
            self.reign = reign;
            self.taken_over_ms = self.proxy.as_ref().map(|_| now_ms);
            self.strikes = 0;
            self.start_over(now_ms);
        }
    }

    /// What is wanted from now on.
    pub(super) fn want(&mut self, snapshot: Arc<Snapshot>, now_ms: u64) {
        if snapshot.version == self.desired.version {
            return;
        }
        if self.unacked.len() < MAX_UNACKED {
            self.unacked.push_back((snapshot.version, now_ms));
        } else if let Some((version, _)) = self.unacked.back_mut() {
            *version = snapshot.version;
        }
        self.desired = snapshot;
        self.is_due = true;
    }

    /// Which part of the source ports the proxy has from now on.
    pub(super) fn share(&mut self, share: Option<PortShare>) {
        if self.share != share {
            self.share = share;
            self.is_due = true;
        }
    }

    /// The virtual addresses from now on, and which of them the proxy holds.
    pub(super) fn addresses(&mut self, addresses: Vec<VirtualAddress>) {
        if *self.addresses != *addresses {
            self.addresses = addresses.into();
            self.is_due = true;
        }
    }

    /// The proxy's state, after [`Step::Read`].
    pub(super) fn read(&mut self, state: v1::GetResponse) {
        if matches!(self.phase, Phase::Reading { .. }) {
            self.held = Holdings::read(&self.owner, state, &self.desired);
            self.phase = Phase::Full;
        }
    }

    /// The request in flight was taken; what it was, and how long it took.
    pub(super) fn answered(
        &mut self,
        answer: &v1::ApplyResponse,
        now_ms: u64,
    ) -> Option<(Kind, u64)> {
        let flight = self.in_flight.take()?;
        if flight.kind != Kind::Empty {
            self.strikes = 0;
            self.blocked = None;
            for name in &flight.sent.sets {
                self.whole.remove(name);
            }
            flight.effect.take(&mut self.held, answer);
            self.is_due = true;
        }
        if flight.kind == Kind::Full && self.phase == Phase::Full {
            self.phase = Phase::Steady;
            self.is_in_step = true;
        }
        self.last_ack_ms = Some(now_ms);
        self.note_workers(answer);
        if flight.is_last {
            self.taken = self.taken.max(flight.snapshot.version);
        }
        self.note_acked();
        Some((flight.kind, now_ms.saturating_sub(flight.sent_ms)))
    }

    /// What to do now.
    pub(super) fn poll(&mut self, now_ms: u64) -> Step {
        if let Some(flight) = &self.in_flight {
            return lost_or_wait(flight.sent_ms, now_ms);
        }
        let Reign::Leader { epoch } = self.reign else {
            return Step::Wait(None);
        };
        if self.proxy.is_none() || self.desired.version == 0 {
            return Step::Wait(None);
        }
        match self.phase {
            Phase::Deposed => Step::Wait(None),
            Phase::ToRead { at_ms } if now_ms < at_ms => Step::Wait(Some(at_ms)),
            Phase::ToRead { .. } => {
                self.phase = Phase::Reading { since_ms: now_ms };
                Step::Read
            }
            Phase::Reading { since_ms } => lost_or_wait(since_ms, now_ms),
            Phase::Full => {
                let plan = self.plan(true, now_ms);
                self.send(Kind::Full, plan, epoch, now_ms)
            }
            Phase::Steady => self.go_on(epoch, now_ms),
        }
    }

    fn go_on(&mut self, epoch: u64, now_ms: u64) -> Step {
        let is_time = |at: Option<u64>| at.is_some_and(|at| at <= now_ms);
        if self.is_due || is_time(self.quarantine.next_ms()) || is_time(self.network_due_ms) {
            self.is_due = false;
            let plan = self.plan(false, now_ms);
            if !plan.is_empty() {
                return self.send(Kind::Difference, plan, epoch, now_ms);
            }
            self.taken = self.desired.version;
            self.note_acked();
        }
        let beat_ms = self.last_sent_ms + QUIET_MS;
        if now_ms >= beat_ms {
            return self.send(Kind::Empty, Plan::default(), epoch, now_ms);
        }
        let again = self
            .quarantine
            .next_ms()
            .into_iter()
            .chain(self.network_due_ms);
        Step::Wait(again.chain([beat_ms]).min())
    }

    fn plan(&mut self, is_full: bool, now_ms: u64) -> Plan {
        let desired = Arc::clone(&self.desired);
        self.quarantine.lift(&desired, now_ms);
        self.leave_out_unfit(&desired);
        let network = self.network(is_full, now_ms);
        let mut goal = self.quarantine.goal(&desired, &self.held);
        goal.network = network;
        goal.may = May {
            imitate: self.has(SOURCE_ADDRESS),
            eject: self.has(PASSIVE_CHECK),
        };
        if is_full {
            return full(&goal);
        }
        let how = How {
            ended: &desired.ended,
            may_cut: self.has(DRAIN_TIMEOUT_OF_CHANGE),
            whole: &self.whole,
        };
        difference(&mut self.held, &goal, &how)
    }

    /// What the proxy is to know of the network, if it is to be told now.
    fn network(&mut self, is_full: bool, now_ms: u64) -> Option<HeldNetwork> {
        self.network_due_ms = None;
        if !self.has(NETWORK) || self.quarantine.holds_network() {
            return None;
        }
        let wanted = HeldNetwork {
            network: Arc::clone(&self.desired.network),
            share: self.share,
            addresses: if self.has(ADDRESSES) {
                Arc::clone(&self.addresses)
            } else {
                Arc::default()
            },
        };
        let held = self.held.network.as_ref();
        // Somebody waits for the address.
        let is_urgent = match held {
            Some(held) => held.addresses != wanted.addresses,
            None => !wanted.addresses.is_empty(),
        };
        let due_ms = self.network_sent_ms.map_or(0, |sent| sent + NETWORK_MS);
        let has_it = self.held.network.as_ref() == Some(&wanted);
        if !is_full && !has_it && !is_urgent && now_ms < due_ms {
            self.network_due_ms = Some(due_ms);
            return None;
        }
        Some(wanted)
    }

    fn send(&mut self, kind: Kind, plan: Plan, epoch: u64, now_ms: u64) -> Step {
        let Plan {
            mut request,
            sent,
            effect,
            is_partial,
        } = plan;
        request.owner = (&self.owner).into();
        request.epoch = Some(epoch);
        self.last_sent_ms = now_ms;
        if sent.network {
            self.network_sent_ms = Some(now_ms);
        }
        self.in_flight = Some(InFlight {
            kind,
            snapshot: Arc::clone(&self.desired),
            is_last: kind != Kind::Empty && !is_partial,
            sent,
            effect,
            sent_ms: now_ms,
        });
        Step::Send(Box::new(request))
    }

    fn has(&self, feature: &str) -> bool {
        let proxy = self.proxy.as_ref();
        proxy.is_some_and(|proxy| proxy.features.contains(feature))
    }

    fn start_over(&mut self, now_ms: u64) {
        self.phase = Phase::ToRead { at_ms: now_ms };
        self.in_flight = None;
        self.quarantine = Quarantine::default();
        self.whole.clear();
        self.is_due = true;
        self.is_in_step = false;
        (self.network_sent_ms, self.network_due_ms) = (None, None);
        (self.taken, self.acked, self.is_silent) = (0, 0, false);
        self.last_ack_ms = None;
        self.blocked = None;
        self.unacked.clear();
        self.unacked.push_back((self.desired.version, now_ms));
    }

    /// Whether all workers act on what was taken, as far as this answer tells.
    fn note_workers(&mut self, answer: &v1::ApplyResponse) {
        let waits = self
            .proxy
            .as_ref()
            .is_some_and(|proxy| proxy.level >= LEVEL_OF_WAITING);
        if !answer.silent_workers.is_empty() {
            self.is_silent = true;
        } else if waits || !answer.changes.is_empty() {
            self.is_silent = false;
        }
    }

    fn note_acked(&mut self) {
        if self.is_silent {
            return;
        }
        self.acked = self.taken;
        let acked = self.acked;
        let is_acked = |&(version, _): &(u64, u64)| version <= acked;
        while self.unacked.front().is_some_and(is_acked) {
            self.unacked.pop_front();
        }
    }
}

fn lost_or_wait(since_ms: u64, now_ms: u64) -> Step {
    let until_ms = since_ms + ANSWER_MS;
    if now_ms >= until_ms {
        Step::Lost
    } else {
        Step::Wait(Some(until_ms))
    }
}
