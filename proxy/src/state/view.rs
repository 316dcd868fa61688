//! What the engine has, in the words of the API.

use super::engine::Engine;
use super::entry::{BackendEntry, DrainingBackend, DrainingListener, ListenerEntry, SetEntry};
use crate::lb::health::Health;
use crate::lb::trie::Tier;
use podline_api::{Name, v1};
use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;
use v1::listener_status::State as ListenerState;

/// Health on the wire.
pub(super) fn health(health: Health) -> v1::Health {
    match health {
        Health::Detecting => v1::Health::Detecting,
        Health::Healthy => v1::Health::Healthy,
        Health::Unhealthy => v1::Health::Unhealthy,
        Health::Disabled => v1::Health::Disabled,
    }
}

/// A moment on the wire.
pub(super) fn timestamp(time: SystemTime) -> prost_types::Timestamp {
    time.into()
}

/// What `request` asks for, of listeners and sets.
pub(super) fn select(
    engine: &Engine,
    request: &v1::GetRequest,
) -> (Vec<v1::ListenerStatus>, Vec<v1::BackendSetStatus>) {
    let everything = request.listeners.is_empty() && request.backend_sets.is_empty();
    let wanted: HashSet<&str> = request.listeners.iter().map(String::as_str).collect();
    let chosen = |name: &Name| everything || wanted.contains(name.as_str());
    let mut listeners: Vec<_> = engine
        .listeners
        .iter()
        .filter(|(name, _)| chosen(name))
        .map(|(_, entry)| listener(entry))
        .collect();
    let draining = engine
        .draining_listeners
        .iter()
        .filter(|d| chosen(&d.entry.wanted.name) && d.active() > 0);
    listeners.extend(draining.map(draining_listener));
    let wanted: HashSet<&str> = request.backend_sets.iter().map(String::as_str).collect();
    let chosen = |name: &Name| everything || wanted.contains(name.as_str());
    let sets = engine
        .sets
        .iter()
        .filter(|(name, _)| chosen(name))
        .map(|(name, entry)| backend_set(engine, name, entry, request.summary))
        .collect();
    (listeners, sets)
}

/// One listener.
pub(super) fn listener(entry: &ListenerEntry) -> v1::ListenerStatus {
    let counters = &entry.counters;
    let state = if entry.failure.is_some() {
        ListenerState::Failed
    } else {
        ListenerState::Listening
    };
    v1::ListenerStatus {
        listener: Some((&entry.wanted).into()),
        owner: entry.owner.to_string(),
        state: state.into(),
        reason: entry.failure.clone().unwrap_or_default(),
        active_connections: counters.active.load(Relaxed),
        accepted_connections: counters.accepted.load(Relaxed),
        refused_connections: counters.refused.load(Relaxed),
        received_bytes: counters.received_bytes.load(Relaxed),
        sent_bytes: counters.sent_bytes.load(Relaxed),
        ..Default::default()
    }
}

fn draining_listener(draining: &DrainingListener) -> v1::ListenerStatus {
    v1::ListenerStatus {
        state: ListenerState::Draining.into(),
        reason: "removed; its connections live on to the deadline".to_owned(),
        ..listener(&draining.entry)
    }
}

fn backend_set(
    engine: &Engine,
    name: &Name,
    entry: &SetEntry,
    summary: bool,
) -> v1::BackendSetStatus {
    let members = engine.table.set(entry.id);
    let mut backends = Vec::new();
    if !summary {
        let mut sorted: Vec<&BackendEntry> = entry.backends.values().collect();
        sorted.sort_by_key(|b| b.runtime.key.address);
        backends.extend(sorted.into_iter().map(backend));
        let draining = engine
            .draining_backends
            .iter()
            .filter(|((set, _), _)| *set == entry.id);
        backends.extend(draining.map(|(_, d)| draining_backend(d)));
    }
    v1::BackendSetStatus {
        set: Some(entry.settings.to_wire(name)),
        owner: entry.owner.to_string(),
        version: entry.version,
        backends,
        eligible: members.map_or(0, |m| m.tally(Tier::Eligible).count),
        total: u32::try_from(entry.backends.len()).unwrap_or(u32::MAX),
        fail_open: members.is_some_and(|m| m.is_fail_open()),
    }
}

fn backend(entry: &BackendEntry) -> v1::BackendStatus {
    let runtime = &entry.runtime;
    v1::BackendStatus {
        backend: Some((&entry.backend()).into()),
        health: health(entry.health.health()).into(),
        draining: false,
        last_probe: entry
            .last_probe
            .map_or_else(String::new, |found| found.to_string()),
        since: Some(timestamp(entry.since)),
        active_connections: u64::from(runtime.active.load(Relaxed)),
        connections: runtime.connections.load(Relaxed),
        connect_failures: runtime.connect_failures.load(Relaxed),
        sent_bytes: runtime.sent_bytes.load(Relaxed),
        received_bytes: runtime.received_bytes.load(Relaxed),
        ..Default::default()
    }
}

fn draining_backend(draining: &DrainingBackend) -> v1::BackendStatus {
    v1::BackendStatus {
        draining: true,
        ..backend(&draining.entry)
    }
}
