//! Podline's benchmark: paths from a client to Pods side by side, in network namespaces of one machine.
//!
//! ```text
//! stage     builds the network, starts Pods        subject/   what forwards: one process or set of rules at a time
//! load/     clients: what they send, at which pace account/   what it cost: CPU, memory, connection tracking, hops
//! scenario/ which loads over which subjects, in interleaved rounds
//! result    what was seen, as JSON                 stats, compare, table, report/   what it means, for people
//! pod/      the servers; wire is what clients and Pods say to each other
//! ```
//!
//! The shipped binaries are run as processes; nothing here knows how they work. `stats`, `compare`, `wire`, `table` and
//! `report` are functions of values.

pub mod account;
pub mod certificate;
pub mod cli;
pub mod compare;
mod handshakes;
mod headline;
pub mod load;
pub mod pod;
pub mod report;
pub mod result;
pub mod scenario;
pub mod stage;
pub mod stats;
pub mod subject;
#[cfg(test)]
mod synthetic;
pub mod table;
pub mod wire;
mod words;
