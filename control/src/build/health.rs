//! Health checks that Services get, and what the proxies found. Pure.

use podline_api::{BackendKey, HealthCheck, Name, v1};

use crate::observed::Observed;

/// A node says at its `healthCheckNodePort` whether it has Pods of the Service.
pub(super) fn of_nodes(port: u16) -> HealthCheck {
    let wire = v1::HealthCheck {
        r#type: Some(v1::health_check::Type::Http.into()),
        port: Some(port.into()),
        http: Some(v1::HttpCheck {
            path: Some("/healthz".to_owned()),
            statuses: vec!["200".to_owned()],
            ..v1::HttpCheck::default()
        }),
        ..v1::HealthCheck::default()
    };
    HealthCheck::try_from(wire).expect("a path, a status and a port that is not 0 are valid")
}

/// Whether a backend takes traffic on every proxy that serves. Without any, nobody is known to be healthy.
pub(super) fn on_all(observed: &Observed, set: &Name, backend: &BackendKey) -> bool {
    let mut serving = observed.serving().peekable();
    serving.peek().is_some()
        && serving.all(|(_, proxy)| {
            proxy
                .healthy
                .get(set)
                .is_some_and(|healthy| healthy.contains(backend))
        })
}
