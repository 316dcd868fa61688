//! The cluster as one typed value: what `watch` saw last, and nothing else. Pure.
//!
//! `Cluster::apply` takes one change and says which Services it touches, so that `build` need not look at the others.
//! Objects are cut down to what matters here when they are read, so a change that does not matter touches nobody.

mod apply;
mod change;
pub mod family;
pub mod front;
pub mod ingress;
mod ingresses;
pub mod key;
pub mod node;
pub mod pod;
mod pods;
pub mod secret;
mod secrets;
pub mod service;
pub mod service_config;
mod service_configs;
pub mod slice;
pub mod switches;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use podline_api::TicketKey;

use crate::build::annotation::Read;
use crate::observed::Observed;
pub use change::{Change, Kind, Touched};
pub use family::Family;
pub use front::Front;
pub use ingress::Ingress;
use ingresses::Ingresses;
pub use key::Key;
pub use node::Node;
pub use pod::{Gate, Pod};
use pods::Pods;
pub use secret::TlsSecret;
use secrets::Secrets;
pub use service::{AppProtocol, Service, ServicePort, Transport};
pub use service_config::ServiceConfig;
use service_configs::ServiceConfigs;
pub use service_configs::auto as auto_config;
pub use slice::{Endpoint, Slice};
pub use switches::Switches;

/// Everything that was seen of the cluster.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    services: BTreeMap<Key, Arc<Entry>>,
    ingresses: Ingresses,
    /// Cluster IPs, and where clients are told to connect to.
    front_addresses: HashMap<IpAddr, BTreeSet<Front>>,
    /// Those that stay as they were: any of their Pods may end though no slice names it any more.
    skipped: BTreeSet<Front>,
    /// By Service, then by name.
    slices: HashMap<Key, BTreeMap<Key, Arc<Slice>>>,
    /// Which Service a slice was last seen to belong to.
    slice_owners: HashMap<Key, Key>,
    pods: Pods,
    nodes: BTreeMap<Arc<str>, Arc<Node>>,
    /// How many of them are TKE's.
    cloud_nodes: usize,
    secrets: Secrets,
    configs: ServiceConfigs,
    switches: Switches,
    observed: Arc<Observed>,
}

/// A Service with what its annotations say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The object.
    pub service: Service,
    /// Its annotations, read; where one cannot be, what it said before.
    pub annotations: Read,
}

/// An Ingress with what its annotations say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressEntry {
    /// The object.
    pub ingress: Ingress,
    /// Its annotations, read; where one cannot be, what it said before.
    pub annotations: Read,
}

impl Cluster {
    /// All Services, by key.
    pub fn services(&self) -> impl Iterator<Item = (&Key, &Arc<Entry>)> {
        self.services.iter()
    }

    /// One Service.
    pub fn service(&self, key: &Key) -> Option<&Arc<Entry>> {
        self.services.get(key)
    }

    /// All Ingresses, by key.
    pub fn ingresses(&self) -> impl Iterator<Item = (&Key, &Arc<IngressEntry>)> {
        self.ingresses.all()
    }

    /// One Ingress.
    pub fn ingress(&self, key: &Key) -> Option<&Arc<IngressEntry>> {
        self.ingresses.get(key)
    }

    /// The Ingresses that name a Service, by key.
    pub fn ingresses_naming(&self, service: &Key) -> impl Iterator<Item = &Key> {
        self.ingresses.naming(service)
    }

    /// What may lead to the endpoints of a Service: itself, and Ingresses.
    pub fn fronts_of(&self, service: &Key) -> Vec<Front> {
        let ingresses = self.ingresses_naming(service).cloned();
        let own = Front::Service(service.clone());
        std::iter::once(own)
            .chain(ingresses.map(Front::Ingress))
            .collect()
    }

    /// The Services whose endpoints one leads to, whether they are there or not.
    pub fn services_behind(&self, front: &Front) -> BTreeSet<Key> {
        match front {
            Front::Service(key) => BTreeSet::from([key.clone()]),
            Front::Ingress(key) => {
                let entry = self.ingress(key);
                entry.map_or_else(BTreeSet::new, |entry| entry.ingress.services())
            }
        }
    }

    /// What the annotations of one say.
    pub fn annotations_of(&self, front: &Front) -> Option<&Read> {
        match front {
            Front::Service(key) => self.service(key).map(|entry| &entry.annotations),
            Front::Ingress(key) => self.ingress(key).map(|entry| &entry.annotations),
        }
    }

    /// The Services of a namespace, by name.
    pub fn services_in(&self, namespace: &str) -> impl Iterator<Item = &Arc<Entry>> {
        let from = Key::new(namespace, "");
        self.services
            .range(from..)
            .take_while(move |(key, _)| *key.namespace == *namespace)
            .map(|(_, entry)| entry)
    }

    /// The Services whose slices name a Pod; a selector may have others.
    pub fn services_naming(&self, pod: &Key) -> impl Iterator<Item = &Key> {
        self.pods.named_by(pod)
    }

    /// The Pods that wait for our gate and have not ended, by key.
    pub fn waiting_pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.waiting()
    }

    /// The slices of a Service, by name.
    pub fn slices_of(&self, service: &Key) -> impl Iterator<Item = &Slice> {
        self.slices
            .get(service)
            .into_iter()
            .flat_map(BTreeMap::values)
            .map(|slice| &**slice)
    }

    /// One Pod.
    pub fn pod(&self, key: &Key) -> Option<&Pod> {
        self.pods.get(key)
    }

    /// The Pod that an endpoint names, if it is that very one.
    pub fn pod_behind(&self, endpoint: &Endpoint) -> Option<&Pod> {
        let (key, uid) = endpoint.pod.as_ref()?;
        self.pod(key)
            .filter(|pod| uid.is_empty() || pod.uid == *uid)
    }

    /// The Pods that have an address of their own, by that address; hostNetwork Pods are not among them.
    pub fn pods_at(&self, address: IpAddr) -> impl Iterator<Item = &Key> {
        self.pods.at(address)
    }

    /// The Pods of a node that have an address of their own, by key.
    pub fn pods_on(&self, node: &str) -> impl Iterator<Item = &Pod> {
        self.pods.on(node)
    }

    /// What an address leads to, if it is a cluster IP or stands in a status.
    pub fn front_at(&self, address: IpAddr) -> Option<&Front> {
        self.front_addresses.get(&address)?.first()
    }

    /// The Pod of this uid, unless it has ended.
    pub fn living_pod(&self, uid: &str) -> Option<&Pod> {
        self.pods.living(uid)
    }

    /// All Nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().map(|node| &**node)
    }

    /// One Node.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name).map(|node| &**node)
    }

    /// What a Secret holds that a Service names; nothing while that is not known.
    pub fn secret(&self, key: &Key) -> Option<&TlsSecret> {
        self.secrets.get(key)
    }

    /// The Secrets that are known.
    pub fn known_secrets(&self) -> impl Iterator<Item = &Key> {
        self.secrets.known()
    }

    /// The Secrets that are named for certificates, each with those that name it, whosever they are.
    pub fn named_secrets(&self) -> impl Iterator<Item = (&Key, &BTreeSet<Front>)> {
        self.secrets.named()
    }

    /// What session tickets are sealed with, the first, and opened with, all; nothing while that is not known.
    pub fn ticket_keys(&self) -> Option<&Arc<[TicketKey]>> {
        self.secrets.tickets()
    }

    /// One TkeServiceConfig.
    pub fn service_config(&self, key: &Key) -> Option<&ServiceConfig> {
        self.configs.get(key)
    }

    /// The switches that hold for the whole cluster.
    pub const fn switches(&self) -> &Switches {
        &self.switches
    }

    /// Whether Pods of GlobalRouter may be bound directly. Nothing where TKE's network modes mean nothing: where nothing
    /// is said of that, unless a controller of TKE follows the ConfigMap.
    pub fn global_routes(&self) -> Option<bool> {
        let is_tke = || self.switches.is_of_tke && self.cloud_nodes > 0;
        let said = self.switches.global_routes;
        said.or_else(|| is_tke().then_some(false))
    }

    /// There are nodes, and none is TKE's: its controller, which runs where its nodes do, cannot be here.
    pub fn is_off_cloud(&self) -> bool {
        self.cloud_nodes == 0 && !self.nodes.is_empty()
    }

    /// What the proxies said last.
    pub fn observed(&self) -> &Observed {
        &self.observed
    }

    /// Keys of everything of one kind, for a comparison with a full list.
    pub fn keys(&self, kind: Kind) -> Vec<Key> {
        match kind {
            Kind::Service => self.services.keys().cloned().collect(),
            Kind::Ingress => self.ingresses.all().map(|(key, _)| key.clone()).collect(),
            Kind::Slice => self.slice_owners.keys().cloned().collect(),
            Kind::Pod => self.pods.keys().cloned().collect(),
            Kind::Node => self.nodes.keys().map(|name| Key::new("", name)).collect(),
            Kind::ServiceConfig => self.configs.keys().cloned().collect(),
            Kind::Switches => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
