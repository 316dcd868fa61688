//! What a proxy has of our owner's. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use podline_api::v1::listener_status::State;
use podline_api::{
    Backend, BackendSet, Listener, Name, Network, Owner, PortShare, VirtualAddress, v1,
};

use crate::snapshot::Snapshot;

/// What a proxy has of our owner's, as far as it was read or taken by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Holdings {
    /// By name.
    pub(super) listeners: BTreeMap<Name, Arc<Listener>>,
    /// By name.
    pub(super) sets: BTreeMap<Name, HeldSet>,
    /// Only what it took: a proxy tells all owners' networks as one.
    pub(super) network: Option<HeldNetwork>,
}

/// The network as a proxy has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeldNetwork {
    /// Without a port share and virtual addresses.
    pub(super) network: Arc<Network>,
    /// The proxy's own.
    pub(super) share: Option<PortShare>,
    /// Likewise.
    pub(super) addresses: Arc<[VirtualAddress]>,
}

/// A set as the proxy has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeldSet {
    /// With all its backends.
    pub(super) set: Arc<BackendSet>,
    /// The proxy's version at which it last changed, where that is known: guards changes of single backends.
    pub(super) version: Option<u64>,
}

impl Holdings {
    /// What `owner` has in a proxy of this state. A proxy does not tell keys: a listener with TLS is recognised where
    /// `wanted` has one that looks the same, and a key is another only where its certificate or its name is. What is not
    /// recognised, or of a later release, is left out, and so replaced or removed.
    pub(super) fn read(owner: &Owner, state: v1::GetResponse, wanted: &Snapshot) -> Self {
        let is_ours = |text: &str| text == owner.as_str();
        let listeners = state
            .listeners
            .into_iter()
            .filter(|status| is_ours(&status.owner) && status.state() != State::Draining)
            .filter_map(|status| listener(status.listener?, wanted))
            .map(|listener| (listener.name.clone(), listener));
        let sets = state
            .backend_sets
            .into_iter()
            .filter(|status| is_ours(&status.owner))
            .filter_map(HeldSet::read)
            .map(|held| (held.set.name.clone(), held));
        Self {
            listeners: listeners.collect(),
            sets: sets.collect(),
            network: None,
        }
    }
}

fn listener(told: v1::Listener, wanted: &Snapshot) -> Option<Arc<Listener>> {
    if told.tls.is_none() {
        return Listener::try_from(told).ok().map(Arc::new);
    }
    let wanted = wanted.listeners.get(told.name.as_str())?;
    (wanted.shown() == told).then(|| Arc::clone(wanted))
}

impl HeldNetwork {
    pub(super) fn to_wire(&self) -> v1::Network {
        let share = self.share.map(|share| v1::PortShare {
            slot: share.slot.into(),
            slots: share.slots.into(),
        });
        v1::Network {
            port_share: share,
            addresses: self.addresses.iter().map(Into::into).collect(),
            ..(&*self.network).into()
        }
    }
}

impl HeldSet {
    fn read(status: v1::BackendSetStatus) -> Option<Self> {
        let mut set = BackendSet::try_from(status.set?).ok()?;
        let staying = status.backends.into_iter().filter(|b| !b.draining);
        set.backends = staying
            .filter_map(|b| Backend::try_from(b.backend?).ok())
            .collect();
        Some(Self {
            set: Arc::new(set),
            version: Some(status.version),
        })
    }
}
