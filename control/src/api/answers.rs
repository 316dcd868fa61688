//! What the API answers, out of the cluster and its build. Pure.

use std::collections::BTreeSet;

use podline_api::{BackendKey, BackendSet, v1};

use super::Identity;
use crate::build::config::told;
use crate::build::endpoints::State;
use crate::build::explain::{Origin, Outcome, endpoints, of_ingress, values};
use crate::build::note::Note;
use crate::build::{Mode, Plan, PortOutcome, Standing};
use crate::cluster::{Front, Gate, Key};
use crate::engine::Core;
use crate::gate::Verdict;
use crate::observed::{AddressState, Observed, ProxyView};
use crate::reign::Reign;

/// `ready` was asked for before `core` was looked at: whoever answers that looks at it, too.
pub(super) fn status(
    core: &Core,
    identity: &Identity,
    ready: Result<(), String>,
    namespace: &str,
) -> v1::StatusResponse {
    let epoch = match *identity.reign.borrow() {
        Reign::Leader { epoch } => Some(epoch),
        Reign::Follower => None,
    };
    let broken = core.failing.iter().map(|(kind, problem)| v1::BrokenWatch {
        kind: kind.as_str().to_owned(),
        problem: problem.clone(),
    });
    let wanted = |key: &&Key| namespace.is_empty() || *key.namespace == *namespace;
    let services = core.builder.standings().keys().filter(wanted);
    let ingresses = core.builder.ingresses().keys().filter(wanted);
    v1::StatusResponse {
        release: env!("CARGO_PKG_VERSION").to_owned(),
        identity: identity.name.clone(),
        owner: identity.owner.clone(),
        leads: epoch.is_some(),
        epoch: epoch.unwrap_or_default(),
        ready: ready.is_ok(),
        not_ready_reason: ready.err().unwrap_or_default(),
        broken_watches: broken.collect(),
        snapshot_version: core.builder.snapshot().version,
        proxies: proxies(core.cluster.observed()),
        services: services
            .map(|key| front(core, &Front::Service(key.clone())))
            .collect(),
        ingresses: ingresses
            .map(|key| front(core, &Front::Ingress(key.clone())))
            .collect(),
    }
}

fn proxies(observed: &Observed) -> Vec<v1::ControlledProxy> {
    let proxies = observed.proxies.iter();
    proxies
        .map(|(name, proxy)| v1::ControlledProxy {
            name: name.clone(),
            target: proxy.target.clone(),
            addresses: proxy.addresses.iter().map(ToString::to_string).collect(),
            serving: proxy.serving,
            reason: proxy.not_serving_reason.clone(),
            acknowledged_version: proxy.acked,
            failed: proxy
                .failed_listeners
                .iter()
                .chain(&proxy.refused)
                .map(|(name, problem)| v1::FailedListener {
                    name: name.to_string(),
                    problem: problem.clone(),
                })
                .collect(),
            holds: holds(proxy),
        })
        .collect()
}

fn holds(proxy: &ProxyView) -> Vec<String> {
    let all = proxy.virtual_addresses.iter();
    all.filter(|(_, told)| told.state == AddressState::Holding)
        .map(|(ip, _)| ip.to_string())
        .collect()
}

fn front(core: &Core, front: &Front) -> v1::ServiceStatus {
    use v1::service_status::{Mode as WireMode, Standing as Wire};
    let key = front.key();
    let mut status = v1::ServiceStatus {
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
        ..v1::ServiceStatus::default()
    };
    let told = match front {
        Front::Service(key) => core.cluster.service(key).map(|it| &it.service.ingress),
        Front::Ingress(key) => core.cluster.ingress(key).map(|it| &it.ingress.told),
    };
    let addresses = told.into_iter().flatten().filter_map(|entry| entry.ip);
    status.addresses = addresses.map(|ip| ip.to_string()).collect();
    match core.builder.standing(front) {
        Some(Standing::Ours(plan)) => {
            status.set_standing(Wire::Ours);
            status.set_mode(match plan.mode {
                Mode::Direct => WireMode::Direct,
                Mode::NodePort => WireMode::NodePort,
            });
            status.ports = plan
                .ports
                .iter()
                .map(|outcome| port(core, plan, outcome))
                .collect();
            status.notes = plan.notes.iter().map(note).collect();
        }
        Some(Standing::Leaving) => status.set_standing(Wire::Leaving),
        Some(Standing::Other(told)) => {
            status.set_standing(Wire::ClaimedByOther);
            status.notes = vec![note(told)];
        }
        None => status.set_standing(Wire::NotOurs),
    }
    status
}

fn note(note: &Note) -> v1::Note {
    v1::Note {
        reason: note.reason.to_string(),
        message: note.message.clone(),
        warning: note.reason.is_warning(),
    }
}

fn port(core: &Core, plan: &Plan, outcome: &PortOutcome) -> v1::ServicePortStatus {
    let observed = core.cluster.observed();
    let listeners = plan
        .listeners
        .iter()
        .filter(|listener| outcome.listeners.contains(&listener.name));
    let names: BTreeSet<_> = listeners.flat_map(|listener| listener.sets()).collect();
    let sets: Vec<&BackendSet> = plan
        .sets
        .iter()
        .map(|set| &**set)
        .filter(|set| names.contains(&set.name))
        .collect();
    let backends = || {
        sets.iter()
            .flat_map(|set| set.backends.iter().map(move |backend| (*set, backend)))
    };
    let count = |counted: usize| u32::try_from(counted).unwrap_or(u32::MAX);
    v1::ServicePortStatus {
        port: outcome.port.into(),
        protocol: outcome.protocol.as_str().to_owned(),
        listeners: outcome.listeners.iter().map(ToString::to_string).collect(),
        backend_sets: sets.iter().map(|set| set.name.to_string()).collect(),
        error: outcome
            .error
            .map(|reason| reason.to_string())
            .unwrap_or_default(),
        backends: count(backends().count()),
        weighted: count(
            backends()
                .filter(|(_, backend)| backend.weight.get() > 0)
                .count(),
        ),
        healthy: count(
            backends()
                .filter(|(set, backend)| {
                    let (on, of) = healthy_on(observed, set, &backend.key);
                    of > 0 && on == of
                })
                .count(),
        ),
    }
}

/// On how many of how many proxies that serve a backend takes traffic.
fn healthy_on(observed: &Observed, set: &BackendSet, key: &BackendKey) -> (u32, u32) {
    observed.serving().fold((0, 0), |(on, of), (_, proxy)| {
        let healthy = proxy
            .healthy
            .get(&set.name)
            .is_some_and(|healthy| healthy.contains(key));
        (on + u32::from(healthy), of + 1)
    })
}

/// `None`: there is no such object.
pub(super) fn explain(core: &Core, front: &Front) -> Option<v1::ExplainServiceResponse> {
    let mut answer = v1::ExplainServiceResponse {
        service: Some(self::front(core, front)),
        ..v1::ExplainServiceResponse::default()
    };
    let (cluster, options) = (&core.cluster, core.builder.options());
    cluster.annotations_of(front)?;
    let Some(Standing::Ours(plan)) = core.builder.standing(front) else {
        return Some(answer);
    };
    let (effective, of_ports) = match front {
        Front::Service(key) => {
            let entry = cluster.service(key)?;
            let of_ports = told::values(cluster, entry, plan);
            (values(cluster, options, entry, plan), of_ports)
        }
        Front::Ingress(key) => {
            let entry = cluster.ingress(key)?;
            let of_rules = told::of_ingress(cluster, entry, plan);
            (of_ingress(cluster, options, entry, plan), of_rules)
        }
    };
    let effective = effective.into_iter();
    let effective = effective.map(|(name, value, origin)| (name.to_owned(), value, origin));
    answer.values = effective
        .chain(of_ports)
        .map(|(name, value, origin)| v1::EffectiveValue {
            name,
            value,
            origin: match origin {
                Origin::Annotation(key) => format!("annotation {key}"),
                Origin::Spec(field) => format!("spec.{field}"),
                Origin::Flag(flag) => format!("--{flag}"),
                Origin::Switch(key) => {
                    format!("ConfigMap kube-system/tke-service-controller-config, {key}")
                }
                Origin::Config(name) => format!("TkeServiceConfig {name}"),
                Origin::Kept => "kept from a TkeServiceConfig".to_owned(),
                Origin::Default => "default".to_owned(),
            },
        })
        .collect();
    let observed = core.cluster.observed();
    for outcome in endpoints(cluster, plan) {
        let mut explained = endpoint(observed, plan, &outcome);
        let pod = outcome.pod.as_ref();
        explained.gate = pod.map(|pod| gate(core, pod)).unwrap_or_default();
        answer.endpoints.push(explained);
    }
    Some(answer)
}

/// What there is to say of a Pod's gate.
fn gate(core: &Core, key: &Key) -> String {
    match core.gates.wait(key) {
        Some(Verdict::Pending(why)) => return format!("closed: {why}"),
        Some(Verdict::Closed(said)) => {
            return format!("closed: {}: {}", said.reason, said.message);
        }
        Some(Verdict::Open { said, .. }) => {
            return format!("opens: {}: {}", said.reason, said.message);
        }
        None => {}
    }
    let pod = core.cluster.pod(key);
    let Some(pod) = pod.filter(|pod| pod.gate == Gate::Open) else {
        return String::new();
    };
    let said = pod.gate_said.as_ref();
    let said = said.map(|said| format!(": {}: {}", said.reason, said.message));
    format!("open{}", said.unwrap_or_default())
}

/// `now` and `now_ms` are one moment, by the calendar and by the gates' time.
pub(super) fn gates(
    core: &Core,
    now: prost_types::Timestamp,
    now_ms: u64,
    namespace: &str,
) -> v1::GatesResponse {
    let is_wanted = |key: &Key| namespace.is_empty() || *key.namespace == *namespace;
    let waiting = core.gates.waiting().filter(|wait| is_wanted(wait.pod));
    let waiting = waiting.map(|wait| {
        let (reason, message, opens) = match wait.verdict {
            Verdict::Pending(why) => (String::new(), (*why).to_owned(), false),
            Verdict::Closed(said) => (said.reason.to_string(), said.message.clone(), false),
            Verdict::Open { said, .. } => (said.reason.to_string(), said.message.clone(), true),
        };
        let seconds = now_ms.saturating_sub(wait.since_ms) / 1_000;
        v1::WaitingPod {
            namespace: wait.pod.namespace.to_string(),
            name: wait.pod.name.to_string(),
            reason,
            message,
            opens,
            since: Some(prost_types::Timestamp {
                seconds: now.seconds.saturating_sub_unsigned(seconds),
                nanos: 0,
            }),
        }
    });
    let without = core.builder.pods_without_gate().into_iter();
    let without = without.filter(|key| is_wanted(key));
    v1::GatesResponse {
        waiting: waiting.collect(),
        without_gate: without
            .map(|key| v1::PodWithoutGate {
                namespace: key.namespace.to_string(),
                name: key.name.to_string(),
            })
            .collect(),
    }
}

fn endpoint(observed: &Observed, plan: &Plan, outcome: &Outcome) -> v1::EndpointExplanation {
    let sets = plan
        .sets
        .iter()
        .filter(|set| Some(&set.name) == outcome.set.as_ref());
    let found = sets.flat_map(|set| set.backends.iter().map(move |backend| (set, backend)));
    let mut found = found.filter(|(_, backend)| backend.key.address == outcome.address);
    let bound = found.next();
    let (on, of) = bound.map_or((0, 0), |(set, backend)| {
        healthy_on(observed, set, &backend.key)
    });
    let weight = bound.map(|(_, backend)| backend.weight.get());
    let fact = match (weight, outcome.state) {
        (None, _) if plan.is_skipped => "not bound: mode skip".to_owned(),
        (None, _) => "BeyondQuota: not bound".to_owned(),
        (Some(0), Some(State::Unready)) => "weight 0: not ready".to_owned(),
        (Some(0), Some(State::Serving | State::Finished)) => "weight 0: terminating".to_owned(),
        (Some(0), Some(State::Active)) => "weight 0: lb-rs-weight".to_owned(),
        (Some(0), _) => "weight 0: no Pods that are ready".to_owned(),
        (Some(_), Some(State::Serving)) => "terminating, and nobody else is healthy".to_owned(),
        (Some(_), _) if of == 0 => "bound; no proxy serves".to_owned(),
        (Some(_), _) if on == of => "bound, probes pass".to_owned(),
        (Some(_), _) => {
            "bound, and some proxy's probes do not pass: ask that proxy to explain".to_owned()
        }
    };
    v1::EndpointExplanation {
        address: outcome.address.to_string(),
        behind: outcome.behind.clone(),
        backend_set: outcome
            .set
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        weight: weight.map(u32::from),
        fact,
        healthy_on: on,
        serving_proxies: of,
        gate: String::new(),
    }
}

#[cfg(test)]
mod tests;
