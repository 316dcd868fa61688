//! The cluster as one typed value: what `watch` saw last, and nothing else. Pure.
//!
//! `Cluster::apply` takes one change and says which Services it touches, so that `build` need not look at the others.
//! Objects are cut down to what matters here when they are read, so a change that does not matter touches nobody.

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

    fn one(key: Key) -> Self {
        Self {
            services: BTreeSet::from([key]),
            ..Self::default()
        }
    }

    fn fronts(fronts: BTreeSet<Front>) -> Self {
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

impl Cluster {
    /// Takes a change in, and says whom it touches.
    pub fn apply(&mut self, change: Change) -> Touched {
        match change {
            Change::Service(key, service) => {
                self.apply_service(key, service.map(|service| *service))
            }
            Change::Ingress(key, ingress) => {
                self.apply_ingress(key, ingress.map(|ingress| *ingress))
            }
            Change::Slice(key, slice) => self.apply_slice(&key, slice),
            Change::Pod(key, pod) => {
                let (services, nodes) = self.pods.apply(&key, pod);
                let mut touched = Touched::fronts(self.skipped.clone());
                touched.merge(Touched {
                    services,
                    nodes,
                    ..Touched::default()
                });
                touched
            }
            Change::Node(name, node) => self.apply_node(name, node),
            Change::Secret(key, secret) => Touched::fronts(self.secrets.apply(key, secret)),
            Change::TicketKeys(keys) => Touched::fronts(self.secrets.apply_tickets(keys)),
            Change::ServiceConfig(key, config) => {
                Touched::fronts(self.configs.apply(key, config.map(|config| *config)))
            }
            Change::Switches(switches) if self.switches != switches => {
                self.switches = switches;
                Touched::all()
            }
            Change::Switches(_) => Touched::default(),
            Change::Observed(observed) => self.apply_observed(observed),
        }
    }

    fn apply_service(&mut self, key: Key, service: Option<Service>) -> Touched {
        let before = self.services.get(&key).cloned();
        let entry = service.map(|service| {
            let same = before
                .as_deref()
                .filter(|before| before.service.uid == service.uid);
            Entry {
                annotations: Read::of(&service, same.map(|before| &before.annotations)),
                service,
            }
        });
        if before.as_deref() == entry.as_ref() {
            return Touched::default();
        }
        let mut touched = Touched::one(key.clone());
        let addresses = |entry: Option<&Entry>| -> BTreeSet<IpAddr> {
            entry
                .into_iter()
                .flat_map(|entry| entry.service.own_addresses())
                .collect()
        };
        let (old, new) = (addresses(before.as_deref()), addresses(entry.as_ref()));
        let front = Front::Service(key.clone());
        self.note_skip(&front, entry.as_ref().map(|entry| &entry.annotations));
        touched.merge(self.move_addresses(&front, &old, &new));
        self.secrets.refer(
            &front,
            before.as_deref().into_iter().flat_map(named),
            entry.iter().flat_map(named),
        );
        self.configs.refer(
            &front,
            before.as_deref().map(|entry| &entry.annotations),
            entry.as_ref().map(|entry| &entry.annotations),
        );
        match entry {
            Some(entry) => self.services.insert(key, Arc::new(entry)),
            None => self.services.remove(&key),
        };
        touched
    }

    fn apply_ingress(&mut self, key: Key, ingress: Option<Ingress>) -> Touched {
        let (before, now) = self.ingresses.apply(&key, ingress);
        if before == now {
            return Touched::default();
        }
        let front = Front::Ingress(key.clone());
        let (before, now) = (before.as_deref(), now.as_deref());
        let named = |entry: Option<&IngressEntry>| {
            let secrets = entry.map(|entry| entry.ingress.secrets.clone());
            let secrets = secrets.into_iter().flatten();
            secrets.map(|name| key.beside(&name)).collect::<Vec<_>>()
        };
        let (old, new) = (named(before), named(now));
        self.secrets.refer(&front, old.into_iter(), new.into_iter());
        self.configs.refer(
            &front,
            before.map(|entry| &entry.annotations),
            now.map(|entry| &entry.annotations),
        );
        let addresses = |entry: Option<&IngressEntry>| -> BTreeSet<IpAddr> {
            let entries = entry.into_iter();
            entries.flat_map(|it| it.ingress.own_addresses()).collect()
        };
        let (old, new) = (addresses(before), addresses(now));
        self.note_skip(&front, now.map(|entry| &entry.annotations));
        let mut touched = self.move_addresses(&front, &old, &new);
        // Whether their Pods are waited for may differ.
        let entries = before.into_iter().chain(now);
        let services = entries.flat_map(|entry| entry.ingress.services());
        touched.services.extend(services);
        touched.ingresses.insert(key);
        touched
    }

    /// Takes in whether one stays as it was.
    fn note_skip(&mut self, front: &Front, read: Option<&Read>) {
        if read.is_some_and(|read| read.settings.skip) {
            self.skipped.insert(front.clone());
        } else {
            self.skipped.remove(front);
        }
    }

    /// Takes in which addresses lead to one now; those whose endpoints aim at addresses that differ.
    fn move_addresses(
        &mut self,
        front: &Front,
        old: &BTreeSet<IpAddr>,
        new: &BTreeSet<IpAddr>,
    ) -> Touched {
        let mut aiming = Touched::default();
        for address in old.symmetric_difference(new) {
            let fronts = self.front_addresses.entry(*address).or_default();
            if new.contains(address) {
                fronts.insert(front.clone());
            } else {
                fronts.remove(front);
            }
            if fronts.is_empty() {
                self.front_addresses.remove(address);
            }
            let aimed_at = self.pods.aimed_at(address).cloned();
            aiming.services.extend(aimed_at);
            aiming.merge(Touched::fronts(self.skipped.clone()));
        }
        aiming
    }

    fn apply_slice(&mut self, key: &Key, slice: Option<Slice>) -> Touched {
        let mut touched = Touched::default();
        let owner = slice.as_ref().map(|slice| slice.service.clone());
        let old_owner = self.slice_owners.get(key).cloned();
        let old = old_owner
            .as_ref()
            .and_then(|owner| self.slices.get(owner)?.get(key).cloned());
        if old.as_deref() == slice.as_ref() {
            return touched;
        }
        if let (Some(owner), Some(old)) = (old_owner, old) {
            self.pods.unrefer(&old);
            if let Some(slices) = self.slices.get_mut(&owner) {
                slices.remove(key);
                if slices.is_empty() {
                    self.slices.remove(&owner);
                }
            }
            self.slice_owners.remove(key);
            touched.services.insert(owner);
        }
        if let (Some(owner), Some(slice)) = (owner, slice) {
            self.pods.refer(&slice);
            self.slice_owners.insert(key.clone(), owner.clone());
            self.slices
                .entry(owner.clone())
                .or_default()
                .insert(key.clone(), Arc::new(slice));
            touched.services.insert(owner);
        }
        touched
    }

    fn apply_node(&mut self, name: Arc<str>, node: Option<Node>) -> Touched {
        let before = self.nodes.get(&name).map(|node| &**node);
        if before == node.as_ref() {
            return Touched::default();
        }
        match node {
            Some(node) => self.nodes.insert(name, Arc::new(node)),
            None => self.nodes.remove(&name),
        };
        Touched::all()
    }

    fn apply_observed(&mut self, observed: Arc<Observed>) -> Touched {
        let addresses = |observed: &Observed| -> BTreeSet<IpAddr> {
            observed
                .proxies
                .values()
                .flat_map(|proxy| proxy.addresses.iter().copied())
                .collect()
        };
        let all = addresses(&self.observed) != addresses(&observed);
        self.observed = observed;
        Touched {
            all,
            waiting: true,
            ..Touched::default()
        }
    }

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

    /// Takes in all there is of a kind: what `list` has not is gone.
    pub fn replace(&mut self, kind: Kind, list: Vec<(Key, Change)>) -> Touched {
        let present: BTreeSet<_> = list.iter().map(|(key, _)| key.clone()).collect();
        let mut touched = Touched::default();
        for key in self
            .keys(kind)
            .into_iter()
            .filter(|key| !present.contains(key))
        {
            touched.merge(self.apply(match kind {
                Kind::Service => Change::Service(key, None),
                Kind::Ingress => Change::Ingress(key, None),
                Kind::Slice => Change::Slice(key, None),
                Kind::Pod => Change::Pod(key, None),
                Kind::Node => Change::Node(key.name, None),
                Kind::ServiceConfig => Change::ServiceConfig(key, None),
                Kind::Switches => Change::Switches(Switches::default()),
            }));
        }
        if kind == Kind::Switches && list.is_empty() {
            touched.merge(self.apply(Change::Switches(Switches::default())));
        }
        for (_, change) in list {
            touched.merge(self.apply(change));
        }
        touched
    }
}

/// The Secrets that a Service's ports name. What is said of ports that it does not have is nothing.
fn named(entry: &Entry) -> impl Iterator<Item = Key> {
    let ports = entry.service.ports.iter();
    let ports = ports.filter(|port| port.protocol == Transport::Tcp);
    let spoken = ports.filter_map(|port| entry.annotations.settings.protocols.get(&port.port));
    let secrets = spoken.flat_map(|spoken| &spoken.secrets);
    secrets.map(|name| entry.service.key.beside(name))
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

#[cfg(test)]
mod tests;
