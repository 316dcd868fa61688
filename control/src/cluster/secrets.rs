//! Secrets that Services name for their certificates, by whom, and the keys that seal session tickets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use podline_api::TicketKey;

use super::key::Key;
use super::secret::TlsSecret;
use super::{Entry, Transport};

#[derive(Clone, Debug, Default)]
pub(super) struct Secrets {
    /// What was read; what was not is not here.
    known: BTreeMap<Key, TlsSecret>,
    /// Services that name a Secret, whether it is known or not.
    named_by: BTreeMap<Key, BTreeSet<Key>>,
    tickets: Option<Arc<[TicketKey]>>,
}

impl Secrets {
    /// Takes in what a Secret holds; who names it, if that is news.
    pub(super) fn apply(&mut self, key: Key, secret: Option<TlsSecret>) -> BTreeSet<Key> {
        if self.known.get(&key) == secret.as_ref() {
            return BTreeSet::new();
        }
        let users = self.named_by.get(&key).cloned().unwrap_or_default();
        match secret {
            Some(secret) => self.known.insert(key, secret),
            None => self.known.remove(&key),
        };
        users
    }

    /// Takes in other ticket keys; who shows certificates, if that is news.
    pub(super) fn apply_tickets(&mut self, keys: Arc<[TicketKey]>) -> BTreeSet<Key> {
        if self.tickets.as_ref() == Some(&keys) {
            return BTreeSet::new();
        }
        self.tickets = Some(keys);
        self.named_by.values().flatten().cloned().collect()
    }

    /// Takes in that a Service is another, or gone.
    pub(super) fn refer(&mut self, service: &Key, before: Option<&Entry>, now: Option<&Entry>) {
        for named in before.into_iter().flat_map(named) {
            if let Some(users) = self.named_by.get_mut(&named) {
                users.remove(service);
                if users.is_empty() {
                    self.named_by.remove(&named);
                }
            }
        }
        for named in now.into_iter().flat_map(named) {
            let users = self.named_by.entry(named).or_default();
            users.insert(service.clone());
        }
    }

    pub(super) fn get(&self, key: &Key) -> Option<&TlsSecret> {
        self.known.get(key)
    }

    pub(super) fn known(&self) -> impl Iterator<Item = &Key> {
        self.known.keys()
    }

    pub(super) fn named(&self) -> impl Iterator<Item = (&Key, &BTreeSet<Key>)> {
        self.named_by.iter()
    }

    pub(super) fn tickets(&self) -> Option<&Arc<[TicketKey]>> {
        self.tickets.as_ref()
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
