//! How the backends of one rule of an Ingress are probed and chosen: CLB's defaults. Pure.
//!
//! The one place where settings of a rule come from: what overlays them (`l7Listeners` of a TkeServiceConfig) is found by
//! the protocol, port, host and path of [`At`]. Two rules of one Service port whose settings differ have two sets.

use std::time::Duration;

use podline_api::{
    BackendHttp, BackendTls, CheckKind, HealthCheck, PassiveCheck, Protocol, SetSettings, v1,
};

use crate::build::{Mode, health};
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

/// The settings of a rule's set: `usual`, and what is said of this very rule. Nothing says anything of one yet.
pub(super) fn of_rule(_at: At<'_>, usual: &SetSettings) -> SetSettings {
    usual.clone()
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
