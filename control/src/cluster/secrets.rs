//! Secrets that are named for certificates, by whom, and the keys that seal session tickets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use podline_api::TicketKey;

use super::front::Front;
use super::key::Key;
use super::secret::TlsSecret;

#[derive(Clone, Debug, Default)]
pub(super) struct Secrets {
    /// What was read; what was not is not here.
    known: BTreeMap<Key, TlsSecret>,
    /// Who names a Secret, whether it is known or not.
    named_by: BTreeMap<Key, BTreeSet<Front>>,
    tickets: Option<Arc<[TicketKey]>>,
}

impl Secrets {
    /// Takes in what a Secret holds; who names it, if that is news.
    pub(super) fn apply(&mut self, key: Key, secret: Option<TlsSecret>) -> BTreeSet<Front> {
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
    pub(super) fn apply_tickets(&mut self, keys: Arc<[TicketKey]>) -> BTreeSet<Front> {
        if self.tickets.as_ref() == Some(&keys) {
            return BTreeSet::new();
        }
        self.tickets = Some(keys);
        self.named_by.values().flatten().cloned().collect()
    }

    /// Takes in that `front` names others now.
    pub(super) fn refer(
        &mut self,
        front: &Front,
        before: impl Iterator<Item = Key>,
        now: impl Iterator<Item = Key>,
    ) {
        for named in before {
            if let Some(users) = self.named_by.get_mut(&named) {
                users.remove(front);
                if users.is_empty() {
                    self.named_by.remove(&named);
                }
            }
        }
        for named in now {
            let users = self.named_by.entry(named).or_default();
            users.insert(front.clone());
        }
    }

    pub(super) fn get(&self, key: &Key) -> Option<&TlsSecret> {
        self.known.get(key)
    }

    pub(super) fn known(&self) -> impl Iterator<Item = &Key> {
        self.known.keys()
    }

    pub(super) fn named(&self) -> impl Iterator<Item = (&Key, &BTreeSet<Front>)> {
        self.named_by.iter()
    }

    pub(super) fn tickets(&self) -> Option<&Arc<[TicketKey]>> {
        self.tickets.as_ref()
    }
}
