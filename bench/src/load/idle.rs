//! TCP connections that do nothing between a question at their start and one at their end. One that ends meanwhile has
//! failed, as has one that does not answer; none is made again.

use std::io;

use super::exchange::{Exchange, Life};
use super::frame::Frames;
use super::pace::nanoseconds;
use super::run::{Part, limit, shape};
use super::socket::Transport;
use super::source::Source;
use super::stop::Stop;
use super::{Outcome, Plan};

pub(crate) fn run(plan: &Plan, connections: u32, stop: &Stop) -> io::Result<Outcome> {
    let frames = Frames {
        wanted: 0,
        sent: 0,
        padding: 0,
        may_be_old: false,
    };
    let part = Part { index: 0, parts: 1 };
    let shape = shape(plan, part, (Transport::Tcp, Life::MustStay, connections));
    let mut exchange = Exchange::new(frames, shape)?;
    let opening = exchange.open_all(stop)?;
    let end = nanoseconds(plan.duration);
    let last = limit(plan.duration, shape.patience, opening);
    let mut first = Source::Each(exchange.take_connected());
    exchange.drive(&mut first, last, stop)?;
    exchange.drive(&mut Source::Quiet(end), last, stop)?;
    let mut second = Source::Each(exchange.take_connected());
    exchange.drive(&mut second, last, stop)?;
    let (tally, end) = exchange.into_tally();
    Ok(tally.finish(end))
}
