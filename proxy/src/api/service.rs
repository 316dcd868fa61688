//! The calls of `podline.v1.Proxy`; those that stream are in `push` and `watch`.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use futures_util::stream::BoxStream;
use podline_api::{Apply, Name, Override, Owner, Rejected, v1};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch as flag};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::identity::Caller;
use super::refusals::{Reason, Refusals};
use super::{push, watch};
use crate::overview::Overview;

/// Watch calls that run at once, and as many Push calls.
const MAX_WATCHERS: usize = 64;

/// Answers calls out of the overview.
pub(super) struct Service {
    overview: Overview,
    refusals: Arc<Refusals>,
    watchers: Arc<Semaphore>,
    pushers: Arc<Semaphore>,
    closing: flag::Receiver<bool>,
}

impl Service {
    /// `closing` turns true at shutdown.
    pub(super) fn new(
        overview: Overview,
        refusals: Arc<Refusals>,
        closing: flag::Receiver<bool>,
    ) -> Self {
        let places = || Arc::new(Semaphore::new(MAX_WATCHERS));
        Self {
            overview,
            refusals,
            watchers: places(),
            pushers: places(),
            closing,
        }
    }

    /// What the sender of `request` may do, unless the process ends.
    fn desk<T>(&self, request: &Request<T>) -> Result<Desk, Status> {
        let desk = Desk {
            overview: self.overview.clone(),
            refusals: Arc::clone(&self.refusals),
            caller: Caller::of(request),
        };
        desk.open()?;
        Ok(desk)
    }
}

/// Where one caller asks for changes.
pub(super) struct Desk {
    pub(super) overview: Overview,
    refusals: Arc<Refusals>,
    caller: Caller,
}

impl Desk {
    /// Whether changes are taken still.
    pub(super) fn open(&self) -> Result<(), Status> {
        if self.overview.stopping.load(Relaxed) {
            return Err(Status::unavailable("the proxy is shutting down"));
        }
        Ok(())
    }

    /// Takes a transaction, or says why not, and counts it either way.
    pub(super) async fn take(
        &self,
        request: v1::ApplyRequest,
    ) -> Result<v1::ApplyResponse, Rejected> {
        let answer = match Apply::try_from(request) {
            Ok(apply) => match self.allow(&apply.owner) {
                Ok(()) => self.taken(apply).await,
                Err(rejected) => Err(rejected),
            },
            Err(invalid) => Err(Rejected::Invalid(invalid)),
        };
        self.overview.counts.count_apply(&answer);
        answer
    }

    async fn taken(&self, apply: Apply) -> Result<v1::ApplyResponse, Rejected> {
        let is_full_state = apply.replace_owned && !apply.validate_only;
        let answer = self.overview.state.apply(apply).await?;
        if is_full_state {
            self.overview.full_state.notify_one();
        }
        Ok(answer)
    }

    /// Takes an override by whoever may change the set.
    async fn override_backend(
        &self,
        request: v1::OverrideRequest,
    ) -> Result<v1::OverrideResponse, Rejected> {
        let request = Override::try_from(request)?;
        if let Some(owner) = self.overview.state.owner_of_set(&request.set) {
            self.allow(&owner)?;
        }
        let by = self.caller.name();
        self.overview.state.override_backend(request, &by).await
    }

    /// Proves ways now. Whoever may call may ask: it changes nothing that anybody owns.
    async fn prove(&self, request: v1::ProveRequest) -> Result<v1::ProveResponse, Rejected> {
        let mut nodes = Vec::new();
        for (index, name) in request.nodes.into_iter().enumerate() {
            let path = format!("nodes[{index}]");
            let name = Name::try_from(name).map_err(|invalid| invalid.at(&path))?;
            if !self.overview.state.has_node(&name) {
                let problem = format!("there is no node \"{name}\"");
                return Err(Rejected::NotFound { path, problem });
            }
            nodes.push(name);
        }
        Ok(self.overview.prover.prove(&nodes).await)
    }

    /// Refuses, counts and logs a caller that may not act as `owner`.
    fn allow(&self, owner: &Owner) -> Result<(), Rejected> {
        self.caller.may_act_as(owner).inspect_err(|rejected| {
            if let Some(from) = self.caller.from() {
                self.refusals
                    .add(Reason::Forbidden, from, &rejected.to_string());
            }
        })
    }
}

/// A place for a call that may last.
fn slot(places: &Arc<Semaphore>, who: &str) -> Result<OwnedSemaphorePermit, Status> {
    let slot = Arc::clone(places).try_acquire_owned();
    slot.map_err(|_| {
        Status::resource_exhausted(format!("{MAX_WATCHERS} {who} are connected already"))
    })
}

/// Does a change in a task of its own: a caller that leaves must not stop it halfway.
async fn whole<T: Send + 'static>(
    change: impl Future<Output = T> + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::spawn(change).await;
    done.map_err(|_| Status::internal("the change failed inside the proxy"))
}

#[tonic::async_trait]
impl v1::proxy_server::Proxy for Service {
    type WatchStream = BoxStream<'static, Result<v1::WatchResponse, Status>>;
    type PushStream = BoxStream<'static, Result<v1::ApplyResponse, Status>>;

    async fn apply(
        &self,
        request: Request<v1::ApplyRequest>,
    ) -> Result<Response<v1::ApplyResponse>, Status> {
        let (desk, request) = (self.desk(&request)?, request.into_inner());
        let answer = whole(async move { desk.take(request).await });
        Ok(Response::new(answer.await??))
    }

    async fn push(
        &self,
        request: Request<Streaming<v1::ApplyRequest>>,
    ) -> Result<Response<Self::PushStream>, Status> {
        let (answers, out) = mpsc::channel(1);
        let (desk, closing) = (self.desk(&request)?, self.closing.clone());
        let slot = slot(&self.pushers, "pushers")?;
        tokio::spawn(async move {
            push::run(request.into_inner(), desk, closing, answers).await;
            drop(slot);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(out))))
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        let answer = self.overview.state.explain(request.get_ref())?;
        Ok(Response::new(answer))
    }

    async fn r#override(
        &self,
        request: Request<v1::OverrideRequest>,
    ) -> Result<Response<v1::OverrideResponse>, Status> {
        let (desk, request) = (self.desk(&request)?, request.into_inner());
        let answer = whole(async move { desk.override_backend(request).await });
        Ok(Response::new(answer.await??))
    }

    async fn prove(
        &self,
        request: Request<v1::ProveRequest>,
    ) -> Result<Response<v1::ProveResponse>, Status> {
        let (desk, request) = (self.desk(&request)?, request.into_inner());
        let answer = whole(async move { desk.prove(request).await });
        Ok(Response::new(answer.await??))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::GetResponse>, Status> {
        Ok(Response::new(self.overview.state.get(request.get_ref())))
    }

    async fn watch(
        &self,
        _: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let slot = slot(&self.watchers, "watchers")?;
        let stream = watch::start(&self.overview, self.closing.clone(), slot);
        Ok(Response::new(Box::pin(stream)))
    }
}
