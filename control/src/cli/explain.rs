//! `podline explain`: why backends get traffic, or why not; `service` asks the controller instead.

mod service;

use std::fmt::Write;
use std::time::SystemTime;

use podline_api::{Name, v1};

use super::backend::{self, Wanted};
use super::failure::{Exit, Failure};
use super::human::{Columns, age, clean, count, reason};
use super::output::Screen;
use super::selection::{self, SetOrFront};
use super::target::Target;

/// How to use it.
pub(super) const HELP: &str = "\
Examples:
  podline explain set/web                 all backends, those without traffic first
  podline explain set/web 10.0.0.2:80     one, by its address
  podline explain set/web pod-2 -o json   one, by its id
  podline --kube explain service/shop/web a Service of a cluster, with who set what
  podline --kube explain ingress/shop/web the same of an Ingress

REASON is the one fact that decides: probes-pass, not-checked, fail-open, kept-in and
weight-overridden give traffic; all others take it away.";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The backend set, or with --kube or --control the Service or Ingress.
    #[arg(value_name = "set/NAME|service/NAMESPACE/NAME|ingress/NAMESPACE/NAME", value_parser = selection::set_or_front)]
    what: SetOrFront,
    /// The backend: ip:port, `[v6]:port` or its id; all of them if left out.
    #[arg(value_name = "BACKEND", value_parser = backend::parse)]
    backend: Option<Wanted>,
}

pub(super) async fn run(
    args: &Args,
    target: &Target,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let set = match &args.what {
        SetOrFront::Set(_) if target.asks_controller() => {
            let problem =
                "a proxy explains sets: leave --control out, or add --proxy-pod to --kube";
            return Err(Failure::Usage(problem.to_owned()));
        }
        SetOrFront::Set(set) => set,
        SetOrFront::Front(front) => {
            return service::run(front, args.backend.as_ref(), target, screen).await;
        }
    };
    let answer = target.connect().await?.explain(request(set, args)).await?;
    let answer = chosen(answer, set, args)?;
    screen.answer(&answer, || render(&answer, args, SystemTime::now()))?;
    Ok(Exit::Done)
}

/// The API knows no bare id: then it is asked for all.
fn request(set: &Name, args: &Args) -> v1::ExplainRequest {
    let backend = match &args.backend {
        Some(Wanted::Address(key)) => Some(key.into()),
        Some(Wanted::Id(_)) | None => None,
    };
    v1::ExplainRequest {
        set: set.to_string(),
        backend,
    }
}

/// What was asked for, those without traffic first.
fn chosen(
    mut answer: v1::ExplainResponse,
    set: &Name,
    args: &Args,
) -> Result<v1::ExplainResponse, Failure> {
    if let Some(wanted) = &args.backend {
        answer
            .backends
            .retain(|found| found.backend.as_ref().is_some_and(|b| wanted.is(b)));
        if answer.backends.is_empty() {
            return Err(backend::missing(set, wanted));
        }
    }
    answer.backends.sort_by_key(|found| found.gets_traffic);
    Ok(answer)
}

const HEADER: &[&str] = &["BACKEND", "ID", "TRAFFIC", "REASON", "SINCE", "WHY"];

fn render(answer: &v1::ExplainResponse, args: &Args, now: SystemTime) -> String {
    let mut columns = Columns::new("", HEADER);
    for found in &answer.backends {
        let backend = found.backend.clone().unwrap_or_default();
        columns.row([
            backend.address,
            backend.id.unwrap_or_default(),
            if found.gets_traffic { "yes" } else { "no" }.to_owned(),
            reason(found.reason()),
            age(found.since.as_ref(), now),
            found.message.clone(),
        ]);
    }
    let mut text = columns.text();
    if args.backend.is_none() {
        let getting = answer.backends.iter().filter(|b| b.gets_traffic).count();
        let all = count(answer.backends.len(), "backend");
        let verb = if answer.backends.len() == 1 {
            "gets"
        } else {
            "get"
        };
        let _ = writeln!(text, "{getting} of {all} {verb} traffic");
        text.push_str(&reached_by(&answer.reached_by));
    }
    text
}

/// The listeners and routes that lead to the set; the first of many.
fn reached_by(all: &[String]) -> String {
    const SHOWN: usize = 10;
    let mut text = String::new();
    for way in all.iter().take(SHOWN) {
        let _ = writeln!(text, "reached by listener/{}", clean(way));
    }
    let rest = all.len().saturating_sub(SHOWN);
    if rest > 0 {
        let _ = writeln!(text, "reached by {rest} more");
    }
    text
}

#[cfg(test)]
mod tests {
    use v1::explanation::Reason;

    use super::*;
    use crate::cli::sample;

    fn found(id: Option<&str>, address: &str, reason: Reason, message: &str) -> v1::Explanation {
        let ok = matches!(reason, Reason::ProbesPass | Reason::WeightOverridden);
        v1::Explanation {
            backend: Some(v1::Backend {
                node: None,
                id: id.map(str::to_owned),
                address: address.to_owned(),
                weight: Some(10),
            }),
            gets_traffic: ok,
            reason: reason.into(),
            message: message.to_owned(),
            since: Some(sample::ago(90)),
            active_connections: 0,
        }
    }

    fn answer() -> v1::ExplainResponse {
        let refused = "probes fail: connection refused";
        let backends = vec![
            found(None, "10.0.0.1:80", Reason::ProbesPass, "probes pass"),
            found(Some("pod-2"), "10.0.0.2:80", Reason::ProbesFail, refused),
            found(
                None,
                "10.0.0.3:80",
                Reason::WeightOverridden,
                "weight 5 by ops",
            ),
            found(
                Some("pod-4"),
                "10.0.0.4:80",
                Reason::DrainedByOverride,
                "drained\nby ops",
            ),
        ];
        v1::ExplainResponse {
            version: 3,
            backends,
            reached_by: Vec::new(),
        }
    }

    fn web() -> Name {
        Name::try_from("web").unwrap()
    }

    fn args(backend: Option<&str>) -> Args {
        Args {
            what: SetOrFront::Set(web()),
            backend: backend.map(|text| backend::parse(text).unwrap()),
        }
    }

    fn shown(answer: v1::ExplainResponse, args: &Args) -> String {
        render(&chosen(answer, &web(), args).unwrap(), args, sample::now())
    }

    #[test]
    fn those_without_traffic_come_first() {
        let text = "\
BACKEND      ID     TRAFFIC  REASON               SINCE  WHY
10.0.0.2:80  pod-2  no       probes-fail          1m     probes fail: connection refused
10.0.0.4:80  pod-4  no       drained-by-override  1m     drained by ops
10.0.0.1:80         yes      probes-pass          1m     probes pass
10.0.0.3:80         yes      weight-overridden    1m     weight 5 by ops
2 of 4 backends get traffic
";
        assert_eq!(shown(answer(), &args(None)), text);
        let ways = (0..12).map(|n| format!("site by www.example.com/{n}"));
        let routed = v1::ExplainResponse {
            reached_by: std::iter::once("web".to_owned()).chain(ways).collect(),
            ..answer()
        };
        let text = shown(routed, &args(None));
        let ways: Vec<_> = text.lines().skip(6).collect();
        assert_eq!(ways.len(), 11);
        assert_eq!(
            ways[..2],
            [
                "reached by listener/web",
                "reached by listener/site by www.example.com/0"
            ]
        );
        assert_eq!(ways[10], "reached by 3 more");
        let none = v1::ExplainResponse::default();
        let text = "0 of 0 backends get traffic\n";
        assert_eq!(shown(none, &args(None)), text);
    }

    #[test]
    fn one_backend_is_found_by_address_or_id() {
        let text = "\
BACKEND      ID     TRAFFIC  REASON       SINCE  WHY
10.0.0.2:80  pod-2  no       probes-fail  1m     probes fail: connection refused
";
        for wanted in ["10.0.0.2:80", "pod-2"] {
            assert_eq!(shown(answer(), &args(Some(wanted))), text);
        }
        let error = chosen(answer(), &web(), &args(Some("pod-1"))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the proxy has no backend pod-1 in set/web"
        );
        assert_eq!(error.exit(), Exit::DifferentOrMissing);
    }

    #[test]
    fn only_an_address_is_asked_for() {
        let asked = |backend| request(&web(), &args(backend)).backend.map(|b| b.address);
        assert_eq!(asked(None), None);
        assert_eq!(asked(Some("pod-2")), None);
        assert_eq!(asked(Some("10.0.0.2:80")), Some("10.0.0.2:80".to_owned()));
    }
}
