//! A model behind gRPC on loopback, on a runtime of its own, so that it can be killed or hang like a process.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use podline_api::v1;
use podline_api::v1::proxy_server::{Proxy, ProxyServer};
use podline_api::v1::watch_response::Event;
use podline_lab::own_loopback;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::BoxStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use super::FEATURES;
use super::model::Model;

/// A proxy that runs.
pub(super) struct Fake {
    pub(super) address: SocketAddr,
    inner: Inner,
    kill: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone)]
struct Inner {
    model: Arc<Mutex<Model>>,
    /// `None` cuts all watchers off.
    events: broadcast::Sender<Option<v1::WatchResponse>>,
    hangs: watch::Sender<bool>,
    /// What it was told beside the owner.
    overrides: Arc<Mutex<Vec<v1::OverrideRequest>>>,
}

impl Fake {
    /// Starts with nothing, where nobody else is given its port while it is killed.
    pub(super) fn start() -> Self {
        Self::start_at(own_loopback())
    }

    fn start_at(address: SocketAddr) -> Self {
        let inner = Inner {
            model: Arc::default(),
            events: broadcast::channel(1_024).0,
            hangs: watch::Sender::new(false),
            overrides: Arc::default(),
        };
        let (kill, killed) = oneshot::channel();
        let (bound, is_bound) = std::sync::mpsc::channel();
        let service = inner.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let incoming = TcpIncoming::bind(address).unwrap();
                bound.send(()).unwrap();
                let server = Server::builder().add_service(ProxyServer::new(service));
                tokio::select! {
                    _ = server.serve_with_incoming(incoming) => {}
                    _ = killed => {}
                }
            });
        });
        is_bound.recv().unwrap();
        Self {
            address,
            inner,
            kill: Some(kill),
            thread: Some(thread),
        }
    }

    /// Kills it and starts another that knows nothing, at the same address.
    pub(super) fn restart(&mut self) {
        let address = self.address;
        self.kill();
        *self = Self::start_at(address);
    }

    pub(super) fn kill(&mut self) {
        drop(self.kill.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    /// It takes connections and answers nothing, or goes on.
    pub(super) fn hang(&self, hangs: bool) {
        self.inner.hangs.send_replace(hangs);
    }

    pub(super) fn with_model<T>(&self, act: impl FnOnce(&mut Model) -> T) -> T {
        act(&mut self.inner.model.lock().unwrap())
    }

    /// What it was told beside the owner, in the order in which it came.
    pub(super) fn overrides(&self) -> Vec<v1::OverrideRequest> {
        self.inner.overrides.lock().unwrap().clone()
    }

    /// Cuts all watchers off, as those that are behind.
    pub(super) fn cut_watchers(&self) {
        let _ = self.inner.events.send(None);
    }

    /// Tells an event to all watchers.
    pub(super) fn tell(&self, event: Event) {
        self.inner.tell(event);
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Inner {
    fn tell(&self, event: Event) {
        let _ = self.events.send(Some(message(event)));
    }

    async fn awake(&self) {
        let _ = self.hangs.subscribe().wait_for(|hangs| !hangs).await;
    }

    fn apply(&self, request: v1::ApplyRequest) -> v1::ApplyResponse {
        let owner = request.owner.clone();
        let (answer, addresses) = {
            let mut model = self.model.lock().unwrap();
            (model.apply(request), model.addresses())
        };
        for status in addresses {
            self.tell(Event::Address(status));
        }
        if !answer.changes.is_empty() {
            self.tell(Event::Applied(v1::Applied {
                version: answer.version,
                owner,
                changes: answer.changes.clone(),
            }));
        }
        answer
    }
}

fn message(event: Event) -> v1::WatchResponse {
    v1::WatchResponse {
        time: None,
        event: Some(event),
    }
}

#[tonic::async_trait]
impl Proxy for Inner {
    type WatchStream = BoxStream<v1::WatchResponse>;
    type PushStream = BoxStream<v1::ApplyResponse>;

    async fn apply(
        &self,
        _: Request<v1::ApplyRequest>,
    ) -> Result<Response<v1::ApplyResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn push(
        &self,
        requests: Request<Streaming<v1::ApplyRequest>>,
    ) -> Result<Response<Self::PushStream>, Status> {
        let (answers, out) = mpsc::channel(1);
        let (inner, mut requests) = (self.clone(), requests.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                inner.awake().await;
                let answer = inner.apply(request);
                if answers.send(Ok(answer)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(out))))
    }

    async fn explain(
        &self,
        _: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        Err(Status::unimplemented(""))
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
        use v1::override_request::Action;
        self.awake().await;
        let request = request.into_inner();
        self.overrides.lock().unwrap().push(request.clone());
        if !self.model.lock().unwrap().sets.contains_key(&*request.set) {
            let problem = "there is no such set".to_owned();
            let path = "set".to_owned();
            return Err(podline_api::Rejected::NotFound { path, problem }.into());
        }
        let ended = request.action() == Action::Undrain;
        let status = v1::OverrideStatus {
            set: request.set,
            backend: request.backend,
            action: Action::Drain.into(),
            note: request.note,
            ..v1::OverrideStatus::default()
        };
        let status = Some(status);
        self.tell(Event::Override(v1::OverrideChanged { status, ended }));
        Ok(Response::new(v1::OverrideResponse::default()))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::GetResponse>, Status> {
        self.awake().await;
        let mut state = self.model.lock().unwrap().state();
        let wanted = request.into_inner().backend_sets;
        if !wanted.is_empty() {
            let named = |s: &v1::BackendSetStatus| wanted.contains(&s.set.as_ref().unwrap().name);
            state.backend_sets.retain(named);
            state.listeners.clear();
        }
        Ok(Response::new(state))
    }

    async fn watch(
        &self,
        _: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.awake().await;
        let (queue, out) = mpsc::channel(16);
        let inner = self.clone();
        tokio::spawn(async move {
            let mut events = inner.events.subscribe();
            let hello = v1::Hello {
                version: 0,
                level: 3,
                features: FEATURES.map(str::to_owned).to_vec(),
            };
            let state = inner.model.lock().unwrap().state();
            for event in [Event::Hello(hello), Event::State(state)] {
                let _ = queue.send(Ok(message(event))).await;
            }
            loop {
                let event = tokio::select! {
                    event = events.recv() => event,
                    () = queue.closed() => return,
                };
                inner.awake().await;
                let Ok(event) = event else { return };
                let is_cut = event.is_none();
                let slow = || Status::resource_exhausted("this watcher is too slow");
                if queue.send(event.ok_or_else(slow)).await.is_err() || is_cut {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(out))))
    }
}
