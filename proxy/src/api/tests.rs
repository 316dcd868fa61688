//! The API of a whole proxy, over real sockets.

use podline_api::client::{ClientError, ProxyClient};
use podline_api::{Rejected, v1};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;
use v1::watch_response::Event;

use crate::app::{self, Running};
use crate::settings::Settings;

async fn start_at(api: &str) -> Running {
    let settings = Settings {
        workers: Some(1),
        api: vec![api.parse().unwrap()],
        admin: "127.0.0.1:0".parse().unwrap(),
        ..Settings::default()
    };
    app::start(settings).await.unwrap()
}

async fn start() -> (Running, ProxyClient) {
    let running = start_at("127.0.0.1:0").await;
    let client = ProxyClient::connect(&running.api[0].to_string())
        .await
        .unwrap();
    (running, client)
}

async fn channel(running: &Running) -> tonic::transport::Channel {
    let address = format!("http://{}", running.api[0]);
    tonic::transport::Endpoint::from_shared(address)
        .unwrap()
        .connect()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_answered_over_tcp_and_unix_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let running = start_at(&format!("unix:{}", path.display())).await;
    let client = ProxyClient::connect(&running.api[0].to_string())
        .await
        .unwrap();
    let state = client.get(v1::GetRequest::default()).await.unwrap();
    assert!(state.ready, "{}", state.not_ready_reason);
    running.shutdown().await;
    assert!(!path.exists());
    assert!(client.get(v1::GetRequest::default()).await.is_err());

    let (running, client) = start().await;
    let request = v1::ApplyRequest {
        owner: "test".to_owned(),
        replace_owned: true,
        ..Default::default()
    };
    client.apply(request).await.unwrap();
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_names_the_field() {
    let (running, client) = start().await;
    let listener = v1::Listener {
        name: "web".to_owned(),
        address: "nowhere".to_owned(),
        ..Default::default()
    };
    let request = v1::ApplyRequest {
        owner: "test".to_owned(),
        listeners: vec![listener],
        ..Default::default()
    };
    let error = client.apply(request).await.unwrap_err();
    let ClientError::Rejected {
        source: Rejected::Invalid(invalid),
        ..
    } = error
    else {
        panic!("{error:?}")
    };
    assert!(
        invalid
            .violations
            .iter()
            .any(|v| v.path == "listeners[0].address"),
        "{invalid:?}"
    );
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_begins_with_the_whole_state_and_ends_at_shutdown() {
    let (running, client) = start().await;
    let mut stream = client.watch().await.unwrap();
    let first = stream.message().await.unwrap().unwrap();
    assert!(matches!(first.event, Some(Event::Hello(_))), "{first:?}");
    let second = stream.message().await.unwrap().unwrap();
    assert!(matches!(second.event, Some(Event::State(state)) if state.ready));
    let last = async {
        let leaving = stream.message().await.unwrap().unwrap();
        assert!(matches!(leaving.event, Some(Event::Leaving(_))));
        stream.message().await.unwrap_err()
    };
    let (end, ()) = tokio::join!(last, running.shutdown());
    assert_eq!(end.code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_beyond_the_bound_are_refused_with_the_reason() {
    let (running, client) = start().await;
    let mut streams = Vec::new();
    let refused = loop {
        match client.watch().await {
            Ok(stream) => streams.push(stream),
            Err(error) => break error,
        }
    };
    assert_eq!(streams.len(), 64);
    let ClientError::Failed { source, .. } = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(source.code(), Code::ResourceExhausted);
    assert_eq!(source.message(), "64 watchers are connected already");
    drop(streams);
    // A place is free again soon after its caller has left.
    while client.watch().await.is_err() {
        tokio::task::yield_now().await;
    }
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_and_oversized_calls_leave_the_api_working() {
    let (running, client) = start().await;
    let mut raw = tokio::net::TcpStream::connect(running.api[0].to_string())
        .await
        .unwrap();
    raw.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let _ = raw.read_to_end(&mut Vec::new()).await;

    let mut large = v1::proxy_client::ProxyClient::new(channel(&running).await)
        .max_encoding_message_size(usize::MAX);
    let owner = "x".repeat(podline_api::MAX_MESSAGE_BYTES);
    let refused = large
        .apply(v1::ApplyRequest {
            owner,
            ..Default::default()
        })
        .await
        .unwrap_err();
    assert_ne!(refused.code(), Code::InvalidArgument, "{refused:?}");
    client.get(v1::GetRequest::default()).await.unwrap();
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_health_service_follows_readiness() {
    let (running, _) = start().await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel(&running).await);
    let mut watch = async |service: &str| {
        let request = tonic_health::pb::HealthCheckRequest {
            service: service.to_owned(),
        };
        health.watch(request).await.unwrap().into_inner()
    };
    let mut both = [watch("").await, watch("podline.v1.Proxy").await];
    for answers in &mut both {
        while answers.message().await.unwrap().unwrap().status() != ServingStatus::Serving {}
    }
    running.state.hold("a test");
    for answers in &mut both {
        while answers.message().await.unwrap().unwrap().status() != ServingStatus::NotServing {}
    }
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_the_services() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let (running, _) = start().await;
    let mut reflection = ServerReflectionClient::new(channel(&running).await);
    let request = |message| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(message),
    };
    let requests = [
        request(MessageRequest::ListServices(String::new())),
        request(MessageRequest::FileContainingSymbol(
            "podline.v1.ApplyRequest".to_owned(),
        )),
        request(MessageRequest::FileContainingSymbol(
            "google.protobuf.Duration".to_owned(),
        )),
    ];
    let mut answers = reflection
        .server_reflection_info(tokio_stream::iter(requests))
        .await
        .unwrap()
        .into_inner();
    let services = answers
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    let MessageResponse::ListServicesResponse(services) = services else {
        panic!("{services:?}")
    };
    let names: Vec<_> = services
        .service
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    assert!(
        names.contains(&"podline.v1.Proxy") && names.contains(&"grpc.health.v1.Health"),
        "{names:?}"
    );
    for _ in 0..2 {
        let file = answers
            .message()
            .await
            .unwrap()
            .unwrap()
            .message_response
            .unwrap();
        assert!(
            matches!(file, MessageResponse::FileDescriptorResponse(_)),
            "{file:?}"
        );
    }
    drop(answers);
    running.shutdown().await;
}
