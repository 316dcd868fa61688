//! An Ingress is served for real: hosts, paths, TLS, a redirect; straight to Pods and through node ports; edited, and let
//! go.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use k8s_openapi::api::networking::v1::Ingress;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, ListParams};
use podline_api::Policy;
use podline_lab::wait;
use serde_json::{Value, json};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::configs::{self, wait_settings};
use crate::harness::LONG;
use crate::harness::cluster::CLIENT;
use crate::harness::installed::{Said, podline};
use crate::harness::objects;
use crate::harness::scene::Scene;
use crate::tls::{Pair, allow, pair, put_pair};
use crate::webhooks::wait_gated;

const DIRECT: &str = "ingress.cloud.tencent.com/direct-access";
const REWRITE: &str = "ingress.cloud.tencent.com/auto-rewrite";

/// A Deployment, and a Service that is nobody's load balancer.
fn serve(scene: &Scene, name: &'static str, replicas: u32) {
    scene.run(move |client, namespace| async move {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {
                "type": "NodePort", "selector": {"app": name},
                "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
            },
        });
        objects::apply::<Service>(&client, &namespace, service).await;
        objects::deployment(&client, &namespace, name, replicas, json!({})).await;
    });
}

fn path(path: &str, kind: &str, service: &str) -> Value {
    let backend = json!({"service": {"name": service, "port": {"name": "http"}}});
    json!({"path": path, "pathType": kind, "backend": backend})
}

/// Two hosts, of which one has two paths.
fn site() -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": "site", "annotations": {(DIRECT): "true"}},
        "spec": {
            "ingressClassName": "qcloud",
            "rules": [
                {"host": "a.example", "http": {"paths": [
                    path("/", "Prefix", "web"),
                    path("/api", "ImplementationSpecific", "api"),
                ]}},
                {"host": "b.example", "http": {"paths": [path("/only", "Exact", "api")]}},
            ],
        },
    })
}

fn apply(scene: &Scene, object: Value) {
    scene.run(|client, namespace| async move {
        objects::apply::<Ingress>(&client, &namespace, object).await;
    });
}

fn merge(scene: &Scene, change: Value) {
    scene.run(|client, namespace| async move {
        objects::merge::<Ingress>(&client, &namespace, "site", change).await;
    });
}

fn ingress(scene: &Scene) -> Option<Ingress> {
    scene.run(|client, namespace| async move {
        let api = Api::<Ingress>::namespaced(client, &namespace);
        api.get_opt("site").await.unwrap()
    })
}

/// Where its status says that clients connect to.
fn told(scene: &Scene) -> Vec<String> {
    let status = ingress(scene).and_then(|it| it.status?.load_balancer?.ingress);
    let addresses = status.into_iter().flatten().filter_map(|it| it.ip);
    addresses.collect()
}

fn request(mut stream: impl Read + Write, host: &str, path: &str) -> io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| io::Error::other(answer.clone()))?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    let location = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("location").then_some(value)
    });
    Ok(match (status, location) {
        ("200", _) => body.trim().split('-').next().unwrap_or_default().to_owned(),
        (status, Some(location)) => format!("{status} {location}"),
        (status, None) => status.to_owned(),
    })
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, LONG)?;
    stream.set_read_timeout(Some(LONG))?;
    Ok(stream)
}

/// Who answers over HTTP, or with what.
fn ask(scene: &Scene, proxy: usize, host: &'static str, path: &'static str) -> String {
    let address = scene.addresses(80)[proxy];
    let client = &scene.cluster.star.spokes[CLIENT];
    let answer = client.run(move || request(connect(address)?, host, path));
    answer.unwrap_or_else(|error| error.to_string())
}

/// The same over TLS, by somebody who trusts this certificate alone.
fn ask_tls(scene: &Scene, proxy: usize, trusted: &Pair, host: &'static str) -> String {
    let mut roots = RootCertStore::empty();
    let der = CertificateDer::from_pem_slice(trusted.chain.as_bytes()).unwrap();
    roots.add(der).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let address = scene.addresses(443)[proxy];
    let client = &scene.cluster.star.spokes[CLIENT];
    let answer = client.run(move || {
        let name = host.try_into().unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        request(StreamOwned::new(connection, connect(address)?), host, "/")
    });
    answer.unwrap_or_else(|error| error.to_string())
}

/// Waits until both proxies answer so.
fn wait_answer(scene: &Scene, host: &'static str, path: &'static str, expected: &str) {
    let what = format!("{host}{path} is answered with {expected}");
    wait::until(LONG, &what, || {
        (0..2).all(|proxy| ask(scene, proxy, host, path) == expected)
    });
}

fn gates(scene: &Scene, app: &'static str) -> Vec<bool> {
    scene.run(move |client, namespace| async move {
        let pods = Api::<Pod>::namespaced(client, &namespace);
        let of_app = ListParams::default().labels(&format!("app={app}"));
        let pods = pods.list(&of_app).await.unwrap().items.into_iter();
        let has_gate = |pod: Pod| {
            let gates = pod.spec.and_then(|spec| spec.readiness_gates);
            gates.is_some_and(|gates| gates.iter().any(|it| it.condition_type == objects::GATE))
        };
        pods.map(has_gate).collect()
    })
}

#[test]
fn an_ingress_is_served_with_hosts_paths_tls_and_a_redirect_until_it_goes() {
    let Some(scene) = Scene::set("ingress") else {
        return;
    };
    serve(&scene, "web", 1);
    serve(&scene, "api", 0);
    apply(&scene, site());
    wait::until(LONG, "the status names every proxy", || {
        told(&scene).len() == 2
    });
    scene.wait_rolled_out("web");
    // Ingress and Service are known, so new Pods wait for the proxies.
    let set = |status: &podline_api::v1::BackendSetStatus| status.set.clone().unwrap_or_default();
    wait::until(LONG, "the proxies have its set", || {
        let sets = scene.state(0).backend_sets;
        sets.iter()
            .any(|it| set(it).name == "ingress/site/ingress/api/80")
    });
    wait_gated(&scene, "api");
    scene.scale("api", 1);
    assert_eq!(gates(&scene, "api"), [true]);
    for (host, path, expected) in [
        ("a.example", "/", "web"),
        ("a.example", "/apis", "web"),
        ("a.example", "/api/v1", "api"),
        ("b.example", "/only", "api"),
        ("b.example", "/only/more", "404"),
        ("c.example", "/", "404"),
    ] {
        wait_answer(&scene, host, path, expected);
    }
    let finalizers = ingress(&scene).unwrap().metadata.finalizers.unwrap();
    assert_eq!(finalizers, ["podline.io/load-balancer"]);

    // HTTPS, with a certificate for each host, and HTTP sends clients there.
    allow(&scene);
    let (first, second) = (pair("a.example"), pair("b.example"));
    put_pair(&scene, "of-a", &first);
    put_pair(&scene, "of-b", &second);
    let tls = json!([
        {"hosts": ["a.example"], "secretName": "of-a"},
        {"hosts": ["b.example"], "secretName": "of-b"},
    ]);
    let annotations = json!({(REWRITE): "true"});
    merge(
        &scene,
        json!({"spec": {"tls": tls}, "metadata": {"annotations": annotations}}),
    );
    wait_answer(&scene, "a.example", "/x?y=1", "302 https://a.example/x?y=1");
    wait::until(LONG, "each host has its certificate", || {
        (0..2).all(|proxy| {
            ask_tls(&scene, proxy, &first, "a.example") == "web"
                && ask_tls(&scene, proxy, &second, "b.example") == "404"
        })
    });

    // Through node ports and back, over HTTP again.
    let off = json!({(REWRITE): "false", (DIRECT): "false"});
    merge(
        &scene,
        json!({"spec": {"tls": null}, "metadata": {"annotations": off}}),
    );
    wait_answer(&scene, "a.example", "/", "web");
    let set = "ingress/site/ingress/web/80/nodeport";
    assert!(!scene.backends(0, set).is_empty());
    merge(
        &scene,
        json!({"metadata": {"annotations": {(DIRECT): "true"}}}),
    );
    scene.wait_backends("ingress/site/ingress/web/80", 1);

    // A rule comes that nobody can answer, and goes.
    let mut edited = site();
    let missing = path("/none", "Prefix", "none");
    let paths = &mut edited["spec"]["rules"][0]["http"]["paths"];
    paths.as_array_mut().unwrap().push(missing);
    apply(&scene, edited);
    wait_answer(&scene, "a.example", "/none", "503");
    wait::until(LONG, "an Event tells it", || {
        let told = "ServiceMissing: there is no Service ingress/none";
        scene.events().iter().any(|event| event == told)
    });
    apply(&scene, site());
    wait_answer(&scene, "a.example", "/none", "web");
    leave(&scene);
}

/// Deletes it, and waits until it is gone.
fn delete(scene: &Scene) {
    scene.run(|client, namespace| async move {
        let api = Api::<Ingress>::namespaced(client, &namespace);
        api.delete("site", &DeleteParams::default()).await.unwrap();
    });
    wait::until(LONG, "it is gone", || ingress(scene).is_none());
}

/// Of another class, and ours again, and deleted: nothing is left.
fn leave(scene: &Scene) {
    merge(scene, json!({"spec": {"ingressClassName": "other"}}));
    wait::until(LONG, "it is let go", || {
        let found = ingress(scene).unwrap();
        told(scene).is_empty() && found.metadata.finalizers.is_none()
    });
    merge(scene, json!({"spec": {"ingressClassName": "podline"}}));
    wait_answer(scene, "a.example", "/", "web");
    delete(scene);
    wait::until(LONG, "no proxy has anything of it", || {
        (0..2).all(|proxy| scene.state(proxy).backend_sets.is_empty())
    });
    // Its Pods are not held back by who is gone.
    scene.run(|client, namespace| async move {
        let change = json!({"spec": {"replicas": 2}});
        objects::merge::<Deployment>(&client, &namespace, "api", change).await;
        let secrets = Api::<Secret>::namespaced(client, &namespace);
        let all = ListParams::default();
        secrets
            .delete_collection(&DeleteParams::default(), &all)
            .await
            .unwrap();
    });
    scene.wait_rolled_out("api");
}

const AUTO: &str = "ingress.cloud.tencent.com/tke-service-config-auto";
/// The object that is made for it.
const MADE: &str = "site-auto-ingress-config";

/// What an object says of the domains of its only listener.
fn domains(object: &DynamicObject) -> Value {
    object.data["spec"]["loadBalancer"]["l7Listeners"][0]["domains"].clone()
}

fn wait_domains(scene: &Scene, what: &str, expected: &Value) {
    wait::until(LONG, what, || {
        configs::get(scene, MADE).is_some_and(|object| domains(&object) == *expected)
    });
}

#[test]
fn an_object_is_made_for_an_ingress_and_its_rules_follow_it() {
    let Some(scene) = Scene::set("sites") else {
        return;
    };
    serve(&scene, "web", 1);
    serve(&scene, "api", 1);
    let mut object = site();
    object["metadata"]["annotations"] = json!({(DIRECT): "true", (AUTO): "true"});
    apply(&scene, object.clone());
    let (root, api) = (json!({"url": "/"}), json!({"url": "/api"}));
    let of_b = json!({"domain": "b.example", "rules": [{"url": "/only"}]});
    let expected = json!([{"domain": "a.example", "rules": [root, api]}, of_b]);
    wait_domains(&scene, "it is made", &expected);
    let owner = configs::get(&scene, MADE)
        .and_then(|made| made.metadata.owner_references)
        .unwrap()
        .remove(0);
    assert_eq!(Some(owner.uid), ingress(&scene).unwrap().metadata.uid);
    wait_answer(&scene, "a.example", "/", "web");

    // Somebody edits it: that rule alone is another.
    let mine = json!({"url": "/", "scheduler": "LEAST_CONN", "healthCheck": {"enable": true, "httpCheckPath": "/x"}});
    let edited = json!([{"domain": "a.example", "rules": [mine, api]}, of_b]);
    let listeners = json!([{"protocol": "HTTP", "port": 80, "domains": edited}]);
    configs::merge(
        &scene,
        MADE,
        json!({"spec": {"loadBalancer": {"l7Listeners": listeners}}}),
    );
    let set = "sites/site/ingress/web/80";
    let is_edited = |settings: &podline_api::SetSettings| {
        let check = settings.health_check.as_ref().map(|check| &check.kind);
        let path = match check {
            Some(podline_api::CheckKind::Http(http)) => http.path.as_str(),
            _ => "",
        };
        settings.policy == Policy::LeastConnections && path == "/x"
    };
    wait_settings(&scene, set, "the edit holds", is_edited);
    wait_settings(
        &scene,
        "sites/site/ingress/api/80",
        "the others stay",
        |it| it.policy == Policy::RoundRobin,
    );
    wait_answer(&scene, "a.example", "/", "web");

    // A rule comes, and a host goes: their entries do, too.
    let more = path("/more", "Prefix", "api");
    object["spec"]["rules"][0]["http"]["paths"]
        .as_array_mut()
        .unwrap()
        .push(more);
    object["spec"]["rules"].as_array_mut().unwrap().pop();
    apply(&scene, object.clone());
    let expected = json!([{"domain": "a.example", "rules": [mine, api, {"url": "/more"}]}]);
    wait_domains(&scene, "entries come and go with their rules", &expected);

    // The object is deleted and made again: what was set stays.
    configs::delete(&scene, MADE);
    let empty = json!([{"domain": "a.example", "rules": [root, api, {"url": "/more"}]}]);
    wait_domains(&scene, "it is made again", &empty);
    wait_settings(&scene, set, "what was set stays", is_edited);
    // With the Ingress both go, and the next one begins anew.
    delete(&scene);
    wait::until(LONG, "it goes with its Ingress", || {
        configs::get(&scene, MADE).is_none()
    });
    apply(&scene, object);
    wait_domains(&scene, "another is made", &empty);
    wait_settings(&scene, set, "nothing is set", |it| {
        it.policy == Policy::RoundRobin
    });
    delete(&scene);
}

const MODE: &str = "ingress.cloud.tencent.com/mode";
const WEIGHTS: &str = "ingress.cloud.tencent.com/lb-rs-weight";

/// What the command line says of it.
fn podline_says(scene: &Scene, arguments: &[&str]) -> Said {
    let mut command = podline(&["--control", "127.0.0.1:19200"]);
    command.args(arguments);
    scene.cluster.star.hub.run(move || Said::by(command))
}

#[test]
fn an_ingress_is_explained_and_timed_and_stays_as_it_is_while_it_says_so() {
    let Some(scene) = Scene::set("held") else {
        return;
    };
    serve(&scene, "web", 1);
    serve(&scene, "api", 0);
    let mut object = site();
    object["metadata"]["annotations"][WEIGHTS] = json!(r#"{"defaultWeight":20}"#);
    apply(&scene, object);
    wait_answer(&scene, "a.example", "/", "web");
    let mut told = String::new();
    wait::until(LONG, "it is explained", || {
        told = podline_says(&scene, &["explain", "ingress/held/site"]).out;
        told.contains("bound, probes pass")
    });
    for words in [
        "ingress/held/site: direct",
        WEIGHTS,
        "held/site/ingress/web/80",
    ] {
        assert!(told.contains(words), "{told}");
    }
    wait::until(LONG, "its Pod is timed", || {
        let said = podline_says(&scene, &["-o", "json", "timeline", "ingress/held/site"]);
        said.code == Some(0) && said.json()["pods"][0]["healthy"].is_string()
    });

    merge(
        &scene,
        json!({"metadata": {"annotations": {(MODE): "skip"}}}),
    );
    wait::until(LONG, "an Event says that it stays", || {
        scene
            .events()
            .iter()
            .any(|event| event.starts_with("Skipped: "))
    });
    let rules = json!([{"host": "a.example", "http": {"paths": [path("/", "Prefix", "api")]}}]);
    merge(&scene, json!({"spec": {"rules": rules}}));
    // One that was made since is served: so the edit was seen.
    let mut late = site();
    late["metadata"] = json!({
        "name": "late",
        "annotations": {"ingress.cloud.tencent.com/listen-ports": r#"[{"HTTP":8081}]"#},
    });
    apply(&scene, late);
    wait::until(LONG, "the other one is served", || {
        let listeners = scene.state(0).listeners.into_iter();
        let mut names = listeners.filter_map(|it| it.listener).map(|it| it.name);
        names.any(|name| name == "held/late/http/8081")
    });
    assert_eq!(ask(&scene, 0, "a.example", "/"), "web");
    merge(&scene, json!({"metadata": {"annotations": {(MODE): null}}}));
    wait_answer(&scene, "a.example", "/", "503");
}
