//! The engine's part that knows the network: what owners say of it, what was found out of it, and what comes of both for
//! those that ask why a backend does not see its clients.

use super::engine::Engine;
use super::view::timestamp;
use crate::lb::ListenerId;
use crate::lb::backend::BackendRuntime;
use crate::lb::network::{NodeId, Path, PathId, ports_of, proof_source};
use podline_api::{
    Apply, Listener, Name, Network, Node, Owner, PortShare, Rejected, Route, SourceAddress, v1,
};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;
use v1::watch_response::Event;

/// Nobody has looked whether the process can imitate clients, because nobody has asked for it.
pub(crate) const NOT_ASKED: &str = "no listener asks for it";
/// Backends whose next hop is asked for at once; the others have their turn when these are known.
const MAX_HOMELESS: usize = 1_000;
/// Next hops that are remembered.
const MAX_HOPS: usize = 100_000;

/// All that is known of the network.
#[derive(Debug)]
pub(super) struct Networks {
    /// What each owner says.
    pub(super) by_owner: BTreeMap<Owner, Network>,
    ids: HashMap<Name, NodeId>,
    paths: BTreeMap<PathId, PathEntry>,
    /// The kernel's next hop to backends whose node nobody names; absent where there is none.
    hops: HashMap<IpAddr, Option<IpAddr>>,
    /// Why this process can imitate nobody.
    problem: Option<String>,
    /// The ports that the kernel gives to sockets that ask for none.
    all_ports: (u16, u16),
    /// Somebody has asked whether clients can be imitated.
    is_asked: bool,
    /// How the virtual addresses do.
    pub(super) addresses: BTreeMap<IpAddr, v1::AddressStatus>,
}

impl Default for Networks {
    fn default() -> Self {
        Self {
            by_owner: BTreeMap::new(),
            ids: HashMap::new(),
            paths: BTreeMap::new(),
            hops: HashMap::new(),
            problem: Some(NOT_ASKED.to_owned()),
            all_ports: (32_768, 60_999),
            is_asked: false,
            addresses: BTreeMap::new(),
        }
    }
}

/// One way, with what was found last.
#[derive(Clone, Debug)]
struct PathEntry {
    name: Name,
    responder: Option<SocketAddr>,
    path: Path,
    reason: String,
    since: SystemTime,
}

impl PathEntry {
    fn untried(name: &Name, responder: Option<SocketAddr>) -> Self {
        let reason = match responder {
            Some(_) => "not tried yet",
            None => "the node has no responder of this IP version",
        };
        Self {
            name: name.clone(),
            responder,
            path: Path::Unproven,
            reason: reason.to_owned(),
            since: SystemTime::now(),
        }
    }
}

/// What this process can do to imitate clients, as the host's side found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Means {
    /// Why it cannot.
    pub(crate) problem: Option<String>,
    /// What sockets to backends on routes of ours are marked with.
    pub(crate) route_mark: Option<u32>,
    /// The ports that the kernel gives to sockets that ask for none.
    pub(crate) all_ports: (u16, u16),
    /// The addresses of this machine.
    pub(crate) own: HashSet<IpAddr>,
}

/// A way that can be proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Provable {
    /// Which.
    pub(crate) id: PathId,
    /// Who answers there.
    pub(crate) responder: SocketAddr,
    /// The reserved address to imitate.
    pub(crate) source: IpAddr,
    /// The ports to choose from.
    pub(crate) ports: Option<(u16, u16)>,
    /// What a socket to the responder has to be marked with.
    pub(crate) mark: Option<u32>,
}

impl Networks {
    /// Whether what `apply` says of the network contradicts other owners.
    pub(super) fn check(&self, apply: &Apply) -> Result<(), Rejected> {
        let Some(wanted) = &apply.network else {
            return Ok(());
        };
        for (owner, theirs) in self.by_owner.iter().filter(|(o, _)| **o != apply.owner) {
            let refuse = |path: String, problem: String| Rejected::Conflict { path, problem };
            let names: HashSet<&Name> = theirs.nodes.iter().map(|node| &node.name).collect();
            let mut nodes = wanted.nodes.iter();
            if let Some(at) = nodes.position(|node| names.contains(&node.name)) {
                let problem = format!("belongs to owner \"{owner}\"; a node has one owner");
                return Err(refuse(format!("network.nodes[{at}].name"), problem));
            }
            let ways: HashMap<_, _> = theirs.routes.iter().map(|r| (r.to, r.via)).collect();
            let differs = |route: &Route| ways.get(&route.to).is_some_and(|via| *via != route.via);
            if let Some(at) = wanted.routes.iter().position(differs) {
                let problem = format!("owner \"{owner}\" has another way there");
                return Err(refuse(format!("network.routes[{at}].to"), problem));
            }
            if wanted.port_share.is_some() && theirs.port_share.is_some() {
                let problem = format!("owner \"{owner}\" says which ports to use");
                return Err(refuse("network.portShare".to_owned(), problem));
            }
            if let Some((at, theirs)) = super::addresses::contradiction(wanted, theirs) {
                let problem = format!("owner \"{owner}\" puts it on {theirs}");
                return Err(refuse(
                    format!("network.addresses[{at}].interface"),
                    problem,
                ));
            }
        }
        Ok(())
    }

    /// What `apply` makes of what its owner says; nothing if that stays as it is.
    fn change(&self, apply: &Apply) -> Option<(v1::change::Action, Option<Network>)> {
        use v1::change::Action::{Added, Changed, Removed};
        let before = self.by_owner.get(&apply.owner);
        let wanted = match &apply.network {
            Some(wanted) => Some(wanted).filter(|wanted| !wanted.is_empty()),
            None if apply.replace_owned => None,
            None => return None,
        };
        match (before, wanted) {
            (None, None) => None,
            (Some(before), Some(wanted)) if before == wanted => None,
            (Some(_), Some(wanted)) => Some((Changed, Some(wanted.clone()))),
            (None, Some(wanted)) => Some((Added, Some(wanted.clone()))),
            (Some(_), None) => Some((Removed, None)),
        }
    }

    /// The answer's line for what `apply` changes of the network.
    pub(super) fn preview(&self, apply: &Apply) -> Option<v1::Change> {
        self.change(apply).map(|(action, _)| v1::Change {
            what: "network".to_owned(),
            action: action.into(),
            ..v1::Change::default()
        })
    }

    fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.by_owner.values().flat_map(|network| &network.nodes)
    }

    /// The part of the ports that an owner gives us.
    fn port_share(&self) -> Option<PortShare> {
        let mut all = self.by_owner.values();
        all.find_map(|network| network.port_share)
    }

    pub(super) fn has_node(&self, name: &Name) -> bool {
        self.nodes().any(|node| node.name == *name)
    }

    /// All owners' together.
    fn union(&self) -> Network {
        Network {
            nodes: self.nodes().cloned().collect(),
            routes: self.routes(),
            port_share: self.port_share(),
            addresses: self.virtual_addresses().into_values().collect(),
        }
    }

    /// Two owners may want the same one.
    fn routes(&self) -> Vec<Route> {
        let mut there = HashSet::new();
        let all = self.by_owner.values().flat_map(|network| &network.routes);
        all.filter(|route| there.insert(route.to))
            .copied()
            .collect()
    }

    /// Those that `nodes` names, or all.
    pub(super) fn statuses(&self, nodes: &[Name]) -> Vec<v1::PathStatus> {
        let all = self.paths.iter();
        all.filter(|(_, entry)| nodes.is_empty() || nodes.contains(&entry.name))
            .map(|(id, entry)| path_status(*id, entry))
            .collect()
    }

    /// Why this process can imitate nobody.
    pub(super) fn problem(&self) -> &str {
        self.problem.as_deref().unwrap_or_default()
    }
}

impl Engine {
    /// Takes what `apply` says of the network.
    pub(super) fn put_network(&mut self, apply: &Apply) -> Option<v1::Change> {
        let answer = self.networks.preview(apply)?;
        let (_, wanted) = self.networks.change(apply)?;
        match wanted {
            Some(wanted) => self.networks.by_owner.insert(apply.owner.clone(), wanted),
            None => self.networks.by_owner.remove(&apply.owner),
        };
        self.learn_nodes();
        self.learn_ports();
        self.find_nodes();
        self.networks.learn_virtual_addresses();
        Some(answer)
    }

    /// Brings ways and view in line with the nodes.
    fn learn_nodes(&mut self) {
        let networks = &mut self.networks;
        let names: Vec<Name> = networks.nodes().map(|node| node.name.clone()).collect();
        for name in names {
            let next = NodeId(u32::try_from(networks.ids.len()).unwrap_or(NodeId::NONE - 1));
            networks.ids.entry(name).or_insert(next);
        }
        let mut before = std::mem::take(&mut networks.paths);
        let mut now = BTreeMap::new();
        for node in networks.nodes() {
            for ipv6 in [false, true].into_iter().filter(|v6| speaks(node, *v6)) {
                let node_id = networks.ids[&node.name];
                let id = PathId {
                    node: node_id,
                    ipv6,
                };
                let responder = node.responders.iter().find(|r| r.is_ipv6() == ipv6);
                let mut known = before.remove(&id);
                if known.as_ref().map(|entry| entry.responder) != Some(responder.copied()) {
                    let untried = PathEntry::untried(&node.name, responder.copied());
                    let was_tried = known.filter(|entry| entry.path != Path::Unproven);
                    if was_tried.is_some() {
                        let status = path_status(id, &untried);
                        self.notes.push(Event::Path(status));
                    }
                    known = Some(untried);
                }
                now.extend(known.map(|entry| (id, entry)));
            }
        }
        networks.paths = now;
        let view = Arc::make_mut(&mut self.table.network);
        let ids = &networks.ids;
        view.set_networks(networks.by_owner.values(), |name| ids[name]);
        for (id, entry) in &networks.paths {
            view.set_path(*id, entry.path);
        }
    }

    fn learn_ports(&mut self) {
        let all = self.networks.all_ports;
        let ports = self.networks.port_share().map(|share| ports_of(share, all));
        Arc::make_mut(&mut self.table.network).ports = ports;
    }

    /// Tells all backends which node they run on.
    fn find_nodes(&self) {
        for set in self.sets.values() {
            for backend in set.backends.values() {
                let address = backend.runtime.key.address.ip();
                let node = self.node_number(backend.node.as_ref(), address);
                backend.runtime.node.store(node, Relaxed);
            }
        }
    }

    /// The node of a backend: as its owner names it, else by its address, else by the way there.
    pub(super) fn node_number(&self, named: Option<&Name>, address: IpAddr) -> u32 {
        let view = &self.table.network;
        let node = match named {
            Some(name) => {
                let is_there = |id: &&NodeId| {
                    let id = **id;
                    let way = |ipv6| PathId { node: id, ipv6 };
                    let paths = &self.networks.paths;
                    paths.contains_key(&way(false)) || paths.contains_key(&way(true))
                };
                self.networks.ids.get(name).filter(is_there).copied()
            }
            None => view.node_of(address).or_else(|| {
                let hop = self.networks.hops.get(&address).copied().flatten();
                view.node_at(hop?)
            }),
        };
        node.map_or(NodeId::NONE, |node| node.0)
    }

    /// A listener, or somebody who asked for a proof, wants clients to be imitated.
    pub(super) fn wants_imitation(&self) -> bool {
        self.networks.is_asked || self.has_imitating_listener()
    }

    /// Those that are bound to an address.
    pub(super) fn listeners_at(&self, ip: IpAddr) -> Vec<ListenerId> {
        let all = self.listeners.values();
        let there = all.filter(|entry| entry.wanted.address.ip() == ip);
        there.map(|entry| entry.id).collect()
    }

    pub(super) fn has_imitating_listener(&self) -> bool {
        let mut listeners = self.listeners.values();
        listeners.any(|entry| imitates(&entry.wanted))
    }

    /// Somebody needs to know whether clients can be imitated; whether that is not known yet.
    pub(super) fn ask_for_imitation(&mut self) -> bool {
        self.networks.is_asked = true;
        self.networks.problem.as_deref() == Some(NOT_ASKED)
    }

    /// Something that is put back after a restart wants clients to be imitated.
    pub(super) fn will_want_imitation(&self) -> bool {
        let owners = self.waiting_owners.iter();
        owners.flat_map(|owner| &owner.listeners).any(imitates)
    }

    /// Learns what this process can do.
    pub(super) fn learn_means(&mut self, means: Means) {
        let can_imitate = means.problem.is_none();
        // Whoever claims to be one of our listeners is none, wherever its address is now.
        let listeners = self.listeners.values().map(|l| l.wanted.address.ip());
        let own: HashSet<_> = means.own.into_iter().chain(listeners).collect();
        let view = Arc::make_mut(&mut self.table.network);
        let is_known = view.can_imitate == can_imitate
            && view.route_mark == means.route_mark
            && view.own() == &own
            && self.networks.all_ports == means.all_ports;
        view.can_imitate = can_imitate;
        view.route_mark = means.route_mark;
        view.set_own(own);
        self.networks.problem = means.problem;
        self.networks.all_ports = means.all_ports;
        self.learn_ports();
        self.dirty |= !is_known;
    }

    /// Ways that can be proven: those to `nodes`, or all.
    pub(super) fn provable(&self, nodes: &[Name]) -> Vec<Provable> {
        let view = &self.table.network;
        let slot = self.networks.port_share().map_or(0, |share| share.slot);
        let all = self.networks.paths.iter();
        all.filter(|(_, entry)| nodes.is_empty() || nodes.contains(&entry.name))
            .filter_map(|(id, entry)| {
                let responder = entry.responder?;
                Some(Provable {
                    id: *id,
                    responder,
                    source: proof_source(id.ipv6, slot),
                    ports: view.ports,
                    mark: view.mark(responder.ip()),
                })
            })
            .collect()
    }

    /// Learns what an attempt to prove a way came to. One whose node or responder changed meanwhile says nothing.
    pub(super) fn on_proof(&mut self, proven: &Provable, path: Path, reason: String) {
        let Some(entry) = self.networks.paths.get(&proven.id) else {
            return;
        };
        if entry.responder == Some(proven.responder) {
            self.set_path(proven.id, path, reason);
        }
    }

    /// A connection that imitated its client got no answer, and the one that did not imitate it did.
    pub(super) fn on_no_answer(&mut self, backend: &BackendRuntime) {
        let Some(node) = backend.node() else {
            return;
        };
        let backend = backend.key.address;
        let id = PathId {
            node,
            ipv6: backend.is_ipv6(),
        };
        let why = "did not answer an imitated client, and did answer the proxy";
        self.set_path(id, Path::Unproven, format!("{backend} {why}"));
    }

    fn set_path(&mut self, id: PathId, path: Path, reason: String) {
        let Some(entry) = self.networks.paths.get_mut(&id) else {
            return;
        };
        if entry.path == path && entry.reason == reason {
            return;
        }
        if entry.path != path {
            entry.path = path;
            entry.since = SystemTime::now();
            Arc::make_mut(&mut self.table.network).set_path(id, path);
            self.dirty = true;
        }
        entry.reason = reason;
        let status = path_status(id, &self.networks.paths[&id]);
        self.notes.push(Event::Path(status));
    }

    /// Backends whose node nobody names and no range holds, where a way to a node could tell.
    pub(super) fn homeless_backends(&self) -> Vec<IpAddr> {
        if self.networks.paths.is_empty() {
            return Vec::new();
        }
        let mut addresses = HashSet::new();
        for backend in self.sets.values().flat_map(|set| set.backends.values()) {
            let address = backend.runtime.key.address.ip();
            let is_named = backend.node.is_some();
            if !is_named && self.table.network.node_of(address).is_none() {
                addresses.insert(address);
            }
        }
        let mut unknown: Vec<_> = addresses.into_iter().collect();
        // Those that were never asked for come first.
        unknown.sort_by_key(|address| self.networks.hops.contains_key(address));
        unknown.truncate(MAX_HOMELESS);
        unknown
    }

    /// Learns the kernel's next hops.
    pub(super) fn learn_hops(&mut self, hops: Vec<(IpAddr, Option<IpAddr>)>) {
        let mut differs = false;
        if self.networks.hops.len() > MAX_HOPS {
            self.networks.hops = HashMap::new(); // most of them are of backends that are gone
        }
        for (address, hop) in hops {
            differs |= self.networks.hops.insert(address, hop) != Some(hop);
        }
        if differs {
            self.find_nodes();
        }
    }

    /// All routes that owners want.
    pub(super) fn routes_wanted(&self) -> Vec<Route> {
        self.networks.routes()
    }

    /// What is known of the network; nothing where nobody has said anything and nobody asks for anything.
    pub(super) fn network_status(&self) -> Option<v1::NetworkStatus> {
        let networks = &self.networks;
        let union = networks.union();
        let is_idle = union.is_empty() && !self.wants_imitation();
        (!is_idle).then(|| v1::NetworkStatus {
            network: (!union.is_empty()).then(|| (&union).into()),
            paths: networks.statuses(&[]),
            transparency_problem: networks.problem().to_owned(),
            addresses: networks.addresses.values().cloned().collect(),
        })
    }

    /// Why `backend` does not see the clients of a listener that wants it to; nothing where it does, as far as that does
    /// not depend on the client.
    pub(super) fn source_note(&self, set: &Name, node: u32, address: IpAddr) -> Option<String> {
        let leads = |wanted: SourceAddress| {
            let mut all = self.listeners.values();
            let to_set = |l: &super::entry::ListenerEntry| l.wanted.leads_to(set);
            all.any(|l| to_set(l) && l.wanted.source_address == wanted)
        };
        let insists = leads(SourceAddress::Transparent);
        if !insists && !leads(SourceAddress::PreferTransparent) {
            return None;
        }
        let consequence = if insists {
            "cannot be reached under its clients' addresses"
        } else {
            "sees the proxy's address instead of its clients'"
        };
        let why = match &self.networks.problem {
            Some(problem) => format!("this proxy can imitate nobody: {problem}"),
            None => self.path_note(node, address.is_ipv6(), insists)?,
        };
        Some(format!("{consequence}: {why}"))
    }

    fn path_note(&self, node: u32, ipv6: bool, insists: bool) -> Option<String> {
        if node == NodeId::NONE {
            let why = "it is not known which node it runs on";
            return (!insists).then(|| why.to_owned());
        }
        let node = NodeId(node);
        let entry = self.networks.paths.get(&PathId { node, ipv6 })?;
        let name = &entry.name;
        match entry.path {
            Path::Proven { .. } => None,
            Path::Unproven if insists => None,
            Path::Unproven => Some(format!(
                "the way to node {name} is not proven: {}",
                entry.reason
            )),
            Path::Failed => Some(format!("the way to node {name} fails: {}", entry.reason)),
        }
    }
}

fn path_status(id: PathId, entry: &PathEntry) -> v1::PathStatus {
    let (state, bridged) = match entry.path {
        Path::Unproven => (v1::path_status::State::Unproven, false),
        Path::Proven { bridged } => (v1::path_status::State::Proven, bridged),
        Path::Failed => (v1::path_status::State::Failed, false),
    };
    v1::PathStatus {
        node: entry.name.to_string(),
        ipv6: id.ipv6,
        state: state.into(),
        reason: entry.reason.clone(),
        since: Some(timestamp(entry.since)),
        bridged,
    }
}

/// It wants its clients to be imitated.
pub(super) fn imitates(listener: &Listener) -> bool {
    listener.source_address != SourceAddress::Snat
}

/// The node has something of this IP version.
fn speaks(node: &Node, ipv6: bool) -> bool {
    let addresses = node.addresses.iter().any(|a| a.is_ipv6() == ipv6);
    let ranges = node.pod_ranges.iter().any(|r| r.addr().is_ipv6() == ipv6);
    addresses || ranges || node.responders.iter().any(|r| r.is_ipv6() == ipv6)
}
