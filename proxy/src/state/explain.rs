//! Why a backend gets new connections, or why not: the one fact that decides, and since when it holds. Pure.

use super::entry::{BackendEntry, DrainingBackend, Held, Route};
use super::overrides::OverrideEntry;
use super::view::timestamp;
use crate::lb::health::Health;
use podline_api::v1::explanation::Reason;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

/// What is known of a set as a whole.
#[derive(Clone, Debug)]
pub(super) struct SetFacts {
    pub(super) route: Route,
    pub(super) route_since: SystemTime,
    /// New connections wait for a first verdict.
    pub(super) awaits_verdict: bool,
    pub(super) all_ail: AllAil,
    /// When all became unhealthy, or ceased to be.
    pub(super) ailing_since: SystemTime,
    /// Since when the process ends.
    pub(super) stopping: Option<SystemTime>,
}

/// What comes of it when nobody who is well is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AllAil {
    /// Somebody is.
    No,
    /// All get traffic.
    Open,
    /// Nobody does.
    Closed,
}

/// What is known of one backend of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    pub(super) set: &'a SetFacts,
    pub(super) backend: &'a BackendEntry,
    /// It ails, and stays in rotation.
    pub(super) kept: bool,
    pub(super) over: Option<&'a OverrideEntry>,
}

/// The fact that decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) reason: Reason,
    pub(super) gets_traffic: bool,
    pub(super) since: SystemTime,
}

impl Verdict {
    fn yes(reason: Reason, since: SystemTime) -> Self {
        Self {
            reason,
            gets_traffic: true,
            since,
        }
    }

    fn no(reason: Reason, since: SystemTime) -> Self {
        Self {
            gets_traffic: false,
            ..Self::yes(reason, since)
        }
    }
}

/// A removed backend.
pub(super) fn removed(draining: &DrainingBackend) -> Verdict {
    Verdict::no(Reason::Removed, draining.since)
}

/// The fact that decides for a backend of a set. Facts of the process come before those of the set, what people said
/// before what probes found.
pub(super) fn explain(facts: Facts<'_>) -> Verdict {
    let Facts { set, backend, .. } = facts;
    if let Some(since) = set.stopping {
        return Verdict::no(Reason::ShuttingDown, since);
    }
    match set.route {
        Route::None => return Verdict::no(Reason::NoListener, set.route_since),
        Route::Failed(_) => return Verdict::no(Reason::ListenerFailed, set.route_since),
        Route::Open => {}
    }
    let held_since = facts.over.map_or(backend.weight_since, |over| over.since);
    if backend.held == Some(Held::Drained) {
        return Verdict::no(Reason::DrainedByOverride, held_since);
    }
    if backend.effective_weight().get() == 0 {
        return Verdict::no(Reason::WeightZero, held_since);
    }
    let health = health(facts);
    if health.gets_traffic && !backend.ails() && backend.held.is_some() {
        return Verdict::yes(Reason::WeightOverridden, held_since);
    }
    health
}

/// What health makes of a backend that nothing else speaks against.
fn health(facts: Facts<'_>) -> Verdict {
    let Facts { set, backend, .. } = facts;
    if backend.ails() {
        return ailing(facts);
    }
    match backend.health.health() {
        Health::Disabled => Verdict::yes(Reason::NotChecked, backend.since),
        Health::Healthy => Verdict::yes(Reason::ProbesPass, backend.since),
        Health::Detecting if set.awaits_verdict => {
            Verdict::no(Reason::AwaitingFirstVerdict, backend.since)
        }
        Health::Detecting | Health::Unhealthy => Verdict::no(Reason::Detecting, backend.since),
    }
}

fn ailing(facts: Facts<'_>) -> Verdict {
    let Facts {
        set, backend, kept, ..
    } = facts;
    let since = backend
        .ejected
        .map_or(backend.since, |ejected| ejected.since);
    if kept {
        Verdict::yes(Reason::KeptIn, since)
    } else if set.all_ail == AllAil::Open {
        Verdict::yes(Reason::FailOpen, set.ailing_since)
    } else if backend.ejected.is_some() {
        Verdict::no(Reason::Ejected, since)
    } else if set.all_ail == AllAil::Closed {
        Verdict::no(Reason::FailClosed, since)
    } else {
        Verdict::no(Reason::ProbesFail, since)
    }
}

/// The verdict in words, with what it refers to.
pub(super) fn message(facts: Facts<'_>, verdict: Verdict) -> String {
    let Facts { set, backend, .. } = facts;
    let probe = || probe(backend);
    let weight = backend.effective_weight().get();
    match verdict.reason {
        Reason::Unspecified => String::new(),
        Reason::ProbesPass => format!("healthy{}", probe()),
        Reason::NotChecked => "there is no health check".to_owned(),
        Reason::FailOpen => format!(
            "{}{}; so are all others, so all get traffic",
            ailment(backend),
            probe()
        ),
        Reason::KeptIn => format!(
            "{}{}; stays in because as many are out as maxEjectionPercent allows",
            ailment(backend),
            probe()
        ),
        Reason::WeightOverridden => format!(
            "weight {weight} instead of {} {}",
            backend.weight.get(),
            over(facts)
        ),
        Reason::AwaitingFirstVerdict => format!(
            "no verdict yet{}; connections wait for the set's first one",
            probe()
        ),
        Reason::Detecting => format!("no verdict yet{}", probe()),
        Reason::ProbesFail => format!("unhealthy{}", probe()),
        Reason::FailClosed => format!(
            "unhealthy{}; so are all others, and the set fails closed",
            probe()
        ),
        Reason::Ejected => ailment(backend),
        Reason::WeightZero if backend.held.is_some() => format!("weight 0 {}", over(facts)),
        Reason::WeightZero => "its owner gives it weight 0".to_owned(),
        Reason::DrainedByOverride => format!("drained {}", over(facts)),
        Reason::Removed => "removed by its owner".to_owned(),
        Reason::NoListener => "no listener leads to its set".to_owned(),
        Reason::ListenerFailed => match &set.route {
            Route::Failed(why) => {
                format!("no listener that leads to its set could be bound: {why}")
            }
            _ => String::new(),
        },
        Reason::ShuttingDown => "the proxy is shutting down".to_owned(),
    }
}

/// A removed backend, in words.
pub(super) fn removed_message(draining: &DrainingBackend) -> String {
    let left = draining.entry.runtime.active.load(Relaxed);
    let until = moment(draining.until);
    match left {
        0 => "removed by its owner".to_owned(),
        1 => format!("removed by its owner; 1 connection may live until {until}"),
        left => format!("removed by its owner; {left} connections may live until {until}"),
    }
}

fn ailment(backend: &BackendEntry) -> String {
    match backend.ejected {
        Some(ejected) => format!("{} connects in a row failed", ejected.failures),
        None => "unhealthy".to_owned(),
    }
}

fn probe(backend: &BackendEntry) -> String {
    backend
        .last_probe
        .map_or_else(String::new, |last| format!(": {last}"))
}

fn over(facts: Facts<'_>) -> String {
    let Some(over) = facts.over else {
        return "by an override".to_owned();
    };
    let mut text = format!("by override of {}", over.by);
    if !over.note.is_empty() {
        text = format!("{text}: {}", over.note);
    }
    match over.until {
        Some((_, until)) => format!("{text}, until {}", moment(until)),
        None => format!("{text}, until undone"),
    }
}

/// To the second: for people.
fn moment(time: SystemTime) -> prost_types::Timestamp {
    prost_types::Timestamp {
        nanos: 0,
        ..timestamp(time)
    }
}
