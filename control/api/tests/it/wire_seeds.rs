//! The seeds of the fuzz target `convert`: requests that are right, wrong and hostile, as wire bytes.

use podline_api::v1;
use prost::Message;
use prost_types::Duration;

/// File name and bytes of each seed.
pub(crate) fn all() -> Vec<(&'static str, Vec<u8>)> {
    let encode = |request: v1::ApplyRequest| request.encode_to_vec();
    vec![
        ("empty", Vec::new()),
        ("full", encode(full())),
        ("changes", encode(changes())),
        ("durations", encode(durations())),
        ("enums", encode(enums())),
        ("duplicates", encode(duplicates())),
        ("names", encode(names())),
        ("numbers", encode(numbers())),
        ("many-violations", encode(many_violations())),
        ("http", encode(http(false))),
        ("http-wrong", encode(http(true))),
        ("deep-groups", vec![0x0b; 4_096]),
        (
            "length-overflow",
            vec![0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        ),
        ("bad-utf8", vec![0x0a, 0x02, 0xc3, 0x28]),
    ]
}

fn listener(name: &str, address: &str) -> v1::Listener {
    v1::Listener {
        name: name.to_owned(),
        address: address.to_owned(),
        protocol: Some(1),
        backend_set: "web".to_owned(),
        ..Default::default()
    }
}

fn backend(id: Option<&str>, address: &str, weight: Option<u32>) -> v1::Backend {
    v1::Backend {
        node: None,
        id: id.map(str::to_owned),
        address: address.to_owned(),
        weight,
    }
}

fn full() -> v1::ApplyRequest {
    let second = Some(Duration {
        seconds: 1,
        nanos: 0,
    });
    let health_check = v1::HealthCheck {
        r#type: Some(1),
        interval: second,
        timeout: second,
        healthy_threshold: Some(1),
        unhealthy_threshold: Some(10),
        ..Default::default()
    };
    v1::ApplyRequest {
        owner: "k8s/east".to_owned(),
        listeners: vec![v1::Listener {
            idle_timeout: second,
            drain_timeout: second,
            ..listener("web", "0.0.0.0:80")
        }],
        backend_sets: vec![v1::BackendSet {
            name: "web".to_owned(),
            policy: Some(2),
            health_check: Some(health_check),
            backends: vec![
                backend(Some("pod-1"), "10.0.0.1:80", Some(0)),
                backend(None, "[fd00::1]:80", None),
            ],
            connect_timeout: second,
            connect_retries: Some(10),
            drain_timeout: second,
            deregister_target_rst: true,
            ..Default::default()
        }],
        replace_owned: true,
        if_version: Some(u64::MAX),
        ..Default::default()
    }
}

fn http(is_wrong: bool) -> v1::ApplyRequest {
    let second = Some(Duration {
        seconds: 1,
        nanos: 0,
    });
    let path = |exact: Option<&str>, prefix: Option<&str>| {
        Some(v1::HttpPath {
            exact: exact.map(str::to_owned),
            prefix: prefix.map(str::to_owned),
        })
    };
    let forwards = v1::HttpRoute {
        hosts: vec!["*.Example.com".to_owned(), "a.example".to_owned()],
        path: path(None, Some("/a")),
        backend_set: "web".to_owned(),
        redirect: None,
    };
    let redirects = v1::HttpRoute {
        path: path(None, Some("/old")),
        redirect: Some(v1::HttpRedirect {
            scheme: Some("https".to_owned()),
            port: Some(65_535),
            prefix: Some("/new".to_owned()),
            status: Some(308),
            ..Default::default()
        }),
        ..Default::default()
    };
    let wrong = v1::HttpRoute {
        hosts: vec!["-".to_owned(), "a:1".to_owned()],
        path: path(Some("?"), Some("")),
        backend_set: "web".to_owned(),
        redirect: Some(v1::HttpRedirect::default()),
    };
    let settings = v1::HttpSettings {
        request_timeout: second,
        keep_alive_timeout: second,
        max_body_bytes: Some(1 << 20),
        max_head_bytes: Some(1 << 16),
        trusted_proxies: vec!["10.0.0.0/8".to_owned()],
        max_connection_age: second,
        ..Default::default()
    };
    let routes = if is_wrong {
        vec![forwards, wrong]
    } else {
        vec![forwards, redirects]
    };
    let listener = |name: &str, address: &str, routes| v1::Listener {
        protocol: Some(3),
        routes,
        http: Some(settings.clone()),
        ..listener(name, address)
    };
    v1::ApplyRequest {
        owner: "test".to_owned(),
        listeners: vec![listener("site", "0.0.0.0:80", routes)],
        ..Default::default()
    }
}

fn changes() -> v1::ApplyRequest {
    let change = v1::BackendChange {
        set: "web".to_owned(),
        if_version: Some(3),
        upsert: vec![backend(Some("new"), "10.0.0.1:80", Some(100))],
        remove: vec![
            backend(Some("old"), "10.0.0.1:80", None),
            backend(None, "10.0.0.2:80", Some(u32::MAX)),
        ],
        drain_timeout: Some(Duration {
            seconds: 0,
            nanos: i32::MAX,
        }),
    };
    v1::ApplyRequest {
        owner: "a:b".to_owned(),
        remove_listeners: vec!["x".to_owned(), "x".to_owned()],
        remove_backend_sets: vec!["web".to_owned()],
        backend_changes: vec![change.clone(), change],
        validate_only: true,
        ..Default::default()
    }
}

fn durations() -> v1::ApplyRequest {
    let extremes = [
        (-1, 0),
        (0, -1),
        (i64::MIN, i32::MIN),
        (i64::MAX, i32::MAX),
        (1, 1),
        (0, 1_000_000_000),
    ];
    let listener = |(seconds, nanos)| v1::Listener {
        idle_timeout: Some(Duration { seconds, nanos }),
        half_closed_timeout: Some(Duration { seconds, nanos }),
        ..listener("web", "[::1]:80")
    };
    v1::ApplyRequest {
        listeners: extremes.map(listener).into(),
        ..full()
    }
}

fn enums() -> v1::ApplyRequest {
    let mut request = full();
    request.listeners[0].protocol = Some(i32::MIN);
    request.backend_sets[0].policy = Some(0);
    request.backend_sets[0].health_check = Some(v1::HealthCheck {
        r#type: Some(i32::MAX),
        ..Default::default()
    });
    request
}

fn duplicates() -> v1::ApplyRequest {
    let (mut request, twin) = (full(), full());
    request.listeners.extend(twin.listeners);
    request.backend_sets.extend(twin.backend_sets);
    let again = request.backend_sets[0].backends.clone();
    request.backend_sets[0].backends.extend(again);
    request
}

fn names() -> v1::ApplyRequest {
    let odd = ["", " ", "\0", "é", "a/b:c", "\u{202e}", &"x".repeat(300)];
    v1::ApplyRequest {
        owner: "x".repeat(254),
        listeners: odd.iter().map(|name| listener(name, name)).collect(),
        backend_sets: odd
            .iter()
            .map(|name| v1::BackendSet {
                name: (*name).to_owned(),
                backends: vec![
                    backend(Some(name), "10.0.0.1:0", None),
                    backend(Some("a"), "::1", None),
                ],
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}

fn numbers() -> v1::ApplyRequest {
    let mut request = full();
    let set = &mut request.backend_sets[0];
    set.connect_retries = Some(u32::MAX);
    set.health_check = Some(v1::HealthCheck {
        healthy_threshold: Some(256),
        unhealthy_threshold: Some(u32::MAX),
        ..Default::default()
    });
    set.backends[0].weight = Some(u32::MAX);
    set.backends[1].weight = Some(256);
    request
}

fn many_violations() -> v1::ApplyRequest {
    v1::ApplyRequest {
        listeners: vec![v1::Listener::default(); 60],
        ..Default::default()
    }
}
