//! What the proxies say of themselves, as one value that anybody may read: made by `push`, read by `build` (health of
//! what a terminating backend waits for), `reconcile` (status) and the gates. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use podline_api::{BackendKey, Name, Neighbour};

use crate::cluster::Family;

/// Backends by set. Persistent: a change of one backend copies O(log n), and a copy costs nothing.
pub type Healthy = imbl::HashMap<Name, imbl::OrdSet<BackendKey>>;

/// Backends that a proxy gives nothing new because it was told so beside their owner.
pub type Drained = imbl::OrdMap<(Name, BackendKey), Whose>;

/// Who told a proxy that a backend is to get nothing new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// A replica of ours, for a deletion.
    Ours,
    /// Somebody else.
    Foreign,
}
/// Backends whose probes fail, by set, and what the last probe said.
pub type Unhealthy = imbl::HashMap<Name, imbl::OrdMap<BackendKey, Arc<str>>>;

/// The ways from a proxy to the nodes, by node and family; one that is not there was not proven.
pub type Paths = BTreeMap<(Name, Family), Path>;

/// Whether a connection that imitates a client comes back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path {
    /// It does, over TCP and UDP.
    pub is_proven: bool,
    /// It was tried, and does not.
    pub has_failed: bool,
    /// What was found, in the proxy's words.
    pub reason: String,
}

/// How a proxy does with the virtual addresses that it was told.
pub type VirtualAddresses = BTreeMap<IpAddr, AddressView>;

/// How a proxy does with one virtual address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressView {
    /// Whether it holds it.
    pub state: AddressState,
    /// Why it does not, in the proxy's words.
    pub reason: String,
    /// The link that it is on.
    pub interface: String,
    /// The Ethernet address of who else has it.
    pub other_mac: String,
    /// As it was told.
    pub epoch: u64,
    /// The highest that another proxy announced it with.
    pub heard_epoch: u64,
    /// The proxy itself, to others on that link.
    pub own: Option<Neighbour>,
    /// To whom it sends on what belongs to connections that did not begin at it.
    pub predecessor: Option<Neighbour>,
}

/// Whether a proxy holds a virtual address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressState {
    /// It was not told to.
    #[default]
    Standby,
    /// It asks whether a host has it.
    Probing,
    /// It does.
    Holding,
    /// A host that is no proxy has it.
    Conflict,
    /// Another proxy announced it with more right.
    Yielded,
    /// It cannot.
    Failed,
}

/// Whether anybody holds a virtual address that one of the proxies is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// A proxy that serves says that it does.
    Held,
    /// It is on its way to one.
    Moving,
    /// Nobody does, and nobody has for a while.
    Nowhere,
}

impl Holding {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Held, Self::Moving, Self::Nowhere];

    /// As it stands in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Moving => "moving",
            Self::Nowhere => "nowhere",
        }
    }
}

/// All proxies that are known now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// By the name that finding gave them: a Pod's name, or `ip:port`.
    pub proxies: BTreeMap<String, Arc<ProxyView>>,
    /// The virtual addresses, as whoever gives them out sees them; empty where that is not us.
    pub addresses: BTreeMap<IpAddr, Holding>,
}

/// One proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyView {
    /// `ip:port` of its API.
    pub target: String,
    /// Where clients reach it, one of a family at most; empty until it is known.
    pub addresses: Vec<IpAddr>,
    /// Stream up, ready, fresh acknowledgements, not far behind (K8).
    pub serving: bool,
    /// Why it does not serve, in words; empty if it does.
    pub not_serving_reason: String,
    /// The newest snapshot version that all its workers act on, but for what is `refused`; 0 is none, or not known
    /// since the connection was made anew. Only the leader knows it.
    pub acked: u64,
    /// Of podline.v1, from its Hello.
    pub level: u32,
    /// From its Hello.
    pub features: Arc<BTreeSet<String>>,
    /// Listeners of ours that it could not bind, and why.
    pub failed_listeners: BTreeMap<Name, String>,
    /// What it does not have of the snapshot, by listener or set name, and why, in its words. Of a set or listener
    /// that it had before, it still has what it last took.
    pub refused: BTreeMap<Name, String>,
    /// Backends of ours whose probes pass, or that are not probed, by set.
    pub healthy: Healthy,
    /// Backends that are kept out beside their owner, be they in their set or not.
    pub drained: Drained,
    /// Backends of ours whose probes fail, by set.
    pub unhealthy: Unhealthy,
    /// The ways to the nodes.
    pub paths: Arc<Paths>,
    /// Why it can imitate no client at all; empty if it can.
    pub transparency_problem: String,
    /// How it does with virtual addresses.
    pub virtual_addresses: Arc<VirtualAddresses>,
    /// It broke off, and then could not be connected to twice.
    pub is_dead: bool,
    /// It said that it ends.
    pub is_leaving: bool,
}

impl ProxyView {
    /// Whether probes of `backend` pass, or it is not probed.
    pub fn is_healthy(&self, set: &Name, backend: &BackendKey) -> bool {
        self.healthy
            .get(set)
            .is_some_and(|healthy| healthy.contains(backend))
    }

    /// What the last probe of `backend` said, if its probes fail.
    pub fn unhealthy(&self, set: &Name, backend: &BackendKey) -> Option<&str> {
        self.unhealthy.get(set)?.get(backend).map(|words| &**words)
    }
}

impl Observed {
    /// Those that serve.
    pub fn serving(&self) -> impl Iterator<Item = (&str, &ProxyView)> {
        self.proxies
            .iter()
            .filter(|(_, proxy)| proxy.serving)
            .map(|(name, proxy)| (name.as_str(), &**proxy))
    }
}
