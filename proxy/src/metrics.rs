//! Every metric of the proxy, and how they are rendered: at the scrape, out of the same state that the API tells.
//!
//! Labels are bounded: listeners, sets and backends are configuration, and series per backend have a cap. Must not
//! know how the figures come about.

mod durations;

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use metrics::{SharedString, counter, gauge};
use metrics_exporter_prometheus::PrometheusBuilder;
use podline_api::{Rejected, v1};

use crate::api::refusals::Reason;
use crate::l7::fault::Fault;
use crate::lb::flow::Dropped;
use crate::metrics::durations::Durations;

/// Series that exist once for each backend; further sets are left out and counted.
const MAX_BACKEND_SERIES: u64 = 5_000;
/// Series of one backend.
const PER_BACKEND: u64 = 7;
/// Those that it has besides where it answers requests: classes, and a histogram.
const OF_REQUESTS: u64 = 5 + 15;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

macro_rules! metrics {
    ($($constant:ident = $name:literal, $kind:ident, $help:literal;)*) => {
        $(const $constant: &str = $name;)*
        /// All metrics: name, kind and help text.
        const ALL: &[(&str, Kind, &str)] = &[$(($name, Kind::$kind, $help)),*];
    };
}

metrics! {
    BUILD_INFO = "podline_build_info", Gauge, "Always 1; the label tells the release.";
    STARTED = "podline_start_time_seconds", Gauge, "When the process started, since the Unix epoch.";
    READY = "podline_ready", Gauge, "1 while ready for traffic.";
    VERSION = "podline_version", Gauge, "Version of the state being served.";
    WORKERS = "podline_workers", Gauge, "Worker threads.";
    DESCRIPTORS = "podline_descriptors_in_use", Gauge, "File descriptors that connections use.";
    BUDGET = "podline_descriptor_budget", Gauge, "File descriptors that connections may use; at this, accepting pauses.";
    PAUSES = "podline_accept_pauses_total", Counter, "Times that a worker stopped accepting for want of descriptors.";
    APPLIES = "podline_applies_total", Counter, "Changes asked for, by API or file, by result.";
    RELOAD_FAILURES = "podline_reload_failures_total", Counter, "Times that the configuration file was not taken.";
    API_REFUSALS = "podline_api_refusals_total", Counter, "Callers of the API that were refused, by reason.";
    API_EXPIRY = "podline_api_certificate_expiry_seconds", Gauge, "When the API's certificate ends, since the Unix epoch; 0 without one.";
    API_CERTIFICATE_FAILURES = "podline_api_certificate_failures_total", Counter, "Times that the API's certificate files were not taken.";
    STATE_FILE_FAILURES = "podline_state_file_write_failures_total", Counter, "Times that the state file could not be written.";
    STATE_FILE_DAMAGED = "podline_state_file_damaged_total", Counter, "State files that were set aside because they could not be read.";
    WATCHERS_CUT = "podline_watchers_cut_total", Counter, "Watch calls ended because the caller was too slow.";
    OVERRIDES = "podline_overrides", Gauge, "Overrides that hold, by action.";
    AFFINITY = "podline_affinity_clients", Gauge, "Clients whose backend is remembered.";
    AFFINITY_CAPACITY = "podline_affinity_capacity", Gauge, "Clients whose backend can be remembered.";
    DROPPED = "podline_series_dropped", Gauge, "Series per backend left out because there would be too many.";

    LISTENER_UP = "podline_listener_up", Gauge, "1 while the listener accepts.";
    ACTIVE = "podline_connections_active", Gauge, "Open connections.";
    ACCEPTED = "podline_connections_accepted_total", Counter, "Connections accepted.";
    REFUSED = "podline_connections_refused_total", Counter, "Connections that no backend could take; reset.";
    SHED = "podline_connections_shed_total", Counter, "Connections reset because they exceeded a limit, by limit.";
    HEADERS_REFUSED = "podline_proxy_headers_refused_total", Counter, "PROXY headers that were absent, malformed or late; their connections are reset.";
    TRANSPARENT = "podline_transparent_connections_total", Counter, "Connections to backends that see the client's address.";
    SNAT = "podline_snat_connections_total", Counter, "Connections whose backend was to see the client's address and did not, by reason; with TRANSPARENT, refused ones.";
    REQUESTS = "podline_http_requests_total", Counter, "Requests answered, by class of status, of HTTP listeners.";
    REFUSALS = "podline_http_refusals_total", Counter, "Requests that the proxy answered itself, by reason and whose fault it is.";
    HTTP2 = "podline_http2_connections_total", Counter, "Connections in HTTP/2, of HTTP listeners.";
    FLOODS = "podline_http2_floods_total", Counter, "Connections in HTTP/2 that were broken off because of a flood, by what it was of.";
    HTTP2_ERRORS = "podline_http2_errors_total", Counter, "Connections in HTTP/2 that were broken off because the client broke the protocol.";
    DURATION = "podline_http_request_duration_seconds", Histogram, "How long answers took, from the request's head to their end.";
    HANDSHAKES = "podline_tls_handshakes_total", Counter, "Handshakes with clients that ended in a connection, by whether they resumed an earlier session.";
    HANDSHAKE_FAILURES = "podline_tls_handshake_failures_total", Counter, "Handshakes with clients that came to nothing, by reason.";
    CERTIFICATE_EXPIRY = "podline_tls_certificate_expiry_seconds", Gauge, "When the first of the listener's certificates ends, in seconds since 1970.";
    RECEIVED = "podline_received_bytes_total", Counter, "Bytes from clients.";
    SENT = "podline_sent_bytes_total", Counter, "Bytes to clients.";

    RECEIVED_DATAGRAMS = "podline_received_datagrams_total", Counter, "Datagrams from clients, of UDP listeners.";
    SENT_DATAGRAMS = "podline_sent_datagrams_total", Counter, "Datagrams to clients, of UDP listeners.";
    DROPPED_DATAGRAMS = "podline_dropped_datagrams_total", Counter, "Datagrams that were not forwarded, by reason, of UDP listeners.";
    STRAYS = "podline_stray_datagrams_total", Counter, "Datagrams dropped because they came to a socket for backends from somebody else, or too late.";
    PATH_PROVEN = "podline_path_proven", Gauge, "1 while it is proven that answers to imitated clients come back from the node, by IP version.";
    CAN_IMITATE = "podline_can_imitate", Gauge, "1 while this process can imitate clients, where a listener wants it to.";

    ADDRESS_HELD = "podline_address_held", Gauge, "1 while the virtual address is held here.";
    ADDRESS_TROUBLE = "podline_address_trouble", Gauge, "1 while the virtual address is to be held here and cannot be, by why.";

    ELIGIBLE = "podline_set_eligible_backends", Gauge, "Backends of the set that may be picked.";
    BACKENDS = "podline_set_backends", Gauge, "Backends of the set.";
    SET_REQUESTS = "podline_set_http_requests_total", Counter, "Requests that the set's backends answered, by class of status.";
    SET_DURATION = "podline_set_http_request_duration_seconds", Histogram, "How long the answers of the set's backends took.";
    FAIL_OPEN = "podline_set_fail_open", Gauge, "1 while all backends are unhealthy and so all get traffic.";

    BACKEND_HEALTH = "podline_backend_health", Gauge, "Always 1; the label tells the health.";
    BACKEND_TRAFFIC = "podline_backend_gets_traffic", Gauge, "1 while the backend gets new connections.";
    BACKEND_ACTIVE = "podline_backend_connections_active", Gauge, "Open connections to the backend.";
    BACKEND_TOTAL = "podline_backend_connections_total", Counter, "Connections made to the backend.";
    BACKEND_FAILURES = "podline_backend_connect_failures_total", Counter, "Connects that failed.";
    BACKEND_SENT = "podline_backend_sent_bytes_total", Counter, "Bytes to the backend.";
    BACKEND_RECEIVED = "podline_backend_received_bytes_total", Counter, "Bytes from the backend.";
    BACKEND_REQUESTS = "podline_backend_http_requests_total", Counter, "Requests that the backend answered, by class of status.";
    BACKEND_DURATION = "podline_backend_http_request_duration_seconds", Histogram, "How long the backend's answers took.";
}

/// What the shell itself counts. Written by API and file source, read at the scrape.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    reload_failures: AtomicU64,
    watchers_cut: AtomicU64,
    applies: [AtomicU64; RESULTS.len()],
    api_refusals: [AtomicU64; Reason::ALL.len()],
    certificate_failures: AtomicU64,
    certificate_expiry: AtomicI64,
    state_file_failures: AtomicU64,
    state_files_damaged: AtomicU64,
}

/// The values of the label `class`.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// The values of the label `result`.
const RESULTS: [&str; 7] = [
    "accepted",
    "invalid",
    "conflict",
    "version",
    "stale_epoch",
    "forbidden",
    "not_found",
];

impl Counts {
    pub(crate) fn count_apply<T>(&self, answer: &Result<T, Rejected>) {
        let result = match answer {
            Ok(_) => 0,
            Err(Rejected::Invalid(_)) => 1,
            Err(Rejected::Conflict { .. }) => 2,
            Err(Rejected::Version { .. } | Rejected::SetVersion { .. }) => 3,
            Err(Rejected::StaleEpoch { .. }) => 4,
            Err(Rejected::Forbidden { .. }) => 5,
            Err(Rejected::NotFound { .. }) => 6,
        };
        self.applies[result].fetch_add(1, Relaxed);
    }

    pub(crate) fn count_reload_failure(&self) {
        self.reload_failures.fetch_add(1, Relaxed);
    }

    pub(crate) fn count_watcher_cut(&self) {
        self.watchers_cut.fetch_add(1, Relaxed);
    }

    pub(crate) fn count_api_refusal(&self, reason: Reason) {
        self.api_refusals[reason as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn count_certificate_failure(&self) {
        self.certificate_failures.fetch_add(1, Relaxed);
    }

    /// In seconds since the Unix epoch.
    pub(crate) fn set_certificate_expiry(&self, seconds: i64) {
        self.certificate_expiry.store(seconds, Relaxed);
    }

    pub(crate) fn count_state_file_failure(&self) {
        self.state_file_failures.fetch_add(1, Relaxed);
    }

    pub(crate) fn count_damaged_state_file(&self) {
        self.state_files_damaged.fetch_add(1, Relaxed);
    }
}

/// The sets whose backends get series of their own: in the order of their names, as long as they fit. `state` may be
/// a summary. The second figure is how many series are left out.
pub(crate) fn detailed_sets(state: &v1::GetResponse) -> (Vec<String>, u64) {
    let mut sets: Vec<(&str, u64)> = state
        .backend_sets
        .iter()
        .map(|set| {
            let more = if set.answers.is_empty() {
                0
            } else {
                OF_REQUESTS
            };
            (
                name_of_set(set),
                u64::from(set.total) * (PER_BACKEND + more),
            )
        })
        .collect();
    sets.sort_unstable();
    let (mut taken, mut dropped) = (0, 0);
    let mut names = Vec::new();
    for (name, series) in sets {
        if taken + series <= MAX_BACKEND_SERIES {
            taken += series;
            names.push(name.to_owned());
        } else {
            dropped += series;
        }
    }
    (names, dropped)
}

/// Renders everything in Prometheus' text format. `state` has the backends of the sets in `detailed`, at least.
pub(crate) fn render(
    state: &v1::GetResponse,
    (detailed, dropped): &(Vec<String>, u64),
    counts: &Counts,
    [accept_pauses, stray_datagrams]: [u64; 2],
) -> String {
    let detailed: HashSet<&str> = detailed.iter().map(String::as_str).collect();
    // A recorder for each scrape: what was removed leaves no series behind.
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        describe();
        process(state, counts);
        counter!(PAUSES).absolute(accept_pauses);
        counter!(STRAYS).absolute(stray_datagrams);
        gauge!(DROPPED).set(*dropped as f64);
        if let Some(network) = &state.network {
            network_series(network);
        }
        for listener in &state.listeners {
            listener_series(listener);
        }
        for set in &state.backend_sets {
            set_series(set);
            if detailed.contains(name_of_set(set)) {
                backend_series(set);
            }
        }
    });
    let mut text = recorder.handle().render();
    render_durations(&mut text, state, &detailed);
    text
}

fn render_durations(text: &mut String, state: &v1::GetResponse, detailed: &HashSet<&str>) {
    let listeners = state.listeners.iter();
    let of_listeners = listeners.filter_map(|status| {
        let http = status.http.as_ref()?;
        Some((&status.listener.as_ref()?.name, http))
    });
    let of_listeners = of_listeners.map(|(name, http)| Durations {
        labels: durations::label("listener", name),
        counts: &http.durations,
        total_milliseconds: http.total_milliseconds,
    });
    durations::render(text, DURATION, of_listeners);
    let of_sets = state.backend_sets.iter().map(|set| Durations {
        labels: durations::label("set", name_of_set(set)),
        counts: &set.durations,
        total_milliseconds: set.total_milliseconds,
    });
    durations::render(text, SET_DURATION, of_sets);
    let sets = state.backend_sets.iter();
    let of_backends = sets.filter(|set| detailed.contains(name_of_set(set)));
    let of_backends = of_backends.flat_map(|set| {
        let label = durations::label("set", name_of_set(set));
        set.backends.iter().map(move |status| Durations {
            labels: format!(
                "{label},{}",
                durations::label("backend", address_of(status))
            ),
            counts: &status.durations,
            total_milliseconds: status.total_milliseconds,
        })
    });
    durations::render(text, BACKEND_DURATION, of_backends);
}

fn describe() {
    for (name, kind, help) in ALL {
        match kind {
            Kind::Counter => metrics::describe_counter!(*name, *help),
            Kind::Gauge => metrics::describe_gauge!(*name, *help),
            Kind::Histogram => {} // rendered apart
        }
    }
}

fn process(state: &v1::GetResponse, counts: &Counts) {
    gauge!(BUILD_INFO, "release" => state.release.clone()).set(1.0);
    if let Some(started) = &state.started {
        gauge!(STARTED).set(started.seconds as f64 + f64::from(started.nanos) / 1e9);
    }
    gauge!(READY).set(flag(state.ready));
    gauge!(VERSION).set(state.version as f64);
    gauge!(WORKERS).set(f64::from(state.workers));
    gauge!(DESCRIPTORS).set(state.descriptors_in_use as f64);
    gauge!(BUDGET).set(state.descriptor_budget as f64);
    for (result, count) in RESULTS.iter().zip(&counts.applies) {
        counter!(APPLIES, "result" => *result).absolute(count.load(Relaxed));
    }
    override_series(state);
    gauge!(AFFINITY).set(state.affinity_clients as f64);
    gauge!(AFFINITY_CAPACITY).set(state.affinity_capacity as f64);
    counter!(RELOAD_FAILURES).absolute(counts.reload_failures.load(Relaxed));
    counter!(WATCHERS_CUT).absolute(counts.watchers_cut.load(Relaxed));
    for reason in Reason::ALL {
        let count = counts.api_refusals[reason as usize].load(Relaxed);
        counter!(API_REFUSALS, "reason" => reason.name()).absolute(count);
    }
    gauge!(API_EXPIRY).set(counts.certificate_expiry.load(Relaxed) as f64);
    counter!(API_CERTIFICATE_FAILURES).absolute(counts.certificate_failures.load(Relaxed));
    counter!(STATE_FILE_FAILURES).absolute(counts.state_file_failures.load(Relaxed));
    counter!(STATE_FILE_DAMAGED).absolute(counts.state_files_damaged.load(Relaxed));
}

fn listener_series(status: &v1::ListenerStatus) {
    let name = status
        .listener
        .as_ref()
        .map_or("", |listener| &listener.name);
    let name = SharedString::from(name.to_owned());
    let labels = [("listener", name)];
    let up = status.state() == v1::listener_status::State::Listening;
    gauge!(LISTENER_UP, &labels).set(flag(up));
    gauge!(ACTIVE, &labels).set(status.active_connections as f64);
    counter!(ACCEPTED, &labels).absolute(status.accepted_connections);
    counter!(REFUSED, &labels).absolute(status.refused_connections);
    counter!(RECEIVED, &labels).absolute(status.received_bytes);
    counter!(SENT, &labels).absolute(status.sent_bytes);
    counter!(HEADERS_REFUSED, &labels).absolute(status.proxy_headers_refused);
    counter!(TRANSPARENT, &labels).absolute(status.transparent_connections);
    let [listener] = labels;
    for (reason, count) in &status.snat_connections {
        let labels = [listener.clone(), ("reason", reason.clone().into())];
        counter!(SNAT, &labels).absolute(*count);
    }
    let shed = status.shed.unwrap_or_default();
    for (limit, count) in [
        ("source_ranges", shed.source_ranges),
        ("max_connections", shed.max_connections),
        (
            "max_connections_per_second",
            shed.max_connections_per_second,
        ),
        ("client_max_connections", shed.client_max_connections),
        (
            "client_max_connections_per_second",
            shed.client_max_connections_per_second,
        ),
    ] {
        counter!(SHED, &[listener.clone(), ("limit", limit.into())]).absolute(count);
    }
    if let Some(http) = &status.http {
        request_series(http, &listener);
    }
    if let Some(tls) = &status.tls {
        handshake_series(tls, &listener);
    }
    let is_udp = |l: &v1::Listener| l.protocol() == v1::listener::Protocol::Udp;
    if status.listener.as_ref().is_some_and(is_udp) {
        datagram_series(status, &listener);
    }
}

fn request_series(status: &v1::HttpStatus, listener: &(&'static str, SharedString)) {
    for (class, count) in CLASSES.iter().zip(&status.answers) {
        counter!(REQUESTS, &[listener.clone(), ("class", (*class).into())]).absolute(*count);
    }
    for fault in Fault::ALL {
        if let Some(count) = status.refusals.get(fault.reason()) {
            let labels = [
                listener.clone(),
                ("reason", fault.reason().into()),
                ("fault", fault.whose().name().into()),
            ];
            counter!(REFUSALS, &labels).absolute(*count);
        }
    }
    counter!(HTTP2, std::slice::from_ref(listener)).absolute(status.http2_connections);
    counter!(HTTP2_ERRORS, std::slice::from_ref(listener)).absolute(status.http2_errors);
    for (reason, count) in &status.http2_floods {
        let labels = [listener.clone(), ("reason", reason.clone().into())];
        counter!(FLOODS, &labels).absolute(*count);
    }
}

fn handshake_series(status: &v1::TlsStatus, listener: &(&'static str, SharedString)) {
    for (kind, count) in [
        ("whole", status.handshakes),
        ("resumed", status.resumptions),
    ] {
        counter!(HANDSHAKES, &[listener.clone(), ("kind", kind.into())]).absolute(count);
    }
    for (reason, count) in &status.failures {
        let labels = [listener.clone(), ("reason", reason.clone().into())];
        counter!(HANDSHAKE_FAILURES, &labels).absolute(*count);
    }
    if let Some(end) = &status.not_after {
        gauge!(CERTIFICATE_EXPIRY, std::slice::from_ref(listener)).set(end.seconds as f64);
    }
}

fn datagram_series(status: &v1::ListenerStatus, listener: &(&'static str, SharedString)) {
    let labels = [listener.clone()];
    counter!(RECEIVED_DATAGRAMS, &labels).absolute(status.received_datagrams);
    counter!(SENT_DATAGRAMS, &labels).absolute(status.sent_datagrams);
    for name in Dropped::NAMES {
        let count = status.dropped_by_reason.get(name).copied();
        let reason = ("reason", name.to_lowercase().into());
        counter!(DROPPED_DATAGRAMS, &[listener.clone(), reason]).absolute(count.unwrap_or(0));
    }
}

fn network_series(status: &v1::NetworkStatus) {
    gauge!(CAN_IMITATE).set(flag(status.transparency_problem.is_empty()));
    for path in &status.paths {
        let family = if path.ipv6 { "ipv6" } else { "ipv4" };
        let labels = [("node", path.node.clone()), ("family", family.to_owned())];
        let is_proven = path.state() == v1::path_status::State::Proven;
        gauge!(PATH_PROVEN, &labels).set(flag(is_proven));
    }
    for status in &status.addresses {
        use v1::address_status::State;
        let ip = status.address.clone();
        let is_held = status.state() == State::Holding;
        gauge!(ADDRESS_HELD, "address" => ip.clone()).set(flag(is_held));
        let why = match status.state() {
            State::Conflict => "conflict",
            State::Yielded => "yielded",
            State::Failed => "failed",
            _ => continue,
        };
        gauge!(ADDRESS_TROUBLE, "address" => ip, "why" => why).set(1.0);
    }
}

fn override_series(state: &v1::GetResponse) {
    use v1::override_request::Action;
    for (action, name) in [(Action::Drain, "drain"), (Action::Weight, "weight")] {
        let count = state
            .overrides
            .iter()
            .filter(|o| o.action() == action)
            .count();
        gauge!(OVERRIDES, "action" => name).set(count as f64);
    }
}

fn set_series(status: &v1::BackendSetStatus) {
    let labels = [("set", SharedString::from(name_of_set(status).to_owned()))];
    gauge!(ELIGIBLE, &labels).set(f64::from(status.eligible));
    gauge!(BACKENDS, &labels).set(f64::from(status.total));
    gauge!(FAIL_OPEN, &labels).set(flag(status.fail_open));
    for (class, count) in CLASSES.iter().zip(&status.answers) {
        let [set] = labels.clone();
        counter!(SET_REQUESTS, &[set, ("class", (*class).into())]).absolute(*count);
    }
}

fn backend_series(status: &v1::BackendSetStatus) {
    let set = SharedString::from(name_of_set(status).to_owned());
    for backend in &status.backends {
        let address = address_of(backend);
        let labels = [("set", set.clone()), ("backend", address.to_owned().into())];
        let [set, address] = labels.clone();
        gauge!(
            BACKEND_HEALTH,
            &[set, address, ("health", health(backend.health()).into())]
        )
        .set(1.0);
        gauge!(BACKEND_TRAFFIC, &labels).set(flag(backend.gets_traffic));
        gauge!(BACKEND_ACTIVE, &labels).set(backend.active_connections as f64);
        counter!(BACKEND_TOTAL, &labels).absolute(backend.connections);
        counter!(BACKEND_FAILURES, &labels).absolute(backend.connect_failures);
        counter!(BACKEND_SENT, &labels).absolute(backend.sent_bytes);
        counter!(BACKEND_RECEIVED, &labels).absolute(backend.received_bytes);
        for (class, count) in CLASSES.iter().zip(&backend.answers) {
            let [set, address] = labels.clone();
            let labels = [set, address, ("class", (*class).into())];
            counter!(BACKEND_REQUESTS, &labels).absolute(*count);
        }
    }
}

fn address_of(status: &v1::BackendStatus) -> &str {
    status
        .backend
        .as_ref()
        .map_or("", |backend| &backend.address)
}

fn name_of_set(status: &v1::BackendSetStatus) -> &str {
    status.set.as_ref().map_or("", |set| &set.name)
}

fn health(health: v1::Health) -> &'static str {
    match health {
        v1::Health::Unspecified => "unknown",
        v1::Health::Detecting => "detecting",
        v1::Health::Healthy => "healthy",
        v1::Health::Unhealthy => "unhealthy",
        v1::Health::Disabled => "disabled",
    }
}

fn flag(set: bool) -> f64 {
    if set { 1.0 } else { 0.0 }
}

#[cfg(test)]
#[path = "metrics/tests.rs"]
mod tests;
