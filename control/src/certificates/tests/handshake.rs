//! The channel that the certificates make: a real handshake on loopback, both ends showing theirs.

use std::sync::Arc;

use jiff::Timestamp;
use podline_api::client::{ClientError, ClientTls, ProxyClient};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::super::channel::Which;
use super::super::served;
use super::world::World;

/// Made now, for here the clock is not ours.
fn world() -> World {
    let mut world = World::empty();
    world.now = Timestamp::now().as_second();
    world.settle();
    world
}

fn controller(world: &mut World) -> ClientTls {
    let (tls, shown) = watch::channel(None);
    let now = world.now;
    served::to_proxies(tls)(world.stored(Which::Control), now);
    shown.borrow().clone().unwrap()
}

/// As a proxy reads the three files of its Secret.
fn proxy(world: &mut World) -> ServerConfig {
    let files = &world.stored(Which::Proxy).data;
    let certificates = |name| {
        let list = CertificateDer::pem_slice_iter(&files[name]);
        list.collect::<Result<Vec<_>, _>>().unwrap()
    };
    let mut roots = RootCertStore::empty();
    for root in certificates("ca.crt") {
        roots.add(root).unwrap();
    }
    let provider = Arc::new(ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let key = PrivateKeyDer::from_pem_slice(&files["tls.key"]).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(certificates("tls.crt"), key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// What comes of a connection between the two.
async fn connect(proxy: ServerConfig, controller: &ClientTls) -> Result<ProxyClient, ClientError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let Ok(mut stream) = TlsAcceptor::from(Arc::new(proxy)).accept(stream).await else {
            return;
        };
        // HTTP/2 settings, all of them the usual ones: a server speaks first.
        stream
            .write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])
            .await
            .unwrap();
        std::future::pending::<()>().await;
    });
    let outcome = ProxyClient::connect_with(&target, Some(controller)).await;
    server.abort();
    outcome
}

#[tokio::test]
async fn a_controller_and_a_proxy_trust_each_other_and_nobody_else() {
    let (mut ours, mut theirs) = (world(), world());
    connect(proxy(&mut ours), &controller(&mut ours))
        .await
        .unwrap();

    let foreign_proxy = connect(proxy(&mut theirs), &controller(&mut ours)).await;
    assert!(
        matches!(foreign_proxy, Err(ClientError::Untrusted { .. })),
        "{foreign_proxy:?}"
    );

    let mut foreign = controller(&mut theirs);
    foreign.ca = controller(&mut ours).ca;
    let refused = connect(proxy(&mut ours), &foreign).await;
    assert!(
        matches!(refused, Err(ClientError::CertificateRefused { .. })),
        "{refused:?}"
    );

    // What proxies show does not do for a controller.
    let mut disguised = controller(&mut ours);
    let files = &ours.stored(Which::Proxy).data;
    disguised.certificate.clone_from(&files["tls.crt"]);
    disguised.key.clone_from(&files["tls.key"]);
    let refused = connect(proxy(&mut ours), &disguised).await;
    assert!(refused.is_err(), "{refused:?}");
}
