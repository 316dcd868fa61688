//! How a cluster takes in what changed.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::{
    Change, Cluster, Entry, Front, Ingress, IngressEntry, Key, Kind, Node, Service, Slice,
    Switches, Touched, Transport,
};
use crate::build::annotation::Read;
use crate::observed::Observed;

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
        let of_cloud = |node: Option<&Node>| usize::from(node.is_some_and(|node| node.is_of_cloud));
        self.cloud_nodes -= of_cloud(before);
        self.cloud_nodes += of_cloud(node.as_ref());
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
