//! Which Pods wait for our readiness gate, and how it is opened for good. Pure.

use k8s_openapi::api::core::v1 as core;
use serde_json::Value;

use crate::cluster::pod::{Gate, Pod};
use crate::gate::{Ask, Reason, Said};

/// A Pod that waits for our gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gated(Ask);

/// Whether `pod` waits for our gate; one that has ended or is going waits for nothing.
pub(super) fn of(pod: &core::Pod) -> Option<Gated> {
    let pod = Pod::read(pod)?;
    let waits = pod.gate == Gate::Waiting && !pod.has_ended && !pod.is_deleting;
    waits.then(|| {
        Gated(Ask {
            said: Said::new(Reason::Uninstalled, "Podline was removed from the cluster"),
            is_there: pod.gate_said.is_some(),
            pod: pod.key,
            uid: pod.uid,
        })
    })
}

impl Gated {
    pub(super) fn namespace(&self) -> &str {
        &self.0.pod.namespace
    }

    pub(super) fn name(&self) -> &str {
        &self.0.pod.name
    }

    /// A strategic merge patch that opens it.
    pub(super) fn opened(&self, now: k8s_openapi::jiff::Timestamp) -> Value {
        crate::gate::condition(&self.0, now)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::cluster::pod::GATE;

    fn pod(change: impl FnOnce(&mut Value)) -> Option<Gated> {
        let mut object = json!({
            "metadata": {"namespace": "shop", "name": "a", "uid": "u"},
            "spec": {"containers": [], "readinessGates": [{"conditionType": GATE}]},
            "status": {"phase": "Running", "conditions": []},
        });
        change(&mut object);
        of(&serde_json::from_value(object).expect("it is a Pod"))
    }

    #[test]
    fn only_living_pods_wait_for_our_gate() {
        let waiting = pod(|_| {}).expect("it waits");
        assert_eq!((waiting.namespace(), waiting.name()), ("shop", "a"));
        let patch = waiting.opened(Timestamp::UNIX_EPOCH);
        assert_eq!(patch["metadata"], json!({"uid": "u"}));
        let condition = &patch["status"]["conditions"][0];
        assert_eq!(condition["status"], "True");
        assert_eq!(condition["reason"], "Uninstalled");
        let said = |status: &str| json!([{"type": GATE, "status": status}]);
        assert!(pod(|pod| pod["status"]["conditions"] = said("False")).is_some());
        assert_eq!(pod(|pod| pod["status"]["conditions"] = said("True")), None);
        assert_eq!(pod(|pod| pod["status"]["phase"] = json!("Failed")), None);
        let going = json!("2026-11-25T00:00:00Z");
        assert_eq!(
            pod(|pod| pod["metadata"]["deletionTimestamp"] = going),
            None
        );
        assert_eq!(pod(|pod| pod["spec"]["readinessGates"] = json!([])), None);
    }
}
