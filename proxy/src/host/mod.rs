//! This host's network, as far as the kernel decides it: packet marks, routing rules, routes, neighbours. All by netlink,
//! without tools of the system.
//!
//! Every call is a few system calls that the kernel answers at once; none waits for the network. A handle belongs to the
//! network namespace in which it was opened.
//!
//! It must not know what its callers want marks and routes for.

pub mod addresses;
pub mod bits;
pub mod links;
pub mod neighbours;
mod netlink;
pub mod nft;
pub(crate) mod proof;
pub(crate) mod prover;
pub mod responder;
pub mod return_path;
pub mod routes;
pub mod routing;
pub mod rules;
mod sysctl;
pub(crate) mod transparency;
pub(crate) mod vip;

use std::io;

pub use bits::Bits;
pub use nft::{Ruleset, Table};
pub use podline_api::Mac;
pub use routing::Routing;

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in the order in which they are told.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// Which one an address is of.
    pub const fn of(address: std::net::IpAddr) -> Self {
        if address.is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }

    /// As people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// The option of `ip` that selects it.
    pub const fn option(self) -> &'static str {
        match self {
            Self::V4 => "-4",
            Self::V6 => "-6",
        }
    }
}

/// The kernel refused a change or a question.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}")]
pub struct HostError {
    /// The step, as "replace the table inet podline".
    pub what: String,
    /// The kernel's reason, with its own words where it gives some.
    #[source]
    pub source: io::Error,
}

/// Another process owns a table of nf_tables.
#[derive(Debug, thiserror::Error)]
#[error(
    "another process holds it (its netlink port, as a rule its process id, is {0}): end that one first"
)]
pub struct HeldByAnother(pub u32);

impl HostError {
    pub(crate) fn new(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |source| Self { what, source }
    }

    /// Whether `CAP_NET_ADMIN` is missing, or somebody else holds what was to be changed.
    pub fn is_denied(&self) -> bool {
        self.source.kind() == io::ErrorKind::PermissionDenied
    }

    /// Whether another process holds what was to be changed.
    pub fn is_held(&self) -> bool {
        let inner = self.source.get_ref();
        inner.is_some_and(<dyn std::error::Error + Send + Sync>::is::<HeldByAnother>)
    }
}
