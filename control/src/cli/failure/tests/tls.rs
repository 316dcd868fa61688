//! What is told when one end speaks TLS and the other does not, or they do not trust each other.

use std::sync::Arc;

use podline_api::client::{ClientTls, ProxyClient};
use podline_api::v1;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::*;

/// Speaks TLS with a certificate of its own making, and nothing over it.
async fn tls_server() -> String {
    let own = rcgen::generate_simple_self_signed(vec![ClientTls::SERVER_NAME.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        while let Ok((stream, _)) = listener.accept().await {
            drop(acceptor.accept(stream).await);
        }
    });
    address
}

/// Hangs up with an answer that is neither TLS nor HTTP/2.
async fn plain_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.writable().await.unwrap();
            stream.try_write(b"what do you want?\r\n").unwrap();
        }
    });
    address
}

fn tls() -> ClientTls {
    let own = rcgen::generate_simple_self_signed(vec!["client".to_owned()]).unwrap();
    ClientTls {
        ca: own.cert.pem().into(),
        certificate: own.cert.pem().into(),
        key: own.signing_key.serialize_pem().into(),
        server_name: ClientTls::SERVER_NAME.to_owned(),
    }
}

async fn told(target: &str, tls: Option<&ClientTls>) -> (String, Exit) {
    let failure = match ProxyClient::connect_with(target, tls).await {
        Ok(client) => Failure::from(client.get(v1::GetRequest::default()).await.unwrap_err()),
        Err(error) => error.into(),
    };
    (failure.explain(), failure.exit())
}

#[tokio::test]
async fn plain_text_to_a_tls_port_names_the_flags() {
    let (text, exit) = told(&tls_server().await, None).await;
    assert!(
        text.contains("--tls-ca, --tls-cert and --tls-key"),
        "{text}"
    );
    assert_eq!(exit, Exit::Unreachable, "{text}");
}

#[tokio::test]
async fn a_proxy_of_an_unknown_ca_is_not_trusted() {
    let (text, exit) = told(&tls_server().await, Some(&tls())).await;
    assert!(text.contains("cannot verify the certificate"), "{text}");
    assert!(text.contains("--tls-ca must hold"), "{text}");
    assert_eq!(exit, Exit::Unreachable, "{text}");
}

#[tokio::test]
async fn tls_to_a_plain_port_names_the_flags_to_leave_out() {
    let (text, exit) = told(&plain_server().await, Some(&tls())).await;
    assert!(text.contains("does not speak TLS"), "{text}");
    assert!(text.contains("leave --tls-ca"), "{text}");
    assert_eq!(exit, Exit::Unreachable, "{text}");
}

#[test]
fn our_own_certificate_can_be_the_fault() {
    let refused = ClientError::CertificateRefused {
        target: "x:1".to_owned(),
        problem: "it does not know who signed our certificate".to_owned(),
    };
    let text = "\
error: the proxy at x:1 refused our certificate: it does not know who signed our certificate
  nothing was changed; use a certificate that its client CA signed: --tls-cert and --tls-key
";
    check(&refused.into(), Exit::Unreachable, text);
    let problem = "the CA holds no certificate in PEM".to_owned();
    let text = "\
error: cannot use TLS: the CA holds no certificate in PEM
  nothing was sent; see --tls-ca, --tls-cert, --tls-key and --tls-server-name
";
    check(&ClientError::BadTls { problem }.into(), Exit::Usage, text);
}
