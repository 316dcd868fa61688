//! Every metric of the controller. Labels are bounded: kinds of objects and proxies, never Services.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, SharedString, counter, gauge, histogram};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use tokio::time::Instant;

use crate::certificates::Report;
use crate::cluster::Kind;
use crate::gate::Reason;
use crate::observed::{Holding, Observed};
use crate::push::Pushed;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How often which durations.
    Histogram,
}

macro_rules! metrics {
    ($($constant:ident = $name:literal, $kind:ident, $help:literal;)*) => {
        $(const $constant: &str = $name;)*
        /// All metrics: name, kind and help text.
        pub const ALL: &[(&str, Sort, &str)] = &[$(($name, Sort::$kind, $help)),*];
    };
}

metrics! {
    BUILD_INFO = "podline_control_build_info", Gauge, "Always 1; the label tells the release.";
    LEADER = "podline_control_leader", Gauge, "1 while this replica leads.";
    EPOCH = "podline_control_epoch", Gauge, "The epoch of the last reign of this replica.";
    SYNCED = "podline_control_synced", Gauge, "1 once a kind of object was listed whole, by kind.";
    WATCH_FAILURES = "podline_control_watch_failures_total", Counter, "Watches that broke, by kind.";
    OBJECTS = "podline_control_objects", Gauge, "Objects that are known, by kind.";
    SERVICES = "podline_control_services", Gauge, "Services and Ingresses that are ours.";
    QUEUE = "podline_control_write_queue_depth", Gauge, "Services and Ingresses that wait to be written.";
    WRITES = "podline_control_writes_total", Counter, "Writes to the API server, by what.";
    WRITE_FAILURES = "podline_control_write_failures_total", Counter, "Writes to the API server that failed and are tried again.";
    BUILDS = "podline_control_build_seconds", Histogram, "From a change being taken in to what the proxies are to be.";
    TO_ACK = "podline_control_event_to_ack_seconds", Histogram, "From an object's event to the acknowledgement of every proxy that serves.";
    SNAPSHOT = "podline_control_snapshot_version", Gauge, "Version of what the proxies are to be.";
    PUSHES = "podline_control_pushes_total", Counter, "Requests that proxies took, by what they held.";
    PUSH_REFUSALS = "podline_control_push_refusals_total", Counter, "Requests that proxies refused, by reason.";
    DISCONNECTS = "podline_control_proxy_disconnects_total", Counter, "Connections to proxies that ended or could not be made.";
    CERTIFICATE_EXPIRY = "podline_control_certificate_expiry_seconds", Gauge, "When one of Podline's own certificates ends, since the Unix epoch, by which.";
    REPAIRS = "podline_control_repairs_total", Counter, "Objects of Podline's own that were mended, by object.";
    REPAIR_SECONDS = "podline_control_repair_seconds", Histogram, "From seeing that an object of Podline's own is damaged to the answered write that mends it.";
    DAMAGED = "podline_control_damaged", Gauge, "1 while an object of Podline's own is not as it should be, by object.";
    BLOCKED = "podline_control_repair_blocked", Gauge, "1 while an object of Podline's own cannot be watched or written, by object.";
    REVIEWS = "podline_control_reviews_total", Counter, "What the API server asked the webhooks, by webhook and outcome.";
    REVIEW_SECONDS = "podline_control_review_seconds", Histogram, "From such a question to its answer, by webhook.";
    DRAIN_WAITS = "podline_control_drain_wait_seconds", Histogram, "How long a deletion waited until no proxy would send the Pod anything new.";
    DRAINS_LATE = "podline_control_drains_late_total", Counter, "Deletions that went on before every proxy that serves had said so.";
    WEIGHTS_RESTORED = "podline_control_weights_restored_total", Counter, "Pods that got their weight back because their deletion did not begin.";
    UNDRAINED = "podline_control_undrained_deletions_total", Counter, "Pods with our gate whose deletion began though nobody had asked the webhook: can the API server reach it?";
    GATES = "podline_control_gates_waiting", Gauge, "Pods that wait for their readiness gate, by what keeps it.";
    GATE_PATCHES = "podline_control_gate_patches_total", Counter, "Conditions of readiness gates that were sent, by result.";
    GATE_SENT = "podline_control_gate_sent_seconds", Histogram, "From the verdict that makes a Pod healthy coming in from a proxy to its condition being sent.";
    GATE_ANSWERED = "podline_control_gate_answered_seconds", Histogram, "From the verdict that makes a Pod healthy coming in from a proxy to the API server's answer.";
    PODS_WITHOUT_GATE = "podline_control_pods_without_gate", Gauge, "Pods that a Service or Ingress is bound to directly and that have no readiness gate of ours.";
    POD_STEPS = "podline_control_pod_step_seconds", Histogram, "How long Pods took from one point of their timelines to another, by step.";
    POD_EVENTS_DROPPED = "podline_control_pod_events_dropped_total", Counter, "Events of Pods that were not written: too many waited, or the API server refused them.";
    ADDRESSES = "podline_control_addresses", Gauge, "Virtual addresses that a proxy is to hold, by whether one does: held, moving, nowhere (for ten seconds or longer).";
    PROXY_SERVING = "podline_control_proxy_serving", Gauge, "1 while the proxy counts as serving.";
    PROXY_LAG = "podline_control_proxy_lag_versions", Gauge, "Versions that the proxy has not acknowledged.";
}

const SECONDS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// Of Pods' steps: from a proxy's next turn to a deployment that hangs.
const POD_SECONDS: &[f64] = &[
    0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    120.0, 300.0, 600.0,
];

/// Where the controller counts. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    write_failures: Counter,
    queue: Gauge,
    leader: Gauge,
    epoch: Gauge,
    services: Gauge,
    snapshot: Gauge,
    builds: Histogram,
    to_ack: Histogram,
    gate_sent: Histogram,
    gate_answered: Histogram,
    /// Since when there is something new of proxies that nobody has looked at.
    told_since: Mutex<Option<Instant>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new() -> Self {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)
            .and_then(|builder| {
                builder.set_buckets_for_metric(Matcher::Full(POD_STEPS.to_owned()), POD_SECONDS)
            })
            .expect("there are buckets");
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        let inner = metrics::with_local_recorder(&recorder, || {
            for (name, sort, help) in ALL {
                match sort {
                    Sort::Counter => metrics::describe_counter!(*name, *help),
                    Sort::Gauge => metrics::describe_gauge!(*name, *help),
                    Sort::Histogram => metrics::describe_histogram!(*name, *help),
                }
            }
            gauge!(BUILD_INFO, "release" => env!("CARGO_PKG_VERSION")).set(1.0);
            (
                counter!(WRITE_FAILURES),
                [
                    gauge!(QUEUE),
                    gauge!(LEADER),
                    gauge!(EPOCH),
                    gauge!(SERVICES),
                    gauge!(SNAPSHOT),
                ],
                [
                    histogram!(BUILDS),
                    histogram!(TO_ACK),
                    histogram!(GATE_SENT),
                    histogram!(GATE_ANSWERED),
                ],
            )
        });
        let (write_failures, [queue, leader, epoch, services, snapshot], histograms) = inner;
        let [builds, to_ack, gate_sent, gate_answered] = histograms;
        Self(Arc::new(Inner {
            recorder,
            handle,
            write_failures,
            queue,
            leader,
            epoch,
            services,
            snapshot,
            builds,
            to_ack,
            gate_sent,
            gate_answered,
            told_since: Mutex::default(),
        }))
    }

    fn local<T>(&self, count: impl FnOnce() -> T) -> T {
        metrics::with_local_recorder(&self.0.recorder, count)
    }

    /// When the certificates of a channel end.
    pub fn certificates(&self, report: &Report) {
        for (which, end) in &report.ends {
            let (which, end) = (*which, *end);
            let seconds = end.map_or(0.0, |end| end as f64);
            self.local(|| gauge!(CERTIFICATE_EXPIRY, "which" => which).set(seconds));
        }
    }

    /// An object of Podline's own was mended, so long after it was seen to be damaged.
    pub fn repaired(&self, object: String, took: Duration) {
        self.local(|| {
            counter!(REPAIRS, "object" => object).increment(1);
            histogram!(REPAIR_SECONDS).record(took);
        });
    }

    /// Whether an object of Podline's own is damaged now.
    pub fn damaged(&self, object: String, is_damaged: bool) {
        let value = f64::from(u8::from(is_damaged));
        self.local(|| gauge!(DAMAGED, "object" => object).set(value));
    }

    /// Whether an object of Podline's own cannot be watched or written now.
    pub fn blocked(&self, object: String, is_blocked: bool) {
        let value = f64::from(u8::from(is_blocked));
        self.local(|| gauge!(BLOCKED, "object" => object).set(value));
    }

    /// Something was written to the API server.
    pub fn wrote(&self, what: &'static str) {
        self.local(|| counter!(WRITES, "what" => what).increment(1));
    }

    /// A write to the API server failed.
    pub fn write_failed(&self) {
        self.0.write_failures.increment(1);
    }

    /// Whether this replica leads, and as which epoch.
    pub fn reign(&self, epoch: Option<u64>) {
        self.0.leader.set(f64::from(u8::from(epoch.is_some())));
        if let Some(epoch) = epoch {
            self.0.epoch.set(epoch as f64);
        }
    }

    /// A watch of a kind broke.
    pub fn watch_failed(&self, kind: Kind) {
        self.local(|| counter!(WATCH_FAILURES, "kind" => kind.as_str()).increment(1));
    }

    /// A kind was listed whole, or not yet; how many objects of it there are.
    pub fn objects(&self, kind: Kind, is_synced: bool, count: usize) {
        self.local(|| {
            gauge!(SYNCED, "kind" => kind.as_str()).set(f64::from(u8::from(is_synced)));
            gauge!(OBJECTS, "kind" => kind.as_str()).set(count as f64);
        });
    }

    /// A build was made: how long it took, what came of it.
    pub fn built(&self, took: Duration, version: u64, services: usize) {
        self.0.builds.record(took);
        self.0.snapshot.set(version as f64);
        self.0.services.set(services as f64);
    }

    /// Every proxy that serves has acknowledged a change.
    pub fn acknowledged(&self, after: Duration) {
        self.0.to_ack.record(after);
    }

    /// A webhook was asked, and answered.
    pub fn reviewed(&self, webhook: &'static str, outcome: &'static str, took: Duration) {
        self.local(|| {
            counter!(REVIEWS, "webhook" => webhook, "outcome" => outcome).increment(1);
            histogram!(REVIEW_SECONDS, "webhook" => webhook).record(took);
        });
    }

    /// A deletion waited for the proxies, and whether all of them answered in time.
    pub fn drained(&self, waited: Duration, is_late: bool) {
        self.local(|| {
            histogram!(DRAIN_WAITS).record(waited);
            counter!(DRAINS_LATE).increment(u64::from(is_late));
        });
    }

    /// A Pod got its weight back.
    pub fn restored(&self) {
        self.local(|| counter!(WEIGHTS_RESTORED).increment(1));
    }

    /// Deletions began that nobody had asked about.
    pub fn undrained(&self, count: u64) {
        self.local(|| counter!(UNDRAINED).increment(count));
    }

    /// Since when there is something new of proxies that was not asked for here since.
    pub fn told_since(&self) -> Option<Instant> {
        self.0
            .told_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Why Pods wait for their gates, and how many Pods are bound without one.
    pub fn gates(&self, waiting: &BTreeMap<&'static str, usize>, without: usize) {
        self.local(|| {
            let words = Reason::ALL.iter().map(|reason| reason.as_str());
            for word in words.chain(["Pending"]) {
                let count = waiting.get(word).copied().unwrap_or_default();
                gauge!(GATES, "reason" => word).set(count as f64);
            }
            gauge!(PODS_WITHOUT_GATE).set(without as f64);
        });
    }

    /// The condition of a gate is sent, so long after the verdict that opens it.
    pub fn gate_sent(&self, after: Duration) {
        self.0.gate_sent.record(after);
    }

    /// It was answered.
    pub fn gate_answered(&self, after: Duration) {
        self.0.gate_answered.record(after);
    }

    /// The condition of a gate was sent, with this result.
    pub fn gate_patched(&self, result: &'static str) {
        self.local(|| counter!(GATE_PATCHES, "result" => result).increment(1));
    }

    /// A Pod went from one point of its timeline to another.
    pub fn pod_step(&self, step: &'static str, seconds: f64) {
        self.local(|| histogram!(POD_STEPS, "step" => step).record(seconds));
    }

    /// An event of a Pod was not written.
    pub fn pod_event_dropped(&self) {
        self.local(|| counter!(POD_EVENTS_DROPPED).increment(1));
    }

    /// Everything, as Prometheus reads it. `queue`: Services and Ingresses that wait to be written.
    pub fn render(&self, queue: usize, version: u64, observed: &Observed) -> String {
        self.0.queue.set(queue as f64);
        // Series of proxies that are gone would stay for ever in the recorder, so these are made anew each time.
        let fresh = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&fresh, || {
            for (name, _, help) in ALL
                .iter()
                .filter(|(name, ..)| [ADDRESSES, PROXY_SERVING, PROXY_LAG].contains(name))
            {
                metrics::describe_gauge!(*name, *help);
            }
            for state in Holding::ALL {
                let all = observed.addresses.values();
                let count = all.filter(|it| **it == state).count();
                gauge!(ADDRESSES, "state" => state.as_str()).set(count as f64);
            }
            for (name, proxy) in &observed.proxies {
                let label = || SharedString::from(name.clone());
                gauge!(PROXY_SERVING, "proxy" => label()).set(f64::from(u8::from(proxy.serving)));
                gauge!(PROXY_LAG, "proxy" => label())
                    .set(version.saturating_sub(proxy.acked) as f64);
            }
        });
        self.0.handle.run_upkeep();
        self.0.handle.render() + &fresh.handle().render()
    }
}

impl crate::push::Recorder for Metrics {
    fn pushed(&self, _proxy: &str, what: Pushed, _took: Duration) {
        let what = match what {
            Pushed::Full => "full",
            Pushed::Difference => "difference",
            Pushed::Empty => "nothing",
        };
        self.local(|| counter!(PUSHES, "what" => what).increment(1));
    }

    fn refused(&self, proxy: &str, reason: &str) {
        tracing::warn!(proxy, reason, "a proxy refused what it was sent");
        let reason = reason.to_owned();
        self.local(|| counter!(PUSH_REFUSALS, "reason" => reason).increment(1));
    }

    fn told(&self, at: Instant) {
        let since = self.0.told_since.lock();
        let mut since = since.unwrap_or_else(PoisonError::into_inner);
        since.get_or_insert(at);
    }

    fn disconnected(&self, proxy: &str, why: &str) {
        tracing::debug!(proxy, why, "no connection to the proxy");
        self.local(|| counter!(DISCONNECTS).increment(1));
    }
}
