//! The calls of `podline.v1.Proxy`; those that stream are in `push` and `watch`.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use futures_util::stream::BoxStream;
use podline_api::{Apply, Override, Rejected, v1};
use tokio::sync::{Semaphore, mpsc, watch as flag};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{push, watch};
use crate::overview::Overview;

/// Watch calls that run at once.
const MAX_WATCHERS: usize = 64;

/// Answers calls out of the overview.
pub(super) struct Service {
    overview: Overview,
    watchers: Arc<Semaphore>,
    closing: flag::Receiver<bool>,
}

impl Service {
    /// `closing` turns true at shutdown.
    pub(super) fn new(overview: Overview, closing: flag::Receiver<bool>) -> Self {
        let watchers = Arc::new(Semaphore::new(MAX_WATCHERS));
        Self {
            overview,
            watchers,
            closing,
        }
    }

    /// What changes are made to, unless the process ends.
    fn open(&self) -> Result<Overview, Status> {
        if self.overview.stopping.load(Relaxed) {
            return Err(Status::unavailable("the proxy is shutting down"));
        }
        Ok(self.overview.clone())
    }
}

/// Takes a transaction, or says why not, and counts it either way.
pub(super) async fn take(
    overview: &Overview,
    request: v1::ApplyRequest,
) -> Result<v1::ApplyResponse, Rejected> {
    let answer = match Apply::try_from(request) {
        Ok(apply) => overview.state.apply(apply).await,
        Err(invalid) => Err(Rejected::Invalid(invalid)),
    };
    overview.counts.count_apply(&answer);
    answer
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
        let overview = self.open()?;
        let request = request.into_inner();
        let answer = whole(async move { take(&overview, request).await });
        Ok(Response::new(answer.await??))
    }

    async fn push(
        &self,
        request: Request<Streaming<v1::ApplyRequest>>,
    ) -> Result<Response<Self::PushStream>, Status> {
        let (answers, out) = mpsc::channel(1);
        let closing = self.closing.clone();
        tokio::spawn(push::run(
            request.into_inner(),
            self.open()?,
            closing,
            answers,
        ));
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
        let overview = self.open()?;
        let request = Override::try_from(request.into_inner()).map_err(Rejected::from)?;
        let answer = whole(async move { overview.state.override_backend(request, "local").await });
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
        let slot = Arc::clone(&self.watchers)
            .try_acquire_owned()
            .map_err(|_| {
                Status::resource_exhausted(format!("{MAX_WATCHERS} watchers are connected already"))
            })?;
        let stream = watch::start(&self.overview, self.closing.clone(), slot);
        Ok(Response::new(Box::pin(stream)))
    }
}
