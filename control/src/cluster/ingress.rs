//! An Ingress, as far as a load balancer is concerned.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::networking::v1 as networking;

use super::family::parse_ip;
use super::key::Key;
use super::service::{self, FINALIZER, Transport, created, port};
use crate::build::annotation::is_name;

/// Annotations with these prefixes are read, no others are kept.
pub const PREFIXES: &[&str] = &[
    "podline.io/",
    "ingress.cloud.tencent.com/",
    "kubernetes.io/ingress.",
];
/// What named the class before there was a field for it.
pub const CLASS: &str = "kubernetes.io/ingress.class";

/// An Ingress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingress {
    /// Namespace and name.
    pub key: Key,
    /// Of this object; an Ingress made again has another.
    pub uid: Arc<str>,
    /// Seconds since 1970. The older of two that want one thing gets it.
    pub created: i64,
    /// Being deleted, and waiting for finalizers.
    pub is_deleting: bool,
    /// `spec.ingressClassName`, or else the annotation that was there before it.
    pub class: Option<String>,
    /// `spec.defaultBackend`: takes what no rule does.
    pub default_backend: Option<Backend>,
    /// Every path of `spec.rules`, in their order.
    pub rules: Vec<Rule>,
    /// `spec.tls` is there.
    pub has_tls: bool,
    /// Secrets of `spec.tls`, each once, those for all hosts first.
    pub secrets: Vec<Arc<str>>,
    /// Those that could be for us.
    pub annotations: BTreeMap<String, String>,
    /// `metadata.finalizers`.
    pub finalizers: Vec<String>,
    /// `status.loadBalancer.ingress`.
    pub told: Vec<service::Ingress>,
    /// For writes that must not undo somebody else's.
    pub resource_version: String,
}

/// One path of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// As it is written, perhaps with a leading `*.`; empty: every host.
    pub host: String,
    /// As it is written; `/` if nothing is.
    pub path: String,
    /// It takes that path alone, and not those below it.
    pub is_exact: bool,
    /// Who answers.
    pub backend: Backend,
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// A Service of the same namespace, and a port of its.
    Service(Arc<str>, PortName),
    /// Some other object, which only its own controller understands: kind and name.
    Resource(String),
}

/// How an Ingress names a Service's port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortName {
    /// By its number.
    Number(u16),
    /// By its name.
    Name(Arc<str>),
}

impl std::fmt::Display for PortName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl Ingress {
    /// Reads the object; `None` if it has no name or namespace, which the API server never sends.
    pub fn read(object: &networking::Ingress) -> Option<Self> {
        let meta = &object.metadata;
        let key = Key::new(meta.namespace.as_deref()?, meta.name.as_deref()?);
        let spec = object.spec.clone().unwrap_or_default();
        let status = object.status.as_ref();
        let told = status.and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
        let annotations = service::annotations(meta, PREFIXES);
        let class = spec.ingress_class_name.clone();
        let default_backend = spec.default_backend.as_ref().and_then(Backend::read);
        Some(Self {
            uid: meta.uid.as_deref().unwrap_or_default().into(),
            created: created(meta),
            is_deleting: meta.deletion_timestamp.is_some(),
            class: class.or_else(|| annotations.get(CLASS).cloned()),
            rules: rules(&spec, default_backend.as_ref()),
            default_backend,
            has_tls: spec.tls.as_ref().is_some_and(|tls| !tls.is_empty()),
            secrets: secrets(&spec),
            annotations,
            finalizers: meta.finalizers.clone().unwrap_or_default(),
            told: told.into_iter().flatten().map(told_of).collect(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
            key,
        })
    }

    /// Our finalizer is on it.
    pub fn is_held(&self) -> bool {
        self.finalizers.iter().any(|it| it == FINALIZER)
    }

    /// Who comes first where two want one thing: the older, then the smaller uid.
    pub fn rank(&self) -> (i64, Arc<str>) {
        (self.created, Arc::clone(&self.uid))
    }

    /// The Services that it names, whether they are there or not.
    pub fn services(&self) -> BTreeSet<Key> {
        let backends = self.rules.iter().map(|rule| &rule.backend);
        let backends = backends.chain(&self.default_backend);
        let names = backends.filter_map(|backend| match backend {
            Backend::Service(name, _) => Some(self.key.beside(name)),
            Backend::Resource(_) => None,
        });
        names.collect()
    }

    /// Addresses that lead to it, and so never to a Pod.
    pub fn own_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.told.iter().filter_map(|entry| entry.ip)
    }
}

impl Backend {
    fn read(wire: &networking::IngressBackend) -> Option<Self> {
        if let Some(resource) = &wire.resource {
            return Some(Self::Resource(format!(
                "{} {}",
                resource.kind, resource.name
            )));
        }
        let service = wire.service.as_ref()?;
        let wanted = service.port.clone().unwrap_or_default();
        let number = wanted.number.and_then(port).map(PortName::Number);
        let name = wanted.name.as_deref().unwrap_or_default();
        let wanted = number.unwrap_or_else(|| PortName::Name(name.into()));
        Some(Self::Service(service.name.as_str().into(), wanted))
    }
}

/// A host without paths goes where everything does.
fn rules(spec: &networking::IngressSpec, default: Option<&Backend>) -> Vec<Rule> {
    let mut rules = Vec::new();
    for rule in spec.rules.iter().flatten() {
        let host = rule.host.clone().unwrap_or_default();
        let Some(http) = &rule.http else {
            rules.extend(default.map(|backend| Rule {
                host,
                path: "/".to_owned(),
                is_exact: false,
                backend: backend.clone(),
            }));
            continue;
        };
        rules.extend(http.paths.iter().filter_map(|path| {
            let text = path.path.as_deref().filter(|path| !path.is_empty());
            Some(Rule {
                host: host.clone(),
                path: text.unwrap_or("/").to_owned(),
                is_exact: path.path_type == "Exact",
                backend: Backend::read(&path.backend)?,
            })
        }));
    }
    rules
}

fn secrets(spec: &networking::IngressSpec) -> Vec<Arc<str>> {
    let tls = || spec.tls.iter().flatten();
    let is_of_all = |tls: &&networking::IngressTLS| tls.hosts.iter().flatten().next().is_none();
    let of_all = tls().filter(is_of_all);
    let others = tls().filter(|tls| !is_of_all(tls));
    let mut secrets: Vec<Arc<str>> = Vec::new();
    for tls in of_all.chain(others) {
        let name = tls.secret_name.as_deref().filter(|name| is_name(name));
        let is_new = |name: &&str| secrets.iter().all(|known| **known != **name);
        if let Some(name) = name.filter(is_new) {
            secrets.push(name.into());
        }
    }
    secrets
}

fn told_of(wire: &networking::IngressLoadBalancerIngress) -> service::Ingress {
    let read = |status: &networking::IngressPortStatus| {
        let protocol = Transport::parse(Some(&status.protocol))?;
        Some((port(status.port)?, protocol, status.error.clone()))
    };
    service::Ingress {
        ip: wire.ip.as_deref().and_then(parse_ip),
        ip_mode: None,
        ports: wire.ports.iter().flatten().filter_map(read).collect(),
    }
}

#[cfg(test)]
mod tests;
