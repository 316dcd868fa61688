//! A proxy of the release before: level 2, and no features. It takes what it is told, and complains of what it cannot
//! know. Serves no traffic.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use podline_api::v1;
use podline_api::v1::proxy_server::{Proxy, ProxyServer};
use podline_api::v1::watch_response::Event;
use podline_lab::Namespace;
use tokio::sync::{mpsc, oneshot};
use tonic::codegen::BoxStream;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

/// A running one; it ends when it is dropped.
pub(crate) struct OldProxy {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    _end: oneshot::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    version: u64,
    epoch: Option<u64>,
    listeners: BTreeMap<String, v1::Listener>,
    sets: BTreeMap<String, (u64, v1::BackendSet)>,
    complaints: Vec<String>,
    /// Told what changes; whoever does not listen any more is forgotten.
    watchers: Vec<mpsc::UnboundedSender<Event>>,
}

impl OldProxy {
    /// Starts one on loopback in `namespace`.
    pub(crate) fn start(namespace: &Namespace) -> Self {
        let state = Arc::<Mutex<State>>::default();
        let own = Own(Arc::clone(&state));
        let (end, ended) = oneshot::channel();
        let (bound, address) = std::sync::mpsc::channel();
        // Ends with `end`; nothing waits for it.
        let _thread = namespace.thread(move || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = builder.enable_all().build().unwrap();
            runtime.block_on(async move {
                let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).unwrap();
                bound.send(incoming.local_addr().unwrap()).unwrap();
                let server = Server::builder().add_service(ProxyServer::new(own));
                tokio::select! {
                    _ = server.serve_with_incoming(incoming) => {}
                    _ = ended => {}
                }
            });
        });
        Self {
            address: address.recv().unwrap(),
            state,
            _end: end,
        }
    }

    /// Names of its listeners, and backends of its sets.
    pub(crate) fn has(&self) -> (Vec<String>, BTreeMap<String, usize>) {
        let state = self.state.lock().unwrap();
        let sets = state.sets.iter();
        let sets = sets.map(|(name, (_, set))| (name.clone(), set.backends.len()));
        (state.listeners.keys().cloned().collect(), sets.collect())
    }

    /// What it was told that it should not have been told.
    pub(crate) fn complaints(&self) -> Vec<String> {
        self.state.lock().unwrap().complaints.clone()
    }
}

impl State {
    fn apply(&mut self, request: v1::ApplyRequest) -> v1::ApplyResponse {
        self.complain(&request);
        self.epoch = self.epoch.max(request.epoch);
        let before = (self.listeners.clone(), self.sets.clone());
        if request.replace_owned {
            let listeners = request.listeners.iter().map(|l| l.name.clone());
            let listeners: Vec<_> = listeners.collect();
            self.listeners.retain(|name, _| listeners.contains(name));
            let sets = request.backend_sets.iter().map(|s| s.name.clone());
            let sets: Vec<_> = sets.collect();
            self.sets.retain(|name, _| sets.contains(name));
        }
        let version = self.version + 1;
        for set in request.backend_sets {
            let same = self.sets.get(&set.name).is_some_and(|(_, old)| *old == set);
            if !same {
                self.sets.insert(set.name.clone(), (version, set));
            }
        }
        for change in request.backend_changes {
            let (of_set, set) = self.sets.get_mut(&change.set).unwrap();
            *of_set = version;
            let touched = |backend: &v1::Backend| {
                let mut all = change.upsert.iter().chain(&change.remove);
                all.any(|other| other.address == backend.address)
            };
            set.backends.retain(|backend| !touched(backend));
            set.backends.extend(change.upsert.clone());
        }
        for listener in request.listeners {
            self.listeners.insert(listener.name.clone(), listener);
        }
        for name in request.remove_listeners {
            self.listeners.remove(&name);
        }
        for name in request.remove_backend_sets {
            self.sets.remove(&name);
        }
        let changes = self.changes(&before.0, &before.1);
        self.version += u64::from(!changes.is_empty());
        let applied = v1::Applied {
            version: self.version,
            owner: "k8s/default".to_owned(),
            changes: changes.clone(),
        };
        let told = |watcher: &mpsc::UnboundedSender<Event>| {
            watcher.send(Event::Applied(applied.clone())).is_ok()
        };
        self.watchers.retain(told);
        v1::ApplyResponse {
            version: self.version,
            changes,
            ..v1::ApplyResponse::default()
        }
    }

    fn complain(&mut self, request: &v1::ApplyRequest) {
        let mut complain = |is_bad: bool, text: &str| {
            if is_bad {
                self.complaints.push(text.to_owned());
            }
        };
        let mut changes = request.backend_changes.iter();
        complain(
            changes.any(|change| change.drain_timeout.is_some()),
            "a drain timeout of a change",
        );
        for set in &request.backend_sets {
            complain(set.affinity.is_some(), "affinity");
            complain(set.passive_check.is_some(), "a passive check");
        }
        complain(request.network.is_some(), "the network");
        for listener in &request.listeners {
            let source = listener.source_address() as i32;
            complain(source > 1, "the clients' addresses");
            complain(listener.protocol() as i32 != 1, "UDP");
            complain(listener.proxy_protocol.is_some(), "PROXY headers");
            complain(!listener.source_ranges.is_empty(), "source ranges");
        }
    }

    fn changes(
        &self,
        listeners: &BTreeMap<String, v1::Listener>,
        sets: &BTreeMap<String, (u64, v1::BackendSet)>,
    ) -> Vec<v1::Change> {
        let mut changes = differences("listener", listeners, &self.listeners);
        changes.extend(differences("set", sets, &self.sets));
        changes
    }

    fn get(&self) -> v1::GetResponse {
        let owner = "k8s/default".to_owned();
        let listeners = self.listeners.values().map(|listener| v1::ListenerStatus {
            listener: Some(listener.clone()),
            owner: owner.clone(),
            state: v1::listener_status::State::Listening.into(),
            ..v1::ListenerStatus::default()
        });
        let backend = |backend: &v1::Backend| v1::BackendStatus {
            backend: Some(backend.clone()),
            health: v1::Health::Healthy.into(),
            ..v1::BackendStatus::default()
        };
        let sets = self
            .sets
            .values()
            .map(|(version, set)| v1::BackendSetStatus {
                owner: owner.clone(),
                version: *version,
                backends: set.backends.iter().map(backend).collect(),
                set: Some(set.clone()),
                ..v1::BackendSetStatus::default()
            });
        v1::GetResponse {
            version: self.version,
            ready: true,
            listeners: listeners.collect(),
            backend_sets: sets.collect(),
            owners: vec![v1::OwnerStatus {
                owner: owner.clone(),
                epoch: self.epoch,
                ..v1::OwnerStatus::default()
            }],
            ..v1::GetResponse::default()
        }
    }
}

fn differences<T: PartialEq>(
    kind: &str,
    before: &BTreeMap<String, T>,
    now: &BTreeMap<String, T>,
) -> Vec<v1::Change> {
    use v1::change::Action;
    let put = now
        .iter()
        .filter(|(name, value)| before.get(*name) != Some(*value))
        .map(|(name, _)| (name, Action::Changed));
    let gone = before
        .keys()
        .filter(|name| !now.contains_key(*name))
        .map(|name| (name, Action::Removed));
    put.chain(gone)
        .map(|(name, action)| v1::Change {
            what: format!("{kind}/{name}"),
            action: action.into(),
            ..v1::Change::default()
        })
        .collect()
}

#[derive(Clone)]
struct Own(Arc<Mutex<State>>);

fn message(event: Event) -> v1::WatchResponse {
    v1::WatchResponse {
        time: None,
        event: Some(event),
    }
}

#[tonic::async_trait]
impl Proxy for Own {
    type WatchStream = BoxStream<v1::WatchResponse>;
    type PushStream = BoxStream<v1::ApplyResponse>;

    async fn push(
        &self,
        requests: Request<Streaming<v1::ApplyRequest>>,
    ) -> Result<Response<Self::PushStream>, Status> {
        let (answers, out) = mpsc::channel(1);
        let (state, mut requests) = (Arc::clone(&self.0), requests.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                let answer = state.lock().unwrap().apply(request);
                if answers.send(Ok(answer)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(out))))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::GetResponse>, Status> {
        let mut state = self.0.lock().unwrap().get();
        let wanted = request.into_inner().backend_sets;
        if !wanted.is_empty() {
            let is_named =
                |s: &v1::BackendSetStatus| wanted.contains(&s.set.as_ref().unwrap().name);
            state.backend_sets.retain(is_named);
            state.listeners.clear();
        }
        Ok(Response::new(state))
    }

    async fn watch(
        &self,
        _: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (queue, out) = mpsc::channel(2);
        let (watcher, mut changes) = mpsc::unbounded_channel();
        let (version, state) = {
            let mut state = self.0.lock().unwrap();
            state.watchers.push(watcher);
            (state.version, state.get())
        };
        let hello = v1::Hello {
            version,
            level: 2,
            features: Vec::new(),
        };
        tokio::spawn(async move {
            for event in [Event::Hello(hello), Event::State(state)] {
                let _ = queue.send(Ok(message(event))).await;
            }
            while let Some(event) = changes.recv().await {
                if queue.send(Ok(message(event))).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(out))))
    }

    async fn apply(
        &self,
        _: Request<v1::ApplyRequest>,
    ) -> Result<Response<v1::ApplyResponse>, Status> {
        Err(Status::unimplemented(""))
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
        _: Request<v1::OverrideRequest>,
    ) -> Result<Response<v1::OverrideResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}
