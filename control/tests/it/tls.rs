//! Services name Secrets for their certificates, and what becomes of these.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Api;
use kube::api::DeleteParams;
use podline_lab::wait;
use serde_json::json;

use crate::harness::LONG;
use crate::harness::objects::{self, direct};
use crate::harness::scene::{SYSTEM, Scene};

const SPECIFY: &str = "service.cloud.tencent.com/specify-protocol";

/// A certificate for `name` and its key, in PEM.
struct Pair {
    chain: String,
    key: String,
}

fn pair(name: &str) -> Pair {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    Pair {
        chain: made.cert.pem(),
        key: made.signing_key.serialize_pem(),
    }
}

/// Lets the controller read the Secrets of the scene's namespace, as the condition says how.
fn bind(scene: &Scene) {
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

fn put_pair(scene: &Scene, name: &str, pair: &Pair) {
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
    bind(&scene);
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
