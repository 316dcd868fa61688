//! TkeServiceConfigs, and which Services follow them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Entry;
use super::key::Key;
use super::service_config::{AUTO_SUFFIX, ServiceConfig};

#[derive(Clone, Debug, Default)]
pub(super) struct ServiceConfigs {
    known: BTreeMap<Key, Arc<ServiceConfig>>,
    /// Services that name an object, whether it is known or not.
    named_by: BTreeMap<Key, BTreeSet<Key>>,
}

impl ServiceConfigs {
    /// Takes in an object, or that it is gone; who names it, if that is news.
    pub(super) fn apply(&mut self, key: Key, config: Option<ServiceConfig>) -> BTreeSet<Key> {
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

    pub(super) fn get(&self, key: &Key) -> Option<&ServiceConfig> {
        self.known.get(key).map(|config| &**config)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.known.keys()
    }
}

/// The objects that a Service names.
fn named(entry: &Entry) -> impl Iterator<Item = Key> {
    let (service, settings) = (&entry.service, &entry.annotations.settings);
    let by_name = settings
        .config
        .as_ref()
        .map(|name| service.key.beside(name));
    let auto = settings.auto_config.then(|| auto(&service.key));
    by_name.into_iter().chain(auto)
}

/// The object that is made for a Service.
pub fn auto(service: &Key) -> Key {
    let name = format!("{}{AUTO_SUFFIX}", service.name);
    service.beside(&name.into())
}
