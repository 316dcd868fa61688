//! The engine's part that adds, changes and removes listeners.

use super::change::change_of;
use super::check::Removals;
use super::engine::{Engine, millis};
use super::entry::{DrainingListener, ListenerEntry};
use crate::lb::ListenerId;
use crate::lb::backend::ListenerCounters;
use crate::lb::drain::DrainState;
use crate::lb::headers::HeaderRules;
use crate::lb::limits::Limiter;
use crate::tls::listener::TlsRules;
use podline_api::{Apply, Listener, Name, Owner, v1};
use std::sync::Arc;

impl Engine {
    pub(super) fn remove_listeners(
        &mut self,
        removals: &Removals,
        version: u64,
        changes: &mut Vec<v1::Change>,
    ) {
        for name in &removals.listeners {
            if let Some(entry) = self.listeners.remove(name) {
                self.retire_listener(entry, version);
                changes.push(change_of("listener", name, v1::change::Action::Removed));
            }
        }
    }

    fn retire_listener(&mut self, entry: ListenerEntry, version: u64) {
        self.plane.unbind(entry.id);
        self.table.remove_listener(entry.id);
        let drain = DrainState::new(self.plane.now_ms(), millis(entry.wanted.drain_timeout));
        self.draining_listeners.push(DrainingListener {
            entry,
            drain,
            version,
        });
    }

    /// Adds or changes listeners; the names of those that have to be bound.
    pub(super) fn put_listeners(
        &mut self,
        apply: &Apply,
        version: u64,
        changes: &mut Vec<v1::Change>,
    ) -> Vec<Name> {
        let mut unbound = Vec::new();
        for wanted in &apply.listeners {
            let known = self
                .listeners
                .get(&wanted.name)
                .map(|entry| entry.wanted.clone());
            let action = match &known {
                Some(known) if known == wanted => continue,
                Some(_) => v1::change::Action::Changed,
                None => v1::change::Action::Added,
            };
            changes.push(change_of("listener", &wanted.name, action));
            let stays = known.filter(|known| {
                known.address == wanted.address && known.protocol == wanted.protocol
            });
            let has_other_tls = stays.as_ref().is_some_and(|known| known.tls != wanted.tls);
            if stays.is_none() {
                self.new_listener(&apply.owner, wanted, version);
                unbound.push(wanted.name.clone());
            }
            let tls = has_other_tls.then(|| self.tls_of(wanted));
            if let Some(entry) = self.listeners.get_mut(&wanted.name) {
                if let Some(tls) = tls {
                    entry.tls = tls;
                }
                if entry.wanted.limits != wanted.limits {
                    let before = entry.limiter.as_deref();
                    entry.limiter = Limiter::new(&wanted.limits, before).map(Arc::new);
                }
                if entry.wanted.proxy_protocol != wanted.proxy_protocol {
                    entry.headers = HeaderRules::new(&wanted.proxy_protocol).map(Arc::new);
                }
                entry.wanted = wanted.clone();
                let sets = &self.sets;
                let route = entry.route(|name| Some(sets.get(name)?.id));
                self.table.put_listener(route);
            }
        }
        unbound
    }

    /// Makes ready how a listener speaks TLS.
    fn tls_of(&self, wanted: &Listener) -> Option<TlsRules> {
        let (tls, is_http) = (wanted.tls.as_ref()?, wanted.protocol.is_http());
        Some(TlsRules::new(tls, is_http, &self.tickets))
    }

    /// A listener at a new address is a new listener, with counters of its own: the old one drains by them.
    fn new_listener(&mut self, owner: &Owner, wanted: &Listener, version: u64) {
        let old = self.listeners.remove(&wanted.name);
        let entry = ListenerEntry {
            id: ListenerId(self.fresh_id()),
            owner: owner.clone(),
            wanted: wanted.clone(),
            counters: Arc::new(ListenerCounters::default()),
            limiter: Limiter::new(&wanted.limits, None).map(Arc::new),
            headers: HeaderRules::new(&wanted.proxy_protocol).map(Arc::new),
            tls: self.tls_of(wanted),
            failure: Some("not bound yet".to_owned()),
        };
        self.listeners.insert(wanted.name.clone(), entry);
        if let Some(old) = old {
            self.retire_listener(old, version);
        }
    }
}
