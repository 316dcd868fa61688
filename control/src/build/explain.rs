//! Where the effective values of a Service come from, and what became of each of its endpoints. Pure.
//!
//! For people who ask; builds do not need it, so it is worked out when they do.

use std::net::SocketAddr;
use std::sync::Arc;

use podline_api::{Name, Protocol, SourceAddress};

use super::annotation::{
    CREATION, DIRECT_ACCESS, EXISTED_BALANCER, Effect, MODE, SECURITY_GROUPS, SOURCE_ADDRESS,
    SPECIFY_PROTOCOL, Spoken, TABLE, WEIGHTS,
};
use super::endpoints::{State, gather};
use super::modes::Modes;
use super::{Mode, Options, Plan};
use crate::cluster::switches::GLOBAL_ROUTES;
use crate::cluster::{Cluster, Entry, Family, Key, ServicePort, Transport};

/// Who set a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An annotation of the Service.
    Annotation(&'static str),
    /// A field of its spec.
    Spec(&'static str),
    /// A flag of the controller.
    Flag(&'static str),
    /// A switch of the ConfigMap.
    Switch(&'static str),
    /// A TkeServiceConfig of this name.
    Config(Arc<str>),
    /// A TkeServiceConfig that says it no more, or is not followed any more.
    Kept,
    /// Nobody: it is like this.
    Default,
}

/// The values that count for a Service: name, value, who set it.
pub fn values(
    cluster: &Cluster,
    options: &Options,
    entry: &Entry,
    plan: &Plan,
) -> Vec<(&'static str, String, Origin)> {
    let service = &entry.service;
    let settings = &entry.annotations.settings;
    let mode = match plan.mode {
        Mode::Direct => "direct",
        Mode::NodePort => "node port",
    };
    let origin = if settings.direct.is_some() {
        Origin::Annotation(DIRECT_ACCESS)
    } else if options.default_direct {
        Origin::Flag("default-direct")
    } else if cluster.switches().direct_for_new && plan.mode == Mode::Direct {
        Origin::Switch("EnableDefaultDirectAccess")
    } else {
        Origin::Default
    };
    let mut values = vec![("mode", mode.to_owned(), origin)];
    if plan.is_skipped {
        let kept = "no: what stands stays as it was";
        values.push(("kept up to date", kept.to_owned(), Origin::Annotation(MODE)));
    }
    values.push(match &service.class {
        Some(class) => ("class", class.clone(), Origin::Spec("loadBalancerClass")),
        None => (
            "class",
            options.class.clone(),
            Origin::Flag("default-class"),
        ),
    });
    values.extend(balancer(entry, plan));
    // Where a TkeServiceConfig has a say, that differs from port to port.
    let is_of_ports = !plan.config.kept.is_empty();
    if !is_of_ports {
        let affinity = match service.affinity {
            Some(timeout) => {
                let timeout = podline_api::duration::format(timeout);
                format!("client address, {timeout}")
            }
            None => "none".to_owned(),
        };
        values.push(("affinity", affinity, Origin::Spec("sessionAffinity")));
    }
    values.push(source_ranges(cluster, entry));
    let network = modes(cluster, entry, plan).used();
    let network = network.map(|mode| {
        (
            "network mode",
            mode.to_string(),
            Origin::Switch(GLOBAL_ROUTES),
        )
    });
    values.extend(network);
    values.push(source_address(plan));
    values.extend(spoken(entry));
    values.extend(of_mode(entry, plan));
    if !is_of_ports {
        values.push(("health check", health_check(plan), Origin::Default));
    }
    values.push((
        "backend quota",
        options.quota.to_string(),
        Origin::Flag("backend-quota"),
    ));
    let drain = podline_api::duration::format(options.drain_timeout);
    values.push(("drain timeout", drain, Origin::Flag("drain-timeout")));
    values.extend(made_with(entry));
    values.extend(not_as_written(entry));
    values
}

/// Which network mode its Pods use.
fn modes<'a>(cluster: &'a Cluster, entry: &Entry, plan: &Plan) -> Modes<'a> {
    let service = &entry.service;
    Modes::of(cluster, service, plan.modes.get(&service.key).copied())
}

fn source_ranges(cluster: &Cluster, entry: &Entry) -> (&'static str, String, Origin) {
    let (service, groups) = (&entry.service, &entry.annotations.settings.security_groups);
    let what = "source ranges";
    if !service.source_ranges.is_empty() {
        let ranges = service.source_ranges.join(", ");
        return (what, ranges, Origin::Spec("loadBalancerSourceRanges"));
    }
    if groups.is_empty() || cluster.switches().groups.is_empty() {
        return (what, "everybody".to_owned(), Origin::Default);
    }
    (what, groups.join(", "), Origin::Annotation(SECURITY_GROUPS))
}

/// The load balancer that it has, as TKE would call it.
fn balancer(entry: &Entry, plan: &Plan) -> Option<(&'static str, String, Origin)> {
    let id = super::balancer::id(&plan.addresses)?;
    let origin = match &entry.annotations.settings.balancer {
        Some(_) => Origin::Annotation(EXISTED_BALANCER),
        None => Origin::Default,
    };
    Some(("load balancer", id, origin))
}

/// What counts in one mode alone.
fn of_mode(entry: &Entry, plan: &Plan) -> Vec<(&'static str, String, Origin)> {
    let (service, settings) = (&entry.service, &entry.annotations.settings);
    let mut values = Vec::new();
    if plan.mode == Mode::NodePort {
        let policy = if service.is_local { "Local" } else { "Cluster" };
        values.push((
            "traffic policy",
            policy.to_owned(),
            Origin::Spec("externalTrafficPolicy"),
        ));
        if let Some(selector) = &settings.nodes {
            let key = "service.kubernetes.io/qcloud-loadbalancer-backends-label";
            values.push(("nodes", selector.to_string(), Origin::Annotation(key)));
        }
        if settings.weighted_balance {
            let key = "service.cloud.tencent.com/local-svc-weighted-balance";
            values.push((
                "weights",
                "Pods of the node".to_owned(),
                Origin::Annotation(key),
            ));
        }
    }
    if let (Mode::Direct, Some(weights)) = (plan.mode, &settings.weights) {
        values.push(("weights", weights.to_string(), Origin::Annotation(WEIGHTS)));
    }
    values
}

/// What the Service would be made with.
fn made_with(entry: &Entry) -> impl Iterator<Item = (&'static str, String, Origin)> {
    let creation = &entry.annotations.settings.creation;
    let origin = Origin::Annotation(CREATION);
    let name = creation
        .name
        .clone()
        .map(|name| ("name", name, origin.clone()));
    let others = &creation.others;
    let others = (!others.is_empty()).then(|| ("ignored fields", others.join(", "), origin));
    name.into_iter().chain(others)
}

/// Annotations that are there, and do nothing or something else here.
fn not_as_written(entry: &Entry) -> impl Iterator<Item = (&'static str, String, Origin)> {
    let there = TABLE
        .iter()
        .filter(|it| entry.service.annotations.contains_key(it.key));
    there.filter_map(|annotation| {
        let word = match annotation.effect {
            Effect::Approximated => "approximated",
            Effect::Ignored => "ignored",
            Effect::Honoured | Effect::Written => return None,
        };
        let origin = Origin::Annotation(annotation.key);
        Some((word, annotation.about.to_owned(), origin))
    })
}

fn source_address(plan: &Plan) -> (&'static str, String, Origin) {
    let wished = match (plan.mode, plan.source.wished) {
        (Mode::NodePort, _) | (_, SourceAddress::Snat) => "the proxy's",
        (_, SourceAddress::PreferTransparent) => "the client's where that is proven to work",
        (_, SourceAddress::Transparent) => "the client's",
    };
    let origin = if plan.source.is_said {
        Origin::Annotation(SOURCE_ADDRESS)
    } else {
        Origin::Default
    };
    ("source address", wished.to_owned(), origin)
}

/// What ports speak, where that is said: `443 HTTPS for 2 hosts with Secrets web, other`.
fn spoken(entry: &Entry) -> Option<(&'static str, String, Origin)> {
    let protocols = &entry.annotations.settings.protocols;
    let ports = entry.service.ports.iter();
    let ports = ports.filter(|port| port.protocol == Transport::Tcp);
    let of_port = |port: &ServicePort| {
        let Spoken {
            protocol,
            hosts,
            secrets,
        } = protocols.get(&port.port)?;
        let word = match protocol {
            Protocol::Https => "HTTPS",
            Protocol::Tls => "TLS",
            _ => "HTTP",
        };
        let hosts = match hosts.len() {
            0 => String::new(),
            1 => " for 1 host".to_owned(),
            many => format!(" for {many} hosts"),
        };
        let secrets = match &**secrets {
            [] => String::new(),
            [one] => format!(" with Secret {one}"),
            many => format!(" with Secrets {}", many.join(", ")),
        };
        Some(format!("{} {word}{hosts}{secrets}", port.port))
    };
    let told: Vec<_> = ports.filter_map(of_port).collect();
    let origin = Origin::Annotation(SPECIFY_PROTOCOL);
    (!told.is_empty()).then(|| ("protocols", told.join("; "), origin))
}

fn health_check(plan: &Plan) -> String {
    let checks = plan
        .sets
        .iter()
        .filter_map(|set| set.settings.health_check.as_ref());
    let mut told: Vec<String> = checks
        .map(|check| {
            let kind = match &check.kind {
                podline_api::CheckKind::Tcp => "TCP".to_owned(),
                podline_api::CheckKind::Http(http) => format!("HTTP {}", http.path),
                podline_api::CheckKind::Grpc(_) => "gRPC".to_owned(),
                podline_api::CheckKind::Udp(_) => "UDP".to_owned(),
                podline_api::CheckKind::Ping => "ping".to_owned(),
            };
            let port = check
                .port
                .map(|port| format!(" at port {port}"))
                .unwrap_or_default();
            format!(
                "{kind}{port} every {}",
                podline_api::duration::format(check.interval)
            )
        })
        .collect();
    told.sort();
    told.dedup();
    if told.is_empty() {
        return "none".to_owned();
    }
    told.join(", ")
}

/// What became of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Where it is.
    pub address: SocketAddr,
    /// Its Pod, or its node.
    pub behind: String,
    /// The set it is bound to, or would be.
    pub set: Option<Name>,
    /// How it does; absent for nodes.
    pub state: Option<State>,
    /// Its Pod, if it has one.
    pub pod: Option<Key>,
}

/// Every endpoint of a Service, or in NodePort mode every node that is bound.
pub fn endpoints(cluster: &Cluster, entry: &Entry, plan: &Plan) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for port in &entry.service.ports {
        let of_port = plan
            .ports
            .iter()
            .find(|outcome| (outcome.port, outcome.protocol) == (port.port, port.protocol));
        let names = of_port
            .map(|outcome| outcome.listeners.as_slice())
            .unwrap_or_default();
        for listener in plan
            .listeners
            .iter()
            .filter(|listener| names.contains(&listener.name))
        {
            let set = listener.sets().into_iter().next().cloned();
            if plan.mode == Mode::NodePort {
                for set in listener.sets() {
                    outcomes.extend(nodes(cluster, plan, set));
                }
                continue;
            }
            let gathered = gather(
                cluster,
                &modes(cluster, entry, plan),
                &entry.service,
                port,
                Family::of(listener.address.ip()),
            );
            outcomes.extend(gathered.candidates.into_iter().map(|candidate| {
                Outcome {
                    address: SocketAddr::new(candidate.address, candidate.port),
                    behind: candidate
                        .pod
                        .as_ref()
                        .map(ToString::to_string)
                        .unwrap_or_default(),
                    set: set.clone(),
                    state: Some(candidate.state),
                    pod: candidate.pod,
                }
            }));
        }
    }
    outcomes
}

fn nodes(cluster: &Cluster, plan: &Plan, set: &Name) -> Vec<Outcome> {
    let sets = plan.sets.iter().filter(|found| found.name == *set);
    sets.flat_map(|set| &set.backends)
        .map(|backend| {
            let mut nodes = cluster.nodes();
            let node = nodes.find(|node| node.internal.contains(&backend.key.address.ip()));
            Outcome {
                address: backend.key.address,
                behind: node.map(|node| node.name.to_string()).unwrap_or_default(),
                set: Some(set.clone()),
                state: None,
                pod: None,
            }
        })
        .collect()
}
