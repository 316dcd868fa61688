//! What podline-return-path leaves on nodes, and whether it has taken it away. Pure.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::cli::failure::Exit;
use crate::cli::kube::trouble::Trouble;
use crate::installation::RETURN_PATH;

/// What the agent reads as `--remove`.
const REMOVE: &str = "PODLINE_REMOVE";

/// Makes the Pods of a DaemonSet take away what they installed, and end: everywhere at once.
pub(super) fn removing(uid: &str) -> Value {
    let container = json!({"name": "return-path", "env": [{"name": REMOVE, "value": "true"}]});
    json!({
        "metadata": {"uid": uid},
        "spec": {
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "100%", "maxSurge": 0}},
            "template": {"spec": {"containers": [container]}},
        },
    })
}

/// How many nodes are left; `None` if all are done.
pub(super) fn left(set: &DaemonSet, pods: &[Pod]) -> Option<usize> {
    let status = set.status.clone().unwrap_or_default();
    let is_seen = status.observed_generation >= set.metadata.generation;
    let wanted = usize::try_from(status.desired_number_scheduled).unwrap_or_default();
    let done = pods
        .iter()
        .filter(|pod| is_removing(pod) && has_ended(pod))
        .count();
    let left = wanted.max(pods.len()).saturating_sub(done);
    (left > 0 || !is_seen).then_some(left)
}

fn is_removing(pod: &Pod) -> bool {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut variables = containers.flat_map(|container| container.env.iter().flatten());
    variables.any(|variable| variable.name == REMOVE)
}

/// Its container came to a good end; it is started again and again, which does no harm.
fn has_ended(pod: &Pod) -> bool {
    let statuses = pod
        .status
        .iter()
        .flat_map(|it| it.container_statuses.iter().flatten());
    let mut states = statuses.flat_map(|it| [&it.state, &it.last_state]);
    states.any(|state| {
        let ended = state.as_ref().and_then(|state| state.terminated.as_ref());
        ended.is_some_and(|ended| ended.exit_code == 0)
    })
}

pub(super) fn kept(left: usize) -> Trouble {
    Trouble::new(
        Exit::NotEmpty,
        format!("{left} of the nodes may keep rules and routes, which do nothing without proxies"),
        [format!(
            "on each of them: podline-proxy return-path --remove, as the DaemonSet {RETURN_PATH} ran it"
        )],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_done_when_every_pod_has_taken_its_own_away() {
        let set: DaemonSet = serde_json::from_value(json!({
            "metadata": {"generation": 2},
            "status": {"observedGeneration": 2, "desiredNumberScheduled": 2, "currentNumberScheduled": 2,
                "numberMisscheduled": 0, "numberReady": 0},
        }))
        .unwrap();
        let pod = |removes: bool, state: Value, last: Value| -> Pod {
            let env = if removes {
                json!([{"name": REMOVE, "value": "true"}])
            } else {
                json!([])
            };
            let status = json!({"name": "return-path", "image": "", "imageID": "", "ready": false,
                "restartCount": 0, "state": state, "lastState": last});
            serde_json::from_value(json!({
                "spec": {"containers": [{"name": "return-path", "env": env}]},
                "status": {"containerStatuses": [status]},
            }))
            .unwrap()
        };
        let ended = |code: i32| json!({"terminated": {"exitCode": code}});
        let done = || pod(true, ended(0), json!({}));
        let check = |pods: &[Pod], expected: Option<usize>| assert_eq!(left(&set, pods), expected);
        check(&[], Some(2));
        check(&[done()], Some(1));
        check(
            &[done(), pod(true, json!({"running": {}}), json!({}))],
            Some(1),
        );
        check(&[done(), pod(true, ended(1), json!({}))], Some(1));
        check(&[done(), pod(false, ended(0), json!({}))], Some(1));
        check(&[done(), pod(true, json!({"waiting": {}}), ended(0))], None);
        check(&[done(), done(), pod(false, json!({}), json!({}))], Some(1));
        let mut late = set.clone();
        late.metadata.generation = Some(3);
        assert_eq!(left(&late, &[done(), done()]), Some(0));
    }
}
