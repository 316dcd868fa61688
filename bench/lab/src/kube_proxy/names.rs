//! What kube-proxy calls its chains: the hash of what they are for, so that any node's names can be told beforehand.
//! It must not know what stands in the chains.

use std::net::SocketAddr;

use ring::digest::{SHA256, digest};

use super::view::{Service, ServicePort};

/// Letters of a hash in an iptables name, and in an nftables name.
const LONG: usize = 16;
const SHORT: usize = 8;
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The name of a port as in comments: `namespace/name:port`, or `namespace/name` if the port has none.
pub(super) fn port(service: &Service, port: &ServicePort) -> String {
    let Service {
        namespace, name, ..
    } = service;
    match port.name.as_str() {
        "" => format!("{namespace}/{name}"),
        port => format!("{namespace}/{name}:{port}"),
    }
}

/// The end of the names of a port's chains in iptables, after `KUBE-SVC-`, `KUBE-SVL-` or `KUBE-EXT-`.
pub(super) fn iptables_port(service: &Service, of: &ServicePort) -> String {
    hash(
        &format!("{}{}", port(service, of), of.protocol.word()),
        LONG,
    )
}

/// The chain of an endpoint of a port in iptables.
pub(super) fn iptables_endpoint(service: &Service, of: &ServicePort, to: SocketAddr) -> String {
    let end = hash(
        &format!("{}{}{to}", port(service, of), of.protocol.word()),
        LONG,
    );
    format!("KUBE-SEP-{end}")
}

/// The end of the names of a port's chains in nftables, after `service-`, `local-` or `external-`.
pub(super) fn nftables_port(service: &Service, of: &ServicePort) -> String {
    let Service {
        namespace, name, ..
    } = service;
    let plain = format!("{namespace}/{name}/{}/{}", of.protocol.word(), of.name);
    format!("{}-{plain}", hash(&plain, SHORT))
}

/// So many letters of the base32 of the SHA-256.
fn hash(text: &str, letters: usize) -> String {
    let digest = digest(&SHA256, text.as_bytes());
    let digest = digest.as_ref();
    let five_bits = |at: usize| {
        let bit = |bit: usize| digest[bit / 8] >> (7 - bit % 8) & 1;
        (0..5).fold(0, |value, next| value << 1 | bit(at * 5 + next))
    };
    let letters = (0..letters).map(|at| char::from(ALPHABET[usize::from(five_bits(at))]));
    letters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube_proxy::view::{Protocol, TrafficPolicy};

    /// The Service of the fixtures.
    fn service() -> Service {
        Service {
            namespace: "proxy".to_owned(),
            name: "web".to_owned(),
            cluster_address: "10.96.196.98".parse().unwrap(),
            ingress: Vec::new(),
            policy: TrafficPolicy::Cluster,
            health_check_port: None,
            ports: Vec::new(),
        }
    }

    fn of(name: &str, protocol: Protocol) -> ServicePort {
        ServicePort {
            name: name.to_owned(),
            protocol,
            port: 80,
            node_port: None,
            endpoints: Vec::new(),
        }
    }

    #[test]
    fn chains_are_called_as_kube_proxy_calls_them() {
        let service = service();
        let (http, dns) = (of("http", Protocol::Tcp), of("dns", Protocol::Udp));
        assert_eq!(iptables_port(&service, &http), "PGAEBTAV5TXOCSZB");
        assert_eq!(iptables_port(&service, &dns), "OHULS3DP4GG7DFN4");
        let endpoint = "10.244.9.10:9376".parse().unwrap();
        assert_eq!(
            iptables_endpoint(&service, &http, endpoint),
            "KUBE-SEP-ZRWPOS7FCAKYFRJD"
        );
        assert_eq!(
            nftables_port(&service, &http),
            "MB7SBZHE-proxy/web/tcp/http"
        );
        assert_eq!(nftables_port(&service, &dns), "JFNBLNBL-proxy/web/udp/dns");
    }

    #[test]
    fn a_port_without_a_name_is_called_as_its_service() {
        assert_eq!(port(&service(), &of("", Protocol::Tcp)), "proxy/web");
    }
}
