//! `podline --kube gates`: the Pods that wait for their readiness gates, why and since when, and those that are bound
//! without one.

use std::time::SystemTime;

use podline_api::v1;

use super::failure::{Exit, Failure};
use super::human::{Columns, age};
use super::output::Screen;
use super::target::Target;

/// How to use it.
pub(super) const HELP: &str = "\
Examples:
  podline --kube gates           of all namespaces
  podline --kube gates shop      of one
  podline --kube -o json gates";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only Pods of this namespace.
    namespace: Option<String>,
}

pub(super) async fn run(
    args: &Args,
    target: &Target,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    if !target.asks_controller() {
        let problem = "the controller knows of gates: add --kube, or --control ADDR";
        return Err(Failure::Usage(problem.to_owned()));
    }
    let namespace = args.namespace.as_deref().unwrap_or_default();
    let answer = target.controller().await?.gates(namespace).await?;
    screen.answer(&answer, || render(&answer, SystemTime::now()))?;
    Ok(Exit::Done)
}

fn render(answer: &v1::GatesResponse, now: SystemTime) -> String {
    let mut text = waiting(&answer.waiting, now);
    if !answer.without_gate.is_empty() {
        let mut columns = Columns::new("", &["BOUND WITHOUT A GATE"]);
        for pod in &answer.without_gate {
            columns.row([format!("{}/{}", pod.namespace, pod.name)]);
        }
        text.extend(["\n", &columns.text()]);
    }
    text
}

fn waiting(list: &[v1::WaitingPod], now: SystemTime) -> String {
    const HEADER: &[&str] = &["POD", "GATE", ">FOR", "REASON", "WHY"];
    if list.is_empty() {
        return "no Pod waits for its readiness gate\n".to_owned();
    }
    let mut columns = Columns::new("", HEADER);
    for pod in list {
        let gate = if pod.opens { "opens" } else { "closed" };
        columns.row([
            format!("{}/{}", pod.namespace, pod.name),
            gate.to_owned(),
            age(pod.since.as_ref(), now),
            pod.reason.clone(),
            pod.message.clone(),
        ]);
    }
    columns.text()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prost_types::Timestamp;

    use super::*;

    fn pod(name: &str, reason: &str, message: &str, opens: bool) -> v1::WaitingPod {
        v1::WaitingPod {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            opens,
            since: Some(Timestamp {
                seconds: 1_000,
                nanos: 0,
            }),
        }
    }

    #[test]
    fn what_waits_is_told_with_its_reason_and_who_has_no_gate() {
        let answer = v1::GatesResponse {
            waiting: vec![
                pod("a", "Unhealthy", "connection\x1b refused", false),
                pod("b", "", "its containers are not ready", false),
                pod("c", "NodePortMode", "through node ports", true),
            ],
            without_gate: vec![v1::PodWithoutGate {
                namespace: "shop".to_owned(),
                name: "old".to_owned(),
            }],
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_065);
        let text = "\
POD     GATE    FOR  REASON        WHY
shop/a  closed   1m  Unhealthy     connection  refused
shop/b  closed   1m                its containers are not ready
shop/c  opens    1m  NodePortMode  through node ports

BOUND WITHOUT A GATE
shop/old
";
        assert_eq!(render(&answer, now), text);
        let nothing = v1::GatesResponse::default();
        assert_eq!(
            render(&nothing, now),
            "no Pod waits for its readiness gate\n"
        );
    }
}
