//! TLS as probes speak it: any certificate will do.

use std::net::IpAddr;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::tls::backend::AnyCertificate;

/// What all probes share.
pub(super) fn connector() -> TlsConnector {
    let provider = Arc::new(ring::default_provider());
    // A probe asks whether somebody answers, not who. Nothing secret is ever sent in one.
    let verifier = Arc::new(AnyCertificate::new(&provider));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has ciphers for both versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Backends share a server name: one's ticket means nothing to the next, and a probe is to see a whole handshake.
    config.resumption = Resumption::disabled();
    TlsConnector::from(Arc::new(config))
}

/// The name that the handshake asks for: the host's, if it is a DNS name; addresses are not sent.
pub(super) fn server_name(host: Option<&str>, ip: IpAddr) -> ServerName<'static> {
    let name = host.and_then(|host| ServerName::try_from(without_port(host).to_owned()).ok());
    name.unwrap_or_else(|| ServerName::from(ip))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, _)) if !name.contains(':') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dns_names_are_asked_for() {
        let ip: IpAddr = [10, 0, 0, 1].into();
        for (host, name) in [
            (None, None),
            (Some("web.example"), Some("web.example")),
            (Some("web.example:8443"), Some("web.example")),
            (Some("web_1"), Some("web_1")),
            (Some("10.9.9.9"), None),
            (Some("10.9.9.9:443"), None),
            (Some("[fd00::1]:443"), None),
            (Some("fd00::1"), None),
            (Some("-"), None),
        ] {
            let asked = match server_name(host, ip) {
                ServerName::DnsName(name) => Some(name.as_ref().to_owned()),
                _ => None,
            };
            assert_eq!(asked.as_deref(), name, "{host:?}");
        }
    }
}
