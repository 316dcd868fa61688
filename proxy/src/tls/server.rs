//! rustls' settings for the network API, out of PEM files: who we are, and whose callers we believe.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use podline_api::Validity;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::error::chain;
use crate::settings::ApiFiles;

/// A CA bundle of some hundred certificates.
const MOST_BYTES: u64 = 1 << 20;
/// Served over the network API: gRPC alone.
const PROTOCOL: &[u8] = b"h2";

/// What a set of files says.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    pub(super) config: Arc<ServerConfig>,
    /// When our certificate ends, in seconds since the Unix epoch.
    pub(super) not_after: i64,
}

impl Loaded {
    /// Reads all three files. Blocks.
    ///
    /// # Errors
    /// Which file cannot be used and why, in words for an operator.
    pub(super) fn read(files: &ApiFiles) -> Result<Self, String> {
        let certificates = certificates(&files.certificate)?;
        let validity = Validity::of(&certificates[0])
            .ok_or_else(|| format!("{} is no certificate", files.certificate.display()))?;
        let not_after = validity.not_after;
        if not_after <= super::now() {
            return Err(format!(
                "the certificate in {} is expired",
                files.certificate.display()
            ));
        }
        let key_bytes = bytes(&files.key)?;
        let key = PrivateKeyDer::from_pem_slice(&key_bytes)
            .map_err(|error| format!("{} holds no key in PEM: {error}", files.key.display()))?;
        let provider = Arc::new(ring::default_provider());
        let verifier = verifier(&files.client_ca, &provider)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_client_cert_verifier(verifier)
            .with_single_cert(certificates, key)
            .map_err(|error| unusable(files, &error))?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        // A resumed session would not show its certificate again: one that has expired since would still be believed.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self {
            config: Arc::new(config),
            not_after,
        })
    }
}

fn unusable(files: &ApiFiles, error: &dyn std::error::Error) -> String {
    let (certificate, key) = (files.certificate.display(), files.key.display());
    format!(
        "{certificate} and {key} do not go together: {}",
        chain(error)
    )
}

type Verifier = Arc<dyn tokio_rustls::rustls::server::danger::ClientCertVerifier>;

fn verifier(client_ca: &Path, provider: &Arc<CryptoProvider>) -> Result<Verifier, String> {
    let unusable = |problem: String| format!("{} cannot be used: {problem}", client_ca.display());
    let mut roots = RootCertStore::empty();
    for certificate in certificates(client_ca)? {
        roots
            .add(certificate)
            .map_err(|error| unusable(error.to_string()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| unusable(error.to_string()))
}

/// At least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = bytes(path)?;
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match list {
        Ok(list) if list.is_empty() => {
            Err(format!("{} holds no certificate in PEM", path.display()))
        }
        Ok(list) => Ok(list),
        Err(error) => Err(format!("{} is not PEM: {error}", path.display())),
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Ok(bytes)
}
