//! Where the effective values of a Service or Ingress come from, and what became of each of its endpoints. Pure.
//!
//! For people who ask; builds do not need it, so it is worked out when they do.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use podline_api::{Name, Protocol, SourceAddress};

use super::annotation::{
    Annotation, EXISTED_BALANCER, Effect, SOURCE_ADDRESS, SPECIFY_PROTOCOL, Settings, Spoken,
    TABLE, Words, ingress,
};
use super::endpoints::{State, gather};
use super::modes::Modes;
use super::{Mode, Options, Plan};
use crate::cluster::ingress::CLASS;
use crate::cluster::switches::GLOBAL_ROUTES;
use crate::cluster::{Cluster, Entry, IngressEntry, Key, Service, ServicePort, Transport};

/// Who set a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An annotation of its own.
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

/// A value that counts: name, value, who set it.
type Value = (&'static str, String, Origin);

/// The values that count for an Ingress.
pub fn of_ingress(
    cluster: &Cluster,
    options: &Options,
    entry: &IngressEntry,
    plan: &Plan,
) -> Vec<Value> {
    let (ingress, settings) = (&entry.ingress, &entry.annotations.settings);
    let words = &Words::OF_INGRESSES;
    let mut values = vec![mode(cluster, options, (settings, words), plan)];
    values.extend(skipped(plan, words));
    let class = ingress.class.clone().unwrap_or_default();
    let origin = match ingress.annotations.get(CLASS) {
        Some(said) if *said == class => Origin::Annotation(CLASS),
        _ => Origin::Spec("ingressClassName"),
    };
    values.push(("class", class, origin));
    values.push(source_ranges(cluster, settings, words, &[]));
    values.push(source_address(plan));
    values.extend(weights(settings, words, plan));
    if plan.config.kept.is_empty() {
        values.push(("health check", health_check(plan), Origin::Default));
    }
    values.extend(limits(options));
    values.extend(made_with(settings, words));
    values.extend(not_as_written(ingress::TABLE, &ingress.annotations));
    values
}

/// The values that count for a Service.
pub fn values(cluster: &Cluster, options: &Options, entry: &Entry, plan: &Plan) -> Vec<Value> {
    let service = &entry.service;
    let settings = &entry.annotations.settings;
    let words = &Words::OF_SERVICES;
    let mut values = vec![mode(cluster, options, (settings, words), plan)];
    values.extend(skipped(plan, words));
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
    let said = &service.source_ranges;
    values.push(source_ranges(cluster, settings, words, said));
    let network = modes(cluster, &entry.service, plan).used();
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
    values.extend(limits(options));
    values.extend(made_with(settings, words));
    values.extend(not_as_written(TABLE, &service.annotations));
    values
}

/// How traffic goes.
fn mode(
    cluster: &Cluster,
    options: &Options,
    (settings, words): (&Settings, &Words),
    plan: &Plan,
) -> Value {
    let mode = match plan.mode {
        Mode::Direct => "direct",
        Mode::NodePort => "node port",
    };
    let origin = if settings.direct.is_some() {
        Origin::Annotation(words.direct_access)
    } else if options.default_direct {
        Origin::Flag("default-direct")
    } else if cluster.switches().direct_for_new && plan.mode == Mode::Direct {
        Origin::Switch("EnableDefaultDirectAccess")
    } else {
        Origin::Default
    };
    ("mode", mode.to_owned(), origin)
}

/// Whether it stays as it was.
fn skipped(plan: &Plan, words: &Words) -> Option<Value> {
    let kept = "no: what stands stays as it was".to_owned();
    let value = ("kept up to date", kept, Origin::Annotation(words.mode));
    plan.is_skipped.then_some(value)
}

/// What Pods weigh.
fn weights(settings: &Settings, words: &Words, plan: &Plan) -> Option<Value> {
    let weights = settings.weights.as_ref();
    let weights = weights.filter(|_| plan.mode == Mode::Direct)?;
    let origin = Origin::Annotation(words.weights);
    Some(("weights", weights.to_string(), origin))
}

/// What the controller's flags say for all.
fn limits(options: &Options) -> [Value; 2] {
    let quota = options.quota.to_string();
    let drain = podline_api::duration::format(options.drain_timeout);
    [
        ("backend quota", quota, Origin::Flag("backend-quota")),
        ("drain timeout", drain, Origin::Flag("drain-timeout")),
    ]
}

/// Which network mode its Pods use.
fn modes<'a>(cluster: &'a Cluster, service: &Service, plan: &Plan) -> Modes<'a> {
    Modes::of(cluster, service, plan.modes.get(&service.key).copied())
}

/// Who may connect; `said`: what the object's spec has of it.
fn source_ranges(cluster: &Cluster, settings: &Settings, words: &Words, said: &[String]) -> Value {
    let what = "source ranges";
    if !said.is_empty() {
        let origin = Origin::Spec("loadBalancerSourceRanges");
        return (what, said.join(", "), origin);
    }
    let groups = &settings.security_groups;
    if groups.is_empty() || cluster.switches().groups.is_empty() {
        return (what, "everybody".to_owned(), Origin::Default);
    }
    let origin = Origin::Annotation(words.security_groups);
    (what, groups.join(", "), origin)
}

/// The load balancer that it has, as TKE would call it.
fn balancer(entry: &Entry, plan: &Plan) -> Option<Value> {
    let id = super::balancer::id(&plan.addresses)?;
    let origin = match &entry.annotations.settings.balancer {
        Some(_) => Origin::Annotation(EXISTED_BALANCER),
        None => Origin::Default,
    };
    Some(("load balancer", id, origin))
}

/// What counts in one mode alone.
fn of_mode(entry: &Entry, plan: &Plan) -> Vec<Value> {
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
    values.extend(weights(settings, &Words::OF_SERVICES, plan));
    values
}

/// What it would be made with.
fn made_with(settings: &Settings, words: &Words) -> impl Iterator<Item = Value> {
    let creation = &settings.creation;
    let origin = Origin::Annotation(words.creation);
    let name = creation
        .name
        .clone()
        .map(|name| ("name", name, origin.clone()));
    let others = &creation.others;
    let others = (!others.is_empty()).then(|| ("ignored fields", others.join(", "), origin));
    name.into_iter().chain(others)
}

/// Annotations that are there, and do nothing or something else here.
fn not_as_written(
    table: &'static [Annotation],
    said: &BTreeMap<String, String>,
) -> impl Iterator<Item = Value> {
    let there = table.iter().filter(|it| said.contains_key(it.key));
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

fn source_address(plan: &Plan) -> Value {
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
fn spoken(entry: &Entry) -> Option<Value> {
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

/// Every endpoint of the Services behind one, or in NodePort mode every node that is bound.
pub fn endpoints(cluster: &Cluster, plan: &Plan) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let is_there = |set: &Name| plan.sets.iter().any(|it| it.name == *set);
    for behind in plan.behind.iter().filter(|it| is_there(&it.set)) {
        if plan.mode == Mode::NodePort {
            outcomes.extend(nodes(cluster, plan, &behind.set));
            continue;
        }
        let Some(entry) = cluster.service(&behind.service) else {
            continue;
        };
        let service = &entry.service;
        let mut ports = service.ports.iter();
        let port = ports.find(|it| (&it.name, it.protocol) == (&behind.port, behind.protocol));
        let Some(port) = port else {
            continue;
        };
        let gathered = gather(
            cluster,
            &modes(cluster, service, plan),
            service,
            port,
            behind.family,
        );
        let candidates = gathered.candidates.into_iter();
        outcomes.extend(candidates.map(|candidate| {
            let pod = candidate.pod.as_ref();
            Outcome {
                address: SocketAddr::new(candidate.address, candidate.port),
                behind: pod.map(ToString::to_string).unwrap_or_default(),
                set: Some(behind.set.clone()),
                state: Some(candidate.state),
                pod: candidate.pod,
            }
        }));
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
