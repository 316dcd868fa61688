//! Podline as its users meet it: the shipped binary as a process, clients and backends around it. One file for each
//! behaviour; a test's name is the sentence it proves. Start at `harness`.
#![expect(clippy::unwrap_used, reason = "helpers of tests may, as tests do")]

mod harness;

mod addresses;
mod bulk;
mod chaos;
mod checks;
mod checks_hostile;
mod checks_ping;
mod checks_udp;
mod churn;
mod cli;
mod closing;
mod command_line;
mod connecting;
mod demo;
mod descriptors;
mod draining;
mod ejecting;
mod explain;
mod firsts;
mod forwarding;
mod hashing;
mod health;
mod host;
mod http2;
mod large;
mod latency;
mod limits;
mod logging;
mod malformed;
mod memory;
mod mtls;
mod namespaces;
mod notify;
mod overrides;
mod ports;
mod proxy_protocol;
mod push;
mod rejecting;
mod reload;
mod requests;
mod return_path;
mod scale;
mod secured;
mod seeds;
mod shutdown;
mod soak;
mod state_file;
mod timeouts;
mod transparent;
mod udp;
mod udp_load;
mod watching;
