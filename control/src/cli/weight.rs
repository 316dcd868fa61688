//! `podline weight`: gives a backend another share of the traffic, whatever its owner says.

use podline_api::{OverrideAction, Weight};

use super::backend::Place;
use super::failure::{Exit, Failure};
use super::output::Screen;
use super::overriding::{self, Terms};
use super::target::Target;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: Place,
    /// 0 to 100; 0 gets no new connections, 10 is what backends have by default.
    #[arg(value_name = "WEIGHT", value_parser = parse)]
    weight: Weight,
    #[command(flatten)]
    terms: Terms,
}

fn parse(text: &str) -> Result<Weight, String> {
    let number = text
        .parse::<u32>()
        .map_err(|_| "is no number: use 0 to 100")?;
    Weight::try_from(number).map_err(|invalid| invalid.to_string())
}

pub(super) async fn run(
    args: &Args,
    target: &Target,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let action = OverrideAction::Weight(args.weight);
    overriding::run(&args.place, action, &args.terms, target, screen).await
}
