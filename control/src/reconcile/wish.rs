//! What a Service should say, from how it stands and what the proxies say. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::source;
use crate::build::annotation::{BALANCER, KEPT_CONFIG, LAST_GOOD};
use crate::build::balancer;
use crate::build::note::Note;
use crate::build::{Mode, Plan, PortOutcome, Standing};
use crate::cluster::service::Ingress;
use crate::cluster::{Family, Service};
use crate::observed::{Observed, ProxyView};

/// What the Service asks for can be done, as far as it is ours to do.
pub const ACCEPTED: &str = "podline.io/Accepted";
/// Every proxy that serves has its listeners.
pub const PROGRAMMED: &str = "podline.io/Programmed";
/// The Pods see their clients' addresses, where the Service wants that.
pub const SOURCE_ADDRESS: &str = "podline.io/SourceAddress";
/// How proxies that forward are marked, so that kube-proxy does not shortcut them.
const IP_MODE: &str = "Proxy";

/// What a Service should say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Our finalizer is on it.
    pub is_held: bool,
    /// Annotations of ours, and nobody else's.
    pub annotations: BTreeMap<&'static str, String>,
    /// It is to say that it goes straight to Pods, and to keep that.
    pub becomes_direct: bool,
    /// `status.loadBalancer.ingress`; `None`: as it is.
    pub ingress: Option<Vec<Ingress>>,
    /// Our conditions, by type; one that is absent goes; `None`: as they are.
    pub conditions: Option<BTreeMap<&'static str, Condition>>,
    /// Facts to be told by an event, those that are told already included.
    pub notes: Vec<Note>,
    /// Only events may be written: the Service is somebody else's, or wants nothing else.
    pub hands_off: bool,
}

/// A condition of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// `True` or `False`.
    pub is_true: bool,
    /// One word.
    pub reason: String,
    /// In words, without counts or times.
    pub message: String,
}

/// The proxies, as far as a status goes.
#[derive(Clone, Copy, Debug)]
pub struct Proxies<'a> {
    /// What they say.
    pub observed: &'a Observed,
    /// Those that clients are told of, by name: they serve, or did until a moment ago.
    pub listed: &'a BTreeSet<String>,
    /// It is too early to say that a proxy is gone: addresses that clients were told of stay.
    pub is_early: bool,
    /// The version that brought the Service's listeners as they are.
    pub since: u64,
    /// What there is to say of the source address that its Pods see.
    pub source: Option<&'a Condition>,
}

/// What a Service that stands like this should say; `None`: nothing, it is none of our business, or nobody
/// knows yet.
pub fn wish(service: &Service, standing: Option<&Standing>, proxies: &Proxies<'_>) -> Option<Wish> {
    match standing? {
        Standing::Ours(plan) if plan.is_early => None,
        Standing::Ours(plan) if plan.is_skipped => Some(hands_off(&plan.notes)),
        Standing::Ours(plan) => Some(ours(service, plan, proxies)),
        Standing::Leaving => Some(leaving(proxies)),
        Standing::Other(note) => Some(hands_off(std::slice::from_ref(note))),
    }
}

fn hands_off(notes: &[Note]) -> Wish {
    Wish {
        notes: notes.to_vec(),
        hands_off: true,
        ..Wish::default()
    }
}

fn ours(service: &Service, plan: &Arc<Plan>, proxies: &Proxies<'_>) -> Wish {
    let mut annotations = BTreeMap::new();
    annotations.extend(plan.last_good.clone().map(|text| (LAST_GOOD, text)));
    annotations.extend(balancer::id(&plan.addresses).map(|id| (BALANCER, id)));
    annotations.extend(plan.config.text.clone().map(|text| (KEPT_CONFIG, text)));
    let programmed = programmed(plan, proxies);
    let known = programmed.is_some();
    let mut conditions = programmed
        .map(|programmed| BTreeMap::from([(ACCEPTED, accepted(plan)), (PROGRAMMED, programmed)]));
    let mut notes = plan.notes.clone();
    notes.extend(super::addresses::notes(plan, proxies.observed));
    if let (Some(conditions), Some(source)) = (&mut conditions, proxies.source) {
        conditions.insert(SOURCE_ADDRESS, source.clone());
        let news = source::news(service, plan, source);
        // Where the plan says it already, it is said.
        notes.extend(news.filter(|note| plan.notes.iter().all(|it| it.reason != note.reason)));
    }
    Wish {
        is_held: true,
        annotations,
        becomes_direct: plan.becomes_direct,
        ingress: known
            .then(|| ingress(&service.families, &service.ingress, plan, proxies))
            .flatten(),
        conditions,
        notes,
        hands_off: false,
    }
}

/// What leaves is let go once no proxy that serves has anything of it.
pub(super) fn is_still_held(proxies: &Proxies<'_>) -> bool {
    let mut serving = proxies.observed.serving().peekable();
    let is_known = serving.peek().is_some();
    let is_gone = serving.all(|(_, proxy)| proxy.acked >= proxies.since);
    // Without any proxy that serves nothing can be served, and a proxy that comes gets the whole state first.
    is_known && !is_gone
}

fn leaving(proxies: &Proxies<'_>) -> Wish {
    Wish {
        is_held: is_still_held(proxies),
        ingress: Some(Vec::new()),
        conditions: Some(BTreeMap::new()),
        ..Wish::default()
    }
}

fn accepted(plan: &Plan) -> Condition {
    let warning = plan.notes.iter().find(|note| note.reason.is_warning());
    let mode = match plan.mode {
        Mode::Direct => "Direct",
        Mode::NodePort => "NodePort",
    };
    let notes: Vec<_> = plan.notes.iter().map(ToString::to_string).collect();
    Condition {
        is_true: warning.is_none(),
        reason: warning.map_or(mode, |note| note.reason.as_str()).to_owned(),
        message: notes.join("; "),
    }
}

/// `None`: it is not known yet; what was said before may well be true.
pub(super) fn programmed(plan: &Plan, proxies: &Proxies<'_>) -> Option<Condition> {
    let mut serving = proxies.observed.serving().peekable();
    serving.peek()?;
    let of = |is_true, reason: &str, message: String| {
        Some(Condition {
            is_true,
            reason: reason.to_owned(),
            message,
        })
    };
    for (name, proxy) in serving {
        if proxy.acked < proxies.since {
            return None;
        }
        for listener in plan.listeners.iter().map(|listener| &listener.name) {
            if let Some(problem) = proxy.refused.get(listener) {
                return of(
                    false,
                    "Refused",
                    format!("proxy {name} refuses {listener}: {problem}"),
                );
            }
            if let Some(problem) = proxy.failed_listeners.get(listener) {
                return of(
                    false,
                    "ListenerFailed",
                    format!("proxy {name} cannot bind {listener}: {problem}"),
                );
            }
        }
    }
    if plan.listeners.is_empty() {
        return of(
            false,
            "NoListener",
            "none of its ports can be served".to_owned(),
        );
    }
    of(true, "Programmed", String::new())
}

/// `told` is what clients were told before. `None`: as it is.
pub(super) fn ingress(
    families: &[Family],
    told: &[Ingress],
    plan: &Plan,
    proxies: &Proxies<'_>,
) -> Option<Vec<Ingress>> {
    let mut found: Vec<Ingress> = Vec::new();
    let listed = |name: &&String| proxies.listed.contains(*name);
    let all = proxies.observed.proxies.iter();
    let listed: Vec<&ProxyView> = all
        .filter(|(name, _)| listed(name))
        .map(|(_, proxy)| &**proxy)
        .collect();
    let mut add = |ip: IpAddr, proxy: Option<&ProxyView>| {
        if families.contains(&Family::of(ip)) && found.iter().all(|other| other.ip != Some(ip)) {
            let ports = plan
                .ports
                .iter()
                .map(|port| port_status(port, proxy))
                .collect();
            found.push(Ingress {
                ip: Some(ip),
                ip_mode: Some(IP_MODE.to_owned()),
                ports,
            });
        }
    };
    if plan.addresses.is_empty() {
        for proxy in &listed {
            for ip in &proxy.addresses {
                add(*ip, Some(proxy));
            }
        }
        let told = told.iter().filter(|_| proxies.is_early);
        for ip in told.filter_map(|entry| entry.ip) {
            add(ip, None);
        }
    } else {
        for ip in &plan.addresses {
            add(*ip, None);
        }
    }
    if plan.listeners.is_empty() {
        return Some(Vec::new());
    }
    found.sort_by_key(|entry| entry.ip.map(|ip| (Family::of(ip), ip)));
    (!found.is_empty()).then_some(found)
}

fn port_status(
    port: &PortOutcome,
    proxy: Option<&ProxyView>,
) -> (u16, crate::cluster::Transport, Option<String>) {
    let failed = |proxy: &ProxyView| {
        let bad =
            |name| proxy.failed_listeners.contains_key(name) || proxy.refused.contains_key(name);
        port.listeners.iter().any(bad)
    };
    let own = port.error.map(|reason| format!("podline.io/{reason}"));
    let error = own.or_else(|| {
        proxy
            .is_some_and(failed)
            .then(|| "podline.io/ListenerFailed".to_owned())
    });
    (port.port, port.protocol, error)
}
