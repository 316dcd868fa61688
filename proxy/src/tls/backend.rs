//! How backends are spoken to over TLS: with their certificate verified, or with any.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use podline_api::{BackendHttp, BackendTls, SetSettings};
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::{Resumption, UnbufferedClientConnection, WebPkiServerVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{DigitallySignedStruct, Error, SignatureScheme};

use super::listener::{H2, HTTP_1_1, is_same, roots};
use super::session::Session;

/// How a set's backends are spoken to over TLS. Two are equal when they are the same.
#[derive(Clone)]
pub(crate) struct BackendRules {
    /// None: it cannot be made ready, and nobody is connected to; never in the clear.
    config: Option<Arc<ClientConfig>>,
    /// What is asked for; none: the backend's address, which is not sent.
    name: Option<ServerName<'static>>,
}

impl BackendRules {
    /// What the settings of a set ask for; none: backends are spoken to in the clear.
    pub(crate) fn of(settings: &SetSettings) -> Option<Self> {
        let ready = Self::ready(settings.tls.as_ref()?, settings.http_version);
        // What was checked when it was taken can be made ready.
        Some(ready.unwrap_or_else(|problem| {
            tracing::error!(
                problem,
                "backends cannot be spoken to over TLS: requests are refused"
            );
            Self {
                config: None,
                name: None,
            }
        }))
    }

    fn ready(tls: &BackendTls, http: BackendHttp) -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match &tls.trusted {
            None => Arc::new(AnyCertificate::new(&provider)),
            Some(trusted) => {
                let roots = Arc::new(roots(trusted)?);
                let built = WebPkiServerVerifier::builder_with_provider(roots, provider.clone());
                built.build().map_err(|error| error.to_string())?
            }
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        let protocol = match http {
            BackendHttp::Http11 => HTTP_1_1,
            BackendHttp::Http2 => H2,
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        // Backends share a server name: one's ticket means nothing to the next.
        config.resumption = Resumption::disabled();
        let name = tls.server_name.clone().map(ServerName::try_from);
        let name = name.transpose().map_err(|error| error.to_string())?;
        Ok(Self {
            config: Some(Arc::new(config)),
            name,
        })
    }

    /// A connection to the backend at `address` whose handshake is to come.
    pub(crate) fn session(&self, address: IpAddr) -> Option<Session> {
        let name = self.name.clone().unwrap_or(ServerName::from(address));
        let config = Arc::clone(self.config.as_ref()?);
        let connection = UnbufferedClientConnection::new(config, name).ok()?;
        let mut session = Session::client(connection);
        session.begin().ok()?;
        Some(session)
    }
}

impl PartialEq for BackendRules {
    fn eq(&self, other: &Self) -> bool {
        is_same(self.config.as_ref(), other.config.as_ref())
    }
}

impl fmt::Debug for BackendRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendRules").finish_non_exhaustive()
    }
}

/// Takes every certificate, as the kubelet's probes do: Pods' certificates are self-signed, or name a Service and not
/// an address.
#[derive(Debug)]
pub(crate) struct AnyCertificate(Arc<CryptoProvider>);

impl AnyCertificate {
    pub(crate) fn new(provider: &Arc<CryptoProvider>) -> Self {
        Self(Arc::clone(provider))
    }
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    // Who is not asked for a name need not prove it.
    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_made_ready_connects_to_nobody() {
        let of = |trusted: Option<&str>| {
            let tls = BackendTls {
                trusted: trusted.map(str::to_owned),
                server_name: Some("a.example".to_owned()),
            };
            let settings = SetSettings {
                tls: Some(tls),
                ..SetSettings::default()
            };
            BackendRules::of(&settings).expect("TLS is asked for")
        };
        let address = IpAddr::from([127, 0, 0, 1]);
        assert!(of(None).session(address).is_some());
        assert!(of(Some("nobody")).session(address).is_none());
        assert!(BackendRules::of(&SetSettings::default()).is_none());
    }
}
