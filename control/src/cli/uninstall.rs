//! `podline uninstall`: removes Podline from a cluster and leaves nothing behind.
//!
//! `survey` looks at what is there, `plan` makes steps of it, purely, and `work` takes them one by one. Each step can be
//! taken again, so a run that was broken off, or was not allowed everything, is completed by another one.

mod gate;
mod lease;
mod nodes;
mod objects;
mod owner;
mod plan;
mod survey;
#[cfg(test)]
mod tests;
mod trace;
mod work;

use std::io::IsTerminal;

use serde::Serialize;

use super::delete::confirmed;
use super::failure::{Exit, Failure};
use super::human::count;
use super::kube::trouble::Trouble;
use super::kube::{Cluster, Kube};
use super::output::Screen;
use plan::Step;
use survey::Survey;
use trace::Sort;
use work::Work;

/// How to use it.
pub(super) const HELP: &str = "\
Examples:
  podline uninstall --dry-run             what would be done
  podline uninstall --context east        asks first
  podline uninstall -n lb --yes

The controller is stopped first; then readiness gates that Pods wait for are opened; then every Service and Ingress that it has to do with loses its address, finalizer and conditions;
then what podline-return-path left on the nodes, the proxies, and everything labelled app.kubernetes.io/part-of=podline go. The Services themselves stay. Whatever
could not be done is told, and done by the next run.";

/// Whether objects of a kind are removed.
#[cfg(test)]
pub(super) fn removes(kind: &str) -> bool {
    let mut known = objects::KINDS.iter().chain([&objects::NAMESPACE]);
    known.any(|known| known.noun == kind && known.fate != objects::Fate::Watched)
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(args: &Args, kube: &Kube, screen: &mut Screen) -> Result<Exit, Failure> {
    let ask = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let asked = ask.then_some(confirmed as fn(&str) -> bool);
    uninstall(args, &kube.cluster().await?, asked, screen).await
}

/// A step, as it is told.
#[derive(Serialize)]
struct Told<'a> {
    step: String,
    outcome: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
}

fn tell(step: &str, outcome: &str, detail: &str, screen: &mut Screen) -> Result<(), Failure> {
    let told = Told {
        step: step.to_owned(),
        outcome,
        detail,
    };
    let text = || match detail {
        "" => format!("{step}: {outcome}\n"),
        detail => format!("{step}: {outcome}: {}\n", super::human::clean(detail)),
    };
    screen.event(&told, text)
}

/// `ask` puts a question to somebody, if anybody is there.
async fn uninstall(
    args: &Args,
    cluster: &Cluster,
    ask: Option<fn(&str) -> bool>,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let survey = Survey::take(cluster).await?;
    if let Some(other) = survey.elsewhere.first() {
        return Err(another(other, &cluster.namespace).into());
    }
    if survey.is_empty() {
        tell(
            "uninstall",
            "done",
            "nothing of Podline is in this cluster",
            screen,
        )?;
        return Ok(Exit::Done);
    }
    if args.dry_run {
        for step in plan::stop(&survey).iter().chain(&plan::clean(&survey)) {
            tell(&step.to_string(), "would be done", "", screen)?;
        }
        return Ok(Exit::Done);
    }
    if !args.yes {
        let Some(ask) = ask else {
            let problem = "there is nobody to ask: use --yes, or see it with --dry-run";
            return Err(Failure::Usage(problem.to_owned()));
        };
        if !ask(&question(&survey, cluster)) {
            return Err(Failure::Usage("nothing was done".to_owned()));
        }
    }
    let mut work = Work::new(cluster, survey.owners.clone());
    stop(&mut work, &survey, screen).await?;
    // The controller wrote on until it ended.
    let survey = Survey::take(cluster).await?;
    clean(&mut work, &survey, screen).await?;
    let left = work.left(&survey, screen).await?;
    for (what, why) in &left {
        tell(what, "left", why, screen)?;
    }
    for proxies in &survey.outside {
        let owner = survey.owners.first().map(ToString::to_string);
        let owner = owner.unwrap_or_default();
        let detail = format!("not in this cluster: podline --proxy ADDR delete --owner {owner}");
        tell(&format!("proxies {proxies}"), "left", &detail, screen)?;
    }
    if left.is_empty() {
        tell("uninstall", "done", "", screen)?;
        return Ok(Exit::Done);
    }
    Ok(Exit::NotEmpty)
}

/// Nothing of what comes later may happen while a controller runs: it would undo it.
async fn stop(work: &mut Work<'_>, survey: &Survey, screen: &mut Screen) -> Result<(), Failure> {
    for step in plan::stop(survey) {
        let done = work.take(&step).await;
        if step.is_essential() {
            tell(&step.to_string(), "done", &done?, screen)?;
        } else {
            told(work, &step, done, screen)?;
        }
    }
    Ok(())
}

async fn clean(work: &mut Work<'_>, survey: &Survey, screen: &mut Screen) -> Result<(), Failure> {
    for step in plan::clean(survey) {
        let done = work.take(&step).await;
        told(work, &step, done, screen)?;
    }
    Ok(())
}

fn told(
    work: &mut Work<'_>,
    step: &Step,
    done: Result<String, Failure>,
    screen: &mut Screen,
) -> Result<(), Failure> {
    match done {
        Ok(detail) => tell(&step.to_string(), "done", &detail, screen),
        Err(failure) => {
            let problem = failure.with_cause();
            tell(&step.to_string(), "failed", &problem, screen)?;
            work.failed(step, problem);
            Ok(())
        }
    }
}

fn question(survey: &Survey, cluster: &Cluster) -> String {
    let of = |sort| survey.traces.iter().filter(|it| it.sort == sort).count();
    let mut services = count(of(Sort::Service), "Service");
    match of(Sort::Ingress) {
        0 => {}
        1 => services.push_str(", 1 Ingress"),
        many => services = format!("{services}, {many} Ingresses"),
    }
    let (server, namespace) = (&cluster.server, &cluster.namespace);
    format!("remove Podline from {server}, namespace {namespace}, and from {services}?")
}

fn another(other: &str, namespace: &str) -> Trouble {
    let (place, name) = other.split_once('/').unwrap_or_default();
    Trouble::new(
        Exit::Refused,
        format!("Deployment {other} is Podline, too, and has part in what would be removed"),
        [
            format!("nothing was done; if it is that one that is to go: --namespace {place}"),
            format!("if only {namespace} is to stay: kubectl -n {place} delete deployment {name}"),
        ],
    )
}
