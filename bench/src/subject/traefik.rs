//! Traefik as an expert would configure it. Its backends are in a file of their own, which it reads again when it is
//! replaced. Pure.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use super::Layer;
use super::targets::{CHAIN, File, KEY, Port, Wanted};

// JSON is YAML too.
const CONFIGURATION: &str = "traefik.yaml";
const DYNAMIC: &str = "traefik-dynamic.yaml";
/// Where it tells which backends it has, in its own network namespace.
pub(super) const ADMIN: u16 = 9900;

/// The files it reads at its start.
pub(super) fn files(wanted: &Wanted) -> Vec<File> {
    let mut entries = Map::new();
    let admin = SocketAddr::from(([127, 0, 0, 1], ADMIN));
    entries.insert("traefik".to_owned(), json!({"address": admin.to_string()}));
    for port in wanted.tcp() {
        let entry = json!({
            "address": port.listen.to_string(),
            "transport": {"respondingTimeouts": {"idleTimeout": "15m"}},
        });
        entries.insert(port.label(), entry);
    }
    if let Some(frames) = wanted.udp() {
        let entry = json!({"address": format!("{}/udp", frames.listen), "udp": {"timeout": "60s"}});
        entries.insert("datagrams".to_owned(), entry);
    }
    let configuration = json!({
        "entryPoints": entries,
        "api": {"insecure": true, "dashboard": false},
        "providers": {
            "providersThrottleDuration": "50ms",
            "file": {"filename": wanted.path(DYNAMIC), "watch": true},
        },
        "serversTransport": {"maxIdleConnsPerHost": 256},
        "global": {"checkNewVersion": false, "sendAnonymousUsage": false},
        "log": {"level": "ERROR", "noColor": true},
    });
    let mut files = backends(wanted);
    files.push((CONFIGURATION, configuration.to_string()));
    if wanted.layer.has_tls() {
        files.push((CHAIN, wanted.certificate.chain.clone()));
        files.push((KEY, wanted.certificate.key.clone()));
    }
    files
}

/// The file with the backends, which may be replaced later.
pub(super) fn backends(wanted: &Wanted) -> Vec<File> {
    let dynamic = match wanted.layer {
        Layer::L4 => {
            let udp = wanted.udp().map(|frames| Port {
                name: "datagrams",
                ..frames
            });
            let mut parts = json!({"tcp": part(wanted.tcp(), "tcp")});
            if udp.is_some() {
                // It takes no part that is empty.
                parts["udp"] = part(udp.into_iter(), "udp");
            }
            parts
        }
        Layer::L7 => json!({"http": part(wanted.tcp(), "http")}),
        Layer::Tls => json!({"http": part(wanted.tcp(), "https"), "tls": tls(wanted)}),
    };
    vec![(DYNAMIC, dynamic.to_string())]
}

/// Its command line.
pub(super) fn arguments(wanted: &Wanted) -> Vec<String> {
    vec![format!("--configFile={}", wanted.path(CONFIGURATION))]
}

/// The pages that tell the backends of its services, each with the backends that are wanted of it.
pub(super) fn pages(wanted: &Wanted) -> Vec<(String, BTreeSet<SocketAddr>)> {
    let set = |port: Port<'_>| port.targets.iter().copied().collect();
    let kind = match wanted.layer {
        Layer::L4 => "tcp",
        Layer::L7 | Layer::Tls => "http",
    };
    let page = |port: Port<'_>| {
        (
            format!("/api/{kind}/services/{}@file", port.name),
            set(port),
        )
    };
    let datagrams = wanted.udp();
    let datagrams =
        datagrams.map(|port| ("/api/udp/services/datagrams@file".to_owned(), set(port)));
    let mut pages: Vec<_> = wanted.tcp().map(page).chain(datagrams).collect();
    pages.dedup(); // many ports lead to the same
    pages
}

/// The backends that such a page tells; nothing if it is no such page.
pub(super) fn told(page: &str) -> Option<BTreeSet<SocketAddr>> {
    let page: Value = serde_json::from_str(page).ok()?;
    let servers = page["loadBalancer"]["servers"].as_array()?.iter();
    let addresses = servers.map(|server| {
        let address = server["address"].as_str();
        let address = address.or_else(|| Some(server["url"].as_str()?.split_once("://")?.1));
        address?.parse().ok()
    });
    addresses.collect()
}

/// Routers and services of a kind.
fn part<'a>(ports: impl Iterator<Item = Port<'a>>, kind: &str) -> Value {
    let (mut routers, mut services) = (Map::new(), Map::new());
    for port in ports {
        let label = label_of(port);
        let mut router = json!({"entryPoints": [&label], "service": port.name});
        match kind {
            "tcp" => router["rule"] = json!("HostSNI(`*`)"),
            "http" => router["rule"] = json!("PathPrefix(`/`)"),
            "https" => {
                router["rule"] = json!("PathPrefix(`/`)");
                router["tls"] = json!({});
            }
            _ => (), // a UDP entry point leads to one service
        }
        let server = |target: &SocketAddr| match kind {
            "http" | "https" if port.name == "grpc" => json!({"url": format!("h2c://{target}")}),
            "http" | "https" => json!({"url": format!("http://{target}")}),
            _ => json!({"address": target.to_string()}),
        };
        let servers: Vec<_> = port.targets.iter().map(server).collect();
        routers.insert(label, router);
        services.insert(
            port.name.to_owned(),
            json!({"loadBalancer": {"servers": servers}}),
        );
    }
    json!({"routers": routers, "services": services})
}

/// How clients speak TLS. Session tickets are its default, and what TLS 1.3 uses is its own choice.
fn tls(wanted: &Wanted) -> Value {
    let certificate = json!({"certFile": wanted.path(CHAIN), "keyFile": wanted.path(KEY)});
    let ciphers = [
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    ];
    json!({
        "stores": {"default": {"defaultCertificate": certificate}},
        "options": {"default": {"minVersion": "VersionTLS12", "cipherSuites": ciphers}},
    })
}

/// The entry point of a port; that of datagrams has a port's number and not its name.
fn label_of(port: Port<'_>) -> String {
    match port.name {
        "datagrams" => port.name.to_owned(),
        _ => port.label(),
    }
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
        let address = |entry: &str| configuration["entryPoints"][entry]["address"].clone();
        assert_eq!(address("bulk"), "10.88.0.100:8002");
        assert_eq!(address("datagrams"), "10.88.0.100:8001/udp");
        assert_eq!(
            configuration["entryPoints"]["datagrams"]["udp"]["timeout"],
            "60s"
        );
        let dynamic = file(&wanted, DYNAMIC);
        assert_eq!(dynamic["tcp"]["routers"]["http"]["rule"], "HostSNI(`*`)");
        let servers = &dynamic["tcp"]["services"]["frames"]["loadBalancer"]["servers"];
        let expected = json!([{"address": "10.244.1.10:8081"}, {"address": "10.244.1.11:8081"}]);
        assert_eq!(servers, &expected);
        assert_eq!(
            dynamic["udp"]["services"]["datagrams"]["loadBalancer"]["servers"],
            expected
        );
        assert_eq!(arguments(&wanted), ["--configFile=/run/bench/traefik.yaml"]);
    }

    #[test]
    fn requests_are_routed_to_pods() {
        let wanted = example(Layer::L7);
        let dynamic = file(&wanted, DYNAMIC);
        let servers = &dynamic["http"]["services"]["http"]["loadBalancer"]["servers"];
        assert_eq!(servers[0]["url"], "http://10.244.1.10:8080");
        assert!(dynamic.get("tcp").is_none() && dynamic.get("udp").is_none());
        let servers = &dynamic["http"]["services"]["grpc"]["loadBalancer"]["servers"];
        assert_eq!(servers[1]["url"], "h2c://10.244.1.11:8080");
        assert_eq!(pages(&wanted).len(), 3);
    }

    #[test]
    fn tls_ends_here() {
        let wanted = example(Layer::Tls);
        let dynamic = file(&wanted, DYNAMIC);
        for router in ["http", "grpc"] {
            assert_eq!(dynamic["http"]["routers"][router]["tls"], json!({}));
        }
        let store = &dynamic["tls"]["stores"]["default"];
        assert_eq!(store["defaultCertificate"]["keyFile"], "/run/bench/tls.key");
        let servers = &dynamic["http"]["services"]["grpc"]["loadBalancer"]["servers"];
        assert_eq!(servers[0]["url"], "h2c://10.244.1.10:8080");
        let files = files(&wanted);
        assert!(files.contains(&(CHAIN, "(chain)\n".to_owned())));
        assert_eq!(pages(&wanted)[1].0, "/api/http/services/grpc@file");
    }

    #[test]
    fn its_backends_are_read_from_its_pages() {
        let pages = pages(&example(Layer::L4));
        let names: Vec<_> = pages.iter().map(|(page, _)| page.as_str()).collect();
        let expected = [
            "/api/tcp/services/http@file",
            "/api/tcp/services/frames@file",
            "/api/tcp/services/bulk@file",
            "/api/udp/services/datagrams@file",
        ];
        assert_eq!(names, expected);
        let page = r#"{"loadBalancer":{"servers":[{"address":"10.244.1.10:8081"},{"address":"10.244.1.11:8081"}]}}"#;
        assert_eq!(told(page), Some(pages[3].1.clone()));
        let page = r#"{"loadBalancer":{"servers":[{"url":"http://[fd00::a]:8080"}]}}"#;
        assert_eq!(told(page).unwrap().len(), 1);
        for page in ["", "404 page not found", r#"{"loadBalancer":{}}"#] {
            assert_eq!(told(page), None);
        }
    }
}
