//! Frames over TCP connections that stay.

use std::io;

use super::exchange::Life;
use super::frame::Frames;
use super::run::{Part, exchange};
use super::socket::Transport;
use super::stop::Stop;
use super::{Outcome, Plan};

pub(crate) fn run(
    plan: &Plan,
    part: Part,
    connections: u32,
    bytes: u32,
    stop: &Stop,
) -> io::Result<Outcome> {
    let frames = Frames {
        wanted: bytes,
        sent: 0,
        padding: 0,
        may_be_old: false,
    };
    let shape = (Transport::Tcp, Life::Stays, connections);
    exchange(plan, part, frames, shape, stop)
}
