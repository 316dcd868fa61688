//! What can change in a cluster, and whom that touches.

use std::collections::BTreeSet;
use std::sync::Arc;

use podline_api::TicketKey;

use super::{Front, Ingress, Key, Node, Pod, Service, ServiceConfig, Slice, Switches, TlsSecret};
use crate::observed::Observed;

/// One thing that changed; `None`: it is gone.
#[derive(Clone, Debug)]
pub enum Change {
    /// A Service.
    Service(Key, Option<Box<Service>>),
    /// An Ingress.
    Ingress(Key, Option<Box<Ingress>>),
    /// An EndpointSlice.
    Slice(Key, Option<Slice>),
    /// A Pod.
    Pod(Key, Option<Pod>),
    /// A Node.
    Node(Arc<str>, Option<Node>),
    /// What a Secret holds, of those that Services name for their certificates; `None`: it is not known.
    Secret(Key, Option<TlsSecret>),
    /// What session tickets are sealed with; none: nobody keeps any.
    TicketKeys(Arc<[TicketKey]>),
    /// A TkeServiceConfig.
    ServiceConfig(Key, Option<Box<ServiceConfig>>),
    /// The ConfigMap of switches.
    Switches(Switches),
    /// What the proxies say.
    Observed(Arc<Observed>),
}

/// Whose build may differ after a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// All of them.
    pub all: bool,
    /// Those that wait for a health verdict.
    pub waiting: bool,
    /// These Services, and what else leads to their endpoints.
    pub services: BTreeSet<Key>,
    /// These Ingresses.
    pub ingresses: BTreeSet<Key>,
    /// Nodes whose part of the network may differ.
    pub nodes: BTreeSet<Arc<str>>,
}

impl Touched {
    /// Nothing is touched.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Both.
    pub fn merge(&mut self, other: Self) {
        self.all |= other.all;
        self.waiting |= other.waiting;
        self.services.extend(other.services);
        self.ingresses.extend(other.ingresses);
        self.nodes.extend(other.nodes);
    }

    /// All of them.
    pub fn all() -> Self {
        Self {
            all: true,
            ..Self::default()
        }
    }

    pub(super) fn one(key: Key) -> Self {
        Self {
            services: BTreeSet::from([key]),
            ..Self::default()
        }
    }

    pub(super) fn fronts(fronts: BTreeSet<Front>) -> Self {
        let mut touched = Self::default();
        for front in fronts {
            match front {
                Front::Service(key) => touched.services.insert(key),
                Front::Ingress(key) => touched.ingresses.insert(key),
            };
        }
        touched
    }
}

/// A kind of object that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Services.
    Service,
    /// Ingresses.
    Ingress,
    /// EndpointSlices.
    Slice,
    /// Pods.
    Pod,
    /// Nodes; their keys have no namespace.
    Node,
    /// The ConfigMap of switches.
    Switches,
    /// TkeServiceConfigs.
    ServiceConfig,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Service,
        Self::Ingress,
        Self::Slice,
        Self::Pod,
        Self::Node,
        Self::Switches,
        Self::ServiceConfig,
    ];

    /// As it stands in labels and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "services",
            Self::Ingress => "ingresses",
            Self::Slice => "endpointslices",
            Self::Pod => "pods",
            Self::Node => "nodes",
            Self::Switches => "switches",
            Self::ServiceConfig => "tkeserviceconfigs",
        }
    }
}
