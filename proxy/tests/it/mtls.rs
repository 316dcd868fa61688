//! The API over the network: callers show a certificate, and it says what they may do.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use podline_api::client::{ClientError, ClientTls, ProxyClient};
use podline_api::{Rejected, v1};
use podline_lab::{Behaviour, wait};
use rustix::process::Signal;

use crate::harness::certificates::{Authority, Files, OPERATOR, Pair, connect};
use crate::harness::{LONG, Proxy, Start, http, pod, tcp, wire};

/// A proxy with an API for this machine and one for the network, at a port.
fn start(files: &Files) -> (Proxy, u16) {
    let port = tcp::free_address().port();
    let flags = files.flags(SocketAddr::from(([0, 0, 0, 0], port)));
    let args = flags.iter().map(String::as_str).collect();
    let proxy = Start {
        args,
        ..Start::default()
    };
    (proxy.ready(), port)
}

fn call(proxy: &Proxy, port: u16, tls: &ClientTls) -> Result<v1::GetResponse, ClientError> {
    proxy.block_on(async {
        let client = connect(port, tls).await?;
        client.get(v1::GetRequest::default()).await
    })
}

fn change(owner: &str, address: SocketAddr) -> v1::ApplyRequest {
    v1::ApplyRequest {
        owner: owner.to_owned(),
        ..wire::both(
            wire::listener("web", address, "web"),
            wire::set("web", &[tcp::free_address()]),
        )
    }
}

/// How many callers were refused for a reason.
fn refusals(proxy: &Proxy, reason: &str) -> u64 {
    let wanted = format!("podline_api_refusals_total{{reason=\"{reason}\"}} ");
    metric(proxy, &wanted)
}

fn metric(proxy: &Proxy, wanted: &str) -> u64 {
    let (_, page) = proxy.page("/metrics").unwrap();
    let value = page.lines().find_map(|line| line.strip_prefix(wanted));
    value
        .unwrap_or_else(|| panic!("no {wanted}"))
        .parse()
        .unwrap()
}

#[test]
fn a_caller_with_the_right_certificate_is_served_and_so_are_those_of_the_machine() {
    let files = Files::new();
    let (proxy, port) = start(&files);
    let client = proxy
        .block_on(connect(port, &files.named(&[OPERATOR])))
        .unwrap();
    let pod = pod("a", Behaviour::Name);
    let address = tcp::free_address();
    let request = wire::both(
        wire::listener("web", address, "web"),
        wire::set("web", &[pod.address()]),
    );
    proxy.block_on(client.apply(request)).unwrap();
    proxy.wait_listening("web");
    assert_eq!(http::ask(address).unwrap(), "a");
    assert_eq!(
        proxy.get().listeners.len(),
        1,
        "the Unix socket is served too"
    );
    let expiry = metric(&proxy, "podline_api_certificate_expiry_seconds ");
    assert_eq!(expiry, 67_090_118_400, "rcgen's default, the year 4096");
}

#[test]
fn other_callers_are_refused_with_the_reason_and_counted() {
    let files = Files::new();
    let (proxy, port) = start(&files);
    let strangers = Authority::new("strangers").client(&[OPERATOR]);
    let namesake = Authority::new("clients").client(&[OPERATOR]);
    let expired = files.clients.expired(&[OPERATOR]);
    let check = |pair: Pair, reason: &str, told: &str| {
        let before = refusals(&proxy, reason);
        match call(&proxy, port, &files.caller(pair)) {
            Err(ClientError::CertificateRefused { problem, .. }) => {
                assert!(problem.contains(told), "{problem}");
            }
            other => panic!("{reason}: {other:?}"),
        }
        wait::until(LONG, "it is counted", || {
            refusals(&proxy, reason) == before + 1
        });
        proxy.wait_logged(reason);
    };
    check(strangers, "unknown_ca", "who signed");
    check(namesake, "unknown_ca", "not its key");
    check(expired, "expired", "expired");
    // The machine's own callers are not affected.
    assert_eq!(proxy.get().listeners.len(), 0);
}

#[test]
fn a_proxy_that_others_signed_is_not_trusted() {
    let files = Files::new();
    let (proxy, port) = start(&files);
    let mut tls = files.named(&[OPERATOR]);
    tls.ca = files.clients.pem.clone().into();
    let other = call(&proxy, port, &tls).unwrap_err();
    assert!(matches!(other, ClientError::Untrusted { .. }), "{other:?}");
    tls = files.named(&[OPERATOR]);
    "elsewhere.example".clone_into(&mut tls.server_name);
    let other = call(&proxy, port, &tls).unwrap_err();
    assert!(matches!(other, ClientError::Untrusted { .. }), "{other:?}");
    let mut tls = files.named(&[OPERATOR]);
    tls.key = Vec::new();
    let other = call(&proxy, port, &tls).unwrap_err();
    assert!(matches!(other, ClientError::BadTls { .. }), "{other:?}");
}

#[test]
fn plain_text_is_answered_in_its_own_words() {
    let files = Files::new();
    let (proxy, port) = start(&files);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("this address speaks TLS"), "{answer}");
    wait::until(LONG, "it is counted", || {
        refusals(&proxy, "plain_text") == 1
    });

    // Our own client tells it too.
    let error = proxy.block_on(async {
        let client = ProxyClient::connect(&format!("127.0.0.1:{port}")).await?;
        client.get(v1::GetRequest::default()).await
    });
    let error = error.unwrap_err();
    let mut told = error.to_string();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        told = format!("{told}: {source}");
        cause = source;
    }
    assert!(told.contains("this address speaks TLS"), "{told}");
    wait::until(LONG, "it is counted", || {
        refusals(&proxy, "plain_text") >= 2
    });

    // And TLS where plain text is spoken.
    let proxy = Start {
        api: Some(tcp::free_address()),
        ..Start::default()
    }
    .ready();
    let tls = files.named(&[OPERATOR]);
    let error = proxy.block_on(ProxyClient::connect_with(&proxy.api, Some(&tls)));
    let error = error.unwrap_err();
    assert!(matches!(error, ClientError::PlainText { .. }), "{error:?}");
}

#[test]
fn a_caller_without_a_certificate_is_refused() {
    let files = Files::new();
    let (proxy, port) = start(&files);
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let error = handshake_without_certificate(stream, &files.servers.pem);
    assert!(error.contains("CertificateRequired"), "{error}");
    wait::until(LONG, "it is counted", || {
        refusals(&proxy, "no_certificate") == 1
    });
}

/// What a client without certificate gets to read.
fn handshake_without_certificate(mut stream: TcpStream, ca: &str) -> String {
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};
    use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore};
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap())
        .unwrap();
    let provider = std::sync::Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ClientTls::SERVER_NAME.try_into().unwrap();
    let mut session = ClientConnection::new(std::sync::Arc::new(config), name).unwrap();
    loop {
        while session.wants_write() {
            session.write_tls(&mut stream).unwrap();
        }
        session.read_tls(&mut stream).unwrap();
        if let Err(error) = session.process_new_packets() {
            return format!("{error:?}");
        }
    }
}

#[test]
fn a_caller_that_never_ends_its_handshake_keeps_nobody_waiting() {
    let files = Files::new();
    let (proxy, port) = start(&files);
    let mut slow: Vec<_> = (0..200)
        .map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap())
        .collect();
    for stream in &mut slow {
        stream.write_all(&[22]).unwrap();
    }
    call(&proxy, port, &files.named(&[])).unwrap();
    wait::until(LONG, "they are counted", || refusals(&proxy, "timeout") > 0);
}

#[test]
fn a_certificate_allows_its_owners_and_nothing_else() {
    let files = Files::new();
    let (proxy, port) = start(&files);
    let address = tcp::free_address();
    let apply = |tls: &ClientTls, owner: &str| {
        proxy.block_on(async {
            let client = connect(port, tls).await.unwrap();
            client.apply(change(owner, address)).await
        })
    };
    let forbidden = |tls: &ClientTls, owner: &str, told: &str| match apply(tls, owner) {
        Err(ClientError::Rejected {
            source: Rejected::Forbidden { problem },
            ..
        }) => assert!(problem.contains(told), "{problem}"),
        other => panic!("{owner}: {other:?}"),
    };
    let east = files.named(&["podline://owner/k8s/east"]);
    let nobody = files.named(&[]);
    forbidden(&east, "k8s/west", "podline://owner/k8s/east");
    forbidden(&east, "k8s/eastern", "\"k8s/east\" and what lies under");
    forbidden(&east, "file", "may not act as owner \"file\"");
    forbidden(&nobody, "k8s/east", "may only read");
    assert_eq!(refusals(&proxy, "forbidden"), 4);
    assert_eq!(proxy.get().listeners.len(), 0, "nothing changed");
    call(&proxy, port, &nobody).unwrap();
    apply(&east, "k8s/east").unwrap();
    apply(&files.named(&[OPERATOR]), "k8s/east").unwrap();
}

#[test]
fn pushes_and_overrides_are_bound_to_the_owners_of_a_certificate_too() {
    let files = Files::new();
    let (proxy, port) = start(&files);
    let request = change("k8s/west", tcp::free_address());
    let backend = request.backend_sets[0].backends[0].clone();
    proxy.apply(request.clone());
    let drain = v1::OverrideRequest {
        set: "web".to_owned(),
        backend: Some(backend),
        action: v1::override_request::Action::Drain.into(),
        ..v1::OverrideRequest::default()
    };
    let overriding = |uris: &[&str]| {
        proxy.block_on(async {
            let client = connect(port, &files.named(uris)).await.unwrap();
            client.override_backend(drain.clone()).await
        })
    };
    for uris in [&[][..], &["podline://owner/k8s/east"]] {
        let refused = overriding(uris).unwrap_err();
        let is_forbidden = matches!(
            refused,
            ClientError::Rejected {
                source: Rejected::Forbidden { .. },
                ..
            }
        );
        assert!(is_forbidden, "{refused:?}");
    }
    assert_eq!(proxy.get().overrides, []);
    for name in ["podline://owner/k8s/west", OPERATOR] {
        let status = overriding(&[name]).unwrap().status.unwrap();
        assert_eq!(status.by, name);
    }

    let refusal = proxy.block_on(async {
        let client = connect(port, &files.named(&["podline://owner/k8s/east"])).await;
        let requests = tokio_stream::iter([request]);
        let mut answers = client.unwrap().push(requests).await.unwrap();
        answers.message().await.unwrap().unwrap().refusal.unwrap()
    });
    assert_eq!(refusal.reason, "FORBIDDEN");
    assert_eq!(refusals(&proxy, "forbidden"), 3);
}

#[test]
fn new_certificates_are_taken_while_connections_live_on() {
    let files = Files::new();
    let (proxy, port) = start(&files);
    let old = proxy
        .block_on(connect(port, &files.named(&[OPERATOR])))
        .unwrap();
    let servers = Authority::new("new servers");
    files.write_server(&servers.server());
    let mut tls = files.named(&[OPERATOR]);
    tls.ca = servers.pem.clone().into();
    wait::until(LONG, "the new certificate is shown", || {
        call(&proxy, port, &tls).is_ok()
    });
    let gone = call(&proxy, port, &files.named(&[OPERATOR])).unwrap_err();
    assert!(matches!(gone, ClientError::Untrusted { .. }), "{gone:?}");

    let clients = Authority::new("new clients");
    files.write_client_ca(&clients.pem);
    proxy.signal(Signal::HUP);
    let pair = clients.client(&[OPERATOR]);
    (tls.certificate, tls.key) = (pair.certificate.into(), pair.key.into());
    wait::until(LONG, "the new CA counts", || {
        call(&proxy, port, &tls).is_ok()
    });
    let mut gone = files.named(&[OPERATOR]);
    gone.ca = servers.pem.into();
    let gone = call(&proxy, port, &gone).unwrap_err();
    assert!(
        matches!(gone, ClientError::CertificateRefused { .. }),
        "{gone:?}"
    );
    proxy.block_on(old.get(v1::GetRequest::default())).unwrap();
}

#[test]
fn bad_certificates_leave_the_last_ones_in_place() {
    let files = Files::new();
    let (proxy, port) = start(&files);
    let failures = || metric(&proxy, "podline_api_certificate_failures_total ");
    let good = files.servers.server();
    let expired = files.servers.expired(&[]);
    let mismatched = Pair {
        key: expired.key.clone(),
        ..good.clone()
    };
    let unreadable = Pair {
        certificate: "nothing".to_owned(),
        ..good.clone()
    };
    for (bad, told) in [
        (mismatched, "do not go together"),
        (unreadable, "no certificate in PEM"),
        (expired, "is expired"),
    ] {
        let before = failures();
        files.write_server(&bad);
        wait::until(LONG, "it is counted", || failures() > before);
        proxy.wait_logged(told);
        call(&proxy, port, &files.named(&[])).unwrap();
    }
}

#[test]
fn the_network_api_opens_when_its_files_appear() {
    let files = Files::none();
    let (proxy, port) = start(&files);
    TcpStream::connect(("127.0.0.1", port)).unwrap_err();
    proxy.wait_logged("opens when its certificates can be used");
    files.write_all();
    let tls = files.named(&[]);
    wait::until(LONG, "it is open", || call(&proxy, port, &tls).is_ok());
}
