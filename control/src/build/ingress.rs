//! What one Ingress becomes: listeners of HTTP and HTTPS with its rules as routes, and a set for each Service port that
//! they lead to. Pure.

mod rules;
mod settings;
mod wants;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use podline_api::{
    BackendSet, Http, HttpRoute, Listener, Name, Protocol, RouteAction, SetSettings, SourceAddress,
    Tls,
};

use super::annotation::Settings;
use super::config;
use super::note::Reason;
use super::places::Place;
use super::plan::{self, Input, Offered, Plan, Planned, PortOutcome, Work};
use super::{Mode, Options, Source};
use crate::cluster::ingress::{Backend, Ingress, PortName};
use crate::cluster::{Family, IngressEntry, Service, ServicePort, Switches, Transport};
use rules::{Port, To};
use settings::At;
pub(super) use wants::{claim, families, places, request};

/// Plans one Ingress that is ours.
pub(super) fn plan(
    input: &Input<'_>,
    entry: &IngressEntry,
    kept: Option<&config::Kept>,
) -> Planned {
    let (ingress, settings) = (&entry.ingress, &entry.annotations.settings);
    let (ports, mut refused) = rules::ports(ingress, &settings.ingress);
    let owner = config::Owner::ingress(input.front, entry);
    let anchors = settings::anchors(&ports);
    let (config, notes) = config::of(input.cluster, &owner, &anchors, kept);
    let nothing = Plan {
        notes,
        config,
        ..nothing(entry, input.cluster.switches(), input.options)
    };
    let mut work = Work::new(input, nothing, &entry.annotations);
    work.notes_of_the_whole();
    work.plan.notes.append(&mut refused);
    work.limit_sources(&[]);
    let listened = ports.iter().map(|port| (port.number, Transport::Tcp));
    work.note_idle_annotations(&Offered {
        ports: listened.collect(),
        families: &families(input.cluster, ingress),
    });
    let mut of_ingress = OfIngress {
        work,
        ingress,
        made: BTreeSet::new(),
    };
    for port in &ports {
        of_ingress.port(port);
    }
    of_ingress.work.finish()
}

/// An Ingress that has nothing yet.
pub(super) fn nothing(entry: &IngressEntry, switches: &Switches, options: &Options) -> Plan {
    let (settings, is_held) = (&entry.annotations.settings, entry.ingress.is_held());
    let (mode, becomes_direct) = plan::mode(settings, is_held, switches, options);
    Plan {
        becomes_direct,
        ..Plan::nothing(&entry.ingress.uid, mode, source(settings))
    }
}

/// Requests of many clients share a connection to their Pod, which fields tell who they are.
fn source(settings: &Settings) -> Source {
    let said = settings.source_address;
    Source {
        wished: said.unwrap_or(SourceAddress::Snat),
        is_said: said.is_some(),
        nodes: BTreeSet::new(),
    }
}

/// A plan under way.
struct OfIngress<'a> {
    work: Work<'a>,
    ingress: &'a Ingress,
    /// The sets that are there.
    made: BTreeSet<Name>,
}

impl OfIngress<'_> {
    fn port(&mut self, port: &Port<'_>) {
        let mut outcome = PortOutcome {
            port: port.number,
            protocol: Transport::Tcp,
            error: None,
            listeners: Vec::new(),
        };
        let tls = match self.tls(port) {
            Ok(tls) => tls,
            Err(reason) => {
                outcome.error = reason;
                self.work.plan.ports.push(outcome);
                return;
            }
        };
        for (family, address) in self.work.input.addresses {
            let result = match address {
                Ok(address) => self.listener(port, tls.as_ref(), *family, *address),
                Err(refused) => Err((Reason::NoAddress, plan::no_address(*refused))),
            };
            match result {
                Ok(name) => outcome.listeners.push(name),
                Err((reason, message)) => {
                    self.work.note(reason, message);
                    outcome.error.get_or_insert(reason);
                }
            }
        }
        self.work.plan.ports.push(outcome);
    }

    /// How a port speaks TLS, if it does; nothing if it cannot be served at all.
    fn tls(&mut self, port: &Port<'_>) -> Result<Option<Tls>, Option<Reason>> {
        let number = port.number;
        if self.work.input.options.is_reserved(number) {
            let message = format!("port {number} is kept for the proxies' hosts");
            self.work.note(Reason::ReservedPort, message);
            return Err(Some(Reason::ReservedPort));
        }
        if port.protocol != Protocol::Https {
            return Ok(None);
        }
        if self.ingress.secrets.is_empty() {
            let message =
                format!("port {number}: spec.tls names no Secret; the port is not served");
            self.work.note(Reason::TlsSecretMissing, message);
            return Err(Some(Reason::TlsSecretMissing));
        }
        self.work.tls(number, &self.ingress.secrets, true).map(Some)
    }

    /// Adds the listener of one port in one family, and the sets that it leads to.
    fn listener(
        &mut self,
        port: &Port<'_>,
        tls: Option<&Tls>,
        family: Family,
        address: IpAddr,
    ) -> Result<Name, (Reason, String)> {
        let number = port.number;
        self.work.is_free(&Place {
            address,
            transport: Transport::Tcp,
            port: number,
        })?;
        let word = match port.protocol {
            Protocol::Https => "https",
            _ => "http",
        };
        let name = format!("{}/{word}/{number}{}", self.ingress.key, suffix(family));
        let name = named(&name, number)?;
        let at = |host, path| At {
            protocol: port.protocol,
            port: number,
            host,
            path,
        };
        let default = port
            .default
            .map(|backend| self.set(backend, at("", "/"), family));
        let default = default.transpose()?;
        let mut routes = Vec::new();
        for route in &port.routes {
            let action = match &route.to {
                To::Backend(backend) => {
                    let at = at(route.host, route.text());
                    RouteAction::Forward(self.set(backend, at, family)?)
                }
                To::Redirect(redirect) => RouteAction::Redirect(redirect.clone()),
            };
            let host = (!route.host.is_empty()).then(|| route.host.to_ascii_lowercase());
            routes.push(HttpRoute {
                hosts: host.into_iter().collect(),
                path: route.path.clone(),
                action,
            });
        }
        let domains = settings::domains(port);
        let said = config::Port {
            number,
            speech: config::speech(port.protocol),
            hosts: &domains,
        };
        let config = &self.work.plan.config;
        let offers_http2 = config.offers_http2(&said);
        if let Some(default) = config.default_server(&said) {
            rules::unname(&mut routes, default);
        }
        let tls = tls.cloned().map(|tls| Tls {
            http2: tls.http2 && offers_http2,
            ..tls
        });
        let options = self.work.input.options;
        let any = name.clone();
        let listener = Listener {
            backend_set: default,
            http: Some(Http {
                routes,
                ..Http::default()
            }),
            drain_timeout: options.drain_timeout,
            limits: self.work.limits.clone(),
            source_address: match self.work.mode {
                Mode::Direct => self.work.plan.source.wished,
                Mode::NodePort => SourceAddress::Snat,
            },
            tls,
            ..Listener::new(
                name.clone(),
                SocketAddr::new(address, number),
                port.protocol,
                any,
            )
        };
        self.work.plan.listeners.push(listener.into());
        Ok(name)
    }

    /// The set of a rule, made if it is not there yet. Who cannot answer is a set of nobody: such requests are answered
    /// with 503, and by no other rule.
    fn set(
        &mut self,
        backend: &Backend,
        at: At<'_>,
        family: Family,
    ) -> Result<Name, (Reason, String)> {
        let key = &self.ingress.key;
        let (service, wanted) = match backend {
            Backend::Service(name, wanted) => (name, wanted),
            Backend::Resource(what) => {
                let problem = format!("{what} is no Service, and nobody here knows what it does");
                let note = rules::refused(at.host, at.path, &problem);
                self.work.note(note.reason, note.message);
                return self.nobody(&format!("{key}/ingress/resource"), at);
            }
        };
        let cluster = self.work.input.cluster;
        let entry = cluster.service(&key.beside(service));
        let base = format!("{key}/ingress/{service}");
        let found = entry.map(|entry| (&entry.service, port_of(&entry.service, wanted)));
        let (service, port) = match found {
            Some((service, Some(port))) => (service, port),
            Some((service, None)) => {
                let message = format!("Service {} has no TCP port {wanted}", service.key);
                self.work.note(Reason::ServiceMissing, message);
                return self.nobody(&format!("{base}/{wanted}"), at);
            }
            None => {
                let message = format!("there is no Service {}", key.beside(service));
                self.work.note(Reason::ServiceMissing, message);
                return self.nobody(&format!("{base}/{wanted}"), at);
            }
        };
        let number = port.port;
        let mode = self.work.mode;
        if mode == Mode::NodePort && port.node_port.is_none() {
            let message = format!(
                "port {number} of Service {} has no node port: make it a NodePort, or go direct",
                service.key
            );
            self.work.note(Reason::NoNodePort, message);
            return self.nobody(&format!("{base}/{number}/nodeport"), at);
        }
        let has_family = service.families.contains(&family);
        let family = match service.families.first() {
            Some(first) if !has_family => *first,
            _ => family,
        };
        let drain_timeout = self.work.input.options.drain_timeout;
        let usual = settings::usual(service, port, mode, drain_timeout);
        let settings = settings::of_rule(at, &usual, &self.work.plan.config.kept);
        let mut name = format!("{base}/{number}{}", suffix(family));
        if mode == Mode::NodePort {
            name += "/nodeport";
        }
        if settings != usual {
            name = format!("{name}/{}", at.mark());
        } else if self.is_weighed(at.port) {
            name = format!("{name}/{}", at.port);
        }
        let name = named(&name, at.port)?;
        if self.made.insert(name.clone()) {
            let backends = self.work.backends(service, port, at.port, family, &name);
            let set = BackendSet {
                name: name.clone(),
                settings,
                backends,
            };
            self.work.plan.sets.push(set.into());
        }
        Ok(name)
    }

    /// Pods weigh at this port what they need not at others.
    fn is_weighed(&self, port: u16) -> bool {
        let weights = self.work.annotations.settings.weights.as_ref();
        let is_named = weights.is_some_and(|weights| weights.names(Transport::Tcp, port));
        is_named && self.work.mode == Mode::Direct
    }

    fn nobody(&mut self, name: &str, at: At<'_>) -> Result<Name, (Reason, String)> {
        let name = named(name, at.port)?;
        if self.made.insert(name.clone()) {
            let set = BackendSet {
                name: name.clone(),
                settings: SetSettings::default(),
                backends: Vec::new(),
            };
            self.work.plan.sets.push(set.into());
        }
        Ok(name)
    }
}

const fn suffix(family: Family) -> &'static str {
    match family {
        Family::V4 => "",
        Family::V6 => "/ipv6",
    }
}

fn named(text: &str, port: u16) -> Result<Name, (Reason, String)> {
    Name::try_from(text).map_err(|_| {
        let message = format!("port {port} cannot be named: the names in it are too long");
        (Reason::RuleRefused, message)
    })
}

fn port_of<'a>(service: &'a Service, wanted: &PortName) -> Option<&'a ServicePort> {
    let ports = service.ports.iter();
    let mut ports = ports.filter(|port| port.protocol == Transport::Tcp);
    ports.find(|port| match wanted {
        PortName::Number(number) => port.port == *number,
        PortName::Name(name) => port.name == *name,
    })
}

#[cfg(test)]
mod tests;
