//! What one Service becomes: listeners, backend sets, and what there is to tell about it; each of its ports in `port`. Pure.

mod idle;
mod port;
mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use podline_api::{
    Backend, BackendId, BackendKey, BackendSet, Limits, Listener, Name, Protocol, SourceAddress,
};

use super::addresses::OfFamily;
use super::annotation::{Read, Settings, Words};
use super::config::{self, Config};
use super::endpoints::{Candidate, Gathered, gather};
use super::modes::{self, Modes};
use super::node_port;
use super::note::{Note, Reason};
use super::places::{Place, Places};
use super::source_ranges;
use super::{Options, direct, health};
use crate::cluster::{
    Cluster, Entry, Family, Front, Key, Service, ServicePort, Switches, Transport,
};

pub(super) use idle::Offered;
#[cfg(test)]
pub(super) use port::name;
pub(super) use port::no_address;
pub(super) use tls::Shown;

/// What one Service becomes.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, in any combination"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Which object it is of.
    pub uid: Arc<str>,
    /// Straight to Pods, or through NodePorts.
    pub mode: Mode,
    /// Which source address the Pods are to see.
    pub source: Source,
    /// Where clients are to connect, one of a family at most; empty where they connect to the proxies themselves.
    pub addresses: Vec<IpAddr>,
    /// In the order of `spec.ports`.
    pub listeners: Vec<Arc<Listener>>,
    /// In the order of `spec.ports`.
    pub sets: Vec<Arc<BackendSet>>,
    /// Every port of the Service, and what is wrong with it.
    pub ports: Vec<PortOutcome>,
    /// What there is to tell, in the order of their reasons, nothing twice.
    pub notes: Vec<Note>,
    /// What the annotation of last good values is to hold.
    pub last_good: Option<String>,
    /// What TkeServiceConfigs say.
    pub config: Config,
    /// Depends on a health verdict that is not in yet.
    pub waits_for_health: bool,
    /// A Secret that it names was not read yet: there is nothing to tell before.
    pub is_early: bool,
    /// It is new, and the cluster's switch makes new Services direct.
    pub becomes_direct: bool,
    /// It stays as it was, because it says so; nothing is written to it.
    pub is_skipped: bool,
    /// Pods that are bound directly, live and have no readiness gate of ours.
    pub without_gate: BTreeSet<Key>,
    /// Which ports of which Services are behind which sets.
    pub behind: Vec<Behind>,
    /// The network modes that Services' Pods are bound in.
    pub(crate) modes: modes::OfServices,
}

/// A port of a Service in one family, and the set of its backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    /// The Service.
    pub service: Key,
    /// The port's name: joins it to the ports of slices.
    pub port: Arc<str>,
    /// Its protocol.
    pub protocol: Transport,
    /// Of the backends.
    pub family: Family,
    /// The set's name.
    pub set: Name,
}

/// How traffic reaches the Pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Straight to them.
    Direct,
    /// Through their nodes' ports.
    NodePort,
}

/// Which source address the Pods of a Service are to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// What is wished for: by the annotation, or as the mode has it.
    pub wished: SourceAddress,
    /// The Service says so itself.
    pub is_said: bool,
    /// The nodes of its Pods, to which the way back has to be proven.
    pub nodes: BTreeSet<(Name, Family)>,
}

/// How a port of a Service fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortOutcome {
    /// The number.
    pub port: u16,
    /// The protocol.
    pub protocol: Transport,
    /// Why it is not served, if it is not.
    pub error: Option<Reason>,
    /// The names of its listeners.
    pub listeners: Vec<Name>,
}

/// Why Pods behind node ports see the proxy.
pub(crate) const NODE_PORT_SOURCE: &str = "through node ports replies do not come back to the proxy, so the Pods see its address; go direct to have them see the client's";

/// Everything a plan is made of, beside the object itself.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) options: &'a Options,
    /// Whose plan it is.
    pub(super) front: &'a Front,
    /// Where its listeners stand, by family.
    pub(super) addresses: &'a [OfFamily],
    /// Who has which place.
    pub(super) places: &'a Places,
    /// Terminating backends that lost their weight before.
    pub(super) closed: Option<&'a Closed>,
    /// Who had no slot of the quota before.
    pub(super) left_out: Option<&'a OfSets>,
    /// What ports showed before.
    pub(super) shown: Option<&'a Shown>,
    /// What it was planned to be before.
    pub(super) before: Option<&'a Plan>,
}

impl Input<'_> {
    /// Terminating backends of a set that lost their weight before. One that is new, for other settings or weights, takes
    /// them over from all others: who is on the way out at one of them is nobody for it, either.
    fn closed_of(&self, set: &Name) -> BTreeSet<&BackendKey> {
        let closed = self.closed.into_iter().flatten();
        let has = |plan: &Plan| plan.sets.iter().any(|it| it.name == *set);
        let is_new = self.closed.is_some() && !self.before.is_some_and(has);
        let counting = closed.filter(|(name, _)| is_new || *name == set);
        counting.flat_map(|(_, keys)| keys).collect()
    }

    /// What a set's backends were before.
    fn before_of(&self, set: &Name) -> direct::Before<'_> {
        let mut sets = self.before.into_iter().flat_map(|plan| &plan.sets);
        let before = sets.find(|before| before.name == *set);
        direct::Before {
            backends: before.map(|before| &*before.backends),
            left_out: self.left_out.and_then(|sets| sets.get(set)),
        }
    }
}

/// Backends by set.
pub(super) type OfSets = BTreeMap<Name, BTreeSet<BackendKey>>;
/// Terminating backends that have no weight, by set.
pub(super) type Closed = OfSets;

/// Adds to what is remembered of a set.
fn keep(sets: &mut OfSets, set: &Name, keys: BTreeSet<BackendKey>) {
    if !keys.is_empty() {
        sets.entry(set.clone()).or_default().extend(keys);
    }
}

/// A plan, and the terminating backends that are never to have weight again.
pub(super) struct Planned {
    pub(super) plan: Plan,
    pub(super) closed: Closed,
    /// Who has no slot of the quota.
    pub(super) left_out: OfSets,
    /// What ports show.
    pub(super) shown: Shown,
}

/// Which ports of a Service want which places.
pub(super) fn places(
    service: &Service,
    addresses: &[OfFamily],
    options: &Options,
) -> BTreeSet<Place> {
    let supported = service
        .ports
        .iter()
        .filter(|port| protocol(port.protocol).is_some());
    let free = supported.filter(|port| !options.is_reserved(port.port));
    let place = |port: &ServicePort, address| Place {
        address,
        transport: port.protocol,
        port: port.port,
    };
    let addresses = addresses.iter().filter_map(|(_, address)| address.ok());
    let addresses: Vec<_> = addresses.collect();
    free.flat_map(|port| addresses.iter().map(move |address| place(port, *address)))
        .collect()
}

/// What a listener speaks for a port of this protocol, if it can at all.
const fn protocol(transport: Transport) -> Option<Protocol> {
    match transport {
        Transport::Tcp => Some(Protocol::Tcp),
        Transport::Udp => Some(Protocol::Udp),
        Transport::Sctp => None,
    }
}

/// How a Service's traffic is to go.
pub(super) fn mode(
    settings: &Settings,
    is_held: bool,
    switches: &Switches,
    options: &Options,
) -> (Mode, bool) {
    let becomes_direct = switches.direct_for_new && !is_held;
    let said = settings.direct;
    if said.unwrap_or(options.default_direct || becomes_direct) {
        (Mode::Direct, becomes_direct && said.is_none())
    } else {
        (Mode::NodePort, false)
    }
}

/// Plans one Service that is ours.
pub(super) fn plan(input: &Input<'_>, entry: &Entry, kept: Option<&config::Kept>) -> Planned {
    let service = &entry.service;
    let owner = config::Owner::service(input.front, entry);
    let anchors = config::of_ports(entry);
    let (config, notes) = config::of(input.cluster, &owner, &anchors, kept);
    let nothing = Plan {
        notes,
        config,
        ..nothing(entry, input.cluster.switches(), input.options)
    };
    let mut work = Work::new(input, nothing, &entry.annotations);
    work.notes_of_the_whole();
    work.limit_sources(&service.source_ranges);
    for port in &service.ports {
        work.port(service, port);
    }
    let ports = service.ports.iter().map(|it| (it.port, it.protocol));
    work.note_idle_annotations(&Offered {
        ports: ports.collect(),
        families: &service.families,
    });
    work.finish()
}

/// A Service that has nothing yet.
pub(super) fn nothing(entry: &Entry, switches: &Switches, options: &Options) -> Plan {
    let (settings, is_held) = (&entry.annotations.settings, entry.service.is_held());
    let (mode, becomes_direct) = mode(settings, is_held, switches, options);
    Plan {
        becomes_direct,
        ..Plan::nothing(&entry.service.uid, mode, source(settings, mode))
    }
}

impl Plan {
    /// Of the object `uid`, before anything was planned.
    pub(super) fn nothing(uid: &Arc<str>, mode: Mode, source: Source) -> Self {
        Self {
            uid: Arc::clone(uid),
            mode,
            source,
            addresses: Vec::new(),
            listeners: Vec::new(),
            sets: Vec::new(),
            ports: Vec::new(),
            notes: Vec::new(),
            last_good: None,
            config: Config::default(),
            waits_for_health: false,
            is_early: false,
            becomes_direct: false,
            is_skipped: false,
            without_gate: BTreeSet::new(),
            behind: Vec::new(),
            modes: modes::OfServices::new(),
        }
    }
}

/// The client's address where that is proven to work is the default of direct Services; through a node port replies
/// would go back past the proxy.
fn source(settings: &Settings, mode: Mode) -> Source {
    let said = settings.source_address;
    let default = match mode {
        Mode::Direct => SourceAddress::PreferTransparent,
        Mode::NodePort => SourceAddress::Snat,
    };
    Source {
        wished: said.unwrap_or(default),
        is_said: said.is_some(),
        nodes: BTreeSet::new(),
    }
}

/// A plan under way, of whatever object.
pub(super) struct Work<'a> {
    pub(super) input: Input<'a>,
    /// What its annotations say.
    pub(super) annotations: &'a Read,
    pub(super) mode: Mode,
    pub(super) limits: Limits,
    pub(super) plan: Plan,
    closed: Closed,
    left_out: OfSets,
    shown: Shown,
    /// Of what ports show, together.
    shown_bytes: usize,
}

impl<'a> Work<'a> {
    /// Goes on from `nothing`.
    pub(super) fn new(input: &Input<'a>, nothing: Plan, annotations: &'a Read) -> Self {
        let hosts = input.addresses.iter();
        let hosts = hosts.filter_map(|(_, address)| address.ok());
        Self {
            input: *input,
            annotations,
            mode: nothing.mode,
            limits: Limits::default(),
            plan: Plan {
                addresses: hosts.filter(|ip| !ip.is_unspecified()).collect(),
                last_good: annotations.last_good(),
                ..nothing
            },
            closed: Closed::new(),
            left_out: OfSets::new(),
            shown: Shown::new(),
            shown_bytes: 0,
        }
    }

    /// The plan, once every port is planned.
    pub(super) fn finish(mut self) -> Planned {
        self.note_nodes();
        self.note_gates();
        self.keep_closed();
        self.order_notes();
        Planned {
            plan: self.plan,
            closed: self.closed,
            left_out: self.left_out,
            shown: self.shown,
        }
    }

    /// Who has a place, if it is another.
    fn other_holder(&self, place: &Place) -> Option<&'a Front> {
        let holder = self.input.places.holder(place);
        holder.filter(|holder| *holder != self.input.front)
    }

    pub(super) fn note(&mut self, reason: Reason, message: impl Into<String>) {
        self.plan.notes.push(Note::new(reason, message));
    }

    /// A Service may have a thousand ports, and something is wrong with each: the status says that, a condition cannot.
    fn order_notes(&mut self) {
        const MOST: usize = 16;
        self.plan.notes.sort();
        self.plan.notes.dedup();
        let mut of_reason: BTreeMap<Reason, usize> = BTreeMap::new();
        self.plan.notes.retain_mut(|note| {
            let count = of_reason.entry(note.reason).or_default();
            *count += 1;
            if *count == MOST {
                "there are more".clone_into(&mut note.message);
            }
            *count <= MOST
        });
    }

    pub(super) fn notes_of_the_whole(&mut self) {
        let annotations = self.annotations;
        for problem in &annotations.problems {
            let message = format!(
                "{}: {}; the last readable value stays",
                problem.key, problem.problem
            );
            self.note(Reason::InvalidAnnotation, message);
        }
        if self.mode == Mode::NodePort && annotations.settings.direct.is_none() {
            let direct_access = Words::of(self.input.front).direct_access;
            let message = format!(
                "traffic goes through NodePorts; annotate {direct_access}: \"true\" to send it straight to Pods"
            );
            self.note(Reason::NodePortMode, message);
        }
        let wished = annotations.settings.source_address;
        if self.mode == Mode::NodePort && wished == Some(SourceAddress::Transparent) {
            self.note(Reason::SourceAddressImpossible, NODE_PORT_SOURCE);
        }
        for key in &self.input.cluster.switches().unreadable {
            let message = format!(
                "{key} of ConfigMap kube-system/tke-service-controller-config is neither true nor false"
            );
            self.note(Reason::InvalidSwitch, message);
        }
    }

    /// The backends of a port of a Service in one family, for whoever connects to port `listened`.
    pub(super) fn backends(
        &mut self,
        service: &Service,
        port: &ServicePort,
        listened: u16,
        family: Family,
        set: &Name,
    ) -> Vec<Backend> {
        let (cluster, options) = (self.input.cluster, self.input.options);
        self.plan.behind.push(Behind {
            service: service.key.clone(),
            port: Arc::clone(&port.name),
            protocol: port.protocol,
            family,
            set: set.clone(),
        });
        let beyond = match self.mode {
            Mode::Direct => {
                let modes = self.modes(service);
                let gathered = gather(cluster, &modes, service, port, family);
                self.tell_gathered(port, &gathered);
                let observed = cluster.observed();
                let is_healthy = |key: &BackendKey| health::on_all(observed, set, key);
                let closed = self.input.closed_of(set);
                let was_closed = |key: &BackendKey| closed.contains(key);
                let before = self.input.before_of(set);
                let mut candidates = gathered.candidates;
                self.weigh((port.protocol, listened), &mut candidates);
                let mut bound =
                    direct::bind(candidates, options.quota, before, was_closed, is_healthy);
                if port.protocol == Transport::Udp {
                    bound.leave_closed();
                }
                self.plan.waits_for_health |= bound.waits_for_health;
                self.plan.without_gate.extend(bound.without_gate);
                keep(&mut self.left_out, set, bound.left_out);
                keep(&mut self.closed, set, bound.closed);
                (bound.backends, bound.is_beyond_quota, "Pods")
            }
            Mode::NodePort => {
                let settings = &self.annotations.settings;
                let node_port = port.node_port.unwrap_or_default();
                let bound =
                    node_port::bind(cluster, service, settings, family, node_port, options.quota);
                (bound.backends, bound.is_beyond_quota, "nodes")
            }
        };
        let (backends, is_beyond, what) = beyond;
        if is_beyond {
            let quota = options.quota;
            self.note(
                Reason::BeyondQuota,
                format!("only {quota} {what} are bound; raise --backend-quota"),
            );
        }
        backends
    }

    /// Says who may connect; `said`: what the object's spec has of it.
    pub(super) fn limit_sources(&mut self, said: &[String]) {
        let groups = &self.annotations.settings.security_groups;
        let switches = self.input.cluster.switches();
        let (ranges, mut notes) = source_ranges::of(self.input.front, said, groups, switches);
        self.limits.source_ranges = ranges;
        self.plan.notes.append(&mut notes);
    }

    /// Which network mode a Service's Pods use.
    fn modes(&mut self, service: &Service) -> Modes<'a> {
        let before = self
            .input
            .before
            .and_then(|plan| plan.modes.get(&service.key));
        let modes = Modes::of(self.input.cluster, service, before.copied());
        let used = modes.used().map(|used| (service.key.clone(), used));
        self.plan.modes.extend(used);
        modes
    }

    /// Says what Pods weigh at a port where that is said.
    fn weigh(&self, (transport, number): (Transport, u16), candidates: &mut [Candidate]) {
        let Some(weights) = &self.annotations.settings.weights else {
            return;
        };
        for candidate in candidates {
            let pod = candidate.pod.as_ref();
            let pod = pod.and_then(|key| self.input.cluster.pod(key));
            candidate.weight = weights.of(transport, number, pod);
        }
    }

    /// A Pod that is being deleted stays closed until it has ended, though it may leave its slices or the mode change
    /// meanwhile.
    fn keep_closed(&mut self) {
        let is_deleting = |key: &&BackendKey| {
            let pod = |id: &BackendId| self.input.cluster.living_pod(id.as_str());
            let pod = key.id.as_ref().and_then(pod);
            pod.is_some_and(|pod| pod.is_deleting)
        };
        for (set, keys) in self.input.closed.into_iter().flatten() {
            let kept = keys.iter().filter(is_deleting).cloned().collect();
            keep(&mut self.closed, set, kept);
        }
    }

    fn tell_gathered(&mut self, port: &ServicePort, gathered: &Gathered) {
        /// One bad slice may hold a hundred bad endpoints.
        const MOST: usize = 3;
        let mut notes = gathered.notes.clone();
        notes.sort();
        notes.dedup();
        let mut of_reason = std::collections::HashMap::new();
        notes.retain(|note| {
            let count: &mut usize = of_reason.entry(note.reason).or_default();
            *count += 1;
            *count <= MOST
        });
        self.plan.notes.extend(notes);
        if gathered.lacks_port {
            let name = if port.name.is_empty() {
                port.port.to_string()
            } else {
                port.name.to_string()
            };
            let message = format!(
                "no Pod has the target port of port {name}: declare it in the containers' ports"
            );
            self.note(Reason::PortNotOnPod, message);
        }
    }

    /// Rolling updates do not wait for Pods that have no gate.
    fn note_gates(&mut self) {
        if self.input.options.gives_gates && !self.plan.without_gate.is_empty() {
            let message = "Pods without Podline's readiness gate are bound, and rolling updates do not wait for them: restart those that were made before the Service, or while no webhook answered";
            self.note(Reason::PodsWithoutGate, message);
        }
    }

    /// The nodes of the Pods that are bound.
    fn note_nodes(&mut self) {
        if self.mode == Mode::NodePort || self.plan.source.wished == SourceAddress::Snat {
            return;
        }
        let backends = self.plan.sets.iter().flat_map(|set| &set.backends);
        let nodes = backends.filter_map(|backend| {
            let family = Family::of(backend.key.address.ip());
            Some((backend.node.clone()?, family))
        });
        self.plan.source.nodes = nodes.collect();
    }
}

#[cfg(test)]
mod tests;
