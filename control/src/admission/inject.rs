//! What a new Pod gets: our readiness gate, and time before SIGTERM where its Service asks for it. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::review::{Object, Request, Spec};
use crate::build::{self, Options};
use crate::cluster::pod::GATE;
use crate::cluster::{Cluster, Key, Switches};

/// What the Services of a namespace want of a Pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// It waits for our gate before it is ready.
    pub(super) gate: bool,
    /// Its containers sleep so long before they are told to end.
    pub(super) sleep: Option<Duration>,
}

impl Wanted {
    /// Nobody wants anything.
    pub(super) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// The Pod that is about to be made, if it is one that gets anything at all.
pub(super) fn candidate(request: &Request) -> Option<&Object> {
    let object = request.object.as_ref()?;
    let is_new = request.operation == "CREATE" && request.is_about_pods("");
    // Neither has an address of its own, or is ours to hold back.
    let is_fit = !object.is_mirror() && !object.is_host_network();
    (is_new && is_fit && object.spec.is_some()).then_some(object)
}

/// What the Services of a namespace, and the Ingresses that name them, want of a Pod with these labels, as far as
/// `cluster` knows them. With several the longest sleep counts.
pub(super) fn wanted(
    cluster: &Cluster,
    namespace: &str,
    labels: &BTreeMap<String, String>,
    (switches, options): (&Switches, &Options),
) -> Wanted {
    let mut wanted = Wanted::default();
    let is_direct = |ingress: &Key| {
        let entry = cluster.ingress(ingress);
        entry.is_some_and(|entry| build::is_direct_ingress(entry, switches, options))
    };
    for entry in cluster.services_in(namespace) {
        if !entry.service.selects(labels) {
            continue;
        }
        wanted.gate |= cluster.ingresses_naming(&entry.service.key).any(is_direct);
        if !build::is_ours(&entry.service, options) {
            continue;
        }
        wanted.gate |= build::is_direct(entry, switches, options);
        wanted.sleep = wanted.sleep.max(entry.annotations.settings.pre_stop_sleep);
    }
    wanted
}

/// A step of a JSON patch. All of ours add something.
#[derive(Serialize)]
struct Step<T> {
    op: &'static str,
    path: String,
    value: T,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Value {
    Gate(Gate),
    Gates([Gate; 1]),
    Lifecycle {
        #[serde(rename = "preStop")]
        pre_stop: PreStop,
    },
    PreStop(PreStop),
}

#[derive(Serialize)]
struct Gate {
    #[serde(rename = "conditionType")]
    condition_type: &'static str,
}

#[derive(Clone, Copy, Serialize)]
struct PreStop {
    sleep: Sleep,
}

#[derive(Clone, Copy, Serialize)]
struct Sleep {
    seconds: u64,
}

/// The JSON patch that gives a Pod what is wanted of it; nothing if it has all that.
pub(super) fn patch(pod: &Object, wanted: Wanted) -> Option<Vec<u8>> {
    let spec = pod.spec.as_ref()?;
    let mut steps = Vec::new();
    if wanted.gate && !pod.has_gate() {
        let gate = Gate {
            condition_type: GATE,
        };
        steps.push(if spec.has_gates() {
            add("/spec/readinessGates/-".to_owned(), Value::Gate(gate))
        } else {
            add("/spec/readinessGates".to_owned(), Value::Gates([gate]))
        });
    }
    if let Some(seconds) = wanted.sleep.and_then(|sleep| seconds(spec, sleep)) {
        let pre_stop = PreStop {
            sleep: Sleep { seconds },
        };
        for (index, container) in spec.containers().iter().enumerate() {
            let path = format!("/spec/containers/{index}/lifecycle");
            match &container.lifecycle {
                None => steps.push(add(path, Value::Lifecycle { pre_stop })),
                Some(lifecycle) if lifecycle.pre_stop.is_none() => {
                    steps.push(add(format!("{path}/preStop"), Value::PreStop(pre_stop)));
                }
                Some(_) => {}
            }
        }
    }
    if steps.is_empty() {
        return None;
    }
    Some(serde_json::to_vec(&steps).expect("strings and numbers can be written"))
}

/// Whole seconds of a sleep that leaves the Pod one second to end in; none if there is no time.
fn seconds(spec: &Spec, sleep: Duration) -> Option<u64> {
    let most = spec.grace_seconds().saturating_sub(1);
    Some(sleep.as_secs().min(most)).filter(|seconds| *seconds > 0)
}

fn add(path: String, value: Value) -> Step<Value> {
    Step {
        op: "add",
        path,
        value,
    }
}

#[cfg(test)]
mod tests;
