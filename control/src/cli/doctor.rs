//! `podline doctor`: whether Pods see their clients' addresses, by which ways, and what is in the way where they do not.
//!
//! `gather` asks, `examine` draws the conclusions, purely; `plugin` and `policies` know what clusters are made of.

mod examine;
mod gather;
mod plugin;
mod policies;
#[cfg(test)]
mod tests;

use std::time::SystemTime;

use super::failure::{Exit, Failure};
use super::output::Screen;
use super::target::Target;

/// How to use it.
pub(super) const HELP: &str = "\
Examples:
  podline doctor                  what the proxy on this host has proven
  podline --kube doctor           all proxies of a cluster, its nodes, network plugin and policies
  podline --kube -o json doctor

Exit code 1: something that is asked for does not work.";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only look: do not let the proxies prove their ways anew.
    #[arg(long)]
    no_proof: bool,
}

pub(super) async fn run(
    args: &Args,
    target: &Target,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let may_prove = !args.no_proof;
    let facts = if target.kube.is_meant && target.asks_controller() {
        gather::cluster(&target.kube.cluster().await?, may_prove).await?
    } else if target.asks_controller() {
        let problem = "doctor speaks to proxies: use --proxy, or --kube for all of a cluster";
        return Err(Failure::Usage(problem.to_owned()));
    } else {
        let name = target.to_string();
        gather::alone(name, &target.connect().await?, may_prove).await?
    };
    let report = examine::examine(&facts);
    screen.answer(&report, || examine::render(&report, SystemTime::now()))?;
    Ok(if report.is_broken() {
        Exit::DifferentOrMissing
    } else {
        Exit::Done
    })
}
