//! The webhooks' certificates are replaced while somebody calls without a pause: short lives, the real clock, TLS on
//! loopback.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{LEADER, MUTATING, Repair, VALIDATING};
use crate::certificates::{self, Channel, Connections, Lives, Settings};
use crate::events::Events;
use crate::fake_server::Server;
use crate::lease::Commander;
use crate::metrics::Metrics;

const LIVES: Lives = Lives {
    authority: Duration::from_secs(24),
    leaf: Duration::from_secs(8),
    grace: Duration::from_secs(2),
    patience: Duration::from_mins(1),
};

/// Answers each connection with one byte, showing what there is to show then.
async fn serve(listener: TcpListener, tls: watch::Receiver<Option<Arc<ServerConfig>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let Some(config) = tls.borrow().clone() else {
            continue;
        };
        tokio::spawn(async move {
            if let Ok(mut stream) = TlsAcceptor::from(config).accept(stream).await {
                let _ = stream.write_all(b"x").await;
            }
        });
    }
}

/// What a configuration says, as the API server reads it.
fn bundle(server: &Server, path: &str) -> Option<Vec<u8>> {
    let object = server.object(path)?;
    let bundle = object["webhooks"][0]["clientConfig"]["caBundle"].clone();
    Some(serde_json::from_value::<ByteString>(bundle).unwrap().0)
}

/// Calls as the API server does: why it failed.
async fn call(address: std::net::SocketAddr, bundle: &[u8]) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(bundle) {
        roots.add(root.unwrap()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("podline-webhook.podline-system.svc").unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let mut stream = stream.await.map_err(|error| error.to_string())?;
    let read = stream.read_u8().await;
    read.map(|_| ()).map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_while_certificates_are_replaced() {
    let (server, commander) = (Server::new(), Commander::new());
    commander.set(LEADER);
    let connections = Connections {
        client: server.client(),
        leadership: commander.leadership(),
        events: Events::new(server.client(), "a"),
        metrics: Metrics::new(),
    };
    let settings = Settings {
        lives: LIVES,
        ..Settings::new(Channel::Webhook, "podline-system", "east")
    };
    let (callers, trusted) = watch::channel(None);
    let (keeper, own) = certificates::webhook(connections.clone(), settings, trusted);
    let repair = Repair::new(connections, "podline-system", true, own.bundle, callers);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(keeper.run(std::future::pending()));
    tasks.spawn(repair.run(std::future::pending()));
    tasks.spawn(serve(listener, own.tls.clone()));

    let mut shown = own.tls.clone();
    wait_for(|| bundle(&server, MUTATING).is_some() && bundle(&server, VALIDATING).is_some()).await;
    shown.wait_for(Option::is_some).await.unwrap();
    let first = bundle(&server, MUTATING).unwrap();
    shown.mark_unchanged();
    let (mut calls, mut leaves, mut had_both) = (0, 0, false);
    let begun = std::time::SystemTime::now();
    loop {
        for path in [MUTATING, VALIDATING] {
            let bundle = bundle(&server, path).unwrap();
            let outcome = call(address, &bundle).await;
            assert_eq!(outcome, Ok(()), "after {calls} calls and {leaves} leaves");
            calls += 1;
        }
        leaves += usize::from(shown.has_changed().unwrap());
        shown.mark_unchanged();
        let now = bundle(&server, MUTATING).unwrap();
        had_both |= now != first && (now.starts_with(&first[..]) || now.ends_with(&first[..]));
        // The first CA has gone, and with it all that it signed.
        if had_both && certificates::compare(&now, &first).len() == 2 {
            break;
        }
        assert!(
            begun.elapsed().unwrap() < Duration::from_mins(1),
            "it takes too long"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!(
        "{calls} calls, {leaves} leaves and another CA, {:?}",
        begun.elapsed().unwrap()
    );
    assert!(leaves >= 3);
    assert!(
        server.told().iter().all(|told| !told.contains("Repaired")),
        "{:?}",
        server.told()
    );
}

async fn wait_for(mut condition: impl FnMut() -> bool) {
    let limit = Duration::from_secs(20);
    let polled = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(limit, polled).await.unwrap();
}
