//! All Ingresses, and who names which Service.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::key::Key;
use super::{Ingress, IngressEntry};
use crate::build::annotation::Read;

#[derive(Clone, Debug, Default)]
pub(super) struct Ingresses {
    by_key: BTreeMap<Key, Arc<IngressEntry>>,
    /// Ingresses by the Services that they name, whether these are there or not.
    naming: HashMap<Key, BTreeSet<Key>>,
}

/// An Ingress as it was, or is; absent: not there.
type Entry = Option<Arc<IngressEntry>>;

impl Ingresses {
    /// Takes a change in: what was there before, and what is now.
    pub(super) fn apply(&mut self, key: &Key, ingress: Option<Ingress>) -> (Entry, Entry) {
        let before = self.by_key.get(key).cloned();
        let now = ingress.map(|ingress| {
            let same = before.as_ref().filter(|it| it.ingress.uid == ingress.uid);
            let annotations = Read::of_ingress(&ingress, same.map(|it| &it.annotations));
            Arc::new(IngressEntry {
                ingress,
                annotations,
            })
        });
        if before == now {
            return (before, now);
        }
        for service in before.iter().flat_map(|it| it.ingress.services()) {
            if let Some(ingresses) = self.naming.get_mut(&service) {
                ingresses.remove(key);
                if ingresses.is_empty() {
                    self.naming.remove(&service);
                }
            }
        }
        for service in now.iter().flat_map(|it| it.ingress.services()) {
            self.naming.entry(service).or_default().insert(key.clone());
        }
        match &now {
            Some(now) => self.by_key.insert(key.clone(), Arc::clone(now)),
            None => self.by_key.remove(key),
        };
        (before, now)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&Key, &Arc<IngressEntry>)> {
        self.by_key.iter()
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Arc<IngressEntry>> {
        self.by_key.get(key)
    }

    pub(super) fn naming(&self, service: &Key) -> impl Iterator<Item = &Key> {
        self.naming.get(service).into_iter().flatten()
    }
}
