//! TkeServiceConfigs, and who follows them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::front::Front;
use super::key::Key;
use super::service_config::{AUTO_INGRESS_SUFFIX, AUTO_SUFFIX, ServiceConfig};
use crate::build::annotation::Read;

#[derive(Clone, Debug, Default)]
pub(super) struct ServiceConfigs {
    known: BTreeMap<Key, Arc<ServiceConfig>>,
    /// Who names an object, whether it is known or not.
    named_by: BTreeMap<Key, BTreeSet<Front>>,
}

impl ServiceConfigs {
    /// Takes in an object, or that it is gone; who names it, if that is news.
    pub(super) fn apply(&mut self, key: Key, config: Option<ServiceConfig>) -> BTreeSet<Front> {
        if self.get(&key) == config.as_ref() {
            return BTreeSet::new();
        }
        let users = self.named_by.get(&key).cloned().unwrap_or_default();
        match config {
            Some(config) => self.known.insert(key, Arc::new(config)),
            None => self.known.remove(&key),
        };
        users
    }

    /// Takes in that the annotations of `front` are others, or gone.
    pub(super) fn refer(&mut self, front: &Front, before: Option<&Read>, now: Option<&Read>) {
        for named in before.into_iter().flat_map(|read| named(front, read)) {
            if let Some(users) = self.named_by.get_mut(&named) {
                users.remove(front);
                if users.is_empty() {
                    self.named_by.remove(&named);
                }
            }
        }
        for named in now.into_iter().flat_map(|read| named(front, read)) {
            let users = self.named_by.entry(named).or_default();
            users.insert(front.clone());
        }
    }

    pub(super) fn get(&self, key: &Key) -> Option<&ServiceConfig> {
        self.known.get(key).map(|config| &**config)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.known.keys()
    }
}

/// The objects that one names.
fn named(front: &Front, read: &Read) -> impl Iterator<Item = Key> {
    let (key, settings) = (front.key(), &read.settings);
    let by_name = settings.config.as_ref().map(|name| key.beside(name));
    let auto = settings.auto_config.then(|| auto(front));
    by_name.into_iter().chain(auto)
}

/// The object that is made for one.
pub fn auto(front: &Front) -> Key {
    let suffix = match front {
        Front::Service(_) => AUTO_SUFFIX,
        Front::Ingress(_) => AUTO_INGRESS_SUFFIX,
    };
    let key = front.key();
    let name = format!("{}{suffix}", key.name);
    key.beside(&name.into())
}
