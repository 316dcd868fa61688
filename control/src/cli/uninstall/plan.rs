//! What is to be done, and in which order. Pure.

use std::fmt;

use podline_api::Owner;

use super::gate::Gated;
use super::objects::{Fate, NAMESPACE, Thing};
use super::survey::Survey;
use super::trace::Trace;
use crate::cli::human::count;
use crate::installation::RETURN_PATH;

/// One thing to do. Doing it again does no harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Let a Deployment of the controller have no Pods.
    Stop(Thing),
    /// Wait until the controller's Pods are gone and nobody holds the Lease.
    AwaitStop,
    /// Open the readiness gates that Pods wait for.
    OpenGates(Vec<Gated>),
    /// Take back what a Service or an Ingress has of ours.
    Clear(Trace),
    /// Take back what a proxy has of ours.
    Release { pod: String, owner: Owner },
    /// Let a DaemonSet take back what it left on its nodes.
    ClearNodes(Thing),
    /// Delete our Events: namespace and name.
    Forget(Vec<(String, String)>),
    /// Delete an object of ours.
    Delete(Thing),
}

impl Step {
    /// Without it nothing else may be done.
    pub(super) const fn is_essential(&self) -> bool {
        matches!(self, Self::Stop(_) | Self::AwaitStop)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stop(thing) => write!(f, "stop {thing}"),
            Self::AwaitStop => f.write_str("wait until no controller runs"),
            Self::OpenGates(gates) => write!(f, "open {}", count(gates.len(), "readiness gate")),
            Self::Clear(trace) => {
                let Trace {
                    sort,
                    namespace,
                    name,
                    ..
                } = trace;
                write!(f, "clear {sort} {namespace}/{name}")
            }
            Self::Release { pod, owner } => write!(f, "take {owner} out of proxy {pod}"),
            Self::ClearNodes(_) => f.write_str("take rules and routes off the nodes"),
            Self::Forget(events) => write!(f, "delete {}", count(events.len(), "Event")),
            Self::Delete(thing) => write!(f, "delete {thing}"),
        }
    }
}

/// What comes first: nobody acts on what is done later.
pub(super) fn stop(survey: &Survey) -> Vec<Step> {
    let mut steps = of_fate(survey, Fate::First);
    steps.extend(survey.controllers.iter().cloned().map(Step::Stop));
    if !survey.controllers.is_empty() || survey.has_controller_pods || survey.has_lease {
        steps.push(Step::AwaitStop);
    }
    steps
}

/// What comes then. Nobody makes gates any more, or opens them. Proxies are told before what is needed to speak to them
/// goes.
pub(super) fn clean(survey: &Survey) -> Vec<Step> {
    let mut steps = Vec::new();
    if !survey.gates.is_empty() {
        steps.push(Step::OpenGates(survey.gates.clone()));
    }
    steps.extend(survey.traces.iter().cloned().map(Step::Clear));
    for owner in &survey.owners {
        let release = |pod: &String| Step::Release {
            pod: pod.clone(),
            owner: owner.clone(),
        };
        steps.extend(survey.proxies.iter().map(release));
    }
    // While their Pods are still there, and no proxy needs them any more.
    let is_of_nodes = |thing: &&Thing| thing.kind.noun == "DaemonSet" && thing.name == RETURN_PATH;
    let of_nodes = survey.things.iter().filter(is_of_nodes);
    steps.extend(of_nodes.cloned().map(Step::ClearNodes));
    if !survey.events.is_empty() {
        steps.push(Step::Forget(survey.events.clone()));
    }
    // A controller that was stopped late may have made one again.
    steps.extend(of_fate(survey, Fate::First));
    steps.extend(of_fate(survey, Fate::Last));
    if let Some(uid) = &survey.own_namespace
        && survey.foreign.is_empty()
    {
        steps.push(Step::Delete(Thing {
            kind: &NAMESPACE,
            namespace: None,
            name: survey.namespace.clone(),
            uid: uid.clone(),
        }));
    }
    steps
}

fn of_fate(survey: &Survey, fate: Fate) -> Vec<Step> {
    let things = survey.things.iter().filter(|thing| thing.kind.fate == fate);
    things.cloned().map(Step::Delete).collect()
}

/// What is left, and why as far as the survey tells.
pub(super) fn left(survey: &Survey) -> Vec<(String, String)> {
    let mut left: Vec<_> = survey
        .traces
        .iter()
        .map(|trace| {
            let what = format!("{} {}/{}", trace.sort, trace.namespace, trace.name);
            (what, trace.what())
        })
        .collect();
    if !survey.gates.is_empty() {
        let what = count(survey.gates.len(), "readiness gate");
        left.push((what, "Pods wait for them".to_owned()));
    }
    let things = survey.things.iter();
    left.extend(things.map(|thing| (thing.to_string(), String::new())));
    left.extend(survey.kept.iter().cloned());
    if !survey.events.is_empty() {
        left.push((count(survey.events.len(), "Event"), String::new()));
    }
    if survey.own_namespace.is_some() {
        let why = match survey.foreign.as_slice() {
            [] => String::new(),
            foreign => format!("it holds what is not Podline's: {}", foreign.join(", ")),
        };
        left.push((format!("Namespace {}", survey.namespace), why));
    }
    let unseen = survey.unseen.iter();
    left.extend(unseen.map(|(what, why)| (what.clone(), why.clone())));
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::uninstall::objects::KINDS;
    use crate::cli::uninstall::trace::{Part, Sort};

    fn thing(kind: &str, name: &str) -> Thing {
        let kind = KINDS.iter().find(|known| known.noun == kind).unwrap();
        Thing {
            kind,
            namespace: None,
            name: name.to_owned(),
            uid: "u".to_owned(),
        }
    }

    /// A survey finds things in the order of the kinds.
    fn survey() -> Survey {
        Survey {
            namespace: "lb".to_owned(),
            own_namespace: Some("u".to_owned()),
            controllers: vec![thing("Deployment", "podline-control")],
            has_controller_pods: true,
            proxies: vec!["p1".to_owned(), "p2".to_owned()],
            owners: vec![Owner::try_from("k8s/default").unwrap()],
            traces: vec![Trace {
                sort: Sort::Service,
                namespace: "a".to_owned(),
                name: "web".to_owned(),
                uid: "u".to_owned(),
                parts: [Part::Applied].into(),
            }],
            events: vec![("a".to_owned(), "e".to_owned())],
            things: vec![
                thing("MutatingWebhookConfiguration", "w"),
                thing("Deployment", "podline-control"),
                thing("DaemonSet", "podline-responder"),
                thing("DaemonSet", RETURN_PATH),
                thing("Pod", "x"),
                thing("Secret", "s"),
                thing("ClusterRole", "r"),
            ],
            ..Survey::default()
        }
    }

    fn told(steps: &[Step]) -> Vec<String> {
        steps.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nobody_acts_any_more_before_anything_is_taken_back() {
        let stop = stop(&survey());
        let expected = [
            "delete MutatingWebhookConfiguration w",
            "stop Deployment podline-control",
            "wait until no controller runs",
        ];
        assert_eq!(told(&stop), expected);
        let essential: Vec<_> = stop.iter().map(Step::is_essential).collect();
        assert_eq!(essential, [false, true, true]);
    }

    #[test]
    fn services_are_cleared_and_proxies_told_before_what_that_needs_goes() {
        let expected = [
            "clear Service a/web",
            "take k8s/default out of proxy p1",
            "take k8s/default out of proxy p2",
            "take rules and routes off the nodes",
            "delete 1 Event",
            "delete MutatingWebhookConfiguration w",
            "delete Deployment podline-control",
            "delete DaemonSet podline-responder",
            "delete DaemonSet podline-return-path",
            "delete Secret s",
            "delete ClusterRole r",
            "delete Namespace lb",
        ];
        assert_eq!(told(&clean(&survey())), expected);
    }

    #[test]
    fn a_namespace_with_something_of_others_stays() {
        let mut shared = survey();
        shared.foreign = vec!["Pod x".to_owned()];
        let steps = told(&clean(&shared));
        assert!(!steps.contains(&"delete Namespace lb".to_owned()));
        let left = left(&shared);
        let namespace = left
            .iter()
            .find(|(what, _)| what == "Namespace lb")
            .unwrap();
        assert_eq!(namespace.1, "it holds what is not Podline's: Pod x");
        shared.own_namespace = None;
        assert_eq!(
            told(&clean(&shared)).last().unwrap(),
            "delete ClusterRole r"
        );
    }

    #[test]
    fn a_lease_that_somebody_may_hold_is_waited_for_without_any_pod() {
        let by_hand = Survey {
            has_lease: true,
            ..Survey::default()
        };
        assert_eq!(told(&stop(&by_hand)), ["wait until no controller runs"]);
        assert_eq!(told(&stop(&Survey::default())), [""; 0]);
        assert!(Survey::default().is_empty() && !survey().is_empty());
    }

    #[test]
    fn kinds_go_in_an_order_that_works() {
        let at = |kind: &str| KINDS.iter().position(|known| known.noun == kind).unwrap();
        assert!(at("Deployment") < at("Secret"), "Pods mount it");
        assert!(at("RoleBinding") < at("Role") && at("Role") < at("ServiceAccount"));
        assert!(at("ValidatingAdmissionPolicyBinding") < at("ValidatingAdmissionPolicy"));
        let first = KINDS.iter().take_while(|kind| kind.fate == Fate::First);
        let all = KINDS.iter().filter(|kind| kind.fate == Fate::First);
        assert_eq!(first.count(), all.count());
    }
}
