//! The pure core of load balancing: what there is to pick from, how one is picked, and what probes make of it.
//!
//! Start with [`table::RouteTable`], the state that one publish makes visible; it holds a [`set::Set`] for each backend
//! set, whose members stand in a [`trie::Trie`]; [`pick`] chooses among them, [`flow`] for UDP.
//! [`health`] turns probe outcomes into transitions, [`ejection`] says how many unhealthy backends may be out, [`drain`] when a removed one is done with,
//! [`network`] which source address a backend sees.
//!
//! No I/O, no clock, no randomness: time and seeds are arguments. Atomics are counters and memories that workers share.
//! One exception: the sketches of [`limits`] seed their hashes by chance, so that no client can aim at another's places.

pub mod affinity;
pub mod backend;
pub mod drain;
pub mod ejection;
pub mod flow;
pub mod hash;
pub mod headers;
pub mod health;
pub mod http;
pub mod limits;
pub mod network;
pub mod pick;
pub mod rendezvous;
pub mod requests;
pub mod routes;
pub mod set;
pub mod table;
pub mod trie;

/// Names a backend set for as long as the process lives; never used again after its removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetId(pub u32);

/// Names a listener for as long as the process lives; never used again after its removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub u32);

#[cfg(test)]
mod tests;
