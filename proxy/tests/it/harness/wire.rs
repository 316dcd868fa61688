//! Requests in their wire form, short to write, so that tests can also say what the domain types forbid.

use std::net::SocketAddr;
use std::time::Duration;

use podline_api::v1;

/// A TCP listener with the defaults.
pub(crate) fn listener(name: &str, address: SocketAddr, set: &str) -> v1::Listener {
    v1::Listener {
        name: name.to_owned(),
        address: address.to_string(),
        protocol: Some(v1::listener::Protocol::Tcp.into()),
        backend_set: set.to_owned(),
        ..v1::Listener::default()
    }
}

/// A backend without id, of the default weight.
pub(crate) fn backend(address: SocketAddr) -> v1::Backend {
    v1::Backend {
        address: address.to_string(),
        ..v1::Backend::default()
    }
}

/// A backend set with the defaults.
pub(crate) fn set(name: &str, backends: &[SocketAddr]) -> v1::BackendSet {
    v1::BackendSet {
        name: name.to_owned(),
        backends: backends.iter().copied().map(backend).collect(),
        ..v1::BackendSet::default()
    }
}

/// A TCP check with the shortest interval and one verdict a probe.
pub(crate) fn fast_check() -> v1::HealthCheck {
    v1::HealthCheck {
        r#type: Some(v1::health_check::Type::Tcp.into()),
        interval: time(Duration::from_millis(500)),
        timeout: time(Duration::from_millis(500)),
        healthy_threshold: Some(2),
        unhealthy_threshold: Some(2),
        ..v1::HealthCheck::default()
    }
}

/// A duration field.
pub(crate) fn time(value: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(value).ok()
}

/// A request by the owner "test".
pub(crate) fn request() -> v1::ApplyRequest {
    v1::ApplyRequest {
        owner: "test".to_owned(),
        ..v1::ApplyRequest::default()
    }
}

/// A request that adds one listener and one set.
pub(crate) fn both(listener: v1::Listener, set: v1::BackendSet) -> v1::ApplyRequest {
    v1::ApplyRequest {
        listeners: vec![listener],
        backend_sets: vec![set],
        ..request()
    }
}

/// A request that adds or replaces sets.
pub(crate) fn sets(sets: impl IntoIterator<Item = v1::BackendSet>) -> v1::ApplyRequest {
    v1::ApplyRequest {
        backend_sets: sets.into_iter().collect(),
        ..request()
    }
}

/// A request that changes single backends of `set`.
pub(crate) fn change(set: &str, upsert: &[SocketAddr], remove: &[SocketAddr]) -> v1::ApplyRequest {
    let change = v1::BackendChange {
        set: set.to_owned(),
        upsert: upsert.iter().copied().map(backend).collect(),
        remove: remove.iter().copied().map(backend).collect(),
        ..v1::BackendChange::default()
    };
    v1::ApplyRequest {
        backend_changes: vec![change],
        ..request()
    }
}
