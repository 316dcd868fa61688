//! TLS as a client of a listener speaks it, and what a listener is given for it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;

use podline_api::v1;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig, ServerConnection,
    StreamOwned, SupportedProtocolVersion,
};

use super::certificates::Pair;
use super::{tcp, web, wire};

/// A connection inside TLS.
pub(crate) type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A certificate that vouches for itself.
pub(crate) fn made(names: &[&str]) -> Pair {
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    Pair {
        certificate: made.cert.pem(),
        key: made.signing_key.serialize_pem(),
    }
}

/// What a listener shows.
pub(crate) fn settings(pairs: &[&Pair]) -> v1::TlsSettings {
    let certificate = |pair: &&Pair| v1::Certificate {
        chain: pair.certificate.clone(),
        key: pair.key.clone(),
        ..v1::Certificate::default()
    };
    v1::TlsSettings {
        certificates: pairs.iter().map(certificate).collect(),
        ..v1::TlsSettings::default()
    }
}

/// A listener that speaks TLS, or HTTPS.
pub(crate) fn listener(
    name: &str,
    protocol: v1::listener::Protocol,
    address: SocketAddr,
    tls: v1::TlsSettings,
) -> v1::Listener {
    v1::Listener {
        protocol: Some(protocol.into()),
        tls: Some(tls),
        ..wire::listener(name, address, "web")
    }
}

/// A backend that speaks TLS: answers every request with `body`, and every name with its certificate. Its threads end with
/// the test's process.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    /// Connections whose handshake was done.
    accepted: Arc<AtomicUsize>,
    /// Names that were asked for.
    names: Arc<Mutex<Vec<Option<String>>>>,
}

impl Backend {
    pub(crate) fn start(pair: &Pair, body: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let backend = Self {
            address: listener.local_addr().unwrap(),
            accepted: Arc::default(),
            names: Arc::default(),
        };
        let config = Arc::new(shown(pair));
        let (accepted, names) = (Arc::clone(&backend.accepted), Arc::clone(&backend.names));
        thread::spawn(move || {
            for mut tcp in listener.incoming().flatten() {
                let (accepted, names) = (Arc::clone(&accepted), Arc::clone(&names));
                let config = Arc::clone(&config);
                thread::spawn(move || {
                    let mut tls = ServerConnection::new(config).unwrap();
                    while tls.is_handshaking() {
                        tls.complete_io(&mut tcp)?;
                    }
                    accepted.fetch_add(1, Relaxed);
                    let name = tls.server_name().map(str::to_owned);
                    names.lock().unwrap().push(name);
                    answer_all(StreamOwned::new(tls, tcp), body)
                });
            }
        });
        backend
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Relaxed)
    }

    pub(crate) fn names(&self) -> Vec<Option<String>> {
        self.names.lock().unwrap().clone()
    }
}

/// A server with this certificate.
pub(crate) fn shown(pair: &Pair) -> ServerConfig {
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let provider = Arc::new(ring::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![der(pair)], key)
        .unwrap()
}

fn answer_all(mut stream: impl Read + Write, body: &str) -> io::Result<()> {
    let mut read = Vec::new();
    let mut piece = [0; 4_096];
    loop {
        while let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            read.drain(..end + 4);
            stream.write_all(&web::answer("200 OK", body))?;
            stream.flush()?;
        }
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            n => read.extend_from_slice(&piece[..n]),
        }
    }
}

/// A client, whose connections resume one another's sessions where they may.
#[derive(Clone)]
pub(crate) struct Tls(Arc<ClientConfig>);

impl Tls {
    /// Trusts these and no others.
    pub(crate) fn trusting(pairs: &[&Pair]) -> Self {
        Self::of(pairs, None, &[&TLS13, &TLS12])
    }

    /// The same in TLS 1.2 alone.
    pub(crate) fn old(pairs: &[&Pair]) -> Self {
        Self::of(pairs, None, &[&TLS12])
    }

    /// The same with a certificate of its own.
    pub(crate) fn showing(pairs: &[&Pair], own: &Pair) -> Self {
        Self::of(pairs, Some(own), &[&TLS13, &TLS12])
    }

    fn of(
        pairs: &[&Pair],
        own: Option<&Pair>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        for pair in pairs {
            roots.add(der(pair)).unwrap();
        }
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![der(own)], key).unwrap()
            }
        };
        Self(Arc::new(config))
    }

    /// The same, speaking these protocols inside.
    pub(crate) fn with_protocols(&self, protocols: &[&str]) -> Self {
        let mut config = ClientConfig::clone(&self.0);
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        Self(Arc::new(config))
    }

    /// For those who do not block.
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }

    /// Connects and shakes hands.
    pub(crate) fn connect(&self, address: SocketAddr, name: &str) -> io::Result<Stream> {
        self.over(tcp::connect(address), name)
    }

    /// Shakes hands on a connection that is there.
    pub(crate) fn over(&self, mut tcp: TcpStream, name: &str) -> io::Result<Stream> {
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut tls = ClientConnection::new(Arc::clone(&self.0), name).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp)?;
        }
        Ok(StreamOwned::new(tls, tcp))
    }
}

fn der(pair: &Pair) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()
}

/// Whether this certificate was shown.
pub(crate) fn was_shown(stream: &Stream, pair: &Pair) -> bool {
    let shown = stream.conn.peer_certificates();
    shown.is_some_and(|chain| chain[0] == der(pair))
}

/// Whether an earlier session goes on.
pub(crate) fn is_resumed(stream: &Stream) -> bool {
    stream.conn.handshake_kind() == Some(HandshakeKind::Resumed)
}
