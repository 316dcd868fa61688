//! How clients speak TLS: whom they trust, and what they offer. Each connection shakes hands in full: nothing of an earlier
//! one is kept. It must not know of sockets.

use std::sync::Arc;

use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::crypto::ring::{cipher_suite, default_provider};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::certificate::{self, Certificate};

/// HTTP/1.1, as ALPN has it.
pub(crate) const HTTP1: &[u8] = b"http/1.1";
/// HTTP/2, as ALPN has it.
pub(crate) const HTTP2: &[u8] = b"h2";

/// Clients that trust one certificate.
#[derive(Clone, Debug)]
pub struct Trust(Arc<ClientConfig>);

impl Trust {
    /// In this certificate alone. TLS 1.3 and 1.2 are offered, AES-128-GCM before AES-256-GCM, as processors with AES are
    /// fastest so; the server may choose otherwise.
    ///
    /// # Errors
    /// The certificate cannot be trusted.
    pub fn new(certificate: &Certificate) -> Result<Self, String> {
        let mut provider: CryptoProvider = default_provider();
        provider.cipher_suites = vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        ];
        let config = || {
            let mut trusted = RootCertStore::empty();
            trusted.add(CertificateDer::from(certificate.der.clone()))?;
            let builder = ClientConfig::builder_with_provider(Arc::new(provider));
            let builder = builder.with_safe_default_protocol_versions()?;
            let mut config = builder
                .with_root_certificates(trusted)
                .with_no_client_auth();
            config.resumption = Resumption::disabled();
            Ok(config)
        };
        let config = config().map_err(|error: tokio_rustls::rustls::Error| {
            format!("clients cannot trust the certificate: {error}")
        })?;
        Ok(Self(Arc::new(config)))
    }

    /// What a load's connections are made with that speak this protocol.
    pub(crate) fn speaking(&self, protocol: &[u8]) -> Arc<ClientConfig> {
        let mut config = ClientConfig::clone(&self.0);
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    }
}

/// The name that is asked for.
pub(crate) fn server_name() -> ServerName<'static> {
    ServerName::try_from(certificate::NAME).expect("it is a name")
}
