//! The wire form: what is taken from a request and what is refused.

use std::time::Duration;

use podline_api::{
    Apply, Backend, BackendChange, BackendKey, BackendSet, Document, Name, Owner, v1,
};

fn check(request: v1::ApplyRequest, expected: &[&str]) {
    let found = match Apply::try_from(request) {
        Ok(apply) => vec![format!("accepted {apply:?}")],
        Err(invalid) => invalid.violations.iter().map(ToString::to_string).collect(),
    };
    assert_eq!(found, expected);
}

fn request() -> v1::ApplyRequest {
    v1::ApplyRequest {
        owner: "test".to_owned(),
        ..Default::default()
    }
}

fn listener(name: &str, address: &str) -> v1::Listener {
    v1::Listener {
        name: name.to_owned(),
        address: address.to_owned(),
        protocol: Some(v1::listener::Protocol::Tcp.into()),
        backend_set: "web".to_owned(),
        ..Default::default()
    }
}

fn set(name: &str) -> v1::BackendSet {
    v1::BackendSet {
        name: name.to_owned(),
        ..Default::default()
    }
}

fn backend(id: &str, address: &str) -> v1::Backend {
    let id = (!id.is_empty()).then(|| id.to_owned());
    v1::Backend {
        node: None,
        id,
        address: address.to_owned(),
        weight: None,
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn a_request_survives_the_wire() {
    let yaml = include_str!("../../fuzz/seeds/file/full.yaml");
    let document = Document::from_yaml(yaml).unwrap();
    let mut apply = Apply::document(Owner::try_from("k8s/east").unwrap(), document);
    apply.remove_listeners.push(Name::try_from("old").unwrap());
    apply
        .remove_backend_sets
        .push(Name::try_from("old").unwrap());
    apply.backend_changes.push(BackendChange {
        set: Name::try_from("other").unwrap(),
        if_version: Some(7),
        upsert: vec![Backend::try_from(backend("a", "10.0.0.1:80")).unwrap()],
        remove: vec![BackendKey::try_from(backend("", "10.0.0.2:80")).unwrap()],
        drain_timeout: Some(Duration::from_millis(1_500)),
    });
    apply.replace_owned = true;
    apply.if_version = Some(u64::MAX);
    assert_eq!(Apply::try_from(v1::ApplyRequest::from(&apply)), Ok(apply));
}

#[test]
fn an_owner_is_required() {
    check(v1::ApplyRequest::default(), &["owner: is required"]);
    let owner = "a b".to_owned();
    check(
        v1::ApplyRequest { owner, ..request() },
        &["owner: must not hold ' ': use A-Z a-z 0-9 . _ / - :"],
    );
}

#[test]
fn unknown_enum_numbers_are_told_from_absent_ones() {
    let listeners = |protocol| {
        vec![v1::Listener {
            protocol,
            ..listener("a", "[::1]:80")
        }]
    };
    let problem = |protocol| {
        Document::try_from(v1::Document {
            listeners: listeners(protocol),
            ..Default::default()
        })
    };
    let check =
        |protocol, expected: &str| assert_eq!(problem(protocol).unwrap_err().to_string(), expected);
    check(
        None,
        "listeners[0].protocol: is required: use TCP or UDP or HTTP or TLS or HTTPS",
    );
    check(
        Some(0),
        "listeners[0].protocol: is unspecified: use TCP or UDP or HTTP or TLS or HTTPS",
    );
    check(
        Some(99),
        "listeners[0].protocol: 99 is unknown to this release: use TCP or UDP or HTTP or TLS or HTTPS",
    );

    let policy = |policy| {
        BackendSet::try_from(v1::BackendSet {
            policy: Some(policy),
            ..set("a")
        })
    };
    let check =
        |number, expected: &str| assert_eq!(policy(number).unwrap_err().to_string(), expected);
    check(
        0,
        "policy: is unspecified: use ROUND_ROBIN or LEAST_CONNECTIONS or MAGLEV or IP_HASH",
    );
    check(
        i32::MIN,
        "policy: -2147483648 is unknown to this release: use ROUND_ROBIN or LEAST_CONNECTIONS or MAGLEV or IP_HASH",
    );
}

#[test]
fn durations_of_the_wire_are_checked() {
    let wire = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
    let listeners = vec![
        v1::Listener {
            idle_timeout: wire(-1, 0),
            half_closed_timeout: wire(0, i32::MIN),
            ..listener("a", "[::1]:1")
        },
        v1::Listener {
            drain_timeout: wire(i64::MAX, i32::MAX),
            idle_timeout: wire(1, 1),
            ..listener("b", "[::1]:2")
        },
    ];
    check(
        v1::ApplyRequest {
            listeners,
            ..request()
        },
        &[
            "listeners[0].idleTimeout: is negative",
            "listeners[0].halfClosedTimeout: is negative",
            "listeners[1].idleTimeout: must be whole milliseconds",
            "listeners[1].drainTimeout: has more than 999999999 nanos",
        ],
    );
}

#[test]
fn nothing_is_named_twice() {
    check(
        v1::ApplyRequest {
            listeners: vec![
                listener("a", "[::1]:80"),
                listener("b", "[::1]:80"),
                listener("a", "[::1]:81"),
            ],
            backend_sets: vec![set("s"), set("s"), set("kept")],
            remove_listeners: names(&["x", "x", "a", ""]),
            remove_backend_sets: names(&["kept", "gone"]),
            backend_changes: ["s", "gone", "other", "other"]
                .map(|set| v1::BackendChange {
                    set: set.to_owned(),
                    ..Default::default()
                })
                .into(),
            ..request()
        },
        &[
            "listeners[2].name: a is the name of listeners[0] too",
            "listeners[1].address: [::1]:80 is the address of listeners[0] too",
            "backendSets[1].name: s is the name of backendSets[0] too",
            "removeListeners[3]: is required",
            "removeListeners[1]: x is the name of removeListeners[0] too",
            "backendChanges[3].set: other is the name of backendChanges[2] too",
            "removeListeners[2]: a stands in listeners too: send one or the other",
            "removeBackendSets[0]: kept stands in backendSets too: send one or the other",
            "backendChanges[0].set: s stands in backendSets too: send one or the other",
            "backendChanges[1].set: gone stands in removeBackendSets too: send one or the other",
        ],
    );
}

#[test]
fn a_change_names_a_backend_once() {
    let change = v1::BackendChange {
        set: "s".to_owned(),
        upsert: vec![
            backend("", "10.0.0.1:80"),
            backend("x", "10.0.0.1:80"),
            backend("new", "10.0.0.2:80"),
        ],
        remove: vec![
            backend("", "10.0.0.1:80"),
            backend("old", "10.0.0.2:80"),
            backend("", "10.0.0.2:80"),
            backend("", ""),
        ],
        ..Default::default()
    };
    check(
        v1::ApplyRequest {
            backend_changes: vec![change],
            ..request()
        },
        &[
            "backendChanges[0].upsert[1].address: 10.0.0.1:80 is the address of upsert[0] too",
            "backendChanges[0].remove[3].address: is required: write ip:port or [v6]:port",
            "backendChanges[0].remove[0]: 10.0.0.1:80 is named twice in this change",
            "backendChanges[0].remove[2]: 10.0.0.2:80 is named twice in this change",
        ],
    );
}

#[test]
fn the_drain_timeout_of_a_change_keeps_to_its_range() {
    let of = |drain_timeout| {
        BackendChange::try_from(v1::BackendChange {
            set: "s".to_owned(),
            drain_timeout,
            ..Default::default()
        })
        .map(|change| change.drain_timeout)
        .map_err(|invalid| invalid.to_string())
    };
    let wire = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
    assert_eq!(of(None), Ok(None));
    assert_eq!(of(wire(0, 0)), Ok(Some(Duration::ZERO)));
    assert_eq!(of(wire(86_400, 0)), Ok(Some(Duration::from_hours(24))));
    let refused = |problem: &str| Err(format!("drainTimeout: {problem}"));
    assert_eq!(of(wire(86_400, 1_000_000)), refused("must be 0s to 24h"));
    assert_eq!(of(wire(-1, 0)), refused("is negative"));
    let change = v1::BackendChange {
        set: "s".to_owned(),
        drain_timeout: wire(0, 1),
        ..Default::default()
    };
    check(
        v1::ApplyRequest {
            backend_changes: vec![change],
            ..request()
        },
        &["backendChanges[0].drainTimeout: must be whole milliseconds"],
    );
}

#[test]
fn a_removal_may_carry_any_weight() {
    let wire = v1::Backend {
        weight: Some(u32::MAX),
        ..backend("a", "10.0.0.1:80")
    };
    assert_eq!(
        BackendKey::try_from(wire).unwrap().to_string(),
        "10.0.0.1:80 (a)"
    );
}

#[test]
fn messages_are_written_as_camel_case_json() {
    let event = v1::WatchResponse {
        time: Some(prost_types::Timestamp {
            seconds: 1_700_000_000,
            nanos: 0,
        }),
        event: Some(v1::watch_response::Event::Health(v1::HealthChanged {
            set: "web".to_owned(),
            backend: Some(backend("", "10.0.0.1:80")),
            from: v1::Health::Detecting.into(),
            to: 77,
            reason: String::new(),
            version: 3,
        })),
    };
    let json = r#"{"time":"2023-11-14T22:13:20Z","health":{"set":"web","backend":{"address":"10.0.0.1:80"},"from":"DETECTING","to":77,"reason":"","version":3}}"#;
    assert_eq!(serde_json::to_string(&event).unwrap(), json);
    let answer = v1::ApplyResponse {
        took: Some(prost_types::Duration {
            seconds: 0,
            nanos: 350_000,
        }),
        ..Default::default()
    };
    let json = r#"{"version":0,"changes":[],"listeners":[],"took":"0.00035s","silentWorkers":[]}"#;
    assert_eq!(serde_json::to_string(&answer).unwrap(), json);
}
