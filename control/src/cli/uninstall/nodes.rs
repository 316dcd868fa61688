//! What podline-return-path leaves on nodes, and whether it has taken it away. Pure.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::cli::failure::Exit;
use crate::cli::kube::trouble::Trouble;
use crate::installation::RETURN_PATH;

/// Tells the agent to take away what it installed, by the marks and tables that its other flags name.
const REMOVE: &str = "--remove";

/// Makes the Pods of a DaemonSet take away what they installed, and end: everywhere at once.
pub(super) fn removing(set: &DaemonSet) -> Value {
    let pod = set
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.as_ref());
    let container = pod.and_then(|pod| pod.containers.first());
    let name = container.map_or("return-path", |container| &*container.name);
    let args = container.and_then(|container| container.args.clone());
    let mut args = args.unwrap_or_default();
    args.retain(|arg| arg != REMOVE);
    args.push(REMOVE.to_owned());
    let container = json!({"name": name, "args": args});
    json!({
        "metadata": {"uid": set.metadata.uid},
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
    let mut args = containers.flat_map(|container| container.args.iter().flatten());
    args.any(|arg| arg == REMOVE)
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
            let args = if removes {
                json!(["--proxy=x", "--remove"])
            } else {
                json!(["--proxy=x"])
            };
            let status = json!({"name": "return-path", "image": "", "imageID": "", "ready": false,
                "restartCount": 0, "state": state, "lastState": last});
            serde_json::from_value(json!({
                "spec": {"containers": [{"name": "return-path", "args": args}]},
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

    #[test]
    fn the_agent_is_told_beside_what_it_was_told_before() {
        let set: DaemonSet = serde_json::from_value(json!({
            "metadata": {"uid": "u"},
            "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "agent", "args": ["--mark=0x20"]}]}}},
        }))
        .unwrap();
        let patch = removing(&set);
        assert_eq!(patch["metadata"]["uid"], "u");
        let container = &patch["spec"]["template"]["spec"]["containers"][0];
        let expected = json!({"name": "agent", "args": ["--mark=0x20", "--remove"]});
        assert_eq!(*container, expected);
    }
}
