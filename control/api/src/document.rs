//! Listeners and backend sets together: one owner's whole state. The file form is in `file.rs`.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::invalid::Checks;
use crate::{BackendSet, Invalid, Listener, Name, Network, Transport, v1};

/// One owner's whole state. A listener may name a set that is not here: another owner may have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// No name twice, no address twice per transport.
    pub listeners: Vec<Listener>,
    /// No name twice.
    pub backend_sets: Vec<BackendSet>,
    /// What the proxy has to know of the network.
    pub network: Option<Network>,
}

impl TryFrom<v1::Document> for Document {
    type Error = Invalid;

    fn try_from(wire: v1::Document) -> Result<Self, Invalid> {
        let mut checks = Checks::default();
        let listeners = distinct_listeners(&mut checks, wire.listeners);
        let backend_sets = distinct_sets(&mut checks, wire.backend_sets);
        let network = wire.network.map(Network::try_from).transpose();
        let network = checks.take("network", network);
        checks.finish(network.map(|network| Self {
            listeners,
            backend_sets,
            network,
        }))
    }
}

impl From<&Document> for v1::Document {
    fn from(document: &Document) -> Self {
        Self {
            listeners: document.listeners.iter().map(Into::into).collect(),
            backend_sets: document.backend_sets.iter().map(Into::into).collect(),
            network: document.network.as_ref().map(Into::into),
        }
    }
}

/// Reads `listeners`, in which no name and no address may stand twice.
pub(crate) fn distinct_listeners(checks: &mut Checks, wire: Vec<v1::Listener>) -> Vec<Listener> {
    let listeners = checks.each("listeners", wire, Listener::try_from);
    refuse_same_names(
        checks,
        "listeners",
        ".name",
        listeners.iter().map(|(i, listener)| (*i, &listener.name)),
    );
    let mut first: HashMap<(Transport, SocketAddr), usize> = HashMap::new();
    for (i, listener) in &listeners {
        let earlier = *first
            .entry((listener.protocol.transport(), listener.address))
            .or_insert(*i);
        if earlier != *i {
            let problem = format!(
                "{} is the address of listeners[{earlier}] too",
                listener.address
            );
            checks.refuse(format_args!("listeners[{i}].address"), problem);
        }
    }
    listeners
        .into_iter()
        .map(|(_, listener)| listener)
        .collect()
}

/// Reads `backendSets`, in which no name may stand twice.
pub(crate) fn distinct_sets(checks: &mut Checks, wire: Vec<v1::BackendSet>) -> Vec<BackendSet> {
    let sets = checks.each("backendSets", wire, BackendSet::try_from);
    refuse_same_names(
        checks,
        "backendSets",
        ".name",
        sets.iter().map(|(i, set)| (*i, &set.name)),
    );
    sets.into_iter().map(|(_, set)| set).collect()
}

/// Refuses a name that stands twice in `list`; `field` is where in an entry the name is.
pub(crate) fn refuse_same_names<'a>(
    checks: &mut Checks,
    list: &str,
    field: &str,
    names: impl Iterator<Item = (usize, &'a Name)>,
) {
    let mut first: HashMap<&Name, usize> = HashMap::new();
    for (i, name) in names {
        let earlier = *first.entry(name).or_insert(i);
        if earlier != i {
            checks.refuse(
                format_args!("{list}[{i}]{field}"),
                format!("{name} is the name of {list}[{earlier}] too"),
            );
        }
    }
}
