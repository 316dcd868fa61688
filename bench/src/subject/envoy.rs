//! Envoy as an expert would configure it. Its backends are in files of their own, which it reads again when they are
//! replaced. Pure.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::Layer;
use super::targets::{CHAIN, CIPHERS, File, KEY, Port, Wanted};

const CONFIGURATION: &str = "envoy.json";
/// Where it tells which backends it has, in its own network namespace.
pub(super) const ADMIN: u16 = 9900;
/// What the page with its backends is called.
pub(super) const CLUSTERS: &str = "/clusters";
/// Limits that would else end connections and requests of a load that is meant.
const NO_LIMIT: u32 = 1_000_000;

/// The files it reads at its start.
pub(super) fn files(wanted: &Wanted) -> Vec<File> {
    let mut listeners: Vec<Value> = wanted.tcp().map(|port| listener(wanted, port)).collect();
    listeners.extend(wanted.udp().map(datagrams));
    let configuration = json!({
        "node": {"id": "bench", "cluster": "bench"},
        "admin": {"address": address(SocketAddr::from(([127, 0, 0, 1], ADMIN)))},
        "static_resources": {
            "listeners": listeners,
            "clusters": clusters(wanted).map(|(port, file)| cluster(wanted, port, file)).collect::<Vec<_>>(),
        },
    });
    let mut files = backends(wanted);
    files.push((CONFIGURATION, configuration.to_string()));
    if wanted.layer.has_tls() {
        files.push((CHAIN, wanted.certificate.chain.clone()));
        files.push((KEY, wanted.certificate.key.clone()));
    }
    files
}

/// The files with the backends, which may be replaced later.
pub(super) fn backends(wanted: &Wanted) -> Vec<File> {
    let assignment = |(port, file): (Port<'_>, &'static str)| {
        let endpoints = port.targets.iter();
        let endpoints = endpoints.map(|target| json!({"endpoint": {"address": address(*target)}}));
        let assignment = json!({
            "resources": [{
                "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
                "cluster_name": port.name,
                "endpoints": [{"lb_endpoints": endpoints.collect::<Vec<_>>()}],
            }],
        });
        (file, assignment.to_string())
    };
    clusters(wanted).map(assignment).collect()
}

/// Its command line.
pub(super) fn arguments(wanted: &Wanted) -> Vec<String> {
    let workers = wanted.workers.to_string();
    let path = wanted.path(CONFIGURATION);
    [
        "-c",
        &path,
        "--concurrency",
        &workers,
        "--disable-hot-restart",
        "-l",
        "error",
    ]
    .map(ToOwned::to_owned)
    .to_vec()
}

/// The backends of a cluster, as its page of clusters tells them.
pub(super) fn told(page: &str, cluster: &str) -> BTreeSet<SocketAddr> {
    let of_cluster = page
        .lines()
        .filter_map(|line| line.strip_prefix(cluster)?.strip_prefix("::"));
    // As "http::10.244.1.10:8080::cx_active::0"; IPv6 addresses are in brackets and hold "::" themselves.
    let backends = of_cluster.filter_map(|rest| rest.split_once("::cx_active::"));
    backends
        .filter_map(|(address, _)| address.parse().ok())
        .collect()
}

/// The ports that have backends of their own, with the name of the file that tells them.
fn clusters(wanted: &Wanted) -> impl Iterator<Item = (Port<'_>, &'static str)> {
    wanted.sets().map(|port| match port.name {
        "http" => (port, "envoy-http.json"),
        "grpc" => (port, "envoy-grpc.json"),
        _ => (port, "envoy-frames.json"),
    })
}

fn cluster(wanted: &Wanted, port: Port<'_>, file: &str) -> Value {
    let limits = json!({
        "max_connections": NO_LIMIT, "max_pending_requests": NO_LIMIT,
        "max_requests": NO_LIMIT, "max_retries": NO_LIMIT,
    });
    let mut cluster = json!({
        "name": port.name,
        "type": "EDS",
        "connect_timeout": "5s",
        "lb_policy": "ROUND_ROBIN",
        "circuit_breakers": {"thresholds": [limits]},
        "eds_cluster_config": {"eds_config": {
            "resource_api_version": "V3",
            "path_config_source": {"path": wanted.path(file)},
        }},
    });
    if port.name == "grpc" {
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            },
        });
    }
    cluster
}

/// Which cluster a port leads to: transfers that last go where frames go.
fn leads_to(port: Port<'_>) -> &'static str {
    match port.name {
        "http" | "http2" => "http",
        "grpc" => "grpc",
        _ => "frames",
    }
}

fn listener(wanted: &Wanted, port: Port<'_>) -> Value {
    let cluster = leads_to(port);
    let filter = match wanted.layer {
        Layer::L4 => json!({
            "name": "envoy.filters.network.tcp_proxy",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                "stat_prefix": port.name,
                "cluster": cluster,
            },
        }),
        Layer::L7 | Layer::Tls => manager(cluster),
    };
    let mut chain = json!({"filters": [filter]});
    if wanted.layer.has_tls() {
        chain["transport_socket"] = tls(wanted);
    }
    json!({
        "name": port.label(),
        "address": address(port.listen),
        "enable_reuse_port": true,
        "filter_chains": [chain],
    })
}

/// How clients speak TLS. Session tickets are its default, and what TLS 1.3 uses is its own choice.
fn tls(wanted: &Wanted) -> Value {
    let file = |name| json!({"filename": wanted.path(name)});
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_params": {
                    "tls_minimum_protocol_version": "TLSv1_2",
                    "tls_maximum_protocol_version": "TLSv1_3",
                    "cipher_suites": CIPHERS.split(':').collect::<Vec<_>>(),
                },
                "tls_certificates": [{"certificate_chain": file(CHAIN), "private_key": file(KEY)}],
            },
        },
    })
}

fn manager(cluster: &str) -> Value {
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": cluster,
            "generate_request_id": false,
            "use_remote_address": true,
            "route_config": {"virtual_hosts": [{
                "name": "all",
                "domains": ["*"],
                "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}],
            }]},
            "http_filters": [{
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                    "suppress_envoy_headers": true,
                },
            }],
        },
    })
}

fn datagrams(port: Port<'_>) -> Value {
    let mut at = address(port.listen);
    at["socket_address"]["protocol"] = json!("UDP");
    json!({
        "name": "datagrams",
        "address": at,
        "enable_reuse_port": true,
        "udp_listener_config": {"downstream_socket_config": {"prefer_gro": true}},
        "listener_filters": [{
            "name": "envoy.filters.udp_listener.udp_proxy",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig",
                "stat_prefix": "datagrams",
                "matcher": {"on_no_match": {"action": {
                    "name": "route",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.Route",
                        "cluster": leads_to(port),
                    },
                }}},
            },
        }],
    })
}

fn address(at: SocketAddr) -> Value {
    json!({"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::targets::example;

    fn file(wanted: &Wanted, name: &str) -> Value {
        let files = files(wanted);
        let (_, text) = files.iter().find(|(known, _)| *known == name).unwrap();
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn connections_and_datagrams_are_forwarded() {
        let wanted = example(Layer::L4);
        let configuration = file(&wanted, CONFIGURATION);
        let resources = &configuration["static_resources"];
        let listeners = resources["listeners"].as_array().unwrap();
        let at = |listener: &Value| {
            let address = &listener["address"]["socket_address"];
            format!(
                "{} {} {}",
                listener["name"], address["port_value"], address["protocol"]
            )
        };
        let expected = [
            "\"http\" 8000 null",
            "\"frames\" 8001 null",
            "\"bulk\" 8002 null",
            "\"datagrams\" 8001 \"UDP\"",
        ];
        assert_eq!(listeners.iter().map(at).collect::<Vec<_>>(), expected);
        let filter = &listeners[2]["filter_chains"][0]["filters"][0]["typed_config"];
        assert_eq!(filter["cluster"], "frames");
        for cluster in resources["clusters"].as_array().unwrap() {
            let limits = &cluster["circuit_breakers"]["thresholds"][0];
            assert_eq!(limits["max_connections"], NO_LIMIT);
            assert_eq!(cluster["type"], "EDS");
        }
        let source = &resources["clusters"][1]["eds_cluster_config"]["eds_config"];
        assert_eq!(
            source["path_config_source"]["path"],
            "/run/bench/envoy-frames.json"
        );
    }

    #[test]
    fn backends_are_in_files_of_their_own() {
        let wanted = example(Layer::L4);
        let [(http, _), (frames, _)] = backends(&wanted)[..] else {
            panic!("two files");
        };
        assert_eq!((http, frames), ("envoy-http.json", "envoy-frames.json"));
        let assignment = &file(&wanted, frames)["resources"][0];
        assert_eq!(assignment["cluster_name"], "frames");
        let second = &assignment["endpoints"][0]["lb_endpoints"][1]["endpoint"]["address"];
        let expected = json!({"address": "10.244.1.11", "port_value": 8081});
        assert_eq!(second["socket_address"], expected);
    }

    #[test]
    fn requests_are_routed_to_http() {
        let wanted = example(Layer::L7);
        let text = file(&wanted, CONFIGURATION).to_string();
        assert!(
            text.contains("HttpConnectionManager") && !text.contains("tcp_proxy"),
            "{text}"
        );
        assert!(text.contains("http2_protocol_options"), "{text}");
        assert_eq!(backends(&wanted).len(), 2);
    }

    #[test]
    fn tls_ends_here() {
        let wanted = example(Layer::Tls);
        let configuration = file(&wanted, CONFIGURATION);
        let listeners = configuration["static_resources"]["listeners"].as_array();
        let listeners = listeners.unwrap();
        assert_eq!(listeners.len(), 2);
        for listener in listeners {
            let socket = &listener["filter_chains"][0]["transport_socket"]["typed_config"];
            let context = &socket["common_tls_context"];
            assert_eq!(context["alpn_protocols"], json!(["h2", "http/1.1"]));
            let certificate = &context["tls_certificates"][0];
            assert_eq!(certificate["private_key"]["filename"], "/run/bench/tls.key");
        }
        let files = files(&wanted);
        assert!(files.contains(&(KEY, "(key)\n".to_owned())));
        let clear = file(&example(Layer::L7), CONFIGURATION).to_string();
        assert!(!clear.contains("transport_socket"), "{clear}");
    }

    #[test]
    fn its_backends_are_read_from_its_page() {
        let page = "http::observability_name::http\n\
                    http::default_priority::max_connections::1000000\n\
                    http::10.244.1.10:8080::cx_active::0\n\
                    http::10.244.1.10:8080::cx_connect_fail::0\n\
                    http::[fd00::a]:8080::cx_active::3\n\
                    frames::10.244.1.11:8081::cx_active::0\n";
        let expected = ["10.244.1.10:8080", "[fd00::a]:8080"];
        let expected = expected.map(|text| text.parse().unwrap());
        assert_eq!(told(page, "http"), BTreeSet::from(expected));
        assert_eq!(told("", "http"), BTreeSet::new());
    }
}
