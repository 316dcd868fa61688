//! What a candidate does next. Pure: it knows what the Lease said, and when that was by its own monotonic clock, which
//! it is told. It must not know the API server, nor compare its clock with a time that another machine wrote.

use std::time::Duration;

use jiff::Timestamp;

/// A Lease that claims to last longer is not believed.
const LONGEST: Duration = Duration::from_mins(1);
/// `leaseTransitions` is an i32, so epochs end there.
const LAST_EPOCH: u64 = i32::MAX as u64;
/// No proxy makes us jump beyond this: room must be left for the acquisitions to come.
const HIGHEST_TOLD: u64 = 1 << 30;

/// How long things last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Others take over so long after they first saw the last renewal.
    pub lease: Duration,
    /// A leader leads so long after its last renewal; less than `lease`, by what clocks may differ.
    pub renew: Duration,
    /// How often the leader renews and the others look; a good deal less than `renew`.
    pub retry: Duration,
    /// How long one call of the API server may take.
    pub call: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(8),
            renew: Duration::from_secs(5),
            retry: Duration::from_secs(1),
            call: Duration::from_secs(2),
        }
    }
}

/// What the Lease says. The times in it are never compared with a clock: a record that differs is a newer one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// Empty if nobody holds it.
    pub(super) holder: String,
    /// `leaseTransitions`.
    pub(super) epoch: u64,
    pub(super) acquired: Option<Timestamp>,
    pub(super) renewed: Option<Timestamp>,
    pub(super) lasts: Duration,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Ask what the Lease says.
    Look,
    /// Make the Lease, with us as its holder.
    Create { epoch: u64 },
    /// Become the holder of the Lease that we saw.
    TakeOver { epoch: u64 },
    /// Stay its holder; with a higher epoch than before if a proxy has seen one.
    Renew { epoch: u64 },
    /// Nothing, so long at most.
    Wait(Duration),
    /// Lead no more, from this moment.
    StepDown,
    /// Nothing ever again: the Lease has no higher epoch.
    Exhausted,
}

/// What we hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) epoch: u64,
    /// We lead until then, whatever happens.
    pub(super) until: Duration,
    renewed: Duration,
}

/// What the last answer said.
#[derive(Clone, Debug)]
struct Seen {
    record: Option<Record>,
    /// When we first saw exactly this.
    since: Duration,
    /// The Lease went away while another held it, who may still believe to lead.
    vanished: bool,
}

/// One replica. Times are durations since its start.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    identity: String,
    terms: Terms,
    seen: Option<Seen>,
    /// When the last answer came; absent if what it said is known to be out of date.
    looked: Option<Duration>,
    held: Option<Held>,
    /// No call before that: the last one failed.
    idle_until: Duration,
    /// When somebody else wrote first the last time.
    lost: Option<Duration>,
    /// The highest epoch that the Lease ever had, or that a proxy has seen.
    highest: u64,
}

impl Candidate {
    pub(super) fn new(identity: String, terms: Terms) -> Self {
        Self {
            identity,
            terms,
            seen: None,
            looked: None,
            held: None,
            idle_until: Duration::ZERO,
            lost: None,
            highest: 0,
        }
    }

    /// What we hold, whether or not its time is over.
    pub(super) fn held(&self) -> Option<Held> {
        self.held
    }

    /// What we hold at `now`: we lead if it is something.
    pub(super) fn held_at(&self, now: Duration) -> Option<Held> {
        self.held.filter(|held| now < held.until)
    }

    /// Whether the Lease that we saw last names us.
    pub(super) fn is_named(&self) -> bool {
        let record = self.seen.as_ref().and_then(|seen| seen.record.as_ref());
        record.is_some_and(|record| record.holder == self.identity)
    }

    /// What to do at `now`.
    pub(super) fn decide(&self, now: Duration) -> Next {
        if let Some(held) = self.held {
            if now >= held.until {
                return Next::StepDown;
            }
            if now < self.idle_until {
                return Next::Wait(self.idle_until.min(held.until).saturating_sub(now));
            }
            return self.decide_as_leader(held, now);
        }
        if now < self.idle_until {
            return Next::Wait(self.idle_until.saturating_sub(now));
        }
        self.decide_as_follower(now)
    }

    fn decide_as_leader(&self, held: Held, now: Duration) -> Next {
        let (Some(seen), Some(_)) = (&self.seen, self.looked) else {
            return Next::Look;
        };
        match &seen.record {
            // We are the rightful holder: the others wait out our lease before they make a new one.
            None => self.acquire(|epoch| Next::Create { epoch }),
            Some(record) if record.holder != self.identity || record.epoch != held.epoch => {
                Next::StepDown
            }
            Some(_) if self.highest > held.epoch => self.acquire(|epoch| Next::Renew { epoch }),
            Some(_) => match (held.renewed + self.terms.retry).checked_sub(now) {
                Some(left) if !left.is_zero() => Next::Wait(left),
                _ => Next::Renew { epoch: held.epoch },
            },
        }
    }

    fn decide_as_follower(&self, now: Duration) -> Next {
        let (Some(seen), Some(looked)) = (&self.seen, self.looked) else {
            return Next::Look;
        };
        let look_again = looked + self.terms.retry;
        if now >= look_again {
            return Next::Look;
        }
        let free_from = match &seen.record {
            None if seen.vanished => seen.since + self.terms.lease,
            Some(record) if !record.holder.is_empty() && record.holder != self.identity => {
                let longest = LONGEST.max(self.terms.lease);
                seen.since + record.lasts.clamp(self.terms.lease, longest)
            }
            // Nobody's, or ours: of an earlier run, or of a write whose answer never came.
            _ => now,
        };
        if now < free_from {
            return Next::Wait(free_from.min(look_again).saturating_sub(now));
        }
        match &seen.record {
            None => self.acquire(|epoch| Next::Create { epoch }),
            Some(_) => self.acquire(|epoch| Next::TakeOver { epoch }),
        }
    }

    fn acquire(&self, step: impl Fn(u64) -> Next) -> Next {
        if self.highest >= LAST_EPOCH {
            return Next::Exhausted;
        }
        step(self.highest + 1)
    }

    /// What the Lease says, by an answer that came at `now`.
    pub(super) fn saw(&mut self, record: Option<Record>, now: Duration) {
        self.looked = Some(now);
        self.idle_until = Duration::ZERO;
        self.highest = self
            .highest
            .max(record.as_ref().map_or(0, |record| record.epoch));
        let before = self.seen.take();
        let since = match &before {
            Some(before) if before.record == record => before.since,
            _ => now,
        };
        let vanished = record.is_none()
            && before.is_some_and(|before| match before.record {
                None => before.vanished,
                Some(last) => !last.holder.is_empty() && last.holder != self.identity,
            });
        self.seen = Some(Seen {
            record,
            since,
            vanished,
        });
    }

    /// The Lease says what we wrote at `asked`: we lead from then on, for we cannot know when it was written.
    pub(super) fn wrote(&mut self, record: Record, asked: Duration, now: Duration) {
        let epoch = record.epoch;
        self.saw(Some(record), now);
        self.held = Some(Held {
            epoch,
            until: asked + self.terms.renew,
            renewed: asked,
        });
    }

    /// Somebody else wrote first: look at once, unless that was so a moment ago.
    pub(super) fn lost(&mut self, now: Duration) {
        self.looked = None;
        let last = self.lost.replace(now);
        if last.is_some_and(|last| now < last + self.terms.retry) {
            self.idle_until = now + self.terms.retry;
        }
    }

    /// A call that was made at `asked` gave no answer. If it was a write, it may have taken effect.
    pub(super) fn failed(&mut self, asked: Duration) {
        self.idle_until = asked + self.terms.retry;
        if self.held.is_none() {
            self.looked = None;
        }
    }

    /// We lead no more.
    pub(super) fn step_down(&mut self) {
        self.held = None;
        self.looked = None;
    }

    /// A proxy has seen this epoch of ours: ours must be higher. False if that is no epoch that we can exceed.
    pub(super) fn raise(&mut self, seen: u64) -> bool {
        let can = seen <= HIGHEST_TOLD;
        if can {
            self.highest = self.highest.max(seen);
        }
        can
    }
}

#[cfg(test)]
mod tests;
