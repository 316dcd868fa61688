//! A proxy that only plays a part, for the tests of verbs that talk more than once.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use podline_api::client::ProxyClient;
use podline_api::v1::proxy_server::{Proxy, ProxyServer};
use podline_api::v1::watch_response::Event;
use podline_api::{Rejected, v1};
use tokio::sync::Notify;
use tonic::codegen::BoxStream;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use super::sample;

/// The part.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// What a watch shows after the state, once an override has come.
    pub(super) events: Vec<Event>,
    /// The connections of every backend; absent: there is no such backend.
    pub(super) left: Option<u64>,
    /// The state.
    pub(super) state: v1::GetResponse,
    /// The answer to an Apply.
    pub(super) changes: Vec<v1::Change>,
}

struct Fake {
    part: Part,
    overridden: Notify,
    applied: Arc<Mutex<Vec<v1::ApplyRequest>>>,
}

/// A client of a proxy that plays `part`, and what will have been applied.
pub(super) async fn proxy(part: Part) -> (ProxyClient, Arc<Mutex<Vec<v1::ApplyRequest>>>) {
    let (address, applied) = serve(part);
    let client = ProxyClient::connect(&address.to_string()).await;
    (client.unwrap(), applied)
}

/// The address of a proxy that plays `part`, and what will have been applied.
pub(super) fn serve(part: Part) -> (SocketAddr, Arc<Mutex<Vec<v1::ApplyRequest>>>) {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = incoming.local_addr().unwrap();
    let applied = Arc::default();
    let fake = Arc::new(Fake {
        part,
        overridden: Notify::new(),
        applied: Arc::clone(&applied),
    });
    let server = Server::builder().add_service(ProxyServer::new(Service(fake)));
    tokio::spawn(server.serve_with_incoming(incoming));
    (address, applied)
}

struct Service(Arc<Fake>);

#[tonic::async_trait]
impl Proxy for Service {
    type WatchStream = BoxStream<v1::WatchResponse>;
    type PushStream = BoxStream<v1::ApplyResponse>;

    async fn apply(
        &self,
        request: Request<v1::ApplyRequest>,
    ) -> Result<Response<v1::ApplyResponse>, Status> {
        self.0.applied.lock().unwrap().push(request.into_inner());
        Ok(Response::new(v1::ApplyResponse {
            version: 13,
            changes: self.0.part.changes.clone(),
            ..Default::default()
        }))
    }

    async fn push(
        &self,
        _: Request<Streaming<v1::ApplyRequest>>,
    ) -> Result<Response<Self::PushStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        let Some(active_connections) = self.0.part.left else {
            let (path, problem) = ("backend".to_owned(), "there is none".to_owned());
            return Err(Rejected::NotFound { path, problem }.into());
        };
        let found = v1::Explanation {
            backend: request.into_inner().backend,
            active_connections,
            ..Default::default()
        };
        Ok(Response::new(v1::ExplainResponse {
            version: 12,
            backends: vec![found],
            reached_by: Vec::new(),
        }))
    }

    async fn prove(
        &self,
        _: Request<v1::ProveRequest>,
    ) -> Result<Response<v1::ProveResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn r#override(
        &self,
        _: Request<v1::OverrideRequest>,
    ) -> Result<Response<v1::OverrideResponse>, Status> {
        self.0.overridden.notify_one();
        Ok(Response::new(v1::OverrideResponse {
            version: 12,
            status: Some(sample::drained()),
            changed: true,
        }))
    }

    async fn get(&self, _: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        Ok(Response::new(self.0.part.state.clone()))
    }

    async fn watch(
        &self,
        _: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (messages, receiver) = tokio::sync::mpsc::channel(1);
        let fake = Arc::clone(&self.0);
        tokio::spawn(async move {
            let hello = Event::Hello(v1::Hello::default());
            let first = [hello, Event::State(fake.part.state.clone())];
            for event in first {
                messages.send(Ok(message(event))).await.unwrap();
            }
            fake.overridden.notified().await;
            for event in fake.part.events.clone() {
                messages.send(Ok(message(event))).await.unwrap();
            }
            messages.closed().await; // the stream does not end by itself
        });
        let stream = ReceiverStream::new(receiver);
        Ok(Response::new(Box::pin(stream)))
    }
}

fn message(event: Event) -> v1::WatchResponse {
    v1::WatchResponse {
        time: None,
        event: Some(event),
    }
}

/// What was written to a screen.
#[derive(Clone, Default)]
pub(super) struct Paper(Arc<Mutex<Vec<u8>>>);

impl Paper {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
