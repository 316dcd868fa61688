//! HTTP/1.1, over connections that stay or over one for each request.

use std::io;

use super::exchange::Life;
use super::http_text::Requests;
use super::run::{Part, exchange};
use super::socket::Transport;
use super::stop::Stop;
use super::{Outcome, Plan};

pub(crate) fn run(
    plan: &Plan,
    part: Part,
    (connections, bytes, close): (u32, u32, bool),
    stop: &Stop,
) -> io::Result<Outcome> {
    let requests = Requests::new(bytes, close, &plan.target.to_string());
    let life = if close { Life::One } else { Life::Stays };
    let shape = (Transport::Tcp, life, connections);
    exchange(plan, part, requests, shape, stop)
}
