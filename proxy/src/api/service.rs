//! The three calls of `podline.v1.Proxy`.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use futures_util::stream::BoxStream;
use podline_api::{Apply, Owner, Rejected, v1};
use tokio::sync::{Semaphore, watch as flag};
use tonic::{Request, Response, Status, Streaming};

use super::identity::Caller;
use super::refusals::{Reason, Refusals};
use super::watch;
use crate::overview::Overview;

/// Watch calls that run at once.
const MAX_WATCHERS: usize = 64;

/// Answers calls out of the overview.
pub(super) struct Service {
    overview: Overview,
    refusals: Arc<Refusals>,
    watchers: Arc<Semaphore>,
    closing: flag::Receiver<bool>,
}

impl Service {
    /// `closing` turns true at shutdown.
    pub(super) fn new(
        overview: Overview,
        refusals: Arc<Refusals>,
        closing: flag::Receiver<bool>,
    ) -> Self {
        let watchers = Arc::new(Semaphore::new(MAX_WATCHERS));
        Self {
            overview,
            refusals,
            watchers,
            closing,
        }
    }
}

/// Refuses, counts and logs a caller that may not act as `owner`.
fn allow(caller: &Caller, owner: &Owner, refusals: &Refusals) -> Result<(), Rejected> {
    caller.may_act_as(owner).inspect_err(|rejected| {
        if let Some(from) = caller.from() {
            refusals.add(Reason::Forbidden, from, &rejected.to_string());
        }
    })
}

#[tonic::async_trait]
impl v1::proxy_server::Proxy for Service {
    type WatchStream = BoxStream<'static, Result<v1::WatchResponse, Status>>;
    type PushStream = BoxStream<'static, Result<v1::ApplyResponse, Status>>;

    async fn apply(
        &self,
        request: Request<v1::ApplyRequest>,
    ) -> Result<Response<v1::ApplyResponse>, Status> {
        if self.overview.stopping.load(Relaxed) {
            return Err(Status::unavailable("the proxy is shutting down"));
        }
        // A task of its own: a caller that leaves must not stop a transaction halfway.
        let overview = self.overview.clone();
        let caller = Caller::of(&request);
        let refusals = Arc::clone(&self.refusals);
        let answer = tokio::spawn(async move {
            let answer = match Apply::try_from(request.into_inner()) {
                Ok(apply) => match allow(&caller, &apply.owner, &refusals) {
                    Ok(()) => overview.state.apply(apply).await,
                    Err(rejected) => Err(rejected),
                },
                Err(invalid) => Err(Rejected::Invalid(invalid)),
            };
            overview.counts.count_apply(&answer);
            answer
        });
        let answer = answer
            .await
            .map_err(|_| Status::internal("the change failed inside the proxy"))?;
        Ok(Response::new(answer?))
    }

    async fn push(
        &self,
        _: Request<Streaming<v1::ApplyRequest>>,
    ) -> Result<Response<Self::PushStream>, Status> {
        Err(Status::unimplemented("push"))
    }

    async fn explain(
        &self,
        _: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        Err(Status::unimplemented("explain"))
    }

    async fn r#override(
        &self,
        _: Request<v1::OverrideRequest>,
    ) -> Result<Response<v1::OverrideResponse>, Status> {
        Err(Status::unimplemented("override"))
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
