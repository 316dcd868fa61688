//! Pods, and who refers to them: found by key, by uid, by address, and from them the Services whose slices name them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use super::key::Key;
use super::pod::{Gate, Pod};
use super::slice::Slice;

#[derive(Clone, Debug, Default)]
pub(super) struct Pods {
    by_key: HashMap<Key, Arc<Pod>>,
    /// Pods that have not ended.
    alive: HashMap<Arc<str>, Key>,
    /// Addresses are used again, so more than one may claim one for a moment.
    by_address: HashMap<IpAddr, BTreeSet<Key>>,
    /// Those that have an address of their own, by their node.
    by_node: HashMap<Arc<str>, BTreeSet<Key>>,
    /// Those that wait for our gate and have not ended.
    waiting: BTreeSet<Key>,
    /// Services whose slices name a Pod, whether it is known or not.
    named_by: References<Key>,
    /// Services whose slices hold an address without saying whose it is.
    aimed_at_by: References<IpAddr>,
}

impl Pods {
    /// Takes a change in: the Services that name this Pod, or that it is in the way of, and the nodes whose Pods have
    /// other addresses now.
    pub(super) fn apply(
        &mut self,
        key: &Key,
        pod: Option<Pod>,
    ) -> (BTreeSet<Key>, BTreeSet<Arc<str>>) {
        let before = self.by_key.get(key).cloned();
        if before.as_deref() == pod.as_ref() {
            return <_>::default();
        }
        let mut nodes = BTreeSet::new();
        if before.as_deref().and_then(on_node) != pod.as_ref().and_then(on_node) {
            let both = before.as_deref().into_iter().chain(&pod);
            nodes.extend(both.filter_map(|pod| pod.node.clone()));
        }
        let addresses = before.iter().flat_map(|pod| own_addresses(pod));
        let mut addresses: BTreeSet<_> = addresses.copied().collect();
        if let Some(before) = before {
            self.forget(&before);
        }
        if let Some(pod) = pod {
            addresses.extend(own_addresses(&pod));
            self.learn(pod);
        }
        let aimed_at = addresses
            .iter()
            .flat_map(|address| self.aimed_at_by.of(address));
        let services = self.named_by.of(key).chain(aimed_at).cloned().collect();
        (services, nodes)
    }

    fn forget(&mut self, pod: &Pod) {
        self.by_key.remove(&pod.key);
        self.waiting.remove(&pod.key);
        if self.alive.get(&pod.uid) == Some(&pod.key) {
            self.alive.remove(&pod.uid);
        }
        for address in own_addresses(pod) {
            if let Some(keys) = self.by_address.get_mut(address) {
                keys.remove(&pod.key);
                if keys.is_empty() {
                    self.by_address.remove(address);
                }
            }
        }
        if let Some(OnNode { node, .. }) = on_node(pod)
            && let Some(keys) = self.by_node.get_mut(node)
        {
            keys.remove(&pod.key);
            if keys.is_empty() {
                self.by_node.remove(node);
            }
        }
    }

    fn learn(&mut self, pod: Pod) {
        if !pod.has_ended {
            self.alive.insert(Arc::clone(&pod.uid), pod.key.clone());
        }
        if pod.gate == Gate::Waiting && !pod.has_ended {
            self.waiting.insert(pod.key.clone());
        }
        for address in own_addresses(&pod) {
            self.by_address
                .entry(*address)
                .or_default()
                .insert(pod.key.clone());
        }
        if let Some(OnNode { node, .. }) = on_node(&pod) {
            self.by_node
                .entry(Arc::clone(node))
                .or_default()
                .insert(pod.key.clone());
        }
        self.by_key.insert(pod.key.clone(), Arc::new(pod));
    }

    pub(super) fn refer(&mut self, slice: &Slice) {
        for endpoint in &slice.endpoints {
            match (&endpoint.pod, endpoint.address) {
                (Some((pod, _)), _) => self.named_by.add(pod, &slice.service),
                (None, Some(address)) => self.aimed_at_by.add(&address, &slice.service),
                (None, None) => {}
            }
        }
    }

    pub(super) fn unrefer(&mut self, slice: &Slice) {
        for endpoint in &slice.endpoints {
            match (&endpoint.pod, endpoint.address) {
                (Some((pod, _)), _) => self.named_by.remove(pod, &slice.service),
                (None, Some(address)) => self.aimed_at_by.remove(&address, &slice.service),
                (None, None) => {}
            }
        }
    }

    /// The Services whose slices hold an address without saying whose it is.
    pub(super) fn aimed_at(&self, address: &IpAddr) -> impl Iterator<Item = &Key> {
        self.aimed_at_by.of(address)
    }

    pub(super) fn named_by(&self, pod: &Key) -> impl Iterator<Item = &Key> {
        self.named_by.of(pod)
    }

    pub(super) fn waiting(&self) -> impl Iterator<Item = &Pod> {
        self.waiting.iter().filter_map(|key| self.get(key))
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Pod> {
        self.by_key.get(key).map(|pod| &**pod)
    }

    pub(super) fn at(&self, address: IpAddr) -> impl Iterator<Item = &Key> {
        self.by_address.get(&address).into_iter().flatten()
    }

    pub(super) fn on(&self, node: &str) -> impl Iterator<Item = &Pod> {
        let keys = self.by_node.get(node).into_iter().flatten();
        keys.filter_map(|key| self.get(key))
    }

    pub(super) fn living(&self, uid: &str) -> Option<&Pod> {
        self.get(self.alive.get(uid)?)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.by_key.keys()
    }
}

/// A hostNetwork Pod has its node's addresses; a Pod that has ended has none any more.
fn own_addresses(pod: &Pod) -> &[IpAddr] {
    if pod.is_host_network || pod.has_ended {
        &[]
    } else {
        &pod.addresses
    }
}

/// What of a Pod counts for its node's part of the network; nothing of one without an address of its own.
fn on_node(pod: &Pod) -> Option<OnNode<'_>> {
    let addresses = own_addresses(pod);
    Some(OnNode {
        node: pod.node.as_ref().filter(|_| !addresses.is_empty())?,
        addresses,
        is_vpc_cni: pod.is_vpc_cni,
        responds: pod
            .is_responder
            .then_some((pod.is_deleting, pod.created, &*pod.uid)),
    })
}

#[derive(PartialEq, Eq)]
struct OnNode<'a> {
    node: &'a Arc<str>,
    addresses: &'a [IpAddr],
    is_vpc_cni: bool,
    /// Of a responder: being deleted, when it was made, its uid.
    responds: Option<(bool, i64, &'a str)>,
}

/// Which Services refer to what, and how many times.
#[derive(Clone, Debug)]
struct References<K>(HashMap<K, BTreeMap<Key, usize>>);

impl<K> Default for References<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Clone + Eq + Hash> References<K> {
    fn add(&mut self, what: &K, service: &Key) {
        let services = self.0.entry(what.clone()).or_default();
        *services.entry(service.clone()).or_default() += 1;
    }

    /// Takes one of the references back that were added.
    fn remove(&mut self, what: &K, service: &Key) {
        let Some(services) = self.0.get_mut(what) else {
            return; // never added
        };
        if let Some(count) = services.get_mut(service) {
            *count -= 1;
            if *count == 0 {
                services.remove(service);
            }
        }
        if services.is_empty() {
            self.0.remove(what);
        }
    }

    fn of(&self, what: &K) -> impl Iterator<Item = &Key> {
        self.0.get(what).into_iter().flat_map(BTreeMap::keys)
    }
}
