//! Clients: what they send, at which pace, and what came of it. Every answer is checked: its bytes, and which Pod it is from.
//!
//! Loads run on threads of this process in the client's namespace. An open load keeps to its schedule whatever the answers
//! do, and counts latency from the time at which a request was to be sent; a closed one sends when it was answered.

mod bulk;
mod connections;
mod dialect;
mod exchange;
mod frame;
mod grpc;
pub(crate) mod grpc_text;
mod http1;
mod http2;
pub(crate) mod http_text;
mod idle;
mod line;
mod multiplex;
mod pace;
mod poller;
mod rr;
mod run;
mod socket;
mod source;
mod stop;
mod tally;
mod trust;
mod udp_bulk;
mod udp_flows;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use hdrhistogram::Histogram;

pub use pace::connections_needed;
pub use run::{Handle, run, run_here, spawn, spawn_here};
pub(crate) use socket::raise_descriptors;
pub use stop::Stop;
pub use trust::Trust;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Downloads (or uploads) over TCP that never end; the unit is a gigabyte.
    Bulk {
        /// Connections.
        streams: u32,
        /// Whether the client sends.
        upload: bool,
    },
    /// Frames over TCP connections that stay.
    RequestResponse {
        /// Connections; each has one request under way.
        connections: u32,
        /// Bytes of an answer.
        bytes: u32,
    },
    /// A TCP connection for each request.
    Connections {
        /// At most so many at once.
        concurrency: u32,
    },
    /// Datagrams from many sockets, each answered.
    UdpFlows {
        /// Sockets; each has one request under way.
        flows: u32,
        /// Bytes of a datagram, at least [`crate::wire::HEAD`].
        bytes: u32,
    },
    /// Datagrams of one socket, as fast as it takes them, not answered but counted by the Pod.
    UdpBulk {
        /// Bytes of a datagram.
        bytes: u32,
    },
    /// HTTP/1.1.
    Http1 {
        /// Connections; each has one request under way.
        connections: u32,
        /// Bytes of an answer's body; 0 asks for the Pod's name.
        bytes: u32,
        /// Whether each request has a connection of its own.
        close: bool,
    },
    /// HTTP/2, by prior knowledge or, over TLS, by ALPN.
    Http2 {
        /// Connections.
        connections: u32,
        /// Requests under way on each.
        streams: u32,
        /// Bytes of an answer's body.
        bytes: u32,
    },
    /// gRPC, unary.
    Grpc {
        /// Connections.
        connections: u32,
        /// Calls under way on each.
        streams: u32,
    },
    /// TCP connections that do nothing, each asked once at its start and once at the end.
    Idle {
        /// Connections.
        connections: u32,
    },
    /// The same, asked over HTTP/1.1.
    IdleHttp {
        /// Connections.
        connections: u32,
    },
}

/// When it is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// So many a second, whatever comes back.
    Open(f64),
    /// As soon as the one before was answered.
    Closed,
}

/// One load.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is sent.
    pub work: Work,
    /// When.
    pub pace: Pace,
    /// Where to.
    pub target: SocketAddr,
    /// Connections of frames and of HTTP/1.1 go in turn to so many ports, the target's and those that follow; 1 for one.
    pub ports: u16,
    /// Whom clients trust that speak TLS, of the kinds over HTTP; `None` in the clear.
    pub tls: Option<Trust>,
    /// How long, after the connections are made.
    pub duration: Duration,
    /// An answer that takes longer has failed.
    pub patience: Duration,
}

/// Why something failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// No connection was made.
    Connect,
    /// A connection was reset.
    Reset,
    /// A connection ended before its answer did.
    Ended,
    /// It took longer than the plan's patience.
    Late,
    /// An answer was not what was asked for: status, bytes, sequence.
    Wrong,
    /// The client's own machine refused: ports, descriptors, memory.
    Client,
}

impl Failure {
    /// As results have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Ended => "ended",
            Self::Late => "late",
            Self::Wrong => "wrong",
            Self::Client => "client",
        }
    }
}

/// What came of a load.
#[derive(Clone)]
pub struct Outcome {
    /// Requests (datagrams, connections) that were begun.
    pub begun: u64,
    /// Those that were answered, and well.
    pub answered: u64,
    /// Payload bytes of answers (of uploads and UDP bulk: those that were sent).
    pub bytes: u64,
    /// Those that failed.
    pub failures: BTreeMap<Failure, u64>,
    /// Full handshakes of TLS, by the cipher suite that was agreed on.
    pub suites: BTreeMap<&'static str, u64>,
    /// Answers by the index of their Pod.
    pub pods: BTreeMap<u32, u64>,
    /// Latency in nanoseconds. An open load's counts from the intended time.
    pub latency: Histogram<u64>,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// The same over time, in equal pieces of [`PIECE`].
    pub pieces: Vec<Piece>,
}

/// How long a piece of [`Outcome::pieces`] is.
pub const PIECE: Duration = Duration::from_millis(100);

/// A piece of time of a load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Answers that came in it.
    pub answered: u64,
    /// Failures that came in it.
    pub failed: u64,
    /// The longest latency of an answer that came in it, in nanoseconds.
    pub slowest: u64,
}
