//! What probes ask, over HTTP, HTTPS and gRPC, and what of the answers passes.

use std::net::SocketAddr;

use podline_api::v1::{self, Health, health_check::Type, http_check};
use podline_lab::{Behaviour, wait};
use tonic_health::ServingStatus;

use crate::harness::scripted::{Scripted, Seen, answer_as_the_path_says};
use crate::harness::{LONG, Proxy, pod, tcp, wire};

/// A fast check of this type.
pub(crate) fn check(kind: Type) -> v1::HealthCheck {
    v1::HealthCheck {
        r#type: Some(kind.into()),
        ..wire::fast_check()
    }
}

fn http(http: v1::HttpCheck) -> v1::HealthCheck {
    v1::HealthCheck {
        http: Some(http),
        ..check(Type::Http)
    }
}

fn grpc(grpc: v1::GrpcCheck) -> v1::HealthCheck {
    v1::HealthCheck {
        grpc: Some(grpc),
        ..check(Type::Grpc)
    }
}

/// Adds a set of one backend, or several, with a check.
pub(crate) fn checked(proxy: &Proxy, name: &str, backends: &[SocketAddr], check: v1::HealthCheck) {
    let mut set = wire::set(name, backends);
    set.health_check = Some(check);
    proxy.apply(v1::ApplyRequest {
        backend_sets: vec![set],
        ..wire::request()
    });
}

/// Waits until probes have come to a verdict, and for what they say.
pub(crate) fn wait_found(
    proxy: &Proxy,
    set: &str,
    address: SocketAddr,
    health: Health,
    found: &str,
) {
    let what = format!("{set} is {} for: {found}", health.as_str_name());
    let mut before = (Health::Unspecified, String::new());
    wait::until(LONG, &what, || {
        let status = proxy.backend(set, address).unwrap();
        let now = (status.health(), status.last_probe);
        if now != before {
            println!("{set} is {} for: {}", now.0.as_str_name(), now.1); // seen when this fails
            before.clone_from(&now);
        }
        now.0 == health && now.1 == found
    });
}

fn wait_seen(server: &Scripted, what: &str, is_it: impl Fn(&Seen) -> bool) {
    wait::until(LONG, what, || server.seen().iter().any(&is_it));
}

#[test]
fn statuses_decide_over_http() {
    let server = Scripted::start(answer_as_the_path_says);
    let proxy = Proxy::start();
    let cases: [(&str, &[&str], _, &str); 6] = [
        ("/200", &[], Health::Healthy, "HTTP 200"),
        ("/302", &[], Health::Healthy, "HTTP 302"),
        ("/404", &[], Health::Unhealthy, "HTTP 404"),
        ("/503", &[], Health::Unhealthy, "HTTP 503"),
        ("/404", &["204-206", "404"], Health::Healthy, "HTTP 404"),
        ("/200", &["204-206", "4xx"], Health::Unhealthy, "HTTP 200"),
    ];
    let name = |index: usize| format!("set-{index}");
    for (index, (path, statuses, ..)) in cases.iter().enumerate() {
        let asked = v1::HttpCheck {
            path: Some((*path).into()),
            statuses: statuses.iter().map(ToString::to_string).collect(),
            ..v1::HttpCheck::default()
        };
        checked(&proxy, &name(index), &[server.address()], http(asked));
    }
    for (index, (.., health, found)) in cases.iter().enumerate() {
        wait_found(&proxy, &name(index), server.address(), *health, found);
    }
}

#[test]
fn a_request_is_what_the_check_says() {
    let server = Scripted::start(answer_as_the_path_says);
    let proxy = Proxy::start();
    let (address, version) = (server.address(), env!("CARGO_PKG_VERSION"));
    let rest = format!("User-Agent: podline-probe/{version}\r\nAccept: */*\r\nConnection: close");
    let head = v1::HttpCheck {
        method: Some(http_check::Method::Head.into()),
        path: Some("/healthz?full=1".into()),
        host: Some("web.example".into()),
        ..v1::HttpCheck::default()
    };
    let old = v1::HttpCheck {
        path: Some("/old".into()),
        version: Some(http_check::Version::Http10.into()),
        ..v1::HttpCheck::default()
    };
    for (name, asked, wanted) in [
        (
            "plain",
            v1::HttpCheck::default(),
            format!("GET / HTTP/1.1\r\nHost: {address}\r\n{rest}"),
        ),
        (
            "head",
            head,
            format!("HEAD /healthz?full=1 HTTP/1.1\r\nHost: web.example\r\n{rest}"),
        ),
        ("old", old, format!("GET /old HTTP/1.0\r\n{rest}")),
    ] {
        checked(&proxy, name, &[address], http(asked));
        wait_found(&proxy, name, address, Health::Healthy, "HTTP 200");
        wait_seen(&server, &wanted, |seen| seen.said == wanted);
    }
}

#[test]
fn an_ipv6_backend_is_named_in_brackets() {
    let server = Scripted::start_v6(answer_as_the_path_says);
    let proxy = Proxy::start();
    let address = server.address();
    checked(&proxy, "web", &[address], check(Type::Http));
    wait_found(&proxy, "web", address, Health::Healthy, "HTTP 200");
    let host = format!("\r\nHost: [::1]:{}\r\n", address.port());
    wait_seen(&server, &host, |seen| seen.said.contains(&host));
}

#[test]
fn probes_go_to_the_checks_port_from_its_source_address() {
    let server = Scripted::start(answer_as_the_path_says);
    let proxy = Proxy::start();
    let backend = tcp::free_address(); // nobody is there
    let elsewhere = v1::HealthCheck {
        port: Some(server.address().port().into()),
        source_address: Some("127.0.0.2".into()),
        ..check(Type::Http)
    };
    checked(&proxy, "web", &[backend], elsewhere);
    wait_found(&proxy, "web", backend, Health::Healthy, "HTTP 200");
    wait_seen(&server, "a probe", |_| true);
    let seen = server.seen();
    assert!(seen.iter().all(|s| s.from.to_string() == "127.0.0.2"));
}

#[test]
fn a_source_address_that_cannot_be_used_is_told() {
    let pod = pod("a", Behaviour::Name);
    let proxy = Proxy::start();
    for (name, source, found) in [
        (
            "foreign",
            "192.0.2.1",
            "the check's source address is none of this machine's",
        ),
        (
            "other",
            "::1",
            "the check's source address is of the other IP version",
        ),
    ] {
        let from = v1::HealthCheck {
            source_address: Some(source.into()),
            ..check(Type::Tcp)
        };
        checked(&proxy, name, &[pod.address()], from);
        wait_found(&proxy, name, pod.address(), Health::Unhealthy, found);
    }
    assert_eq!(pod.counts().accepted(), 0);
}

#[test]
fn https_takes_any_certificate_and_asks_for_the_host() {
    let server = Scripted::start_tls(answer_as_the_path_says);
    let proxy = Proxy::start();
    let address = server.address();
    checked(&proxy, "web", &[address], check(Type::Https));
    wait_found(&proxy, "web", address, Health::Healthy, "HTTP 200");
    wait_seen(&server, "no name for an address", |seen| {
        seen.server_name.is_none()
    });
    let named = v1::HttpCheck {
        host: Some("web.example:8443".into()),
        path: Some("/503".into()),
        ..v1::HttpCheck::default()
    };
    let named = v1::HealthCheck {
        http: Some(named),
        ..check(Type::Https)
    };
    checked(&proxy, "named", &[address], named);
    wait_found(&proxy, "named", address, Health::Unhealthy, "HTTP 503");
    wait_seen(&server, "the host's name", |seen| {
        seen.server_name.as_deref() == Some("web.example")
            && seen.said.contains("\r\nHost: web.example:8443\r\n")
    });
}

/// A gRPC server with a health service that knows two services; closed on drop.
struct Grpc {
    address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl Grpc {
    fn start() -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let (reporter, service) = tonic_health::server::health_reporter();
        let address = runtime.block_on(async {
            for (name, status) in [
                ("up", ServingStatus::Serving),
                ("down", ServingStatus::NotServing),
            ] {
                reporter.set_service_status(name, status).await;
            }
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
            let server = tonic::transport::Server::builder().add_service(service);
            tokio::spawn(server.serve_with_incoming(incoming));
            address
        });
        Self {
            address,
            _runtime: runtime,
        }
    }
}

#[test]
fn grpc_health_decides() {
    let server = Grpc::start();
    let proxy = Proxy::start();
    let of = |service: &str, statuses: &[&str]| v1::GrpcCheck {
        service: Some(service.into()),
        statuses: statuses.iter().map(ToString::to_string).collect(),
        ..v1::GrpcCheck::default()
    };
    let unknown_method = |statuses| v1::GrpcCheck {
        path: Some("/podline.Nothing/Check".into()),
        ..of("", statuses)
    };
    let unimplemented = "gRPC status 12 (Unimplemented)";
    let cases = [
        ("whole", of("", &[]), Health::Healthy, "SERVING"),
        ("up", of("up", &[]), Health::Healthy, "SERVING"),
        ("down", of("down", &[]), Health::Unhealthy, "NOT_SERVING"),
        (
            "down-but-ok",
            of("down", &["0"]),
            Health::Healthy,
            "gRPC status 0 (Ok)",
        ),
        (
            "unknown",
            of("unknown", &[]),
            Health::Unhealthy,
            "gRPC status 5 (NotFound)",
        ),
        (
            "none",
            unknown_method(&[]),
            Health::Unhealthy,
            unimplemented,
        ),
        (
            "none-but-12",
            unknown_method(&["12"]),
            Health::Healthy,
            unimplemented,
        ),
        (
            "path",
            v1::GrpcCheck {
                path: Some("/<>".into()),
                ..of("", &[])
            },
            Health::Unhealthy,
            "the check's path cannot be sent over HTTP/2",
        ),
    ];
    for (name, asked, ..) in &cases {
        checked(&proxy, name, &[server.address], grpc(asked.clone()));
    }
    for (name, _, health, found) in cases {
        wait_found(&proxy, name, server.address, health, found);
    }
}

/// One probe every five minutes, and one makes a verdict.
fn rare(check: v1::HealthCheck) -> v1::HealthCheck {
    v1::HealthCheck {
        interval: wire::time(LONG * 15),
        timeout: wire::time(LONG),
        healthy_threshold: Some(1),
        ..check
    }
}

#[test]
fn sets_with_equal_checks_share_a_probe() {
    let server = Scripted::start(answer_as_the_path_says);
    let proxy = Proxy::start();
    let address = server.address();
    let sets = ["a", "b"].map(|name| {
        let mut set = wire::set(name, &[address]);
        set.health_check = Some(rare(check(Type::Http)));
        set
    });
    proxy.apply(v1::ApplyRequest {
        backend_sets: sets.to_vec(),
        ..wire::request()
    });
    for set in ["a", "b"] {
        wait_found(&proxy, set, address, Health::Healthy, "HTTP 200");
    }
    assert_eq!(server.accepted(), 1);
}

#[test]
fn backends_of_a_host_share_the_probe_of_the_checks_port() {
    let server = Scripted::start(answer_as_the_path_says);
    let proxy = Proxy::start();
    let backends = [tcp::free_address(), tcp::free_address()];
    let common = v1::HealthCheck {
        port: Some(server.address().port().into()),
        ..rare(check(Type::Http))
    };
    checked(&proxy, "web", &backends, common);
    for backend in backends {
        wait_found(&proxy, "web", backend, Health::Healthy, "HTTP 200");
    }
    assert_eq!(server.accepted(), 1);
}
