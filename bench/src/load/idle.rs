//! TCP connections that do nothing between a question at their start and one at their end. One that ends meanwhile has
//! failed, as has one that does not answer; none is made again.

use std::io;

use super::dialect::Dialect;
use super::exchange::{Exchange, Life};
use super::frame::Frames;
use super::http_text::Requests;
use super::pace::nanoseconds;
use super::run::{Part, limit, shape};
use super::socket::Transport;
use super::source::Source;
use super::stop::Stop;
use super::{Outcome, Plan};

/// Asked over frames.
pub(crate) fn of_frames(plan: &Plan, connections: u32, stop: &Stop) -> io::Result<Outcome> {
    let frames = Frames {
        wanted: 0,
        sent: 0,
        padding: 0,
        may_be_old: false,
    };
    run(plan, connections, frames, stop)
}

/// Asked over HTTP/1.1.
pub(crate) fn of_http(plan: &Plan, connections: u32, stop: &Stop) -> io::Result<Outcome> {
    let requests = Requests::new(0, false, &plan.target.to_string());
    run(plan, connections, requests, stop)
}

fn run<D: Dialect>(plan: &Plan, connections: u32, dialect: D, stop: &Stop) -> io::Result<Outcome> {
    let part = Part { index: 0, parts: 1 };
    let shape = shape(plan, part, (Transport::Tcp, Life::MustStay, connections));
    let patience = shape.patience;
    let mut exchange = Exchange::new(dialect, shape)?;
    let opening = exchange.open_all(stop)?;
    let last = limit(plan.duration, patience, opening);
    let mut first = Source::Each(exchange.take_connected());
    exchange.drive(&mut first, last, stop)?;
    let end = exchange.now().saturating_add(nanoseconds(plan.duration));
    exchange.drive(&mut Source::Quiet(end), last, stop)?;
    let mut second = Source::Each(exchange.take_connected());
    exchange.drive(&mut second, last, stop)?;
    let (tally, end) = exchange.into_tally();
    Ok(tally.finish(end))
}
