//! What stands at one port of a Service: its listener in each family, and the settings of the set behind it. Pure.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use podline_api::{
    AcceptProxy, Affinity, AffinityKind, BackendHttp, BackendSet, BackendTls, CheckKind,
    HealthCheck, Http, HttpRoute, Listener, Name, PassiveCheck, PathMatch, Protocol, ProxyProtocol,
    RouteAction, SetSettings, SourceAddress, Tls, Transport,
};

use super::{Mode, PortOutcome, Work, protocol};
use crate::allocate::Refused;
use crate::build::note::Reason;
use crate::build::places::Place;
use crate::build::{config, health};
use crate::cluster::{AppProtocol, Family, Service, ServicePort};

/// How long a client may take to send its header.
const PROXY_HEADER_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(3);

/// What a listener of a port speaks with its clients.
struct Speech<'a> {
    protocol: Protocol,
    /// With HTTP and HTTPS: the hosts that are served; none: all are.
    hosts: &'a [String],
    tls: Option<Tls>,
}

impl<'a> Work<'a> {
    pub(super) fn port(&mut self, service: &Service, port: &ServicePort) {
        let mut outcome = PortOutcome {
            port: port.port,
            protocol: port.protocol,
            error: None,
            listeners: Vec::new(),
        };
        let number = port.port;
        let protocol = match protocol(port.protocol) {
            Some(_) if self.input.options.is_reserved(number) => Err((
                Reason::ReservedPort,
                format!("port {number} is kept for the proxies' hosts"),
            )),
            Some(protocol) => Ok(protocol),
            None => Err((
                Reason::SCTPNotSupported,
                format!("port {number}/{} is not forwarded", port.protocol.as_str()),
            )),
        };
        let protocol = match protocol {
            Ok(protocol) => protocol,
            Err((reason, message)) => {
                self.note(reason, message);
                outcome.error = Some(reason);
                self.plan.ports.push(outcome);
                return;
            }
        };
        let speech = match self.speech(port, protocol) {
            Ok(speech) => speech,
            Err(reason) => {
                outcome.error = reason;
                self.plan.ports.push(outcome);
                return;
            }
        };
        for (family, address) in self.input.addresses {
            let result = match address {
                Ok(address) => self.listener(service, port, &speech, *family, *address),
                Err(refused) => Err((Reason::NoAddress, no_address(*refused))),
            };
            match result {
                Ok(name) => outcome.listeners.push(name),
                Err((reason, message)) => {
                    self.note(reason, message);
                    outcome.error.get_or_insert(reason);
                }
            }
        }
        self.plan.ports.push(outcome);
    }

    /// What a port's listeners speak, by its own protocol and what is said of it.
    fn speech(
        &mut self,
        port: &ServicePort,
        protocol: Protocol,
    ) -> Result<Speech<'a>, Option<Reason>> {
        let protocols = &self.annotations.settings.protocols;
        let said = match protocol {
            Protocol::Tcp => protocols.get(&port.port),
            _ => None,
        };
        let Some(spoken) = said else {
            return Ok(Speech {
                protocol,
                hosts: &[],
                tls: None,
            });
        };
        let tls = if spoken.protocol.has_tls() {
            let http2 = spoken.protocol == Protocol::Https;
            Some(self.tls(port.port, &spoken.secrets, http2)?)
        } else {
            None
        };
        Ok(Speech {
            protocol: spoken.protocol,
            hosts: &spoken.hosts,
            tls,
        })
    }

    /// Adds the listener and the set of one port in one family.
    fn listener(
        &mut self,
        service: &Service,
        port: &ServicePort,
        speech: &Speech<'_>,
        family: Family,
        address: IpAddr,
    ) -> Result<Name, (Reason, String)> {
        let number = port.port;
        let place = Place {
            address,
            transport: port.protocol,
            port: number,
        };
        self.is_free(&place)?;
        if self.mode == Mode::NodePort && port.node_port.is_none() {
            let message = format!(
                "port {number} has no node port: set allocateLoadBalancerNodePorts, or go direct"
            );
            return Err((Reason::NoNodePort, message));
        }
        let name = name(service, port, family, "");
        let suffix = match self.mode {
            Mode::Direct => "",
            Mode::NodePort => "/nodeport",
        };
        let set = self::name(service, port, family, suffix);
        let (Some(name), Some(set)) = (name, set) else {
            return Err((
                Reason::EndpointRefused,
                format!("port {number} cannot be named"),
            ));
        };
        let backends = self.backends(service, port, number, family, &set);
        let protocol = speech.protocol;
        let said = config::Port {
            number,
            speech: config::speech(protocol),
            hosts: speech.hosts,
        };
        let group = Name::try_from(&*service.uid).ok();
        let settings = self.settings(service, port, protocol);
        let settings = self.plan.config.set(&said, settings, group);
        self.note_overruled(&said);
        let listener = Listener {
            drain_timeout: self.input.options.drain_timeout,
            limits: self.limits.clone(),
            source_address: match self.mode {
                // Requests of many clients share a connection to their Pod, which fields tell who they are.
                Mode::Direct if protocol.is_http() && !self.plan.source.is_said => {
                    SourceAddress::Snat
                }
                Mode::Direct => self.plan.source.wished,
                Mode::NodePort => SourceAddress::Snat,
            },
            proxy_protocol: self.proxy_protocol(protocol),
            tls: speech.tls.clone(),
            ..Listener::new(
                name.clone(),
                SocketAddr::new(address, number),
                protocol,
                set.clone(),
            )
        };
        let listener = match speech.hosts {
            [] => listener,
            hosts => for_hosts(listener, hosts, &set),
        };
        let listener = self.plan.config.listener(&said, listener, &set);
        self.plan.listeners.push(Arc::new(listener));
        self.plan.sets.push(Arc::new(BackendSet {
            name: set,
            settings,
            backends,
        }));
        Ok(name)
    }

    /// A place that nobody else has.
    pub(in crate::build) fn is_free(&self, place: &Place) -> Result<(), (Reason, String)> {
        let Some(holder) = self.other_holder(place) else {
            return Ok(());
        };
        let (port, protocol) = (place.port, place.transport.as_str());
        Err((
            Reason::PortConflict,
            format!("port {port}/{protocol} belongs to {holder}"),
        ))
    }

    /// All hosts of a port have one set.
    fn note_overruled(&mut self, port: &config::Port<'_>) {
        let kept = &self.plan.config.kept;
        let counts = port.said(kept).map_or("", |(domain, _)| domain);
        let overruled: Vec<_> = port.overruled(kept).collect();
        if !overruled.is_empty() {
            let message = format!(
                "port {}: not applied: what a TkeServiceConfig says of {}: the domains of a port have their Pods in common, and what it says of {counts} counts",
                port.number,
                overruled.join(", ")
            );
            self.note(Reason::ServiceConfigNotApplied, message);
        }
    }

    /// A header belongs to the beginning of a connection, and datagrams have none.
    fn proxy_protocol(&self, protocol: Protocol) -> ProxyProtocol {
        let settings = &self.annotations.settings;
        let from = &settings.proxy_protocol_from;
        match protocol.transport() {
            Transport::Tcp => ProxyProtocol {
                send: settings.proxy_protocol,
                accept: (!from.is_empty()).then(|| AcceptProxy {
                    from: from.clone(),
                    timeout: PROXY_HEADER_TIMEOUT,
                }),
            },
            Transport::Udp => ProxyProtocol::default(),
        }
    }

    fn settings(&self, service: &Service, port: &ServicePort, protocol: Protocol) -> SetSettings {
        let check = match (self.mode, service.is_local, service.health_check_node_port) {
            (Mode::NodePort, true, Some(port)) => health::of_nodes(port),
            _ => HealthCheck::new(match protocol.transport() {
                Transport::Tcp => CheckKind::Tcp,
                // What answers a datagram only its owner knows.
                Transport::Udp => match &self.annotations.settings.udp_check {
                    Some(check) => CheckKind::Udp(check.clone()),
                    None => CheckKind::Ping,
                },
            }),
        };
        let spoken = port.app_protocol.filter(|_| protocol.is_http());
        SetSettings {
            http_version: match spoken {
                Some(AppProtocol::H2c) => BackendHttp::Http2,
                _ => BackendHttp::Http11,
            },
            // Pods' certificates are their own making: nobody vouches for them.
            tls: (spoken == Some(AppProtocol::Https)).then_some(BackendTls {
                trusted: None,
                server_name: None,
            }),
            health_check: Some(check),
            drain_timeout: self.input.options.drain_timeout,
            // Through a node port whoever refuses may be any Pod.
            passive_check: (self.mode == Mode::Direct && protocol.transport() == Transport::Tcp)
                .then(PassiveCheck::default),
            affinity: service.affinity.map(|timeout| Affinity {
                kind: AffinityKind::ClientIp { timeout },
                group: Name::try_from(&*service.uid).ok(),
            }),
            ..SetSettings::default()
        }
    }
}

/// A listener of HTTP that serves these hosts alone.
fn for_hosts(listener: Listener, hosts: &[String], set: &Name) -> Listener {
    let route = HttpRoute {
        hosts: hosts.to_vec(),
        path: PathMatch::Prefix("/".to_owned()),
        action: RouteAction::Forward(set.clone()),
    };
    let http = Http {
        routes: vec![route],
        ..Http::default()
    };
    Listener {
        backend_set: None,
        http: Some(http),
        ..listener
    }
}

/// What a listener or set of a Service's port is called: `namespace/name/tcp/80`, with `/ipv6` where it is of IPv6.
pub(in crate::build) fn name(
    service: &Service,
    port: &ServicePort,
    family: Family,
    suffix: &str,
) -> Option<Name> {
    let family = match family {
        Family::V4 => "",
        Family::V6 => "/ipv6",
    };
    Name::try_from(format!(
        "{}/{}/{}{family}{suffix}",
        service.key,
        port.protocol.lower(),
        port.port
    ))
    .ok()
}

pub(in crate::build) fn no_address(refused: Refused) -> String {
    match refused {
        Refused::Exhausted(family) => {
            format!("no {family} address of the pool is free: enlarge --vip-pool")
        }
        Refused::NotInPool(ip) => {
            format!("{ip} is not in the pool: ask for another, or enlarge --vip-pool")
        }
        Refused::Taken(ip) => format!(
            "{ip} belongs to a Service of another namespace: its annotation podline.io/share-vip-with does not name this one"
        ),
    }
}
