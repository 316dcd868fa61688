//! Datagrams from many sockets, each answered by one of the same size.

use std::io;

use super::exchange::Life;
use super::frame::Frames;
use super::run::{Part, exchange};
use super::socket::Transport;
use super::stop::Stop;
use super::{Outcome, Plan};
use crate::wire::HEAD;

/// The most that fits a datagram.
const MAX_DATAGRAM: u32 = 65_507;

/// How much of a datagram of so many bytes is behind its head.
pub(crate) fn padding(bytes: u32) -> u32 {
    let head = u32::try_from(HEAD).unwrap_or(MAX_DATAGRAM);
    bytes.min(MAX_DATAGRAM).saturating_sub(head)
}

pub(crate) fn run(
    plan: &Plan,
    part: Part,
    flows: u32,
    bytes: u32,
    stop: &Stop,
) -> io::Result<Outcome> {
    let padding = padding(bytes);
    let frames = Frames {
        wanted: padding,
        sent: padding,
        padding,
        may_be_old: true,
    };
    let shape = (Transport::Udp, Life::Stays, flows);
    exchange(plan, part, frames, shape, stop)
}
