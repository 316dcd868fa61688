//! What the engine has, in the words of the API.

use super::engine::Engine;
use super::entry::{BackendEntry, DrainingBackend, DrainingListener, ListenerEntry, SetEntry};
use super::explain::{self, AllAil, Facts, SetFacts, Verdict};
use crate::l7::fault::Fault;
use crate::l7::h2::frames::Flood;
use crate::lb::backend::{BackendRuntime, HttpCounters, ListenerCounters, TlsCounters};
use crate::lb::flow::Dropped;
use crate::lb::health::Health;
use crate::lb::limits::Shed;
use crate::lb::network::SnatReason;
use crate::lb::requests::RequestCounters;
use crate::lb::trie::Tier;
use crate::tls::fault::HandshakeFault;
use crate::tls::listener::TlsRules;
use podline_api::{BackendKey, HttpRoute, Listener, Name, Owner, Rejected, RouteAction, v1};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};
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
        listener: Some(entry.wanted.shown()),
        owner: entry.owner.to_string(),
        state: state.into(),
        reason: entry.failure.clone().unwrap_or_default(),
        active_connections: counters.active.load(Relaxed),
        accepted_connections: counters.accepted.load(Relaxed),
        refused_connections: counters.refused.load(Relaxed),
        received_bytes: counters.received_bytes.load(Relaxed),
        sent_bytes: counters.sent_bytes.load(Relaxed),
        shed: Some(shed(counters)),
        proxy_headers_refused: counters.headers_refused.load(Relaxed),
        dropped_datagrams: counters.dropped.iter().map(|n| n.load(Relaxed)).sum(),
        dropped_by_reason: dropped(counters),
        received_datagrams: counters.received_datagrams.load(Relaxed),
        sent_datagrams: counters.sent_datagrams.load(Relaxed),
        transparent_connections: counters.transparent.load(Relaxed),
        snat_connections: snat(counters),
        http: entry.wanted.http.as_ref().map(|_| http(&counters.http)),
        tls: entry.tls.as_ref().map(|rules| tls(rules, &counters.tls)),
    }
}

fn http(counters: &HttpCounters) -> v1::HttpStatus {
    let refusals = Fault::ALL.iter().zip(&counters.faults);
    let refusals = refusals
        .map(|(fault, count)| (fault.reason().to_owned(), count.load(Relaxed)))
        .filter(|(_, count)| *count > 0);
    let floods = Flood::ALL.iter().zip(&counters.floods);
    let floods = floods
        .map(|(flood, count)| (flood.reason().to_owned(), count.load(Relaxed)))
        .filter(|(_, count)| *count > 0);
    v1::HttpStatus {
        answers: all(&counters.requests.statuses),
        refusals: refusals.collect(),
        durations: all(&counters.requests.took),
        total_milliseconds: counters.requests.took_ms.load(Relaxed),
        http2_connections: counters.http2.load(Relaxed),
        http2_floods: floods.collect(),
        http2_errors: counters.http2_errors.load(Relaxed),
    }
}

fn tls(rules: &TlsRules, counters: &TlsCounters) -> v1::TlsStatus {
    let [handshakes, resumptions] = &counters.handshakes;
    let failures = HandshakeFault::ALL.iter().zip(&counters.faults);
    let failures = failures
        .map(|(fault, count)| (fault.name().to_owned(), count.load(Relaxed)))
        .filter(|(_, count)| *count > 0);
    v1::TlsStatus {
        handshakes: handshakes.load(Relaxed),
        resumptions: resumptions.load(Relaxed),
        failures: failures.collect(),
        not_after: rules
            .not_after()
            .map(|seconds| prost_types::Timestamp { seconds, nanos: 0 }),
    }
}

/// Only what happened: most listeners drop nothing.
fn dropped(counters: &ListenerCounters) -> HashMap<String, u64> {
    let counts = counters.dropped.iter().map(|count| count.load(Relaxed));
    let all = Dropped::NAMES.iter().zip(counts);
    all.filter(|(_, count)| *count > 0)
        .map(|(name, count)| ((*name).to_owned(), count))
        .collect()
}

fn shed(counters: &ListenerCounters) -> v1::ShedConnections {
    let of = |shed: Shed| counters.shed[shed as usize].load(Relaxed);
    v1::ShedConnections {
        source_ranges: of(Shed::SourceRanges),
        max_connections: of(Shed::MaxConnections),
        max_connections_per_second: of(Shed::MaxConnectionsPerSecond),
        client_max_connections: of(Shed::ClientMaxConnections),
        client_max_connections_per_second: of(Shed::ClientMaxConnectionsPerSecond),
    }
}

/// By reason; those that never occurred are left out.
fn snat(counters: &ListenerCounters) -> HashMap<String, u64> {
    let all = SnatReason::ALL.iter().zip(&counters.snat);
    all.map(|(reason, count)| (reason.name().to_owned(), count.load(Relaxed)))
        .filter(|(_, count)| *count > 0)
        .collect()
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
        let facts = set_facts(engine, entry);
        let shown = |b| backend(engine, name, facts_of(engine, name, entry, b, &facts));
        backends.extend(sorted.into_iter().map(shown));
        let draining = engine
            .draining_backends
            .iter()
            .filter(|((set, _), _)| *set == entry.id);
        let now_ms = engine.plane.now_ms();
        backends.extend(draining.map(|(_, d)| draining_backend(d, now_ms)));
    }
    let counters = members.map(|set| &*set.requests);
    let (answers, durations, total_milliseconds) = requests(counters);
    v1::BackendSetStatus {
        set: Some(entry.settings.to_wire(name)),
        owner: entry.owner.to_string(),
        version: entry.version,
        backends,
        eligible: members.map_or(0, |m| m.tally(Tier::Eligible).count),
        total: u32::try_from(entry.backends.len()).unwrap_or(u32::MAX),
        fail_open: members.is_some_and(|m| m.is_fail_open()),
        answers,
        durations,
        total_milliseconds,
    }
}

/// What is known of a set as a whole.
fn set_facts(engine: &Engine, entry: &SetEntry) -> SetFacts {
    let set = engine.table.set(entry.id);
    let count = |tier| set.map_or(0, |set| set.tally(tier).count);
    let has_eligible = count(Tier::Eligible) > 0;
    let may_fall_back = entry.was_healthy && count(Tier::Fallback) > 0;
    SetFacts {
        route: entry.route.clone(),
        route_since: entry.route_since,
        awaits_verdict: !has_eligible && !may_fall_back,
        all_ail: match entry.settings.fail_closed {
            true if !has_eligible => AllAil::Closed,
            false if set.is_some_and(|set| set.is_fail_open()) => AllAil::Open,
            _ => AllAil::No,
        },
        ailing_since: entry.ailing_since,
        stopping: engine.stopping,
    }
}

fn facts_of<'a>(
    engine: &'a Engine,
    name: &Name,
    entry: &SetEntry,
    backend: &'a BackendEntry,
    set: &'a SetFacts,
) -> Facts<'a> {
    let key = &backend.runtime.key;
    let over = backend
        .held
        .and_then(|_| engine.overrides.get(&(name.clone(), key.clone())));
    Facts {
        set,
        backend,
        kept: entry.ejections.keeps(&key.address),
        over,
    }
}

/// Why the backends that `request` means get new connections, or why not.
pub(super) fn explain(
    engine: &Engine,
    request: &v1::ExplainRequest,
) -> Result<v1::ExplainResponse, Rejected> {
    let name = Name::try_from(request.set.as_str()).map_err(|invalid| invalid.at("set"))?;
    let wanted = request.backend.clone().map(BackendKey::try_from);
    let wanted = wanted
        .transpose()
        .map_err(|invalid| invalid.at("backend"))?;
    let Some(entry) = engine.sets.get(&name) else {
        return Err(Rejected::NotFound {
            path: "set".to_owned(),
            problem: format!("there is no backend set \"{name}\""),
        });
    };
    let is_meant = |key: &BackendKey| {
        wanted.as_ref().is_none_or(|wanted| {
            key.address == wanted.address && (wanted.id.is_none() || wanted.id == key.id)
        })
    };
    let facts = set_facts(engine, entry);
    let meant = entry.backends.values().filter(|b| is_meant(&b.runtime.key));
    let mut backends: Vec<_> = meant
        .map(|b| {
            let facts = facts_of(engine, &name, entry, b, &facts);
            let verdict = explain::explain(facts);
            let (runtime, message) = (&b.runtime, explain::message(facts, verdict));
            let node = runtime.node.load(Relaxed);
            let told = engine.source_note(&name, node, runtime.key.address.ip());
            let message = told.map_or(message.clone(), |told| format!("{message}; {told}"));
            explanation(b, verdict, message)
        })
        .collect();
    let draining = engine
        .draining_backends
        .iter()
        .filter(|((set, key), _)| *set == entry.id && is_meant(key));
    backends.extend(
        draining
            .map(|(_, d)| explanation(&d.entry, explain::removed(d), explain::removed_message(d))),
    );
    match wanted {
        Some(wanted) if backends.is_empty() => Err(Rejected::NotFound {
            path: "backend".to_owned(),
            problem: format!("{wanted} is not in the set"),
        }),
        _ => Ok(v1::ExplainResponse {
            version: engine.version(),
            backends,
            reached_by: reached_by(engine, &name),
        }),
    }
}

/// Who leads to a set, in words.
fn reached_by(engine: &Engine, set: &Name) -> Vec<String> {
    const MOST: usize = 100;
    let of = |entry: &ListenerEntry| {
        let Listener {
            name,
            backend_set,
            http,
            ..
        } = &entry.wanted;
        let is_default = backend_set.as_ref() == Some(set);
        let routes = http.iter().flat_map(|http| &http.routes);
        let leads =
            |route: &&HttpRoute| matches!(&route.action, RouteAction::Forward(to) if to == set);
        let by_route = routes
            .filter(leads)
            .map(|route| format!("{name} by {route}"));
        let default = is_default.then(|| name.to_string());
        default
            .into_iter()
            .chain(by_route)
            .take(MOST)
            .collect::<Vec<_>>()
    };
    engine.listeners.values().flat_map(of).take(MOST).collect()
}

fn explanation(entry: &BackendEntry, verdict: Verdict, message: String) -> v1::Explanation {
    let backend = v1::Backend {
        weight: Some(entry.effective_weight().get().into()),
        ..(&entry.backend()).into()
    };
    v1::Explanation {
        backend: Some(backend),
        gets_traffic: verdict.gets_traffic,
        reason: verdict.reason.into(),
        message,
        since: Some(timestamp(verdict.since)),
        active_connections: u64::from(entry.runtime.active.load(Relaxed)),
    }
}

/// All overrides that hold.
pub(super) fn overrides(engine: &Engine) -> Vec<v1::OverrideStatus> {
    let all = engine.overrides.iter();
    all.map(|(id, entry)| engine.override_status(id, entry))
        .collect()
}

/// Whoever has something, or has used an epoch.
pub(super) fn owners(engine: &Engine) -> Vec<v1::OwnerStatus> {
    let mut counts: BTreeMap<&Owner, (u32, u32)> = BTreeMap::new();
    for owner in engine.owners.with_epoch() {
        counts.entry(owner).or_default();
    }
    for listener in engine.listeners.values() {
        counts.entry(&listener.owner).or_default().0 += 1;
    }
    for set in engine.sets.values() {
        counts.entry(&set.owner).or_default().1 += 1;
    }
    for owner in engine.networks.by_owner.keys() {
        counts.entry(owner).or_default();
    }
    let status = |(owner, (listeners, backend_sets)): (&Owner, (u32, u32))| {
        let reign = engine.owners.get(owner);
        v1::OwnerStatus {
            owner: owner.to_string(),
            epoch: reign.epoch,
            listeners,
            backend_sets,
            applied: reign.applied.map(timestamp),
        }
    };
    counts.into_iter().map(status).collect()
}

fn backend(engine: &Engine, name: &Name, facts: Facts<'_>) -> v1::BackendStatus {
    let verdict = explain::explain(facts);
    let id = (name.clone(), facts.backend.runtime.key.clone());
    v1::BackendStatus {
        reason: verdict.reason.into(),
        gets_traffic: verdict.gets_traffic,
        overriding: facts.over.map(|over| engine.override_status(&id, over)),
        ..counted(facts.backend, engine.plane.now_ms())
    }
}

fn counted(entry: &BackendEntry, now_ms: u64) -> v1::BackendStatus {
    let runtime = &entry.runtime;
    let (answers, durations, total_milliseconds) = requests(runtime.requests());
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
        answers,
        durations,
        total_milliseconds,
        first_probe: entry.first_probe.map(timestamp),
        first_connection: first_connection(runtime, now_ms).map(timestamp),
        ..Default::default()
    }
}

fn all(counts: &[AtomicU64]) -> Vec<u64> {
    counts.iter().map(|count| count.load(Relaxed)).collect()
}

/// Answers by class of status, and by how long they took, and all of that; nothing where there were none.
fn requests(counters: Option<&RequestCounters>) -> (Vec<u64>, Vec<u64>, u64) {
    let Some(counters) = counters else {
        return (Vec::new(), Vec::new(), 0);
    };
    let answers = all(&counters.statuses);
    if answers.iter().all(|count| *count == 0) {
        return (Vec::new(), Vec::new(), 0);
    }
    let total = counters.took_ms.load(Relaxed);
    (answers, all(&counters.took), total)
}

/// When the first connection to a backend was made, by the wall clock; the workers' clock knows nothing of it.
fn first_connection(runtime: &BackendRuntime, now_ms: u64) -> Option<SystemTime> {
    let first_ms = Some(runtime.first_connection_ms.load(Relaxed)).filter(|ms| *ms != 0)?;
    let ago = Duration::from_millis(now_ms.saturating_sub(first_ms));
    SystemTime::now().checked_sub(ago)
}

fn draining_backend(draining: &DrainingBackend, now_ms: u64) -> v1::BackendStatus {
    v1::BackendStatus {
        draining: true,
        reason: explain::removed(draining).reason.into(),
        ..counted(&draining.entry, now_ms)
    }
}
