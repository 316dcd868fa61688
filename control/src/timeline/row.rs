//! One Pod: where it is bound, what each proxy told of it, and to which points that brings it. Pure.
//!
//! Every point holds for all proxies that serve at that time, and for all sets that the Pod is in; one that a proxy cannot
//! tell of stays unknown.

use std::sync::Arc;

use jiff::Timestamp;
use podline_api::{BackendKey, Name};

use super::ask::What;
use super::point::{Point, Points};
use crate::cluster::pod::Owner;
use crate::cluster::{Front, Key};
use crate::observed::{Observed, ProxyView};

/// What a proxy must be able to tell.
const FIRSTS: &str = "firsts";

/// What is known of a Pod by its object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Namespace and name.
    pub key: Key,
    /// Of this object.
    pub uid: Arc<str>,
    /// The controller that made it.
    pub owner: Option<Arc<Owner>>,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// It has our gate, and the gate is not open.
    pub waits: bool,
    /// Its deletion has begun; when, in seconds since 1970, if it says so.
    pub deleted: Option<Option<i64>>,
}

/// A Pod's place in one set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seat {
    pub(super) set: Name,
    pub(super) front: Front,
    pub(super) backend: BackendKey,
    /// It is probed.
    pub(super) checked: bool,
    /// The snapshot that brought it.
    pub(super) since: u64,
    /// The snapshot that took it out, or its weight; absent: new connections come to it.
    pub(super) out: Option<u64>,
}

/// What one proxy told of one seat.
#[derive(Clone, Debug)]
struct Heard {
    proxy: Arc<str>,
    set: Name,
    started: Option<Timestamp>,
    probe: Option<Timestamp>,
    connection: Option<Timestamp>,
    closed: Option<Timestamp>,
    empty: Option<Timestamp>,
}

/// One Pod.
#[derive(Clone, Debug)]
pub struct Row {
    /// What its object says.
    pub facts: Facts,
    /// To which points it came.
    pub points: Points,
    pub(super) seats: Vec<Seat>,
    heard: Vec<Heard>,
    /// It waited for our gate when it came.
    pub is_gated: bool,
    /// Its endpoint was seen to come, so that what follows is known to follow.
    pub(super) is_new: bool,
    /// Since when nothing new can come to it, by the proxies' acknowledgements, while it stays so.
    shut: Option<Timestamp>,
    /// When something was last learnt of it.
    pub(super) changed: Timestamp,
    /// When to ask the proxies for its firsts, and how long to wait until the time after.
    pub(super) ask: Option<Ask>,
    /// Steps that were counted, by their index.
    pub(super) counted: u16,
    /// Its event was made.
    pub(super) is_told: bool,
}

/// When to ask next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) at: Timestamp,
    /// How often it was asked.
    pub(super) times: u32,
}

impl Row {
    pub(super) fn new(facts: Facts, now: Timestamp) -> Self {
        Self {
            is_gated: facts.waits,
            facts,
            points: Points::default(),
            seats: Vec::new(),
            heard: Vec::new(),
            is_new: false,
            shut: None,
            changed: now,
            ask: None,
            counted: 0,
            is_told: false,
        }
    }

    pub(super) fn has(&self, point: Point) -> bool {
        self.points.get(point).is_some()
    }

    pub(super) fn is_gone(&self) -> bool {
        self.has(Point::Gone)
    }

    /// It is in a set of this one, or was.
    pub fn is_behind(&self, front: &Front) -> bool {
        self.seats.iter().any(|seat| seat.front == *front)
    }

    /// It comes to a point, if that is news.
    pub(super) fn note(&mut self, point: Point, at: Timestamp, now: Timestamp) {
        if self.points.set(point, at) {
            self.changed = now;
        }
    }

    /// Something is still to come of what all proxies say.
    pub(super) fn is_moving(&self) -> bool {
        let comes = self.is_new && !(self.has(Point::Bound) && self.has(Point::Healthy));
        let shuts = self.is_out() && self.shut.is_none();
        let goes = self.has(Point::Terminating) && !self.has(Point::Closed);
        comes && !self.is_gone() || shuts || goes
    }

    /// Its firsts are worth asking for.
    pub(super) fn is_unknown(&self) -> bool {
        let probe = !self.has(Point::Probed) && self.seats.iter().any(|seat| seat.checked);
        self.is_new && !self.is_gone() && (probe || !self.has(Point::Connected))
    }

    /// Nothing new is to come to it.
    fn is_out(&self) -> bool {
        !self.seats.is_empty() && self.seats.iter().all(|seat| seat.out.is_some())
    }

    /// Takes in what the proxies are at.
    pub(super) fn observe(&mut self, observed: &Observed, now: Timestamp) {
        if observed.serving().next().is_none() {
            return;
        }
        let everywhere = |is: &dyn Fn(&ProxyView, &Seat) -> bool, seat: &Seat| {
            observed.serving().all(|(_, proxy)| is(proxy, seat))
        };
        let has = |proxy: &ProxyView, seat: &Seat| {
            proxy.acked >= seat.since && !proxy.refused.contains_key(&seat.set)
        };
        let passes = |proxy: &ProxyView, seat: &Seat| proxy.is_healthy(&seat.set, &seat.backend);
        let mut there = self
            .seats
            .iter()
            .filter(|seat| seat.out.is_none())
            .peekable();
        let is_in = there.peek().is_some();
        let is_bound = is_in && there.clone().all(|seat| everywhere(&has, seat));
        let is_healthy = is_in && there.all(|seat| everywhere(&passes, seat));
        if self.is_new && is_bound {
            self.note(Point::Bound, now, now);
        }
        if self.is_new && is_healthy && self.has(Point::Bound) && !self.has(Point::Healthy) {
            self.note(Point::Healthy, now, now);
            self.limit_probe();
        }
        self.settle_closed(observed, now);
        self.settle_firsts(observed, now);
    }

    /// A terminating Pod is closed once every proxy acts on its being out; or says so itself, where an override drains it.
    fn settle_closed(&mut self, observed: &Observed, now: Timestamp) {
        let out = self.seats.iter().map(|seat| seat.out).max().flatten();
        let is_out = self.is_out().then_some(out).flatten();
        match is_out {
            Some(version) if observed.serving().all(|(_, proxy)| proxy.acked >= version) => {
                self.shut.get_or_insert(now);
            }
            Some(_) => {}
            None => self.shut = None,
        }
        if !self.has(Point::Terminating) && !self.is_gone() {
            return;
        }
        let drained = self.last(observed, |heard| heard.closed.or(heard.empty));
        let closed = [self.shut, drained].into_iter().flatten().min();
        if let Some(closed) = closed {
            self.note(Point::Closed, closed, now);
        }
        if let Some(empty) = self.last(observed, |heard| heard.empty) {
            self.note(Point::Empty, empty, now);
        }
    }

    /// The last of what every proxy that serves told of every seat; absent while one did not.
    fn last(
        &self,
        observed: &Observed,
        of: impl Fn(&Heard) -> Option<Timestamp>,
    ) -> Option<Timestamp> {
        let pairs = observed
            .serving()
            .flat_map(|(name, _)| self.seats.iter().map(move |seat| (name, seat)));
        let times = pairs.map(|(name, seat)| of(self.heard_of(name, &seat.set)?));
        times.collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    fn heard_of(&self, proxy: &str, set: &Name) -> Option<&Heard> {
        let mut heard = self.heard.iter();
        heard.find(|heard| *heard.proxy == *proxy && heard.set == *set)
    }

    /// Takes in what a proxy told.
    pub(super) fn hear(&mut self, proxy: &Arc<str>, set: &Name, what: What) {
        let is_going = self.has(Point::Terminating);
        let known = self
            .heard
            .iter()
            .position(|heard| heard.proxy == *proxy && heard.set == *set);
        let index = known.unwrap_or_else(|| {
            self.heard.push(Heard {
                proxy: Arc::clone(proxy),
                set: set.clone(),
                started: None,
                probe: None,
                connection: None,
                closed: None,
                empty: None,
            });
            self.heard.len() - 1
        });
        let heard = &mut self.heard[index];
        match what {
            What::Firsts {
                started,
                probe,
                connection,
            } => {
                // What it said first was nearer to it.
                heard.started.get_or_insert(started);
                heard.probe = heard.probe.or(probe);
                heard.connection = heard.connection.or(connection);
            }
            What::Closed(at) => _ = heard.closed.get_or_insert(at),
            What::Empty(at) => _ = heard.empty.get_or_insert(at),
            // The override may end before the Pod does: what is terminating stays closed.
            What::Reopened if is_going => {}
            What::Reopened => (heard.closed, heard.empty) = (None, None),
        }
    }

    /// What was told of its firsts, as far as it says something of all proxies.
    pub(super) fn settle_firsts(&mut self, observed: &Observed, now: Timestamp) {
        let Some(endpoint) = self.points.get(Point::Endpoint).filter(|_| self.is_new) else {
            return;
        };
        let all_can = observed
            .serving()
            .all(|(_, proxy)| proxy.features.contains(FIRSTS));
        if !all_can || self.has(Point::Probed) && self.has(Point::Connected) && self.is_counted() {
            return;
        }
        // One that began later was probed when it was there.
        let told = self.heard.iter();
        let told = told.filter(|heard| heard.started.is_some_and(|started| started <= endpoint));
        let connected = told.clone().filter_map(|heard| heard.connection).min();
        let is_counted = self.is_counted();
        if let Some(connected) = connected
            && !is_counted
            && self
                .points
                .set_earlier(Point::Connected, connected.max(endpoint))
        {
            self.changed = now;
        }
        let late: Vec<&str> = self
            .heard
            .iter()
            .filter(|heard| heard.started.is_some_and(|started| started > endpoint))
            .map(|heard| &*heard.proxy)
            .collect();
        let checked = self.seats.iter().filter(|seat| seat.checked);
        let pairs = observed
            .serving()
            .filter(|(name, _)| !late.contains(name))
            .flat_map(|(name, _)| checked.clone().map(move |seat| (name, seat)));
        let probes: Option<Vec<_>> = pairs
            .map(|(name, seat)| self.heard_of(name, &seat.set)?.probe)
            .collect();
        if let Some(last) = probes.and_then(|probes| probes.into_iter().max()) {
            self.note(Point::Probed, last.max(endpoint), now);
            self.limit_probe();
        }
    }

    /// The first connection was counted: it stays as it is.
    fn is_counted(&self) -> bool {
        self.has(Point::Connected) && self.counted & super::book::CONNECTED_COUNTED != 0
    }

    /// A verdict needs a probe, whatever two clocks say.
    fn limit_probe(&mut self) {
        if let (Some(probed), Some(healthy)) = (
            self.points.get(Point::Probed),
            self.points.get(Point::Healthy),
        ) && probed > healthy
        {
            self.points.set_earlier(Point::Probed, healthy);
        }
    }

    /// It is in a set, as of a snapshot, or out of it, or without weight there.
    pub(super) fn sit(&mut self, seat: Seat) {
        let Some(known) = self.seats.iter_mut().find(|known| known.set == seat.set) else {
            self.seats.push(seat);
            return;
        };
        let is_same = known.backend == seat.backend;
        let stays = is_same && (known.out.is_none() || seat.out.is_some());
        if known.out.is_some() && seat.out.is_none() {
            for heard in self.heard.iter_mut().filter(|heard| heard.set == seat.set) {
                (heard.closed, heard.empty) = (None, None);
            }
        }
        *known = Seat {
            since: if stays { known.since } else { seat.since },
            out: match (known.out, seat.out) {
                (Some(before), Some(_)) if is_same => Some(before),
                (_, now) => now,
            },
            ..seat
        };
    }

    /// It is in a set no more, as of a snapshot.
    pub(super) fn leave(&mut self, set: &Name, backend: &BackendKey, version: u64) {
        let mut seats = self.seats.iter_mut();
        if let Some(seat) = seats.find(|seat| seat.set == *set && seat.backend == *backend) {
            seat.out.get_or_insert(version);
        }
    }

    /// What is only needed while it comes or goes takes no room any more.
    pub(super) fn shrink(&mut self) {
        let is_needed = |heard: &Heard| heard.closed.is_some() || heard.empty.is_some();
        if !self.is_unknown() && !self.has(Point::Terminating) {
            self.heard.retain(is_needed);
            self.heard.shrink_to_fit();
        }
    }
}
