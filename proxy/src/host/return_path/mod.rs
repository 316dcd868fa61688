//! The node agent: replies of Pods to connections that came from a proxy go back through that proxy, so that the Pods may
//! see the clients' addresses.
//!
//! ```text
//!  names --> addresses --(observe)--> View --(ways)--> InboundWay --(slots)--> numbers --(wish)--> Wish
//!                                                                                                   |
//!            nf_tables, routing rules, routes  <--(agent: only what differs, once a second)---------'
//! ```
//!
//! A connection from a proxy's Ethernet address gets that proxy's number as its mark; packets that go back carry it; a
//! routing rule sends them to the proxy. It must not know what a proxy, a backend or Kubernetes is.

mod agent;
mod names;
mod observe;
pub mod settings;
pub mod slots;
#[cfg(test)]
mod tests;
pub mod ways;
pub mod wish;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use agent::Agent;
use names::Names;
use settings::{Numbers, ReturnPathSettings};

use super::HostError;

/// Between two looks at what others may have changed.
const TICK: Duration = Duration::from_secs(1);
/// How long a dry run waits for neighbours to answer.
const DRY_RUN: Duration = Duration::from_millis(500);

/// Why the agent ended.
#[derive(Debug, thiserror::Error)]
pub enum ReturnPathError {
    /// The settings leave no room.
    #[error("{0}")]
    Settings(String),
    /// It may not change the network.
    #[error(
        "the network of this host cannot be changed: CAP_NET_ADMIN is needed, in the host's network namespace"
    )]
    Denied(#[source] HostError),
    /// The kernel refused.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// Runs as the settings say, until `shutdown`; what is installed then stays for the next agent. What there is to say on
/// standard output, in a dry run or a removal, is returned.
pub async fn run(
    settings: ReturnPathSettings,
    shutdown: impl Future,
) -> Result<String, ReturnPathError> {
    let numbers = Numbers::of(&settings).map_err(ReturnPathError::Settings)?;
    if settings.remove {
        let told = agent::remove(numbers, settings.dry_run).map_err(denied)?;
        return Ok(lines(&told));
    }
    let mut names = Names::new(&settings.proxies);
    let agent = Agent::start(numbers)?;
    names.look_up().await;
    if settings.dry_run {
        return dry_run(agent, &names.addresses()).await;
    }
    let (tell, addresses) = watch::channel(names.addresses());
    tokio::select! {
        ended = follow(agent, addresses, settings.interval) => ended.map(|()| String::new()),
        () = names.follow(settings.interval, tell) => Ok(String::new()),
        _ = shutdown => {
            tracing::info!("stopped; what is installed stays for the next agent, or until --remove");
            Ok(String::new())
        }
    }
}

async fn follow(
    mut agent: Agent,
    addresses: watch::Receiver<Vec<IpAddr>>,
    interval: Duration,
) -> Result<(), ReturnPathError> {
    let start = Instant::now();
    let mut asked: Option<Duration> = None;
    let mut has_worked = false;
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = start.elapsed();
        let is_due = asked.is_none_or(|last| now.saturating_sub(last) >= interval);
        if is_due {
            asked = Some(now);
        }
        let named = addresses.borrow().clone();
        let wish = agent.look(&named, is_due, now);
        match wish.and_then(|wish| agent.apply(&wish)) {
            Ok(()) => has_worked = true,
            // An earlier agent that is about to end still holds the table; else the right is missing for good.
            Err(error) if !has_worked && error.is_denied() && !error.is_held() => {
                return Err(denied(error));
            }
            Err(error) => agent.failed(&error),
        }
    }
}

async fn dry_run(mut agent: Agent, addresses: &[IpAddr]) -> Result<String, ReturnPathError> {
    agent.look(addresses, true, Duration::ZERO)?;
    tokio::time::sleep(DRY_RUN).await;
    let wish = agent.look(addresses, false, Duration::ZERO)?;
    let routes = wish.routes.iter().map(ToString::to_string);
    let rules = wish.rules.iter().map(ToString::to_string);
    let rest: Vec<_> = routes.chain(rules).collect();
    Ok(format!("{}{}", wish.ruleset, lines(&rest)))
}

fn lines(lines: &[String]) -> String {
    let ended = lines.iter().map(|line| format!("{line}\n"));
    ended.collect::<Vec<_>>().concat()
}

fn denied(error: HostError) -> ReturnPathError {
    if error.is_denied() && !error.is_held() {
        return ReturnPathError::Denied(error);
    }
    ReturnPathError::Host(error)
}
