//! HAProxy as an expert would configure it, and the words by which its servers are changed while it runs. Pure.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::Layer;
use super::targets::{BOTH, CIPHERS, File, Port, SUITES, Wanted, joined};

/// Where its runtime API is, in the subject's folder.
pub(super) const SOCKET: &str = "haproxy.sock";
const CONFIGURATION: &str = "haproxy.cfg";
/// More would only take memory: no load here opens as many connections.
const MOST_CONNECTIONS: u64 = 50_000;
/// A bulk transfer takes two; more than these never move at once.
const MOST_PIPES: u64 = 500;

/// The files it reads.
pub(super) fn files(wanted: &Wanted) -> Vec<File> {
    let ports: Vec<_> = wanted.tcp().collect();
    let (connections, pipes) = room(wanted.descriptors.saturating_sub(ports.len() as u64));
    let mode = match wanted.layer {
        Layer::L4 => "tcp",
        Layer::L7 | Layer::Tls => "http",
    };
    let sections = if wanted.listeners.is_some() {
        let sets: Vec<_> = wanted.sets().collect();
        joined(&ports, |port| frontend(wanted, *port)) + &joined(&sets, backend)
    } else {
        joined(&ports, |port| section(wanted, *port))
    };
    let text = format!(
        "global
  nbthread {workers}
  maxconn {connections}
  maxpipes {pipes}
  tune.pipesize 1048576
  stats socket {socket} mode 600 level admin
{tls}defaults
  mode {mode}
  timeout connect 5s
  timeout client 15m
  timeout server 15m
  balance roundrobin
{sections}",
        workers = wanted.workers,
        socket = wanted.path(SOCKET),
        tls = tls(wanted),
    );
    let mut files = vec![(CONFIGURATION, text)];
    if wanted.layer.has_tls() {
        let certificate = &wanted.certificate;
        files.push((BOTH, format!("{}{}", certificate.chain, certificate.key)));
    }
    files
}

/// How all ports speak TLS. Session tickets are its default.
fn tls(wanted: &Wanted) -> String {
    if !wanted.layer.has_tls() {
        return String::new();
    }
    format!(
        "  ssl-default-bind-options ssl-min-ver TLSv1.2
  ssl-default-bind-ciphersuites {SUITES}
  ssl-default-bind-ciphers {CIPHERS}
"
    )
}

/// Its command line.
pub(super) fn arguments(wanted: &Wanted) -> Vec<String> {
    ["-db", "-f", &wanted.path(CONFIGURATION)]
        .map(ToOwned::to_owned)
        .to_vec()
}

/// Connections and pipes that fit into so many descriptors: two for each of both, and a rest for its own needs.
fn room(descriptors: u64) -> (u64, u64) {
    let pipes = MOST_PIPES.min(descriptors / 40);
    let usable = descriptors - descriptors / 20;
    let connections = (usable / 2).saturating_sub(pipes);
    (connections.clamp(1, MOST_CONNECTIONS), pipes)
}

fn section(wanted: &Wanted, port: Port<'_>) -> String {
    format!(
        "listen {}\n  bind {}{}\n{}{}",
        port.name,
        port.listen,
        client(wanted, port),
        options(wanted, port),
        servers(port)
    )
}

/// A port of many that lead to the same.
fn frontend(wanted: &Wanted, port: Port<'_>) -> String {
    format!(
        "frontend {}\n  bind {}\n{}  default_backend {}\n",
        port.label(),
        port.listen,
        options(wanted, port),
        port.name
    )
}

/// Where they lead.
fn backend(port: &Port<'_>) -> String {
    format!("backend {}\n{}", port.name, servers(*port))
}

fn options(wanted: &Wanted, port: Port<'_>) -> String {
    // Splicing is forced where transfers last: left to itself it never begins here.
    let options = match (wanted.layer, port.name) {
        (Layer::L7 | Layer::Tls, _) => &[
            "option http-keep-alive",
            "http-reuse always",
            "option forwardfor",
        ][..],
        (Layer::L4, "bulk") => &["option splice-request", "option splice-response"],
        (Layer::L4, _) => &["option splice-auto"],
    };
    joined(options, |line| format!("  {line}\n"))
}

/// How clients speak. Left to itself HAProxy would take a cleartext client for one of HTTP/1.1.
fn client(wanted: &Wanted, port: Port<'_>) -> String {
    let tls = |protocols: &str| format!(" ssl crt {} alpn {protocols}", wanted.path(BOTH));
    match (wanted.layer, port.name) {
        (Layer::Tls, "grpc") => tls("h2"),
        (Layer::Tls, _) => tls("h2,http/1.1"),
        (Layer::L7, "grpc" | "http2") => " proto h2".to_owned(),
        _ => String::new(),
    }
}

/// How Pods are spoken to: gRPC is HTTP/2 to both sides.
fn version(port: Port<'_>) -> &'static str {
    match port.name {
        "grpc" => " proto h2",
        _ => "",
    }
}

fn servers(port: Port<'_>) -> String {
    let version = version(port);
    let server = |address: &SocketAddr| format!("  server {} {address}{version}\n", address.ip());
    joined(port.targets, server)
}

/// What to tell its runtime API, so that `port` has its targets and no others. `known` are the servers that the port
/// ever had: they stay, in maintenance.
pub(super) fn commands(port: Port<'_>, known: &BTreeSet<SocketAddr>) -> Vec<String> {
    let mut commands = Vec::new();
    for target in port.targets {
        let server = format!("{}/{}", port.name, target.ip());
        if !known.contains(target) {
            commands.push(format!("add server {server} {target}{}", version(port)));
        }
        commands.push(format!("set server {server} state ready"));
    }
    let gone = known
        .iter()
        .filter(|address| !port.targets.contains(address));
    commands.extend(gone.map(|gone| format!("set server {}/{} state maint", port.name, gone.ip())));
    commands
}

/// Whether it did as it was told.
pub(super) fn is_done(answer: &str) -> bool {
    matches!(answer.trim(), "" | "New server registered.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::targets::example;

    fn text(layer: Layer) -> String {
        let [(_, text)] = &files(&example(layer))[..] else {
            panic!("one file");
        };
        text.clone()
    }

    #[test]
    fn connections_are_forwarded_and_bulk_is_spliced() {
        let expected = "global
  nbthread 2
  maxconn 9000
  maxpipes 499
  tune.pipesize 1048576
  stats socket /run/bench/haproxy.sock mode 600 level admin
defaults
  mode tcp
  timeout connect 5s
  timeout client 15m
  timeout server 15m
  balance roundrobin
listen http
  bind 10.88.0.100:8000
  option splice-auto
  server 10.244.1.10 10.244.1.10:8080
  server 10.244.1.11 10.244.1.11:8080
listen frames
  bind 10.88.0.100:8001
  option splice-auto
  server 10.244.1.10 10.244.1.10:8081
  server 10.244.1.11 10.244.1.11:8081
listen bulk
  bind 10.88.0.100:8002
  option splice-request
  option splice-response
  server 10.244.1.10 10.244.1.10:8081
  server 10.244.1.11 10.244.1.11:8081
";
        assert_eq!(text(Layer::L4), expected);
        assert_eq!(
            arguments(&example(Layer::L4)),
            ["-db", "-f", "/run/bench/haproxy.cfg"]
        );
    }

    #[test]
    fn many_ports_share_their_servers() {
        let wanted = Wanted {
            listeners: Some(2),
            ..example(Layer::L4)
        };
        let [(_, text)] = &files(&wanted)[..] else {
            panic!("one file");
        };
        let expected = "frontend frames-8100
  bind 10.88.0.100:8100
  option splice-auto
  default_backend frames
frontend frames-8101
  bind 10.88.0.100:8101
  option splice-auto
  default_backend frames
backend frames
  server 10.244.1.10 10.244.1.10:8081
  server 10.244.1.11 10.244.1.11:8081
";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn requests_share_connections_that_are_kept() {
        let text = text(Layer::L7);
        for line in [
            "  mode http",
            "  option http-keep-alive",
            "  http-reuse always",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains("splice"), "{text}");
        let grpc = "listen grpc\n  bind 10.88.0.100:8003 proto h2\n";
        assert!(text.contains(grpc), "{text}");
        assert!(text.ends_with("server 10.244.1.11 10.244.1.11:8080 proto h2\n"));
        let http2 = "listen http2\n  bind 10.88.0.100:8004 proto h2\n";
        assert!(text.contains(http2), "{text}");
        assert!(text.contains("  server 10.244.1.11 10.244.1.11:8080\nlisten grpc\n"));
        assert_eq!(text.matches("listen ").count(), 3);
        assert!(!text.contains("ssl"), "{text}");
    }

    #[test]
    fn tls_ends_here_and_says_which_http_is_spoken() {
        let [(_, text), (name, both)] = &files(&example(Layer::Tls))[..] else {
            panic!("two files");
        };
        for line in [
            "  ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384",
            "  bind 10.88.0.100:8000 ssl crt /run/bench/tls.pem alpn h2,http/1.1",
            "  server 10.244.1.11 10.244.1.11:8080",
            "  bind 10.88.0.100:8003 ssl crt /run/bench/tls.pem alpn h2",
            "  server 10.244.1.11 10.244.1.11:8080 proto h2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert_eq!((*name, &**both), ("tls.pem", "(chain)\n(key)\n"));
    }

    #[test]
    fn what_is_asked_for_fits_into_the_descriptors() {
        for descriptors in [64, 256, 1024, 4096, 20_000, 65_536, 1 << 20, 1 << 30] {
            let (connections, pipes) = room(descriptors);
            assert!(2 * connections + 2 * pipes < descriptors, "{descriptors}");
            assert!(connections > 0 && connections <= MOST_CONNECTIONS);
        }
        assert_eq!(room(0), (1, 0));
    }

    #[test]
    fn servers_come_rest_and_return() {
        let targets = ["10.0.0.1:80", "10.0.0.3:80"].map(|text| text.parse().unwrap());
        let known = ["10.0.0.1:80", "10.0.0.2:80"].map(|text| text.parse().unwrap());
        let port = Port {
            name: "http",
            listen: "10.88.0.100:8000".parse().unwrap(),
            targets: &targets,
        };
        let expected = [
            "set server http/10.0.0.1 state ready",
            "add server http/10.0.0.3 10.0.0.3:80",
            "set server http/10.0.0.3 state ready",
            "set server http/10.0.0.2 state maint",
        ];
        assert_eq!(commands(port, &BTreeSet::from(known)), expected);
        assert!(is_done("\n") && is_done("New server registered.\n\n"));
        assert!(!is_done("No such server.\n"));
    }
}
