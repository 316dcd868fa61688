//! One virtual address: asked for, taken, announced, given up. Pure: time is an argument, in milliseconds since any
//! moment.
//!
//! Nothing is fought over. Before an address is taken for the first time the link is asked whether a host has it. Of two
//! proxies that announce one, the lower epoch yields; whoever announces without an epoch is no proxy, and is yielded to.

use super::{Heard, Said};
use crate::host::Mac;

/// Nobody answered within so long after the first probe: nobody has it.
const PROBED_MS: u64 = 600;
const PROBE_EVERY_MS: u64 = 200;
/// When to announce, after the address was taken; then every [`ANNOUNCE_EVERY_MS`].
const ANNOUNCE_AT_MS: [u64; 4] = [0, 100, 500, 2_000];
const ANNOUNCE_EVERY_MS: u64 = 10_000;
/// One that announces it with less right is answered at once, but not more often than this.
const DEFEND_EVERY_MS: u64 = 100;
/// How often the address is put on the link anew; its lifetime there is several times that.
const KEEP_EVERY_MS: u64 = 2_000;
/// After another host turned out to have it, and after the kernel refused.
const LOOK_AGAIN_MS: u64 = 30_000;
const TRY_AGAIN_MS: u64 = 5_000;

/// What the owners want.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) held: bool,
    pub(super) epoch: u64,
    /// Nobody is asked first.
    pub(super) take_over: bool,
}

/// What is to be done now, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Ask the link whether a host has it.
    Probe,
    /// Put it on the link, or keep it there.
    Put,
    /// Tell the link.
    Announce,
    /// Take it from the link.
    Remove,
}

/// How it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Another may hold it.
    Standby,
    /// The link is being asked, since this time.
    Probing { since_ms: u64, probes: u64 },
    /// It is on the link.
    Holding {
        /// Since when the present announcements are made, and how many were.
        since_ms: u64,
        announced: u64,
        announced_ms: u64,
        put_ms: u64,
    },
    /// It is not to be had for now.
    Waiting { why: Why, until_ms: u64 },
}

/// Why it cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// A host that is no proxy of ours has it.
    Taken(Mac),
    /// A proxy with more right announced it.
    Yielded(Mac),
    /// It cannot be put on the link, or nothing can be said there.
    Failed(String),
}

impl Why {
    /// It is because this host has it.
    fn is_about(&self, mac: Mac) -> bool {
        match self {
            Self::Taken(other) | Self::Yielded(other) => *other == mac,
            Self::Failed(_) => false,
        }
    }
}

/// One address.
#[derive(Debug)]
pub(super) struct Machine {
    wanted: Wanted,
    phase: Phase,
    /// The highest epoch that another announced.
    heard_epoch: u64,
}

impl Machine {
    /// One that nobody wants held.
    pub(super) const fn new() -> Self {
        Self {
            wanted: Wanted {
                held: false,
                epoch: 0,
                take_over: false,
            },
            phase: Phase::Standby,
            heard_epoch: 0,
        }
    }

    pub(super) const fn phase(&self) -> &Phase {
        &self.phase
    }

    pub(super) const fn wanted(&self) -> Wanted {
        self.wanted
    }

    pub(super) const fn heard_epoch(&self) -> u64 {
        self.heard_epoch
    }

    pub(super) const fn is_holding(&self) -> bool {
        matches!(self.phase, Phase::Holding { .. })
    }

    /// What is wanted from now on. `is_there`: the address is on the link already, put there by a process of ours.
    pub(super) fn want(&mut self, wanted: Wanted, is_there: bool, now_ms: u64) -> Vec<Action> {
        let before = std::mem::replace(&mut self.wanted, wanted);
        if !wanted.held {
            let was_holding = self.is_holding();
            self.phase = Phase::Standby;
            return if was_holding || is_there {
                vec![Action::Remove]
            } else {
                Vec::new()
            };
        }
        let is_new = !before.held || wanted.epoch > before.epoch;
        match &self.phase {
            Phase::Holding { .. } if is_new => self.hold(now_ms),
            Phase::Probing { .. } if wanted.take_over => self.hold(now_ms),
            Phase::Standby if is_there => self.hold(now_ms),
            Phase::Standby => self.begin(now_ms),
            Phase::Waiting { .. } if is_new || (wanted.take_over && !before.take_over) => {
                self.begin(now_ms)
            }
            Phase::Holding { .. } | Phase::Probing { .. } | Phase::Waiting { .. } => Vec::new(),
        }
    }

    /// Another host said something about the address on its link, where this one is `own`.
    pub(super) fn hear(&mut self, heard: Heard, own: Mac, now_ms: u64) -> Vec<Action> {
        let Heard { from, said } = heard;
        if from == own {
            return Vec::new();
        }
        if let Said::Announced(Some(epoch)) = said {
            self.heard_epoch = self.heard_epoch.max(epoch);
        }
        match (&self.phase, said) {
            // A proxy that was told earlier, and does not know.
            (Phase::Probing { .. }, Said::Announced(Some(epoch))) if epoch < self.wanted.epoch => {
                self.hold(now_ms)
            }
            (Phase::Waiting { why, .. }, Said::Announced(Some(epoch)))
                if why.is_about(from) && epoch < self.wanted.epoch =>
            {
                self.hold(now_ms)
            }
            (Phase::Probing { .. }, Said::Announced(Some(_))) => {
                self.wait(Why::Yielded(from), now_ms)
            }
            (Phase::Probing { .. }, Said::Announced(None) | Said::Has) => {
                self.wait(Why::Taken(from), now_ms)
            }
            // Two ask at once: one of them goes on.
            (Phase::Probing { .. }, Said::Probes) if from < own => {
                self.wait(Why::Yielded(from), now_ms)
            }
            (Phase::Holding { .. }, Said::Announced(None)) => {
                self.yield_to(Why::Taken(from), now_ms)
            }
            (Phase::Holding { .. }, Said::Announced(Some(epoch)))
                if (self.wanted.epoch, from) < (epoch, own) =>
            {
                self.yield_to(Why::Yielded(from), now_ms)
            }
            (Phase::Holding { announced_ms, .. }, Said::Announced(Some(_)))
                if now_ms >= announced_ms + DEFEND_EVERY_MS =>
            {
                self.announce_again(now_ms)
            }
            _ => Vec::new(),
        }
    }

    /// The link is there again, or was exchanged: nobody on it may know who holds the address.
    pub(super) fn announce_again(&mut self, now_ms: u64) -> Vec<Action> {
        if self.is_holding() {
            self.hold(now_ms)
        } else {
            Vec::new()
        }
    }

    /// The kernel refused what was to be done.
    pub(super) fn refused(&mut self, why: String, now_ms: u64) -> Vec<Action> {
        if !self.wanted.held {
            return Vec::new();
        }
        let was_holding = self.is_holding();
        self.phase = Phase::Waiting {
            why: Why::Failed(why),
            until_ms: now_ms + TRY_AGAIN_MS,
        };
        if was_holding {
            vec![Action::Remove]
        } else {
            Vec::new()
        }
    }

    /// What time alone makes due.
    pub(super) fn tick(&mut self, now_ms: u64) -> Vec<Action> {
        if self.due_ms().is_none_or(|due| now_ms < due) {
            return Vec::new();
        }
        match &mut self.phase {
            Phase::Standby => Vec::new(),
            Phase::Probing { since_ms, .. } if now_ms >= *since_ms + PROBED_MS => self.hold(now_ms),
            Phase::Probing { probes, .. } => {
                *probes += 1;
                vec![Action::Probe]
            }
            Phase::Holding {
                since_ms,
                announced,
                announced_ms,
                put_ms,
            } => {
                let mut actions = Vec::new();
                if now_ms >= *put_ms + KEEP_EVERY_MS {
                    *put_ms = now_ms;
                    actions.push(Action::Put);
                }
                if now_ms >= announce_due(*since_ms, *announced, *announced_ms) {
                    (*announced, *announced_ms) = (*announced + 1, now_ms);
                    actions.push(Action::Announce);
                }
                actions
            }
            Phase::Waiting { why, .. } => match why {
                Why::Failed(_) => self.begin(now_ms),
                Why::Taken(_) | Why::Yielded(_) => self.probe(now_ms),
            },
        }
    }

    /// When something is due next.
    pub(super) fn due_ms(&self) -> Option<u64> {
        match &self.phase {
            Phase::Standby => None,
            Phase::Probing { since_ms, probes } => {
                Some(since_ms + (probes * PROBE_EVERY_MS).min(PROBED_MS))
            }
            Phase::Holding {
                since_ms,
                announced,
                announced_ms,
                put_ms,
            } => {
                let announce = announce_due(*since_ms, *announced, *announced_ms);
                Some(announce.min(put_ms + KEEP_EVERY_MS))
            }
            Phase::Waiting { until_ms, .. } => Some(*until_ms),
        }
    }

    fn begin(&mut self, now_ms: u64) -> Vec<Action> {
        if self.wanted.take_over {
            self.hold(now_ms)
        } else {
            self.probe(now_ms)
        }
    }

    fn probe(&mut self, now_ms: u64) -> Vec<Action> {
        self.phase = Phase::Probing {
            since_ms: now_ms,
            probes: 1,
        };
        vec![Action::Probe]
    }

    fn hold(&mut self, now_ms: u64) -> Vec<Action> {
        self.phase = Phase::Holding {
            since_ms: now_ms,
            announced: 1,
            announced_ms: now_ms,
            put_ms: now_ms,
        };
        vec![Action::Put, Action::Announce]
    }

    fn yield_to(&mut self, why: Why, now_ms: u64) -> Vec<Action> {
        self.wait(why, now_ms);
        vec![Action::Remove]
    }

    fn wait(&mut self, why: Why, now_ms: u64) -> Vec<Action> {
        self.phase = Phase::Waiting {
            why,
            until_ms: now_ms + LOOK_AGAIN_MS,
        };
        Vec::new()
    }
}

fn announce_due(since_ms: u64, announced: u64, announced_ms: u64) -> u64 {
    let early = usize::try_from(announced).ok();
    match early.and_then(|n| ANNOUNCE_AT_MS.get(n)) {
        Some(after) => since_ms + after,
        None => announced_ms + ANNOUNCE_EVERY_MS,
    }
}

#[cfg(test)]
mod tests;
