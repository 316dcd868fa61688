//! How Pods that wait stand with what one Service is behind, as far as the cluster and its build tell: bound, and behind which listeners;
//! never to be bound, and why; or not yet. Pure.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use podline_api::{BackendId, BackendSet, Name};

use super::reason::Reason;
use super::verdict::{Part, Said};
use crate::build::modes::Modes;
use crate::build::note::{self, Note};
use crate::build::{Builder, Mode, Plan, Standing};
use crate::cluster::{Cluster, Endpoint, Family, Front, Key, Pod, Slice};

/// How a Pod stands with a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    /// The Service is none of ours, or not any more.
    NotOurs,
    /// Its Pods are reached through node ports.
    NodePort,
    /// It is a backend.
    Bound(Vec<Part>),
    /// It will be one, as far as is known: the slices have to follow.
    Waits(&'static str),
    /// The Service has to be mended first.
    Wrong(Said),
    /// It can never be one.
    Never(Said),
}

/// How each of `pods` stands with what a Service is behind, in their order: its own load balancer, and others that lead to
/// it.
pub(super) fn stands(
    cluster: &Cluster,
    builder: &Builder,
    key: &Key,
    pods: &[&Pod],
) -> Vec<Vec<Stand>> {
    let mut all = vec![Vec::new(); pods.len()];
    for front in cluster.fronts_of(key) {
        let stands = with(cluster, builder, &front, key, pods);
        for (all, stand) in all.iter_mut().zip(stands) {
            all.push(stand);
        }
    }
    all
}

/// How they stand with one of these.
fn with(
    cluster: &Cluster,
    builder: &Builder,
    front: &Front,
    key: &Key,
    pods: &[&Pod],
) -> Vec<Stand> {
    let all = |stand: &Stand| vec![stand.clone(); pods.len()];
    let (Some(Standing::Ours(plan)), Some(entry)) = (builder.standing(front), cluster.service(key))
    else {
        return all(&Stand::NotOurs);
    };
    if plan.mode == Mode::NodePort {
        return all(&Stand::NodePort);
    }
    let whole = whole(front, plan);
    let found = Found::of(cluster, plan, key, pods);
    let modes = Modes::of(cluster, &entry.service, plan.modes.get(key).copied());
    let since = builder.since(front);
    let stand = |(n, pod): (usize, &Pod)| {
        let refused = modes.refuse(pod).filter(|_| !plan.is_skipped);
        let whole = whole.clone().or_else(|| Some(of_mode(front, &refused?)));
        found.stand(plan, front, pod, n, since, whole.as_ref())
    };
    pods.iter().copied().enumerate().map(stand).collect()
}

/// What holds for all Pods of a Service.
fn whole(front: &Front, plan: &Plan) -> Option<Stand> {
    if plan.is_early {
        return Some(Stand::Waits("the Service's certificates were not read yet"));
    }
    let is_skipped = |error| error == Some(note::Reason::SCTPNotSupported);
    if plan.ports.iter().all(|port| is_skipped(port.error)) {
        let message = format!("{front} has no port that is forwarded");
        return Some(Stand::Never(Said::new(Reason::Skipped, message)));
    }
    // Nothing is lost by a port, or a family, that nobody is sent through.
    if !plan.listeners.is_empty() {
        return None;
    }
    let mut ports = plan.ports.iter();
    let error = ports.find_map(|port| port.error.filter(|error| !is_skipped(Some(*error))))?;
    let of_reason = |note: &&Note| note.reason == error;
    let words = plan.notes.iter().find(of_reason).map(ToString::to_string);
    let words = words.unwrap_or_else(|| error.to_string());
    let message = format!("{front}: {words}");
    Some(Stand::Wrong(Said::new(Reason::InvalidConfig, message)))
}

/// A Pod that may not be bound for its network mode.
fn of_mode(front: &Front, note: &Note) -> Stand {
    let message = format!("{front}: {}", note.message);
    Stand::Never(Said::new(Reason::NetworkModeRefused, message))
}

/// What was found of one Pod in a Service's sets and slices.
#[derive(Clone, Default)]
struct OfPod {
    parts: Vec<Part>,
    /// Families of the slices that name it.
    named: BTreeSet<Family>,
    /// A slice that names it has a port that is listened at in its family.
    has_port: bool,
    /// Its family is listened in.
    has_family: bool,
    /// It would be bound if the quota allowed it.
    is_left_out: bool,
}

/// What was found of all Pods that are asked about.
struct Found {
    pods: Vec<OfPod>,
    /// Families in which something is listened at.
    families: BTreeSet<Family>,
}

impl Found {
    /// One pass over the sets and slices, for however many Pods.
    fn of(cluster: &Cluster, plan: &Plan, service: &Key, pods: &[&Pod]) -> Self {
        let numbers = pods.iter().enumerate().map(|(n, pod)| (&*pod.uid, n));
        let numbers: HashMap<&str, usize> = numbers.collect();
        let of_service = plan.behind.iter().filter(|it| it.service == *service);
        let mut found = Self {
            pods: vec![OfPod::default(); pods.len()],
            families: of_service.map(|behind| behind.family).collect(),
        };
        found.bound(plan, &numbers);
        let is_full = plan
            .notes
            .iter()
            .any(|note| note.reason == note::Reason::BeyondQuota);
        for slice in cluster.slices_of(service) {
            let Some(family) = slice.family else {
                continue;
            };
            let sets = sets_of(plan, slice, family);
            for endpoint in &slice.endpoints {
                let uid = endpoint.pod.as_ref().map(|(_, uid)| &**uid);
                let Some(n) = uid.and_then(|uid| numbers.get(uid)).copied() else {
                    continue;
                };
                let is_left_out =
                    is_full && could_be_bound(endpoint, pods[n]) && is_in_none(endpoint, &sets);
                let of_pod = &mut found.pods[n];
                of_pod.named.insert(family);
                of_pod.has_family |= found.families.contains(&family);
                of_pod.has_port |= !sets.is_empty();
                of_pod.is_left_out |= is_left_out;
            }
        }
        found
    }

    fn bound(&mut self, plan: &Plan, numbers: &HashMap<&str, usize>) {
        for set in &plan.sets {
            let of_set = |name: &&Name| {
                let mut listeners = plan.listeners.iter();
                listeners.any(|it| it.name == **name && it.leads_to(&set.name))
            };
            let names = plan.listeners.iter().map(|listener| &listener.name);
            let names: Vec<&Name> = names.filter(of_set).collect();
            for backend in &set.backends {
                let id = backend.key.id.as_ref().map(BackendId::as_str);
                let Some(n) = id.and_then(|id| numbers.get(id)) else {
                    continue;
                };
                self.pods[*n].parts.extend(names.iter().map(|name| Part {
                    since: 0,
                    listener: (*name).clone(),
                    set: set.name.clone(),
                    backend: backend.key.clone(),
                }));
            }
        }
    }

    fn stand(
        &self,
        plan: &Plan,
        front: &Front,
        pod: &Pod,
        n: usize,
        since: u64,
        whole: Option<&Stand>,
    ) -> Stand {
        let found = &self.pods[n];
        let never = |reason, message: String| Stand::Never(Said::new(reason, message));
        if pod.is_host_network {
            let message =
                format!("{front} goes straight to Pods, and it has no address of its own");
            return never(Reason::HostNetwork, message);
        }
        if plan.is_skipped && found.parts.is_empty() {
            let message = format!("{front} has mode skip, and nobody joins it");
            return never(Reason::Skipped, message);
        }
        if let Some(whole) = whole {
            return whole.clone();
        }
        if !found.parts.is_empty() {
            // Slices of both families belong together, and are written one after the other.
            let wanted = pod.addresses.iter().map(|ip| Family::of(*ip));
            let mut wanted = wanted.filter(|family| self.families.contains(family));
            if !wanted.all(|family| found.named.contains(&family)) {
                return Stand::Waits("the slices of its Services do not name it in every family");
            }
            let mut parts = found.parts.clone();
            for part in &mut parts {
                part.since = since;
            }
            return Stand::Bound(parts);
        }
        if found.is_left_out {
            let of_quota = |note: &&Note| note.reason == note::Reason::BeyondQuota;
            let words = plan.notes.iter().find(of_quota).map(|note| &*note.message);
            let message = format!("{front}: {}", words.unwrap_or_default());
            return never(Reason::BeyondQuota, message);
        }
        if found.named.is_empty() {
            return Stand::Waits("no slice of its Services names it yet");
        }
        if !found.has_family {
            let message = format!("{front} has no address of the Pod's family");
            return never(Reason::Skipped, message);
        }
        if !found.has_port {
            let message = format!("it has none of the target ports of {front}");
            return never(Reason::PortNotOnPod, message);
        }
        Stand::Waits("its slices and it do not say the same yet")
    }
}

/// The sets that endpoints of a slice become backends of.
fn sets_of<'a>(plan: &'a Plan, slice: &Slice, family: Family) -> Vec<(&'a Arc<BackendSet>, u16)> {
    let mut found = Vec::new();
    for behind in &plan.behind {
        if behind.service != slice.service || behind.family != family {
            continue;
        }
        let mut ports = slice.ports.iter();
        let of_port = ports.find(|it| it.name == behind.port && it.protocol == behind.protocol);
        let Some(of_port) = of_port else {
            continue;
        };
        let sets = plan.sets.iter().filter(|set| set.name == behind.set);
        found.extend(sets.map(|set| (set, of_port.port)));
    }
    found
}

/// Nothing but the quota keeps it out.
fn could_be_bound(endpoint: &Endpoint, pod: &Pod) -> bool {
    let is_its_own = |address| pod.addresses.contains(&address);
    !endpoint.is_terminating && endpoint.address.is_some_and(is_its_own)
}

/// None of the sets has it, nor another one at its address.
fn is_in_none(endpoint: &Endpoint, sets: &[(&Arc<BackendSet>, u16)]) -> bool {
    let Some(address) = endpoint.address else {
        return false;
    };
    let is_in = |(set, port): &(&Arc<BackendSet>, u16)| {
        let place = SocketAddr::new(address, *port);
        let backends = &set.backends;
        backends
            .binary_search_by_key(&place, |backend| backend.key.address)
            .is_ok()
    };
    !sets.is_empty() && !sets.iter().any(is_in)
}
