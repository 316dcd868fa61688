//! One address that may be picked, and who it is.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::invalid::Checks;
use crate::{Invalid, Name, address, v1};

/// Who is behind an address (a Pod's UID): 1 to 253 printable ASCII characters without spaces. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendId(Arc<str>);

impl BackendId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for BackendId {
    type Error = Invalid;

    fn try_from(text: &str) -> Result<Self, Invalid> {
        match text.len() {
            0 => Err(Invalid::one("", "is empty: leave it out instead")),
            254.. => Err(Invalid::one("", "is longer than 253 characters")),
            _ if !text.bytes().all(|b| b.is_ascii_graphic()) => {
                Err(Invalid::one("", "must be printable ASCII without spaces"))
            }
            _ => Ok(Self(text.into())),
        }
    }
}

impl fmt::Display for BackendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Identity of a backend within its set. Addresses are reused within seconds, so a new id at an old address is another
/// backend: it inherits nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendKey {
    /// Absent: the address is the identity.
    pub id: Option<BackendId>,
    /// Where to connect; never port 0, unspecified or multicast.
    pub address: SocketAddr,
}

impl fmt::Display for BackendKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.id {
            Some(id) => write!(f, "{} ({id})", self.address),
            None => write!(f, "{}", self.address),
        }
    }
}

impl TryFrom<v1::Backend> for BackendKey {
    type Error = Invalid;

    /// Reads id and address; a weight is ignored.
    fn try_from(wire: v1::Backend) -> Result<Self, Invalid> {
        let mut checks = Checks::default();
        let id = checks.take(
            "id",
            wire.id.as_deref().map(BackendId::try_from).transpose(),
        );
        let address = checks.take("address", address::backend_address(&wire.address));
        checks.finish(id.zip(address).map(|(id, address)| Self { id, address }))
    }
}

impl From<&BackendKey> for v1::Backend {
    fn from(key: &BackendKey) -> Self {
        Self {
            id: key.id.as_ref().map(ToString::to_string),
            address: key.address.to_string(),
            weight: None,
            node: None,
        }
    }
}

/// A backend's share of the traffic among its set: 0 to 100; 0 gets no new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u8);

impl Weight {
    /// What a backend weighs that says nothing: 10.
    pub const DEFAULT: Self = Self(10);
    /// No new connections: 0.
    pub const NONE: Self = Self(0);
    /// The largest weight: 100.
    pub const MAX: Self = Self(100);

    /// 0 to 100.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl TryFrom<u32> for Weight {
    type Error = Invalid;

    fn try_from(value: u32) -> Result<Self, Invalid> {
        match u8::try_from(value) {
            Ok(weight) if weight <= Self::MAX.0 => Ok(Self(weight)),
            _ => Err(Invalid::one(
                "",
                format!("{value} is out of range: use 0 to {}", Self::MAX.0),
            )),
        }
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One address that may be picked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Who it is and where.
    pub key: BackendKey,
    /// Its share.
    pub weight: Weight,
    /// The node it runs on; absent: known by its address, or not at all. It is no part of the identity.
    pub node: Option<Name>,
}

impl TryFrom<v1::Backend> for Backend {
    type Error = Invalid;

    fn try_from(wire: v1::Backend) -> Result<Self, Invalid> {
        let mut checks = Checks::default();
        let weight = checks.take(
            "weight",
            wire.weight.map_or(Ok(Weight::DEFAULT), Weight::try_from),
        );
        let node = wire.node.clone().map(Name::try_from).transpose();
        let node = checks.take("node", node);
        let key = checks.take("", BackendKey::try_from(wire));
        let value = || {
            Some(Self {
                key: key?,
                weight: weight?,
                node: node?,
            })
        };
        let value = value();
        checks.finish(value)
    }
}

impl From<&Backend> for v1::Backend {
    fn from(backend: &Backend) -> Self {
        Self {
            weight: Some(backend.weight.get().into()),
            node: backend.node.as_ref().map(ToString::to_string),
            ..(&backend.key).into()
        }
    }
}
