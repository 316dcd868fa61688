//! How a process shows what its Secret says: as a client of proxies, and as the server of the webhooks. Each is replaced
//! while it is used; whoever is connected stays so.

use std::sync::Arc;

use podline_api::client::ClientTls;
use tokio::sync::watch;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

use super::keeper::Show;
use super::stored::{self, Shown};

/// Publishes what a controller shows to proxies, and whom it trusts.
pub(super) fn to_proxies(tls: watch::Sender<Option<ClientTls>>) -> Show {
    Box::new(move |stored, now| {
        let Some(shown) = stored::shown(stored, now) else {
            return;
        };
        let shown = ClientTls {
            ca: shown.roots,
            certificate: shown.certificate,
            key: shown.key,
            server_name: ClientTls::SERVER_NAME.to_owned(),
        };
        tls.send_if_modified(|known| {
            let is_new = known.as_ref() != Some(&shown);
            *known = Some(shown);
            is_new
        });
    })
}

/// Publishes what the webhooks show.
pub(super) fn to_callers(tls: watch::Sender<Option<Arc<ServerConfig>>>) -> Show {
    let mut last = None;
    Box::new(move |stored, now| {
        let Some(shown) = stored::shown(stored, now) else {
            return;
        };
        let own = (shown.certificate.clone(), shown.key.clone());
        if last.as_ref() == Some(&own) {
            return;
        }
        match server(&shown) {
            Ok(config) => {
                last = Some(own);
                tls.send_replace(Some(Arc::new(config)));
            }
            Err(error) => tracing::warn!("the webhooks' certificate cannot be shown: {error}"),
        }
    })
}

/// HTTP/1.1 and HTTP/2, no client certificates: the API server shows none unless it is told to.
fn server(shown: &Shown) -> Result<ServerConfig, rustls::Error> {
    let unreadable = |_| rustls::Error::General("it cannot be read".to_owned());
    let list = CertificateDer::pem_slice_iter(&shown.certificate);
    let chain = list.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    let key = PrivateKeyDer::from_pem_slice(&shown.key).map_err(unreadable)?;
    let provider = Arc::new(ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
