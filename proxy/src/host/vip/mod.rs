//! Virtual addresses: one of several proxies holds each, and answers for it on its link; the others stand by.
//!
//! `machine` decides for one address, from what its owner wants and what is heard on the link; `frames` is what is said
//! there, as bytes; both are pure. `keeper` carries out what they decide, by netlink (`kernel`) and packet sockets (`ear`), and
//! says how that is (`telling`). `handover` is for addresses that come from a proxy that ends.
//!
//! An address is put on the link for a few seconds at a time, again and again: the kernel itself takes it away from a
//! process that was killed or that hangs. It must not know who decides which proxy holds what.

mod ear;
mod frames;
pub(super) mod handover;
pub(crate) mod keeper;
mod kernel;
mod machine;
mod place;
mod telling;

use super::Mac;

/// What another host said about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Heard {
    /// Who.
    from: Mac,
    /// What.
    said: Said,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// It tells everybody that it has the address; with the epoch, if it is a proxy of ours.
    Announced(Option<u64>),
    /// It has the address.
    Has,
    /// It wants to know whether anybody has it, because it is about to take it.
    Probes,
}
