//! `mode: skip`: a Service or Ingress stays what it was, whatever becomes of its object. Nobody joins it. Who ends leaves it all the
//! same: its address may be somebody else's tomorrow. Pure.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use podline_api::{Backend, BackendSet, Listener, Name, Protocol, Weight};

use super::annotation::Words;
use super::config::Config;
use super::endpoints::aims_wrong;
use super::note::{Note, Reason};
use super::places::Place;
use super::plan::{Closed, Plan, PortOutcome};
use crate::cluster::{Cluster, Front, Transport};

/// What one was planned to be, and the places that it wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Last {
    pub(super) plan: Arc<Plan>,
    pub(super) places: BTreeSet<Place>,
}

/// The plan from before, without those who have ended; who is ending is closed. A place that an older one has by now
/// is given up: `holder` says who has one.
pub(super) fn keep(
    cluster: &Cluster,
    front: &Front,
    before: &Plan,
    holder: &dyn Fn(&Place) -> Option<Front>,
) -> (Plan, Closed) {
    let mut work = Work {
        cluster,
        namespace: &front.key().namespace,
        nodes: cluster.nodes().map(|node| &*node.uid).collect(),
        closed: Closed::new(),
    };
    let is_held = |listener: &&Arc<Listener>| {
        let holder = holder(&place(listener));
        holder.is_none_or(|holder| holder == *front)
    };
    let listeners: Vec<_> = before.listeners.iter().filter(is_held).cloned().collect();
    let led_to: HashSet<&Name> = listeners.iter().flat_map(|it| it.sets()).collect();
    let flows = listeners.iter();
    let flows = flows.filter(|listener| listener.protocol == Protocol::Udp);
    let flows: HashSet<&Name> = flows.flat_map(|listener| listener.sets()).collect();
    let sets = before.sets.iter();
    let sets = sets.filter(|set| led_to.contains(&set.name));
    let sets = sets.map(|set| work.set(set, flows.contains(&set.name)));
    let sets = sets.collect();
    let mode = Words::of(front).mode;
    let message =
        format!("{mode} is skip: what stands stays as it was, and nothing is written here");
    let plan = Plan {
        ports: ports(before, &listeners),
        sets,
        listeners: listeners.clone(),
        notes: vec![Note::new(Reason::Skipped, message)],
        is_skipped: true,
        last_good: None,
        config: Config {
            auto: None,
            ..before.config.clone()
        },
        waits_for_health: false,
        is_early: false,
        becomes_direct: false,
        without_gate: BTreeSet::new(),
        ..before.clone()
    };
    (plan, work.closed)
}

/// Where a listener stands.
fn place(listener: &Listener) -> Place {
    Place {
        address: listener.address.ip(),
        transport: match listener.protocol.transport() {
            podline_api::Transport::Tcp => Transport::Tcp,
            podline_api::Transport::Udp => Transport::Udp,
        },
        port: listener.address.port(),
    }
}

/// What became of the ports, with the listeners that are left.
fn ports(before: &Plan, listeners: &[Arc<Listener>]) -> Vec<PortOutcome> {
    let is_left = |name: &Name| listeners.iter().any(|listener| listener.name == *name);
    let port = |port: &PortOutcome| {
        let mut port = port.clone();
        let count = port.listeners.len();
        port.listeners.retain(is_left);
        if port.listeners.len() < count {
            port.error.get_or_insert(Reason::PortConflict);
        }
        port
    };
    before.ports.iter().map(port).collect()
}

struct Work<'a> {
    cluster: &'a Cluster,
    namespace: &'a str,
    /// By their uids.
    nodes: HashSet<&'a str>,
    closed: Closed,
}

impl Work<'_> {
    fn set(&mut self, set: &Arc<BackendSet>, is_of_flows: bool) -> Arc<BackendSet> {
        let backends: Vec<Backend> = set
            .backends
            .iter()
            .filter_map(|backend| self.backend(&set.name, backend, is_of_flows))
            .collect();
        if backends == set.backends {
            return Arc::clone(set);
        }
        Arc::new(BackendSet {
            backends,
            ..(**set).clone()
        })
    }

    /// Flows go on elsewhere once their backend is gone.
    fn backend(&mut self, set: &Name, backend: &Backend, is_of_flows: bool) -> Option<Backend> {
        let Some(id) = &backend.key.id else {
            let address = backend.key.address.ip();
            let is_ours = aims_wrong(self.cluster, self.namespace, address).is_none();
            return is_ours.then(|| backend.clone());
        };
        let Some(pod) = self.cluster.living_pod(id.as_str()) else {
            return self.nodes.contains(id.as_str()).then(|| backend.clone());
        };
        if !pod.is_deleting {
            return Some(backend.clone());
        }
        let closed = self.closed.entry(set.clone()).or_default();
        closed.insert(backend.key.clone());
        (!is_of_flows).then(|| Backend {
            weight: Weight::NONE,
            ..backend.clone()
        })
    }
}
