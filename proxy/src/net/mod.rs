//! Sockets, readiness and splice, as thin as the kernel's own calls.
//!
//! The only module that may hold `unsafe`. It knows nothing of listeners, backends or connections.

pub(crate) mod epoll;
pub(crate) mod io;
pub(crate) mod packet;
pub(crate) mod ping;
pub(crate) mod pipe;
pub(crate) mod socket;
pub(crate) mod udp;
pub(crate) mod wake;
