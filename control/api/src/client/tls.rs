//! The client's side of mutual TLS: what it shows and trusts, and what a failed handshake means.
//!
//! A proxy that refuses our certificate says so only after our side of a TLS 1.3 handshake is over. So the first bytes
//! of the proxy are awaited before a connection counts as made: an HTTP/2 server speaks first.

use std::fmt;
use std::io;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, AlertDescription, ClientConfig, RootCertStore};

/// What a client shows to a proxy, and whom it trusts.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientTls {
    /// PEM: who may sign the proxy's certificate; at least one.
    pub ca: Vec<u8>,
    /// PEM: our certificate, then those that lead to its signer.
    pub certificate: Vec<u8>,
    /// PEM: the key of our certificate.
    pub key: Vec<u8>,
    /// The name that the proxy's certificate must have.
    pub server_name: String,
}

impl ClientTls {
    /// The name in the certificates of proxies, wherever they run.
    pub const SERVER_NAME: &str = "proxy.podline.internal";
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the key.
        f.debug_struct("ClientTls")
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

/// Why no TLS connection came about, where that is more than a network that fails.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum TlsFailure {
    /// We do not trust the other end.
    #[error("{0}")]
    Untrusted(rustls::Error),
    /// The other end does not trust us.
    #[error("{}", said(*.0))]
    Refused(AlertDescription),
    /// It speaks something else.
    #[error("it does not speak TLS there")]
    PlainText,
}

/// What the proxy's alert means for us.
fn said(alert: AlertDescription) -> String {
    let meaning = match alert {
        AlertDescription::CertificateRequired => "it asks for a client certificate",
        AlertDescription::UnknownCA => "it does not know who signed our certificate",
        AlertDescription::DecryptError => {
            "who signed our certificate has the name of one that it knows, but not its key"
        }
        AlertDescription::CertificateExpired => "our certificate is expired",
        AlertDescription::CertificateRevoked => "our certificate is revoked",
        other => return format!("it sent the alert {other:?}"),
    };
    meaning.to_owned()
}

impl TlsFailure {
    /// The failure among an error's causes.
    pub(super) fn among<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(failure) = error.downcast_ref() {
                return Some(failure);
            }
            // An error inside an I/O error is not among its sources.
            let inside = error
                .downcast_ref::<io::Error>()
                .and_then(io::Error::get_ref);
            cause = match inside {
                Some(inside) => Some(inside),
                None => error.source(),
            };
        }
        None
    }

    /// What a failed handshake means, if it means more than itself.
    fn of(error: &rustls::Error) -> Option<Self> {
        use AlertDescription as Alert;
        match error {
            rustls::Error::InvalidCertificate(_)
            | rustls::Error::NoCertificatesPresented
            | rustls::Error::UnsupportedNameType => Some(Self::Untrusted(error.clone())),
            rustls::Error::InvalidMessage(_) => Some(Self::PlainText),
            rustls::Error::AlertReceived(
                alert @ (Alert::CertificateRequired
                | Alert::UnknownCA
                | Alert::CertificateExpired
                | Alert::CertificateRevoked
                | Alert::CertificateUnknown
                | Alert::BadCertificate
                | Alert::DecryptError
                | Alert::UnsupportedCertificate
                | Alert::AccessDenied
                | Alert::HandshakeFailure),
            ) => Some(Self::Refused(*alert)),
            _ => None,
        }
    }
}

/// Gives an I/O error of TLS the meaning it has.
fn explained(error: io::Error) -> io::Error {
    let inside = error.get_ref().and_then(|inside| inside.downcast_ref());
    match inside.and_then(TlsFailure::of) {
        Some(failure) => io::Error::new(error.kind(), failure),
        None => error,
    }
}

/// Makes TLS connections to one proxy.
#[derive(Clone)]
pub(super) struct Connector {
    tls: TlsConnector,
    name: ServerName<'static>,
}

impl Connector {
    /// # Errors
    /// Says which part of `tls` cannot be used.
    pub(super) fn new(tls: &ClientTls) -> Result<Self, String> {
        let name = ServerName::try_from(tls.server_name.clone())
            .map_err(|_| format!("the server name {:?} is none", tls.server_name))?;
        let provider = Arc::new(ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots(&tls.ca)?)
            .with_client_auth_cert(
                certificates("the client certificate", &tls.certificate)?,
                key(&tls.key)?,
            )
            .map_err(|error| format!("the client certificate cannot be used: {error}"))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            tls: Arc::new(config).into(),
            name,
        })
    }

    /// A connection to `target` that both ends have agreed to.
    pub(super) async fn connect(self, target: String) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
        let stream = TcpStream::connect(target).await?;
        stream.set_nodelay(true)?;
        self.over(stream).await
    }

    /// The same over a connection that is there already.
    pub(super) async fn over<S>(self, stream: S) -> io::Result<TokioIo<TlsStream<S>>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = self.tls.connect(self.name, stream).await;
        let mut stream = stream.map_err(explained)?;
        if stream.fill_buf().await.map_err(explained)?.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(TokioIo::new(stream))
    }
}

fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("the CA", pem)? {
        roots
            .add(certificate)
            .map_err(|error| format!("the CA cannot be used: {error}"))?;
    }
    Ok(roots)
}

fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match list {
        Ok(list) if list.is_empty() => Err(format!("{what} holds no certificate in PEM")),
        Ok(list) => Ok(list),
        Err(error) => Err(format!("{what} is not PEM: {error}")),
    }
}

fn key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem)
        .map_err(|error| format!("the client key cannot be used: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate that signs itself, as everything that a client needs.
    fn good() -> ClientTls {
        let names = vec!["a.example".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let certificate = made.cert.pem().into_bytes();
        ClientTls {
            ca: certificate.clone(),
            certificate,
            key: made.signing_key.serialize_pem().into_bytes(),
            server_name: ClientTls::SERVER_NAME.to_owned(),
        }
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        assert!(Connector::new(&good()).is_ok());
        let check = |spoil: fn(&mut ClientTls), told: &str| {
            let mut tls = good();
            spoil(&mut tls);
            let error = Connector::new(&tls).map(drop).unwrap_err();
            assert!(error.contains(told), "{error}");
        };
        check(|tls| tls.ca.clear(), "the CA holds no certificate");
        check(
            |tls| tls.certificate.clear(),
            "the client certificate holds no certificate",
        );
        check(|tls| tls.key.clear(), "the client key cannot be used");
        check(
            |tls| tls.key = good().key,
            "the client certificate cannot be used",
        );
        check(
            |tls| tls.server_name = "a b".to_owned(),
            "the server name \"a b\" is none",
        );
    }

    #[test]
    fn the_key_is_never_shown() {
        let shown = format!("{:?}", good());
        assert!(
            !shown.contains("PRIVATE") && !shown.contains("key"),
            "{shown}"
        );
    }

    #[test]
    fn a_failure_is_found_under_other_errors() {
        let inside = rustls::Error::AlertReceived(AlertDescription::UnknownCA);
        let error = explained(io::Error::new(io::ErrorKind::InvalidData, inside));
        let error = io::Error::other(error);
        let found = TlsFailure::among(&error).unwrap();
        assert!(matches!(
            found,
            TlsFailure::Refused(AlertDescription::UnknownCA)
        ));
        let other = io::Error::from(io::ErrorKind::ConnectionReset);
        assert!(TlsFailure::among(&explained(other)).is_none());
    }
}
