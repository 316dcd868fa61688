//! The way through an API server that plays a part, to a controller and a proxy that do, too.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::net::SocketAddr;
use std::sync::Arc;

use podline_api::v1;
use podline_api::v1::control_server::{Control, ControlServer};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::fake::{Part, cluster};
use super::*;
use crate::cli::controller::Controller;
use crate::cli::failure::{Exit, Failure};
use crate::cli::selection::{Front, FrontKind};
use crate::cli::status::services_tests::status;
use crate::cli::{fake as fake_proxy, sample};
use crate::installation::NAME_LABEL;

struct Answers(&'static str);

#[tonic::async_trait]
impl Control for Answers {
    async fn status(
        &self,
        _: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        Ok(Response::new(v1::StatusResponse {
            identity: self.0.to_owned(),
            ..status()
        }))
    }

    async fn explain_service(
        &self,
        request: Request<v1::ExplainServiceRequest>,
    ) -> Result<Response<v1::ExplainServiceResponse>, Status> {
        let request = request.into_inner();
        let (namespace, name) = (request.namespace, request.name);
        Err(Status::not_found(format!(
            "there is no Service {namespace}/{name}"
        )))
    }

    async fn explain_ingress(
        &self,
        _: Request<v1::ExplainServiceRequest>,
    ) -> Result<Response<v1::ExplainServiceResponse>, Status> {
        Ok(Response::new(v1::ExplainServiceResponse::default()))
    }

    async fn timeline(
        &self,
        request: Request<v1::TimelineRequest>,
    ) -> Result<Response<v1::TimelineResponse>, Status> {
        let request = request.into_inner();
        match request.name.as_str() {
            "web" => Ok(Response::new(v1::TimelineResponse {
                pods: vec![v1::PodTimeline {
                    name: format!("{}-1-a", request.name),
                    ..v1::PodTimeline::default()
                }],
                since: None,
            })),
            "elsewhere" => Err(Status::failed_precondition("replica a does not lead")),
            name => Err(Status::not_found(format!("no Pod of {name}"))),
        }
    }

    async fn gates(
        &self,
        _: Request<v1::GatesRequest>,
    ) -> Result<Response<v1::GatesResponse>, Status> {
        Ok(Response::new(v1::GatesResponse::default()))
    }
}

/// The address of a controller that answers as `identity`.
fn control(identity: &'static str) -> SocketAddr {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = incoming.local_addr().unwrap();
    let server = Server::builder().add_service(ControlServer::new(Answers(identity)));
    tokio::spawn(server.serve_with_incoming(incoming));
    address
}

pub(in crate::cli) fn pod(program: &str, name: &str) -> (String, Value) {
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}");
    let labels = json!({(NAME_LABEL): program, "app.kubernetes.io/part-of": "podline"});
    let object = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {"containers": [{"name": "c"}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    });
    (path, object)
}

pub(in crate::cli) fn lease(holder: &str) -> (String, Value) {
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{LEASE}");
    let object = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": LEASE, "namespace": NAMESPACE, "uid": "l",
            "labels": {"app.kubernetes.io/part-of": "podline"}},
        "spec": {"holderIdentity": holder},
    });
    (path, object)
}

fn two_replicas() -> Part {
    Part {
        objects: [pod(CONTROL, "a"), pod(CONTROL, "b"), lease("b")].into(),
        ports: [("a", "first"), ("b", "second")]
            .map(|(name, identity)| ((name.to_owned(), 9912), control(identity)))
            .into(),
        ..Part::default()
    }
}

async fn identity(part: Part) -> Result<String, Failure> {
    let (cluster, _) = cluster(part).await;
    let controller = Controller::within(&cluster).await?;
    Ok(controller.status("").await?.identity)
}

/// What is told, and the exit code.
async fn trouble(part: Part) -> (String, Exit) {
    let failure = identity(part).await.unwrap_err();
    (failure.explain(), failure.exit())
}

#[tokio::test]
async fn the_leader_is_asked_through_the_api_server() {
    assert_eq!(identity(two_replicas()).await.unwrap(), "second");
    let mut part = two_replicas();
    part.forbidden = vec!["GET /apis/coordination.k8s.io"];
    let told = identity(part).await.unwrap();
    assert_eq!(told, "first", "without the Lease anyone will do");
    let mut part = two_replicas();
    part.forbidden = vec!["GET /api/v1/namespaces/podline-system/pods/b"];
    let told = identity(part).await.unwrap();
    assert_eq!(
        told, "first",
        "another is asked if the best cannot be reached"
    );
}

#[tokio::test]
async fn one_connection_takes_many_questions() {
    let (cluster, _) = cluster(two_replicas()).await;
    let controller = Controller::within(&cluster).await.unwrap();
    for _ in 0..20 {
        assert_eq!(controller.status("").await.unwrap().services.len(), 3);
    }
    let front = |kind| Front {
        kind,
        namespace: "a".to_owned(),
        name: "b".to_owned(),
    };
    let ingress = front(FrontKind::Ingress);
    assert!(controller.explain(&ingress).await.is_ok());
    let service = front(FrontKind::Service);
    let failure = controller.explain(&service).await.unwrap_err();
    assert_eq!(failure.explain(), "error: there is no Service a/b\n");
    assert_eq!(failure.exit(), Exit::DifferentOrMissing);
}

#[tokio::test]
async fn timelines_are_asked_of_the_controller() {
    let (cluster, _) = cluster(two_replicas()).await;
    let controller = Controller::within(&cluster).await.unwrap();
    let ask = async |name: &str| {
        let mut request = v1::TimelineRequest {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            ..Default::default()
        };
        request.set_kind(v1::timeline_request::Kind::Deployment);
        controller.timeline(request).await
    };
    assert_eq!(ask("web").await.unwrap().pods[0].name, "web-1-a");
    let failed = async |name: &str| {
        let failure = ask(name).await.unwrap_err();
        (failure.explain(), failure.exit())
    };
    let missing = "error: no Pod of wbe\n".to_owned();
    assert_eq!(failed("wbe").await, (missing, Exit::DifferentOrMissing));
    let follower = "error: replica a does not lead\n".to_owned();
    assert_eq!(failed("elsewhere").await, (follower, Exit::Refused));
}

#[tokio::test]
async fn what_is_in_the_way_is_told() {
    let mut part = two_replicas();
    part.forbidden = vec!["GET /api/v1/namespaces/podline-system/pods/"];
    let text = "\
error: you may not create pods/portforward in namespace podline-system: it is forbidden
  ask for RBAC that allows: create and get on pods/portforward, in namespace podline-system
";
    assert_eq!(trouble(part).await, (text.to_owned(), Exit::Refused));
    let mut part = two_replicas();
    part.forbidden = vec!["GET /api/v1/namespaces/podline-system/pods"];
    let text = "\
error: you may not list pods in namespace podline-system: it is forbidden
  ask for RBAC that allows: list on pods, in namespace podline-system
";
    assert_eq!(trouble(part).await, (text.to_owned(), Exit::Refused));
    let (text, exit) = trouble(Part::default()).await;
    assert!(
        text.starts_with("error: there is no namespace podline-system\n"),
        "{text}"
    );
    assert_eq!(exit, Exit::DifferentOrMissing);
    let mut part = two_replicas();
    part.ports.clear();
    let text = "\
error: cannot forward a port to Pod podline-system/b: connection refused inside the Pod
  nothing was changed; does the Pod still run? its log says more
";
    assert_eq!(trouble(part).await, (text.to_owned(), Exit::Unreachable));
}

#[tokio::test]
async fn an_api_server_that_is_not_there_is_told() {
    let (mut cluster, _) = cluster(Part::default()).await;
    cluster.server = "http://127.0.0.1:1".to_owned();
    let config = kube::Config::new(cluster.server.parse().unwrap());
    cluster.client = kube::Client::try_from(config).unwrap();
    let failure = Controller::within(&cluster).await.map(drop).unwrap_err();
    let text = failure.explain();
    assert!(
        text.starts_with("error: cannot reach the API server at http://127.0.0.1:1: "),
        "{text}"
    );
    assert_eq!(failure.exit(), Exit::Unreachable);
}

#[tokio::test]
async fn a_proxy_is_spoken_to_through_the_api_server() {
    let (address, _) = fake_proxy::serve(fake_proxy::Part {
        state: sample::state(),
        ..Default::default()
    });
    let part = Part {
        objects: [pod(PROXY, "p")].into(),
        ports: [(("p".to_owned(), 9902), address)].into(),
        ..Part::default()
    };
    let (cluster, _) = cluster(part).await;
    let proxy = cluster.proxy("p").await.unwrap();
    let state = proxy.get(v1::GetRequest::default()).await.unwrap();
    assert_eq!(state.listeners.len(), 2);
    let failure = cluster.proxy("q").await.unwrap_err();
    let text = "\
error: there is no Pod q in namespace podline-system
  kubectl -n podline-system get pods -l app.kubernetes.io/name=podline-proxy shows what there is
";
    assert_eq!(failure.explain(), text);
}

/// A proxy that wants TLS: its address, and the Secret that goes with it.
fn tls_proxy() -> (SocketAddr, Value) {
    let (plain, _) = fake_proxy::serve(fake_proxy::Part {
        state: sample::state(),
        ..Default::default()
    });
    let own = rcgen::generate_simple_self_signed(vec![ClientTls::SERVER_NAME.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut behind = tokio::net::TcpStream::connect(plain).await.unwrap();
            let copy = async move { tokio::io::copy_bidirectional(&mut stream, &mut behind).await };
            tokio::spawn(copy);
        }
    });
    let pem = |text: String| k8s_openapi::ByteString(text.into_bytes());
    let data = json!({"ca.crt": pem(own.cert.pem()), "tls.crt": pem(own.cert.pem()),
        "tls.key": pem(own.signing_key.serialize_pem())});
    let secret = json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": CONTROL_SECRET, "namespace": NAMESPACE}, "data": data});
    (address, secret)
}

#[tokio::test]
async fn proxies_are_shown_the_controllers_certificate() {
    let part = |address, secret: Option<Value>| {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/secrets/{CONTROL_SECRET}");
        let secret = secret.map(|secret| (path, secret));
        Part {
            objects: [pod(PROXY, "p")].into_iter().chain(secret).collect(),
            ports: [(("p".to_owned(), 9902), address)].into(),
            ..Part::default()
        }
    };
    let (address, secret) = tls_proxy();
    let (tls, _) = cluster(part(address, Some(secret.clone()))).await;
    let proxy = tls.proxy("p").await.unwrap();
    let state = proxy.get(v1::GetRequest::default()).await.unwrap();
    assert_eq!(state.listeners.len(), 2);
    let told = async |part| {
        let (cluster, _) = cluster(part).await;
        let failure = cluster.proxy("p").await.unwrap_err();
        (failure.explain(), failure.exit())
    };
    let (text, exit) = told(part(address, None)).await;
    assert!(text.contains("hung up\n  it may want TLS"), "{text}");
    assert_eq!(exit, Exit::Unreachable);
    let (other, _) = tls_proxy();
    let (text, exit) = told(part(other, Some(secret.clone()))).await;
    assert!(
        text.starts_with("error: cannot verify the certificate of the proxy"),
        "{text}"
    );
    assert!(!text.contains("--tls"), "{text}");
    assert_eq!(exit, Exit::Unreachable);
    let (plain, _) = fake_proxy::serve(fake_proxy::Part::default());
    let (cluster, _) = cluster(part(plain, Some(secret))).await;
    let proxy = cluster.proxy("p").await.unwrap();
    proxy.get(v1::GetRequest::default()).await.unwrap();
}

#[tokio::test]
async fn a_controller_on_this_host_is_asked_without_a_cluster() {
    let address = control("here").to_string();
    let controller = Controller::at(&address).await.unwrap();
    assert_eq!(controller.status("").await.unwrap().identity, "here");
    let failure = Controller::at("127.0.0.1:1").await.map(drop).unwrap_err();
    let text = "\
error: cannot reach the controller at 127.0.0.1:1: Connection refused (os error 111)
  is podline-control running with --api 127.0.0.1:1? it listens on its own host only
  from elsewhere: --kube
";
    assert_eq!(
        (failure.explain().as_str(), failure.exit()),
        (text, Exit::Unreachable)
    );
    let failure = Controller::at("nowhere").await.map(drop).unwrap_err();
    assert_eq!(failure.exit(), Exit::Usage);
}
