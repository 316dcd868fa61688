//! The typed client against a server that only knows how to answer.

use std::io::ErrorKind;

use podline_api::client::{ClientError, ProxyClient};
use podline_api::v1::proxy_server::{Proxy, ProxyServer};
use podline_api::{
    Apply, BackendKey, Invalid, MAX_MESSAGE_BYTES, Override, OverrideAction, Owner, Rejected,
    Violation, v1,
};
use tonic::codegen::{BoxStream, tokio_stream};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

/// Answers an Apply with the number of its backends, or refuses it if the owner is "refused".
struct Fake;

#[tonic::async_trait]
impl Proxy for Fake {
    type WatchStream = BoxStream<v1::WatchResponse>;
    type PushStream = BoxStream<v1::ApplyResponse>;

    async fn apply(
        &self,
        request: Request<v1::ApplyRequest>,
    ) -> Result<Response<v1::ApplyResponse>, Status> {
        let request = request.into_inner();
        if request.owner == "refused" {
            return Err(refusal().into());
        }
        let backends: usize = request
            .backend_sets
            .iter()
            .map(|set| set.backends.len())
            .sum();
        Ok(Response::new(v1::ApplyResponse {
            version: backends as u64,
            ..Default::default()
        }))
    }

    async fn push(
        &self,
        _: Request<Streaming<v1::ApplyRequest>>,
    ) -> Result<Response<Self::PushStream>, Status> {
        let answers = [
            Ok(v1::ApplyResponse {
                version: 1,
                ..Default::default()
            }),
            Ok(v1::ApplyResponse {
                refusal: Some(refusal().into()),
                ..Default::default()
            }),
        ];
        Ok(Response::new(Box::pin(tokio_stream::iter(answers))))
    }

    async fn explain(
        &self,
        _: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        let problem = "there is no backend set \"web\"".to_owned();
        let path = "set".to_owned();
        Err(Rejected::NotFound { path, problem }.into())
    }

    async fn prove(
        &self,
        _: Request<v1::ProveRequest>,
    ) -> Result<Response<v1::ProveResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn r#override(
        &self,
        request: Request<v1::OverrideRequest>,
    ) -> Result<Response<v1::OverrideResponse>, Status> {
        let changed = Override::try_from(request.into_inner()).is_ok();
        Ok(Response::new(v1::OverrideResponse {
            changed,
            ..Default::default()
        }))
    }

    async fn get(&self, _: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        Err(Status::internal("broken"))
    }

    async fn watch(
        &self,
        _: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let hello = v1::watch_response::Event::Hello(v1::Hello {
            version: 7,
            ..Default::default()
        });
        let events = [
            Ok(v1::WatchResponse {
                time: None,
                event: Some(hello),
            }),
            Err(Status::resource_exhausted("slow")),
        ];
        Ok(Response::new(Box::pin(tokio_stream::iter(events))))
    }
}

/// As large as refusals come.
fn refusal() -> Rejected {
    let violation = |i| Violation {
        path: format!("listeners[{i}].address"),
        problem: "is wrong ".repeat(4),
    };
    Rejected::Invalid(Invalid {
        violations: (0..100).map(violation).collect(),
    })
}

fn service() -> ProxyServer<Fake> {
    ProxyServer::new(Fake).max_decoding_message_size(MAX_MESSAGE_BYTES)
}

async fn connected() -> ProxyClient {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = incoming.local_addr().unwrap().to_string();
    tokio::spawn(
        Server::builder()
            .add_service(service())
            .serve_with_incoming(incoming),
    );
    ProxyClient::connect(&address).await.unwrap()
}

fn request(owner: &str) -> Apply {
    Apply::new(Owner::try_from(owner).unwrap())
}

#[tokio::test]
async fn a_request_above_the_usual_limit_arrives() {
    let backend = |i: u32| v1::Backend {
        node: None,
        id: Some(format!("{i:0>80}")),
        address: format!("10.0.0.1:{}", i % 60_000 + 1),
        weight: None,
    };
    let set = v1::BackendSet {
        name: "web".to_owned(),
        backends: (0..60_000).map(backend).collect(),
        ..Default::default()
    };
    let request = v1::ApplyRequest {
        backend_sets: vec![set],
        ..v1::ApplyRequest::from(&request("test"))
    };
    assert!(
        prost::Message::encoded_len(&request) > 4 << 20,
        "tonic's own limit"
    );
    assert_eq!(
        connected().await.apply(request).await.unwrap().version,
        60_000
    );
}

#[tokio::test]
async fn a_large_refusal_arrives_whole() {
    match connected().await.apply(&request("refused")).await {
        Err(ClientError::Rejected { source, .. }) => assert_eq!(source, refusal()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_broken_call_names_the_target() {
    let client = connected().await;
    let error = client.get(v1::GetRequest::default()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the proxy at {} did not answer", client.target())
    );
    assert!(matches!(error, ClientError::Failed { source, .. } if source.message() == "broken"));
}

#[tokio::test]
async fn a_watch_is_followed_to_its_end() {
    let client = connected().await;
    let mut events = client.watch().await.unwrap();
    assert!(events.message().await.unwrap().is_some());
    let status = events.message().await.unwrap_err();
    assert!(
        matches!(client.error(status), ClientError::Failed { source, .. } if source.message() == "slow")
    );
}

#[tokio::test]
async fn unix_sockets_are_reached() {
    let path = std::env::temp_dir().join(format!("podline-api-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
    tokio::spawn(
        Server::builder()
            .add_service(service())
            .serve_with_incoming(incoming),
    );
    let client = ProxyClient::connect(&format!("unix:{}", path.display()))
        .await
        .unwrap();
    assert_eq!(client.apply(&request("test")).await.unwrap().version, 0);
    std::fs::remove_file(path).unwrap();
}

#[tokio::test]
async fn what_is_no_target_or_has_no_listener_is_told() {
    for target in [
        "",
        "web",
        "unix:",
        "http://127.0.0.1:80",
        "/run/podline.sock",
        ":",
        "a b:80",
    ] {
        let error = ProxyClient::connect(target).await.unwrap_err();
        assert!(
            matches!(error, ClientError::BadTarget { .. }),
            "{target}: {error:?}"
        );
    }
    let closed = "127.0.0.1:1"; // not a port that the system would give to another test
    let error = ProxyClient::connect(closed).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot reach the proxy at {closed}")
    );
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let cause = cause
        .downcast_ref::<std::io::Error>()
        .map(std::io::Error::kind);
    assert_eq!(cause, Some(ErrorKind::ConnectionRefused));
}

#[tokio::test]
async fn a_push_answers_each_request_and_a_refusal_does_not_end_it() {
    let client = connected().await;
    let requests = tokio_stream::iter([v1::ApplyRequest::default()]);
    let mut answers = client.push(requests).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().version, 1);
    let refused = answers.message().await.unwrap().unwrap().refusal.unwrap();
    assert_eq!(refused.reason, "INVALID");
    assert_eq!(refused.problems.len(), 100);
}

#[tokio::test]
async fn explain_and_override_go_out_and_come_back() {
    let client = connected().await;
    let missing = client.explain(v1::ExplainRequest::default()).await;
    let Err(ClientError::Rejected { source, .. }) = missing else {
        panic!("{missing:?}");
    };
    assert!(matches!(source, Rejected::NotFound { .. }), "{source}");
    let request = Override {
        set: "web".parse().unwrap(),
        backend: BackendKey {
            id: None,
            address: "10.0.0.1:80".parse().unwrap(),
        },
        action: OverrideAction::Drain { timeout: None },
        lasts: None,
        note: String::new(),
    };
    assert!(client.override_backend(&request).await.unwrap().changed);
}
