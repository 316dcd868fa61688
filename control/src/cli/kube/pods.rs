//! Which Pod is to be asked. Pure.

use k8s_openapi::api::core::v1::Pod;

use crate::installation::{API_PORT_NAME, port};

/// A Pod of the controller, as far as the choice goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Candidate {
    pub(in crate::cli) name: String,
    /// "Pending", "Running", ...
    pub(in crate::cli) phase: String,
    pub(in crate::cli) is_ready: bool,
    pub(in crate::cli) is_terminating: bool,
}

impl Candidate {
    pub(in crate::cli) fn read(pod: &Pod) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        let is_ready = |kind: &str| {
            let mut found = conditions.iter();
            found.any(|condition| condition.type_ == kind && condition.status == "True")
        };
        Self {
            name: pod.metadata.name.clone().unwrap_or_default(),
            phase: status.phase.unwrap_or_default(),
            is_ready: is_ready("Ready"),
            is_terminating: pod.metadata.deletion_timestamp.is_some(),
        }
    }

    /// Whether a port of it can be forwarded.
    pub(in crate::cli) fn runs(&self) -> bool {
        self.phase == "Running" && !self.is_terminating
    }
}

/// Whom to ask, best first: the leader if it is ready, others that are ready, and others that run: they can say why they
/// are not ready.
pub(super) fn order<'a>(pods: &'a [Candidate], leader: Option<&str>) -> Vec<&'a Candidate> {
    let leads = |pod: &Candidate| Some(pod.name.as_str()) == leader;
    let mut running: Vec<_> = pods.iter().filter(|pod| pod.runs()).collect();
    running.sort_by_key(|pod| (!pod.is_ready, !leads(pod), &pod.name));
    running
}

/// Where a proxy's API is, as its Pod says.
pub(in crate::cli) fn api_port(pod: &Pod) -> u16 {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    let named = ports.find(|port| port.name.as_deref() == Some(API_PORT_NAME));
    let number = named.and_then(|port| u16::try_from(port.container_port).ok());
    number.unwrap_or(port::PROXY_API)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, phase: &str, is_ready: bool, is_terminating: bool) -> Candidate {
        Candidate {
            name: name.to_owned(),
            phase: phase.to_owned(),
            is_ready,
            is_terminating,
        }
    }

    #[test]
    fn the_leader_is_asked_if_it_is_ready() {
        let pods = [
            pod("a", "Running", true, false),
            pod("b", "Running", true, false),
            pod("c", "Running", false, false),
            pod("d", "Running", true, true),
            pod("e", "Pending", false, false),
        ];
        let check = |leader, expected: &str| {
            let names = order(&pods, leader)
                .into_iter()
                .map(|pod| pod.name.as_str());
            assert_eq!(names.collect::<Vec<_>>().join(" "), expected, "{leader:?}");
        };
        check(Some("b"), "b a c");
        for other in [None, Some(""), Some("c"), Some("d"), Some("gone")] {
            check(other, "a b c");
        }
    }

    #[test]
    fn pods_are_read() {
        let read = |json| Candidate::read(&serde_json::from_value::<Pod>(json).unwrap());
        let found = read(serde_json::json!({
            "metadata": {"name": "a", "deletionTimestamp": "2026-11-25T00:00:00Z"},
            "status": {"phase": "Running", "conditions": [
                {"type": "Initialized", "status": "True"},
                {"type": "Ready", "status": "False"},
            ]},
        }));
        assert_eq!(found, pod("a", "Running", false, true));
        assert_eq!(read(serde_json::json!({})), pod("", "", false, false));
    }

    #[test]
    fn the_port_is_found_by_its_name() {
        let port = |ports| {
            let spec =
                serde_json::json!({"spec": {"containers": [{"name": "proxy", "ports": ports}]}});
            api_port(&serde_json::from_value::<Pod>(spec).unwrap())
        };
        let api = serde_json::json!([{"containerPort": 1}, {"name": "api", "containerPort": 7}]);
        assert_eq!(port(api), 7);
        assert_eq!(port(serde_json::json!([{"containerPort": 1}])), 9902);
    }
}
