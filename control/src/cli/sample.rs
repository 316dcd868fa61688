//! A proxy's answer for the tests of this module.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::time::{Duration, SystemTime};

use podline_api::v1;
use prost_types::Timestamp;
use v1::explanation::Reason;

/// When the sample was taken, in seconds of Unix time.
pub(super) const NOW: i64 = 1_700_000_000;

/// Two listeners, one of which failed, and two sets, one of which is all unhealthy.
pub(super) fn state() -> v1::GetResponse {
    v1::GetResponse {
        leaving: false,
        version: 12,
        release: "0.1.0".to_owned(),
        started: Some(ago(2 * 3_600 + 180)),
        workers: 2,
        ready: true,
        not_ready_reason: String::new(),
        listeners: vec![web_listener(), db_listener()],
        backend_sets: vec![web_set(), db_set()],
        active_connections: 3,
        descriptors_in_use: 57,
        descriptor_budget: 20_000,
        network: None,
        now: None,
        overrides: vec![drained(), weighed()],
        owners: vec![owner("file", None), owner("k8s/east", Some(7))],
        affinity_clients: 12,
        affinity_capacity: 65_536,
    }
}

/// The same, as a time.
pub(super) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW.unsigned_abs())
}

fn owner(name: &str, epoch: Option<u64>) -> v1::OwnerStatus {
    v1::OwnerStatus {
        owner: name.to_owned(),
        epoch,
        listeners: 1,
        backend_sets: 1,
        applied: Some(ago(120)),
    }
}

/// An override that drains pod-2 for ten minutes more.
pub(super) fn drained() -> v1::OverrideStatus {
    v1::OverrideStatus {
        set: "web".to_owned(),
        backend: Some(v1::Backend {
            node: None,
            id: Some("pod-2".to_owned()),
            address: "10.0.0.2:80".to_owned(),
            weight: None,
        }),
        action: v1::override_request::Action::Drain.into(),
        since: Some(ago(300)),
        until: Some(ago(-600)),
        note: "new disk".to_owned(),
        by: "local".to_owned(),
        present: true,
        ..Default::default()
    }
}

/// An override of a backend that its set does not have now.
pub(super) fn weighed() -> v1::OverrideStatus {
    v1::OverrideStatus {
        backend: Some(v1::Backend {
            node: None,
            id: Some("pod-9".to_owned()),
            address: "10.0.0.9:80".to_owned(),
            weight: None,
        }),
        action: v1::override_request::Action::Weight.into(),
        weight: Some(20),
        until: None,
        note: String::new(),
        by: "k8s/east".to_owned(),
        present: false,
        ..drained()
    }
}

/// So long before the sample was taken.
pub(super) fn ago(seconds: i64) -> Timestamp {
    Timestamp {
        seconds: NOW - seconds,
        nanos: 0,
    }
}

fn listener(name: &str, address: &str) -> v1::Listener {
    let wire = v1::Listener {
        name: name.to_owned(),
        address: address.to_owned(),
        protocol: Some(v1::listener::Protocol::Tcp.into()),
        backend_set: name.to_owned(),
        ..Default::default()
    };
    (&podline_api::Listener::try_from(wire).unwrap()).into()
}

fn web_listener() -> v1::ListenerStatus {
    v1::ListenerStatus {
        listener: Some(listener("web", "127.0.0.1:8080")),
        owner: "file".to_owned(),
        state: v1::listener_status::State::Listening.into(),
        reason: String::new(),
        active_connections: 3,
        accepted_connections: 120,
        refused_connections: 1,
        received_bytes: 1_300_000,
        sent_bytes: 3_700_000_000,
        shed: Some(v1::ShedConnections {
            max_connections: 4,
            ..Default::default()
        }),
        proxy_headers_refused: 5,
        ..v1::ListenerStatus::default()
    }
}

fn db_listener() -> v1::ListenerStatus {
    v1::ListenerStatus {
        listener: Some(listener("db", "[::1]:5432")),
        owner: "k8s/east".to_owned(),
        state: v1::listener_status::State::Failed.into(),
        reason: "the port is in use".to_owned(),
        ..Default::default()
    }
}

fn set(wire: v1::BackendSet) -> v1::BackendSet {
    (&podline_api::BackendSet::try_from(wire).unwrap()).into()
}

fn web_set() -> v1::BackendSetStatus {
    let check = v1::HealthCheck {
        r#type: Some(v1::health_check::Type::Tcp.into()),
        ..Default::default()
    };
    v1::BackendSetStatus {
        set: Some(set(v1::BackendSet {
            name: "web".to_owned(),
            health_check: Some(check),
            ..Default::default()
        })),
        owner: "file".to_owned(),
        version: 12,
        backends: vec![
            v1::BackendStatus {
                active_connections: 2,
                connections: 60,
                sent_bytes: 650_000,
                received_bytes: 1_900_000_000,
                reason: Reason::ProbesPass.into(),
                gets_traffic: true,
                ..backend(None, "10.0.0.1:80", v1::Health::Healthy, 3_600)
            },
            v1::BackendStatus {
                draining: true,
                active_connections: 1,
                connections: 60,
                connect_failures: 4,
                last_probe: "connection refused".to_owned(),
                reason: Reason::Removed.into(),
                ..backend(Some("pod-2"), "10.0.0.2:80", v1::Health::Unhealthy, 5)
            },
        ],
        eligible: 1,
        total: 2,
        fail_open: false,
        ..Default::default()
    }
}

fn db_set() -> v1::BackendSetStatus {
    v1::BackendSetStatus {
        set: Some(set(v1::BackendSet {
            name: "db".to_owned(),
            policy: Some(v1::backend_set::Policy::LeastConnections.into()),
            ..Default::default()
        })),
        owner: "k8s/east".to_owned(),
        version: 3,
        backends: vec![v1::BackendStatus {
            reason: Reason::FailOpen.into(),
            gets_traffic: true,
            ..backend(None, "[fd00::1]:5432", v1::Health::Unhealthy, 90_000)
        }],
        eligible: 0,
        total: 1,
        fail_open: true,
        ..Default::default()
    }
}

fn backend(id: Option<&str>, address: &str, health: v1::Health, since: i64) -> v1::BackendStatus {
    v1::BackendStatus {
        backend: Some(v1::Backend {
            node: None,
            id: id.map(str::to_owned),
            address: address.to_owned(),
            weight: Some(10),
        }),
        health: health.into(),
        since: Some(ago(since)),
        ..Default::default()
    }
}
