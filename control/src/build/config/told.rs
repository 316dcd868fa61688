//! The values that count for the ports of a Service, or the rules of an Ingress, that follows a TkeServiceConfig, or did:
//! each with who set it. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use podline_api::{
    Affinity, AffinityKind, BackendSet, CheckKind, HttpMethod, HttpRoute, Listener, Name,
    PathMatch, Policy, RouteAction, duration,
};

use super::overlay::Port;
use super::{said, speech};
use crate::build::explain::Origin;
use crate::build::{Mode, Plan, PortOutcome};
use crate::cluster::service_config::{Anchor, Field, Fragment, ServiceConfig};
use crate::cluster::{Cluster, Entry, IngressEntry, Key};

/// Name, value, who set it.
type Value = (String, String, Origin);

/// Of the rules of an Ingress; nothing of one that has nothing to do with such objects.
pub fn of_ingress(cluster: &Cluster, entry: &IngressEntry, plan: &Plan) -> Vec<Value> {
    if plan.config.kept.is_empty() {
        return Vec::new();
    }
    let followed = followed(cluster, &entry.ingress.key, plan);
    let mut seen = BTreeSet::new();
    let listeners = plan.ports.iter().filter_map(|port| port.listeners.first());
    let listeners = listeners.filter_map(|name| plan.listeners.iter().find(|it| it.name == *name));
    let rules = listeners.flat_map(|listener| rules(listener));
    let rules = rules.filter(|(anchor, _)| seen.insert(anchor.clone()));
    let rows = rules.filter_map(|(anchor, set)| {
        let set = plan.sets.iter().find(|it| it.name == *set)?;
        let who = Who::of(plan, followed, &anchor);
        let (speech, port) = anchor.listener();
        let at = format!("{}{}", anchor.domain(), anchor.url());
        let label = format!("{port}/{} {at}", speech.as_str());
        Some(named(
            &label,
            rows(set, &who, Origin::Default, Origin::Default),
        ))
    });
    rows.flatten().collect()
}

/// The rules of a listener, and where they lead.
fn rules(listener: &Listener) -> Vec<(Anchor, &Name)> {
    let (speech, port) = (speech(listener.protocol), listener.address.port());
    let of = |route: &'_ HttpRoute| {
        let host = route.hosts.first().map(String::as_str).unwrap_or_default();
        let (PathMatch::Exact(path) | PathMatch::Prefix(path)) = &route.path;
        Anchor::Rule(speech, port, host.into(), path.as_str().into())
    };
    let routes = listener.http.iter().flat_map(|http| &http.routes);
    let forwarded = routes.filter_map(|route| match &route.action {
        RouteAction::Forward(set) => Some((of(route), set)),
        RouteAction::Redirect(_) => None,
    });
    let rest = listener.backend_set.as_ref();
    let rest = rest.map(|set| (Anchor::Rule(speech, port, "".into(), "/".into()), set));
    rest.into_iter().chain(forwarded).collect()
}

/// The object that is followed, with its name.
fn followed<'a>(
    cluster: &'a Cluster,
    owner: &Key,
    plan: &'a Plan,
) -> Option<(&'a Arc<str>, &'a ServiceConfig)> {
    let name = plan.config.followed.as_ref()?;
    let config = cluster.service_config(&owner.beside(name))?;
    Some((name, config))
}

fn named(label: &str, rows: Vec<(&'static str, String, Origin)>) -> Vec<Value> {
    let named = rows.into_iter().map(|(name, value, origin)| {
        let name = format!("{label} {name}");
        (name, value, origin)
    });
    named.collect()
}

/// Of the ports of a Service; nothing of one that has nothing to do with such objects.
pub fn values(cluster: &Cluster, entry: &Entry, plan: &Plan) -> Vec<Value> {
    let config = &plan.config;
    if config.kept.is_empty() {
        return Vec::new();
    }
    let ports = plan.ports.iter();
    ports
        .filter_map(|outcome| of_port(cluster, entry, plan, outcome))
        .flatten()
        .collect()
}

fn of_port(
    cluster: &Cluster,
    entry: &Entry,
    plan: &Plan,
    outcome: &PortOutcome,
) -> Option<Vec<Value>> {
    let name = outcome.listeners.first()?;
    let listener = plan.listeners.iter().find(|it| it.name == *name)?;
    let sets = listener.sets();
    let set = plan.sets.iter().find(|set| sets.contains(&set.name))?;
    let spoken = entry.annotations.settings.protocols.get(&outcome.port);
    let hosts = spoken.filter(|_| listener.protocol.is_http());
    let port = Port {
        number: outcome.port,
        speech: speech(listener.protocol),
        hosts: hosts.map_or(&[], |spoken| &spoken.hosts),
    };
    let config = &plan.config;
    let anchor = match port.said(&config.kept) {
        Some((domain, _)) if port.speech.is_http() => {
            Anchor::Rule(port.speech, port.number, domain.into(), "/".into())
        }
        _ => Anchor::Listener(port.speech, port.number),
    };
    let who = Who::of(plan, followed(cluster, &entry.service.key, plan), &anchor);
    let label = format!("{}/{}", outcome.port, outcome.protocol.as_str());
    let session = match entry.service.affinity {
        Some(_) => Origin::Spec("sessionAffinity"),
        None => Origin::Default,
    };
    let rows = rows(set, &who, session, kind_origin(entry, plan.mode));
    Some(named(&label, rows))
}

/// Who set the fields of a port or rule.
struct Who<'a> {
    kept: Option<&'a Fragment>,
    /// The object that is followed, and what it says of that.
    followed: Option<(&'a Arc<str>, &'a Fragment)>,
}

impl<'a> Who<'a> {
    fn of(
        plan: &'a Plan,
        followed: Option<(&'a Arc<str>, &'a ServiceConfig)>,
        anchor: &Anchor,
    ) -> Self {
        Self {
            kept: plan.config.kept.get(anchor),
            followed: followed.and_then(|(name, config)| Some((name, said(config, anchor)?))),
        }
    }

    /// Whoever set the first of these fields that is set, else somebody else.
    fn set(&self, fields: &[Field], or: Origin) -> Origin {
        let set = |field: &&Field| self.kept.is_some_and(|kept| kept.has(**field));
        let Some(field) = fields.iter().find(set) else {
            return or;
        };
        let kept = self.kept.and_then(|kept| kept.get(*field));
        match self.followed {
            Some((name, said)) if said.get(*field) == kept => Origin::Config(Arc::clone(name)),
            _ => Origin::Kept,
        }
    }
}

/// `by_session` and `by_kind`: who says how clients stay and what is probed where no TkeServiceConfig does.
fn rows(
    set: &BackendSet,
    who: &Who<'_>,
    by_session: Origin,
    by_kind: Origin,
) -> Vec<(&'static str, String, Origin)> {
    let settings = &set.settings;
    let scheduler = match settings.policy {
        Policy::RoundRobin => "WRR",
        Policy::LeastConnections => "LEAST_CONN",
        Policy::Maglev(_) => "IP_HASH",
    };
    let of_session = [Field::SessionEnable, Field::SessionExpireTime];
    let mut rows = vec![
        (
            "scheduler",
            scheduler.to_owned(),
            who.set(&[Field::Scheduler], Origin::Default),
        ),
        (
            "session",
            session(settings.affinity.as_ref()),
            who.set(&of_session, by_session),
        ),
        (
            "reset of removed Pods' connections",
            settings.deregister_target_rst.to_string(),
            who.set(&[Field::DeregisterTargetRst], Origin::Default),
        ),
    ];
    let of_kind: Vec<_> = [Field::CheckType, Field::CheckEnable]
        .into_iter()
        .chain(Field::OF_HTTP_CHECK.iter().copied())
        .collect();
    let kind = who.set(&of_kind, by_kind);
    let Some(check) = &settings.health_check else {
        rows.push(("health check", "off".to_owned(), kind));
        return rows;
    };
    rows.push(("health check", told(&check.kind), kind));
    let seconds = |time| duration::format(time);
    let count = |count: u8| count.to_string();
    let mut set = |name, value, field| {
        rows.push((name, value, who.set(&[field], Origin::Default)));
    };
    set(
        "probe interval",
        seconds(check.interval),
        Field::CheckInterval,
    );
    set("probe timeout", seconds(check.timeout), Field::CheckTimeout);
    set(
        "probes to be healthy",
        count(check.healthy_threshold),
        Field::CheckHealthNum,
    );
    set(
        "probes to be unhealthy",
        count(check.unhealthy_threshold),
        Field::CheckUnhealthNum,
    );
    if let Some(port) = check.port {
        set("probe port", port.to_string(), Field::CheckPort);
    }
    rows
}

/// Who says what is probed where no TkeServiceConfig does.
fn kind_origin(entry: &Entry, mode: Mode) -> Origin {
    let service = &entry.service;
    let by_nodes = mode == Mode::NodePort && service.is_local;
    if by_nodes && service.health_check_node_port.is_some() {
        Origin::Spec("healthCheckNodePort")
    } else {
        Origin::Default
    }
}

fn session(affinity: Option<&Affinity>) -> String {
    match affinity.map(|affinity| &affinity.kind) {
        None => "none".to_owned(),
        Some(AffinityKind::ClientIp { timeout }) => {
            format!("client address, {}", duration::format(*timeout))
        }
        Some(AffinityKind::Cookie { timeout, .. }) => match timeout {
            Some(timeout) => format!("cookie, {}", duration::format(*timeout)),
            None => "cookie".to_owned(),
        },
    }
}

fn told(kind: &CheckKind) -> String {
    match kind {
        CheckKind::Tcp => "TCP".to_owned(),
        CheckKind::Ping => "ping".to_owned(),
        CheckKind::Udp(_) => "UDP".to_owned(),
        CheckKind::Grpc(check) => format!("gRPC {}", check.path),
        CheckKind::Http(check) => {
            let word = if check.tls { "HTTPS" } else { "HTTP" };
            let method = match check.method {
                HttpMethod::Get => "GET",
                HttpMethod::Head => "HEAD",
            };
            let host = check.host.as_ref().map(|host| format!(" of {host}"));
            let host = host.unwrap_or_default();
            format!("{word} {method} {}{host}: {}", check.path, check.statuses)
        }
    }
}
