//! `podline --kube timeline KIND/NAMESPACE/NAME`: when Pods came to which point on their way into traffic, and out of it.

use std::fmt::Write;

use podline_api::v1;
use prost_types::Timestamp;
use v1::timeline_request::Kind;

use super::failure::{Exit, Failure};
use super::human::{Columns, clean, count};
use super::output::Screen;
use super::target::Target;

/// How to use it.
pub(super) const HELP: &str = "\
Examples:
  podline --kube timeline deployment/shop/web   all its Pods, and those that went within the last hour
  podline --kube timeline pod/shop/web-5d8f-x   one
  podline --kube timeline service/shop/web -o json

A Pod comes: its endpoint is SEEN; it is BOUND on every proxy that serves; its first probe ends on the last of them
(PROBED); it is HEALTHY on all; its GATE is open, if it has one; its first connection is made (CONNECTED). It goes: its
deletion begins (TERMINATING); no proxy can send it anything new (CLOSED, before its deletion begins if it was drained
first); its last connection is gone (EMPTY); its object is gone (GONE). A dash: not yet, or not seen.";

const USE: &str = "use pod/NAMESPACE/NAME, or deployment, statefulset, daemonset, replicaset, service or ingress for pod";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Whose Pods: pod/NAMESPACE/NAME, or deployment, statefulset, daemonset, replicaset, service or
    /// ingress for pod.
    #[arg(value_name = "KIND/NAMESPACE/NAME", value_parser = parse)]
    what: Pods,
}

/// Whose Pods.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pods {
    kind: Kind,
    namespace: String,
    name: String,
}

fn parse(text: &str) -> Result<Pods, String> {
    let mut parts = text.split('/');
    let kind = parts.next().unwrap_or_default();
    let kind = match kind {
        "pod" | "pods" | "po" => Kind::Pod,
        "deployment" | "deployments" | "deploy" => Kind::Deployment,
        "statefulset" | "statefulsets" | "sts" => Kind::StatefulSet,
        "daemonset" | "daemonsets" | "ds" => Kind::DaemonSet,
        "replicaset" | "replicasets" | "rs" => Kind::ReplicaSet,
        "service" | "services" | "svc" => Kind::Service,
        "ingress" | "ingresses" | "ing" => Kind::Ingress,
        _ => return Err(format!("unknown kind {kind:?}: {USE}")),
    };
    match (parts.next(), parts.next(), parts.next()) {
        (Some(namespace), Some(name), None) if !namespace.is_empty() && !name.is_empty() => {
            Ok(Pods {
                kind,
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            })
        }
        _ => Err(USE.to_owned()),
    }
}

pub(super) async fn run(
    args: &Args,
    target: &Target,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    if !target.asks_controller() {
        let problem = "the controller keeps timelines: add --kube, or --control ADDR";
        return Err(Failure::Usage(problem.to_owned()));
    }
    let request = v1::TimelineRequest {
        kind: args.what.kind.into(),
        namespace: args.what.namespace.clone(),
        name: args.what.name.clone(),
    };
    let answer = target.controller().await?.timeline(request).await?;
    screen.answer(&answer, || render(&answer))?;
    Ok(Exit::Done)
}

type Pod = v1::PodTimeline;
/// The point in a column.
type Column = fn(&Pod) -> Option<Timestamp>;

/// A table: its columns are told from one point on.
struct Part {
    header: &'static [&'static str],
    began: Column,
    columns: &'static [Column],
}

const COMING: Part = Part {
    header: &[
        "POD",
        "SEEN",
        ">BOUND",
        ">PROBED",
        ">HEALTHY",
        ">GATE",
        ">CONNECTED",
    ],
    began: |pod| pod.endpoint,
    columns: &[
        |pod| pod.bound,
        |pod| pod.probed,
        |pod| pod.healthy,
        |pod| pod.gate_opened,
        |pod| pod.connected,
    ],
};

const GOING: Part = Part {
    header: &["POD", "TERMINATING", ">CLOSED", ">EMPTY", ">GONE"],
    began: |pod| pod.terminating,
    columns: &[|pod| pod.closed, |pod| pod.empty, |pod| pod.gone],
};

fn render(answer: &v1::TimelineResponse) -> String {
    let mut text = COMING.table(answer.pods.iter());
    let going: Vec<&Pod> = answer
        .pods
        .iter()
        .filter(|pod| pod.terminating.is_some() || pod.gone.is_some())
        .collect();
    if !going.is_empty() {
        text.extend(["\n", &GOING.table(going.iter().copied())]);
    }
    let all = count(answer.pods.len(), "Pod");
    let since = answer.since.map_or_else(String::new, |since| {
        format!(
            "; what came before {} was not seen",
            Timestamp { nanos: 0, ..since }
        )
    });
    let _ = writeln!(text, "\n{all}{}", clean(&since));
    text
}

impl Part {
    /// One line a Pod, and what half of them and all of them took at most.
    fn table<'a>(&self, pods: impl Iterator<Item = &'a Pod>) -> String {
        let mut columns = Columns::new("", self.header);
        let mut took: Vec<Vec<i64>> = vec![Vec::new(); self.columns.len()];
        let mut lines = 0;
        for pod in pods {
            let began = (self.began)(pod);
            let mut row = vec![pod.name.clone(), began.as_ref().map_or_else(dash, clock)];
            for (at, took) in self.columns.iter().zip(&mut took) {
                let ms = began
                    .zip(at(pod))
                    .map(|(from, to)| millis(&to) - millis(&from));
                row.push(match (ms, at(pod)) {
                    (Some(ms), _) => span(ms),
                    // Without a beginning there is only the time itself.
                    (None, Some(at)) => clock(&at),
                    (None, None) => dash(),
                });
                took.extend(ms);
            }
            columns.row(row);
            lines += 1;
        }
        if lines > 1 {
            for (name, of) in [("p50", 50), ("max", 100)] {
                let mut row = vec![name.to_owned(), String::new()];
                row.extend(
                    took.iter_mut()
                        .map(|took| quantile(took, of).map_or_else(dash, span)),
                );
                columns.row(row);
            }
        }
        columns.text()
    }
}

fn dash() -> String {
    "-".to_owned()
}

/// The smallest that so many percent do not exceed.
fn quantile(values: &mut [i64], percent: usize) -> Option<i64> {
    values.sort_unstable();
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied()
}

fn millis(time: &Timestamp) -> i64 {
    time.seconds
        .saturating_mul(1_000)
        .saturating_add(i64::from(time.nanos / 1_000_000))
}

/// `14:13:20.007`, UTC.
fn clock(time: &Timestamp) -> String {
    let of_day = millis(time).rem_euclid(86_400_000);
    let (seconds, ms) = (of_day / 1_000, of_day % 1_000);
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}.{ms:03}")
}

/// `9 ms`, `-12 ms`, `12.3 s`, `17 min`.
fn span(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs();
    match ms {
        0..10_000 => format!("{sign}{ms} ms"),
        10_000..600_000 => format!("{sign}{}.{} s", ms / 1_000, ms / 100 % 10),
        _ => format!("{sign}{} min", ms / 60_000),
    }
}

#[cfg(test)]
mod tests;
