//! `podline drain`: takes a backend out of rotation, whatever its owner says, and waits for its last connection if
//! that is wanted.

mod wait;

use std::time::Duration;

use podline_api::OverrideAction;

use super::backend::Place;
use super::failure::{Exit, Failure};
use super::output::Screen;
use super::overriding::{self, Terms};
use super::target::Target;

/// How to use it.
pub(super) const HELP: &str = "\
Examples:
  podline drain set/web 10.0.0.2:80                     until podline undrain
  podline drain set/web pod-2 --for 2h --note 'new disk'
  podline drain set/web pod-2 --drain-timeout 5m --wait && reboot-it

It gets no new connection; those it has live on to the drain timeout, then they are cut.
With --wait, exit code 0 says that its last connection is gone, 5 that some are left.";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    terms: Terms,
    /// How long its connections live on, such as 5m; as the set says if left out.
    #[arg(long, value_name = "TIME", value_parser = podline_api::duration::parse)]
    drain_timeout: Option<Duration>,
    /// Wait until its last connection is gone, for the drain timeout and 10s if TIMEOUT is left out.
    #[arg(long, value_name = "TIMEOUT", num_args = 0..=1, value_parser = wait::limit, default_missing_value = "")]
    wait: Option<wait::Limit>,
}

pub(super) async fn run(
    args: &Args,
    target: &Target,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let timeout = args.drain_timeout;
    let action = OverrideAction::Drain { timeout };
    let Some(limit) = args.wait else {
        return overriding::run(&args.place, action, &args.terms, target, screen).await;
    };
    let client = target.connect().await?;
    let key = args.place.key(&client).await?;
    let request = overriding::request(&args.place, key, action, &args.terms);
    wait::run(&client, &request, limit, screen).await
}
