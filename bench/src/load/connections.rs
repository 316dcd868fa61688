//! A TCP connection for each request: it is made, asked one frame, answered, and ended by the Pod.
//!
//! The latency is that from the first packet to the answer. The Pod ends first, so that no port of the client stays taken:
//! the client's 32,000 ports are for what is open at once, not for a minute's connections.

use std::io;

use super::exchange::Life;
use super::frame::Frames;
use super::run::{Part, exchange};
use super::socket::Transport;
use super::stop::Stop;
use super::{Outcome, Plan};
use crate::wire::THEN_CLOSE;

pub(crate) fn run(plan: &Plan, part: Part, concurrency: u32, stop: &Stop) -> io::Result<Outcome> {
    let frames = Frames {
        wanted: 0,
        sent: THEN_CLOSE,
        padding: 0,
        may_be_old: false,
    };
    let shape = (Transport::Tcp, Life::One, concurrency);
    exchange(plan, part, frames, shape, stop)
}
