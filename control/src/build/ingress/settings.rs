//! How the backends of one rule of an Ingress are probed and chosen: CLB's defaults. Pure.
//!
//! The one place where settings of a rule come from: what overlays them (`l7Listeners` of a TkeServiceConfig) is found by
//! the protocol, port, host and path of [`At`], one of [`anchors`]. Two rules of one Service port whose settings differ have two sets.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use podline_api::{
    BackendHttp, BackendTls, CheckKind, HealthCheck, PassiveCheck, Protocol, SetSettings, v1,
};

use super::rules::{Port, To};
use crate::build::config::{self, Kept};
use crate::build::{Mode, health};
use crate::cluster::service_config::Anchor;
use crate::cluster::{AppProtocol, Service, ServicePort};

/// Where a rule stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'a> {
    /// HTTP or HTTPS.
    pub(super) protocol: Protocol,
    /// The listener's.
    pub(super) port: u16,
    /// As it is written; empty: every host.
    pub(super) host: &'a str,
    /// As it is written.
    pub(super) path: &'a str,
}

impl At<'_> {
    fn anchor(&self) -> Anchor {
        let host = self.host.to_ascii_lowercase();
        let speech = config::speech(self.protocol);
        Anchor::Rule(speech, self.port, host.into(), self.path.into())
    }

    /// Tells the set of this rule from others of its Service port: the same wherever the rule stands among others.
    pub(super) fn mark(&self) -> String {
        let Self {
            protocol,
            port,
            host,
            path,
        } = self;
        let text = format!("{protocol:?} {port} {host} {path}");
        // FNV-1a: the same in every release.
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        format!("{hash:016x}")
    }
}

/// What a TkeServiceConfig can say something of: the listeners, with the domains and rules that are forwarded.
pub(super) fn anchors(ports: &[Port<'_>]) -> Vec<Anchor> {
    let (mut anchors, mut seen) = (Vec::new(), HashSet::new());
    let mut add = |anchor: Anchor| {
        if seen.insert(anchor.clone()) {
            anchors.push(anchor);
        }
    };
    for port in ports {
        let (speech, number) = (config::speech(port.protocol), port.number);
        add(Anchor::Listener(speech, number));
        for (host, path) in forwarded(port) {
            let host: Arc<str> = host.to_ascii_lowercase().into();
            add(Anchor::Domain(speech, number, Arc::clone(&host)));
            add(Anchor::Rule(speech, number, host, path.into()));
        }
    }
    anchors
}

/// The domains of a port, each once.
pub(super) fn domains(port: &Port<'_>) -> Vec<String> {
    let domains = forwarded(port).map(|(host, _)| host.to_ascii_lowercase());
    let domains: BTreeSet<String> = domains.collect();
    domains.into_iter().collect()
}

/// Host and path of what a port forwards.
fn forwarded<'a>(port: &'a Port<'_>) -> impl Iterator<Item = (&'a str, &'a str)> {
    let routes = port.routes.iter();
    let routes = routes.filter(|route| matches!(route.to, To::Backend(_)));
    let rules = routes.map(|route| (route.host, route.text()));
    rules.chain(port.default.map(|_| ("", "/")))
}

/// The settings of a rule's set: `usual`, and what is set of this very rule.
pub(super) fn of_rule(at: At<'_>, usual: &SetSettings, kept: &Kept) -> SetSettings {
    let Some(said) = kept.get(&at.anchor()) else {
        return usual.clone();
    };
    let rule = config::Rule {
        speech: config::speech(at.protocol),
        domain: at.host,
        group: None,
    };
    config::settings(usual.clone(), said, &rule)
}

/// The settings of a Service port's set where nothing is said of the rule.
pub(super) fn usual(
    service: &Service,
    port: &ServicePort,
    mode: Mode,
    drain_timeout: Duration,
) -> SetSettings {
    let check = match (mode, service.is_local, service.health_check_node_port) {
        (Mode::NodePort, true, Some(port)) => health::of_nodes(port),
        _ => check(port.app_protocol),
    };
    SetSettings {
        http_version: match port.app_protocol {
            Some(AppProtocol::H2c) => BackendHttp::Http2,
            _ => BackendHttp::Http11,
        },
        // Pods' certificates are their own making: nobody vouches for them.
        tls: (port.app_protocol == Some(AppProtocol::Https)).then_some(BackendTls {
            trusted: None,
            server_name: None,
        }),
        health_check: Some(check),
        drain_timeout,
        // Through a node port whoever refuses may be any Pod.
        passive_check: (mode == Mode::Direct).then(PassiveCheck::default),
        ..SetSettings::default()
    }
}

/// HEAD / with any answer, as CLB has it; what speaks HTTP/2 alone is only connected to.
fn check(spoken: Option<AppProtocol>) -> HealthCheck {
    if spoken == Some(AppProtocol::H2c) {
        return HealthCheck::new(CheckKind::Tcp);
    }
    let http = v1::HttpCheck {
        method: Some(v1::http_check::Method::Head.into()),
        path: Some("/".to_owned()),
        statuses: vec!["100-599".to_owned()],
        ..v1::HttpCheck::default()
    };
    let kind = match spoken {
        Some(AppProtocol::Https) => v1::health_check::Type::Https,
        _ => v1::health_check::Type::Http,
    };
    let wire = v1::HealthCheck {
        r#type: Some(kind.into()),
        http: Some(http),
        ..v1::HealthCheck::default()
    };
    HealthCheck::try_from(wire).expect("a path, a method and a range of statuses are valid")
}
