//! `podline undrain`: ends what `drain` or `weight` began.

use podline_api::OverrideAction;

use super::backend::Place;
use super::failure::{Exit, Failure};
use super::output::Screen;
use super::overriding::{self, Terms};
use super::target::Target;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: Place,
}

pub(super) async fn run(
    args: &Args,
    target: &Target,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let (action, terms) = (OverrideAction::Undrain, Terms::default());
    overriding::run(&args.place, action, &terms, target, screen).await
}
