//! Loads over TLS, against a Pod behind a relay that speaks it with clients.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use podline_bench::certificate::Certificate;
use podline_bench::load::{Failure, Pace, Plan, Trust, Work};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto::ring, version};

use crate::loads_go_wrong::{only, server};
use crate::support::{check, plan, pod, run, target};

/// Ends TLS of clients, and forwards what is inside.
struct Relay {
    at: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    fn start(to: SocketAddr, certificate: &Certificate, is_old: bool) -> Self {
        let chain = CertificateDer::from_pem_slice(certificate.chain.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).unwrap();
        let versions = if is_old {
            &[&version::TLS12]
        } else {
            &[&version::TLS13]
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let at = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let accept = async {
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        let acceptor = acceptor.clone();
                        tokio::spawn(async move {
                            relay(acceptor, stream, to).await.ok(); // clients see it
                        });
                    }
                };
                tokio::select! {
                    () = accept => (),
                    _ = stopped => (),
                }
            });
        });
        Self {
            at,
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.take();
        self.thread.take().map(JoinHandle::join);
    }
}

async fn relay(acceptor: TlsAcceptor, stream: TcpStream, to: SocketAddr) -> io::Result<()> {
    let mut client = acceptor.accept(stream).await?;
    let mut pod = TcpStream::connect(to).await?;
    tokio::io::copy_bidirectional(&mut client, &mut pod).await?;
    Ok(())
}

const HTTP: Work = Work::Http1 {
    connections: 4,
    bytes: 0,
    close: false,
};
const CLOSE: Work = Work::Http1 {
    connections: 4,
    bytes: 10,
    close: true,
};
const HTTP2: Work = Work::Http2 {
    connections: 2,
    streams: 4,
    bytes: 0,
};

fn over_tls(work: Work, at: SocketAddr, certificate: &Certificate) -> Plan {
    Plan {
        tls: Some(Trust::new(certificate).unwrap()),
        ..plan(work, Pace::Closed, at)
    }
}

#[test]
fn every_kind_over_http_is_answered_and_tells_what_was_agreed_on() {
    let pod = pod(3);
    let certificate = Certificate::made().unwrap();
    let large = Work::Http1 {
        connections: 2,
        bytes: 400_000,
        close: false,
    };
    let grpc = Work::Grpc {
        connections: 2,
        streams: 4,
    };
    let idle = Work::IdleHttp { connections: 50 };
    for (is_old, suite) in [
        (false, "TLS13_AES_128_GCM_SHA256"),
        (true, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    ] {
        let relay = Relay::start(target(&pod, HTTP), &certificate, is_old);
        for (work, handshakes) in [
            (HTTP, Some(4)),
            (large, Some(2)),
            (CLOSE, None),
            (HTTP2, Some(2)),
            (grpc, Some(2)),
            (idle, Some(50)),
        ] {
            let outcome = run(&over_tls(work, relay.at, &certificate));
            check(&outcome);
            assert_eq!(outcome.failed(), 0, "{work:?}: {outcome:?}");
            assert!(outcome.answered > 0, "{work:?}");
            assert_eq!(outcome.pods, [(3, outcome.answered)].into());
            let handshakes = handshakes.unwrap_or(outcome.begun);
            assert_eq!(outcome.suites, [(suite, handshakes)].into(), "{work:?}");
        }
    }
}

#[test]
fn who_cannot_be_trusted_or_speaks_no_tls_is_not_asked() {
    let mut pod = pod(1);
    let [shown, trusted] = [(); 2].map(|()| Certificate::made().unwrap());
    let relay = Relay::start(target(&pod, HTTP), &shown, false);
    let plan_of = |work, at| Plan {
        patience: Duration::from_secs(1),
        ..over_tls(work, at, &trusted)
    };
    for work in [HTTP, CLOSE, HTTP2] {
        let outcome = run(&plan_of(work, relay.at));
        check(&outcome);
        let connects = outcome.failures.get(&Failure::Connect);
        assert_eq!(connects, Some(&outcome.begun), "{work:?}: {outcome:?}");
        assert!(outcome.begun > 0 && outcome.suites.is_empty());
        // A Pod by itself waits for the end of what is no request.
        let outcome = run(&plan_of(work, target(&pod, HTTP)));
        check(&outcome);
        assert!(outcome.begun > 0 && outcome.answered == 0, "{outcome:?}");
    }
    assert_eq!(pod.stats().unwrap().requests, 0);
}

#[test]
fn what_breaks_off_inside_tls_has_ended() {
    let half = server(|mut stream| {
        let mut request = [0; 1024];
        if stream.read(&mut request).is_ok_and(|count| count > 0) {
            stream.write_all(b"HTTP/1.1 200 OK\r\nx-pod: 1\r\n").ok(); // it may have gone
        }
    });
    let certificate = Certificate::made().unwrap();
    let relay = Relay::start(half, &certificate, false);
    for work in [HTTP, CLOSE] {
        let outcome = run(&over_tls(work, relay.at, &certificate));
        only(&outcome, Failure::Ended);
        assert!(!outcome.suites.is_empty(), "{work:?}");
    }
    // Who does not answer the handshake at all is waited for as long as for any connection.
    let silent = server(|mut stream| {
        stream.read_to_end(&mut Vec::new()).ok(); // until the client gives up
    });
    let plan = Plan {
        patience: Duration::from_millis(500),
        ..over_tls(CLOSE, silent, &certificate)
    };
    only(&run(&plan), Failure::Connect);
}
