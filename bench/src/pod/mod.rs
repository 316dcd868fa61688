//! The server that runs as a Pod of a benchmark, in a process of its own, on all of [`crate::wire::port`].
//!
//! ```text
//! serve     the process: its runtime, signals and end        process   how the benchmark starts and asks it
//! listen    its sockets, and how long they are open          control   questions on standard input, answers on output
//! http      sniffs: http1, or http2 with gRPC                frames    TCP                   datagrams  UDP
//! state     what it counts                                   hops      the time to live of packets that reach it
//! ```
//!
//! It shares the machine with what is measured: one thread serves, and nothing is allocated for a frame or a datagram.

mod control;
mod datagrams;
mod frames;
mod hops;
mod http;
mod http1;
mod http2;
mod listen;
mod process;
mod serve;
mod state;
mod target;

use std::net::IpAddr;
use std::time::Duration;

pub use process::Process;
pub use serve::serve;
pub use state::Stats;

use crate::wire::port;

/// How a Pod serves.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Options {
    /// Which Pod it is; its answers carry it
    #[arg(long)]
    pub index: u32,
    /// Where it listens
    #[arg(long)]
    pub address: IpAddr,
    /// Port of HTTP/1.1, HTTP/2 and gRPC
    #[arg(long, default_value_t = port::HTTP, value_parser = clap::value_parser!(u16).range(1..))]
    pub http_port: u16,
    /// Port of frames, TCP and UDP
    #[arg(long, default_value_t = port::FRAMES, value_parser = clap::value_parser!(u16).range(1..))]
    pub frames_port: u16,
    /// Milliseconds after its start before it listens
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub accept_after: u64,
    /// Milliseconds after SIGTERM until it closes its listening sockets; what is open is finished
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub stop_accepting_after: u64,
    /// Milliseconds after SIGTERM until it ends, whatever is open
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    pub end_after: u64,
}

impl Options {
    /// A Pod that listens at once on the usual ports.
    pub fn new(index: u32, address: IpAddr) -> Self {
        Self {
            index,
            address,
            http_port: port::HTTP,
            frames_port: port::FRAMES,
            accept_after: 0,
            stop_accepting_after: 0,
            end_after: 2000,
        }
    }

    /// As they are written on a command line.
    pub fn arguments(&self) -> Vec<String> {
        let pairs = [
            ("--index", self.index.to_string()),
            ("--address", self.address.to_string()),
            ("--http-port", self.http_port.to_string()),
            ("--frames-port", self.frames_port.to_string()),
            ("--accept-after", self.accept_after.to_string()),
            (
                "--stop-accepting-after",
                self.stop_accepting_after.to_string(),
            ),
            ("--end-after", self.end_after.to_string()),
        ];
        let words = pairs.into_iter();
        words
            .flat_map(|(name, value)| [name.to_owned(), value])
            .collect()
    }
}

fn milliseconds(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn options_survive_a_command_line() {
        let options = Options {
            accept_after: 5,
            end_after: 7,
            ..Options::new(3, "fd00::1".parse().unwrap())
        };
        let line = ["pod".to_owned()].into_iter().chain(options.arguments());
        assert_eq!(Line::parse_from(line).options, options);
        let short = ["pod", "--index", "3", "--address", "fd00::1"];
        let usual = Options::new(3, "fd00::1".parse().unwrap());
        assert_eq!(Line::parse_from(short).options, usual);
    }
}
