//! Services name Secrets for their certificates, and what becomes of these.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Api;
use kube::api::DeleteParams;
use podline_lab::wait;
use rustix::process::Signal;
use serde_json::json;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned,
};

use crate::harness::LONG;
use crate::harness::cluster::CLIENT;
use crate::harness::objects::{self, direct};
use crate::harness::scene::{SYSTEM, Scene};

const SPECIFY: &str = "service.cloud.tencent.com/specify-protocol";

/// A certificate for `name` and its key, in PEM.
pub(crate) struct Pair {
    pub(crate) chain: String,
    key: String,
}

pub(crate) fn pair(name: &str) -> Pair {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    Pair {
        chain: made.cert.pem(),
        key: made.signing_key.serialize_pem(),
    }
}

/// A client that trusts this certificate alone, and remembers its sessions.
fn trusting(pair: &Pair) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let der = CertificateDer::from_pem_slice(pair.chain.as_bytes()).unwrap();
    roots.add(der).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// One request over TLS for a.example: whether the session was resumed, and who answered.
fn ask(scene: &Scene, proxy: usize, client: &Arc<ClientConfig>) -> io::Result<(bool, String)> {
    let (address, config) = (scene.addresses(80)[proxy], Arc::clone(client));
    scene.cluster.star.spokes[CLIENT].run(move || request(address, config))
}

fn request(address: SocketAddr, config: Arc<ClientConfig>) -> io::Result<(bool, String)> {
    let tcp = TcpStream::connect_timeout(&address, LONG)?;
    tcp.set_read_timeout(Some(LONG))?;
    let name = "a.example".try_into().unwrap();
    let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, tcp);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let is_resumed = stream.conn.handshake_kind() == Some(HandshakeKind::Resumed);
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => {
            Ok((is_resumed, body.trim().to_owned()))
        }
        _ => Err(io::Error::other(answer)),
    }
}

/// Waits until both proxies answer somebody who trusts this certificate.
fn wait_shown(scene: &Scene, pair: &Pair) {
    for proxy in 0..2 {
        // Without a session that was begun with another certificate.
        wait::until(LONG, "the certificate is shown", || {
            ask(scene, proxy, &trusting(pair)).is_ok_and(|(_, name)| name.starts_with("web-"))
        });
    }
}

/// Lets the controller read the Secrets of the scene's namespace, as the condition says how.
pub(crate) fn allow(scene: &Scene) {
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "podline-tls"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "podline-tls"},
        "subjects": [{"kind": "ServiceAccount", "name": "podline-control", "namespace": SYSTEM}],
    });
    scene.run(|client, namespace| async move {
        objects::apply::<RoleBinding>(&client, &namespace, binding).await;
    });
}

fn put_secret(scene: &Scene, name: &str, chain: &str, key: &str) {
    let data = json!({"tls.crt": chain, "tls.key": key});
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "kubernetes.io/tls", "stringData": data,
    });
    scene.run(|client, namespace| async move {
        objects::apply::<Secret>(&client, &namespace, secret).await;
    });
}

pub(crate) fn put_pair(scene: &Scene, name: &str, pair: &Pair) {
    put_secret(scene, name, &pair.chain, &pair.key);
}

fn delete_secret(scene: &Scene, name: &'static str) {
    scene.run(|client, namespace| async move {
        let api = Api::<Secret>::namespaced(client, &namespace);
        api.delete(name, &DeleteParams::default()).await.unwrap();
    });
}

/// Waits until the Service is accepted with this reason, or not; the message.
fn accepted(scene: &Scene, name: &str, reason: &str) -> String {
    let mut told = String::new();
    wait::until(LONG, &format!("Accepted says {reason}"), || {
        let condition = scene.condition(name, "podline.io/Accepted");
        let found = condition.filter(|(_, said, _)| said == reason);
        let is_there = found.is_some();
        told = found.map(|(_, _, message)| message).unwrap_or_default();
        is_there
    });
    told
}

#[test]
fn a_secret_is_read_once_somebody_allows_it_and_its_certificate_outlives_it() {
    let Some(scene) = Scene::set("secrets") else {
        return;
    };
    scene.serve("web", 1, direct());
    let said = json!({SPECIFY: r#"{"80":{"protocol":["HTTPS"],"tls":"shop"}}"#});
    scene.merge_service("web", json!({"metadata": {"annotations": said}}));
    let told = accepted(&scene, "web", "TlsSecretUnreadable");
    let command = "kubectl create rolebinding podline-tls --namespace=secrets --clusterrole=podline-tls --serviceaccount=podline-system:podline-control";
    assert!(told.contains(command), "{told}");
    allow(&scene);
    let told = accepted(&scene, "web", "TlsSecretMissing");
    assert!(told.ends_with("; the port is not served"), "{told}");
    let (first, second) = (pair("a.example"), pair("b.example"));
    put_secret(&scene, "shop", &first.chain, &second.key);
    let told = accepted(&scene, "web", "TlsSecretRefused");
    assert!(told.contains("cannot be used with the chain"), "{told}");
    put_pair(&scene, "shop", &first);
    accepted(&scene, "web", "Direct");
    delete_secret(&scene, "shop");
    let told = accepted(&scene, "web", "TlsSecretMissing");
    // Its Pods may have been made before it was known.
    let told = told.split("; PodsWithoutGate: ").next().unwrap();
    assert!(told.ends_with("; its last certificate stays"), "{told}");
    put_pair(&scene, "shop", &second);
    accepted(&scene, "web", "Direct");
    let tickets = scene.run(|client, _| async move {
        let api = Api::<Secret>::namespaced(client, SYSTEM);
        api.get("podline-ticket-keys").await.unwrap()
    });
    assert_eq!(tickets.data.unwrap()["current"].0.len(), 48);
    for controller in scene.controllers.values() {
        let log = controller.log();
        assert!(!log.contains("PRIVATE KEY"), "{log}");
    }
}

#[test]
fn https_is_served_with_what_the_secret_holds_now_and_sessions_go_on_at_every_proxy() {
    let Some(mut scene) = Scene::set("https") else {
        return;
    };
    allow(&scene);
    let (first, second) = (pair("a.example"), pair("a.example"));
    put_pair(&scene, "shop", &first);
    scene.serve("web", 2, direct());
    let said = json!({SPECIFY: r#"{"80":{"protocol":["HTTPS"],"tls":"shop"}}"#});
    scene.merge_service("web", json!({"metadata": {"annotations": said}}));
    wait_shown(&scene, &first);
    wait::until(LONG, "every proxy has the listeners", || {
        let condition = scene.condition("web", "podline.io/Programmed");
        condition.is_some_and(|(status, ..)| status == "True")
    });
    let client = trusting(&first);
    for proxy in [1, 0] {
        let _ = ask(&scene, 1 - proxy, &client).unwrap();
        wait::until(LONG, "what one proxy sealed the other opens", || {
            ask(&scene, proxy, &client).unwrap().0
        });
    }
    let told = format!("{:?}", scene.state(0));
    assert!(!told.contains("PRIVATE KEY"), "{told}");

    put_pair(&scene, "shop", &second);
    wait_shown(&scene, &second);
    wait::until(LONG, "no worker shows the one before", || {
        ask(&scene, 0, &trusting(&first)).is_err()
    });
    // Neither a Secret that is gone nor a proxy that begins anew takes anything away.
    delete_secret(&scene, "shop");
    accepted(&scene, "web", "TlsSecretMissing");
    scene.proxies[1].signal(Signal::KILL);
    scene.proxies[1].wait_end();
    scene.restart_proxy(1);
    wait_shown(&scene, &second);
}
