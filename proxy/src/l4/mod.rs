//! Forwarding: how bytes of TCP connections move and how ends and resets cross from one side to the other; and, in [`udp`],
//! datagrams.
//!
//! Start with [`connection`]: one forwarded connection. It owns two [`socket`]s and two [`direction`]s and asks
//! [`ends`] (pure) what an end or a reset means. Nothing here knows how a backend is picked or who listens.

pub(crate) mod bell;
pub(crate) mod connection;
pub(crate) mod direction;
pub(crate) mod ends;
pub(crate) mod sealed;
pub(crate) mod socket;
pub(crate) mod stream;
pub(crate) mod udp;
