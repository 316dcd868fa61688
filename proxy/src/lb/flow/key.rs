//! What tells flows apart, and how that is hashed; and why a datagram may go nowhere.

use crate::lb::hash;
use crate::lb::limits::Shed;
use std::hash::{BuildHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

/// Why a datagram was not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// No backend could take it.
    NoBackend,
    /// It would have begun a flow beyond a limit.
    Limit(Shed),
    /// It would have begun a flow at a listener that is being removed.
    Closing,
    /// It would have begun a flow for which no socket could be had.
    NoSocket,
    /// It would have begun one flow more than a worker has room for.
    TooManyFlows,
    /// The kernel did not take it.
    NotSent,
}

impl Dropped {
    /// All, as the API and the metric's label call them.
    pub const NAMES: [&str; 6] = [
        "NO_BACKEND",
        "LIMIT",
        "CLOSING",
        "NO_SOCKET",
        "TOO_MANY_FLOWS",
        "NOT_SENT",
    ];

    /// Its place among them.
    pub const fn place(self) -> usize {
        match self {
            Self::NoBackend => 0,
            Self::Limit(_) => 1,
            Self::Closing => 2,
            Self::NoSocket => 3,
            Self::TooManyFlows => 4,
            Self::NotSent => 5,
        }
    }
}

/// Which of the host's addresses a datagram was sent to, and over which interface it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Local {
    /// The address.
    pub address: IpAddr,
    /// The interface's number, where the address means nothing without; else 0.
    pub interface: u32,
}

/// What tells flows apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowKey {
    /// The worker's number of the listener's socket.
    pub place: u32,
    /// Where the datagrams come from.
    pub client: SocketAddr,
    /// Where they went, if that socket listens at every address.
    pub local: Option<Local>,
}

impl Hash for FlowKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(hash::address(self.client));
        let local = self.local.map_or(0, |local| hash::ip(local.address));
        state.write_u64(local ^ u64::from(self.place));
    }
}

/// Hashes that a client cannot foresee, as far as the seed is not known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seeded(pub u64);

/// One hash on its way.
#[derive(Debug)]
pub struct SeededHasher(u64);

impl BuildHasher for Seeded {
    type Hasher = SeededHasher;

    fn build_hasher(&self) -> SeededHasher {
        SeededHasher(self.0)
    }
}

impl Hasher for SeededHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = hash::mix(self.0 ^ word).wrapping_add(self.0);
    }
}
