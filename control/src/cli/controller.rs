//! The controller's API, reached on its own host or through a cluster's API server.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use podline_api::client;
use podline_api::v1::control_client::ControlClient;
use podline_api::{MAX_MESSAGE_BYTES, v1};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::failure::{Exit, Failure};
use super::human::clean;
use super::kube::Cluster;
use super::kube::trouble::{self, Trouble};
use super::kube::tunnel::Problem;
use super::selection::{Front, FrontKind};
use crate::installation::CONTROL;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A controller that can be asked.
pub(super) struct Controller {
    /// What to call it.
    target: String,
    client: ControlClient<Channel>,
    /// What the way to it says.
    problem: Problem,
}

impl Controller {
    /// The one at `host:port`.
    pub(super) async fn at(address: &str) -> Result<Self, Failure> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .ok()
            .filter(|_| address.contains(':') && !address.contains('/'))
            .ok_or_else(|| {
                let problem = format!("{address:?} is not an address: write host:port");
                Failure::Usage(problem)
            })?;
        let channel = endpoint.connect_timeout(CONNECT_TIMEOUT).connect().await;
        let channel = channel.map_err(|error| unreachable(address, &error))?;
        Ok(Self::new(address.to_owned(), channel, Problem::default()))
    }

    /// The one that leads in a cluster, or another that can be asked.
    pub(super) async fn within(cluster: &Cluster) -> Result<Self, Failure> {
        let (pod, tunnel) = cluster.controller().await?;
        let target = format!("{}/{pod}", cluster.namespace);
        let mut stream = Some(tunnel.stream);
        let connector = tower::service_fn(move |_| {
            let stream = stream.take();
            async move {
                let stream = stream.ok_or(std::io::Error::from(std::io::ErrorKind::NotConnected));
                client::heard(stream?).await.map(TokioIo::new)
            }
        });
        let channel = Endpoint::from_static("http://controller")
            .connect_timeout(CONNECT_TIMEOUT)
            .connect_with_connector(connector)
            .await;
        match channel {
            Ok(channel) => Ok(Self::new(target, channel, tunnel.problem)),
            Err(error) => Err(match tunnel.problem.soon().await {
                Some(problem) => trouble::tunnel(&target, &problem).into(),
                None => unreachable(&target, &error).into(),
            }),
        }
    }

    fn new(target: String, channel: Channel, problem: Problem) -> Self {
        let client = ControlClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Self {
            target,
            client,
            problem,
        }
    }

    /// The replica, the proxies, and the Services of a namespace, or of all if it is empty.
    pub(super) async fn status(&self, namespace: &str) -> Result<v1::StatusResponse, Failure> {
        let namespace = namespace.to_owned();
        let request = limited(v1::StatusRequest { namespace });
        match self.client.clone().status(request).await {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => Err(self.failed(&status).await.into()),
        }
    }

    /// Why a Service or Ingress is as it is.
    pub(super) async fn explain(
        &self,
        front: &Front,
    ) -> Result<v1::ExplainServiceResponse, Failure> {
        let request = limited(v1::ExplainServiceRequest {
            namespace: front.namespace.clone(),
            name: front.name.clone(),
        });
        let mut client = self.client.clone();
        let answer = match front.kind {
            FrontKind::Service => client.explain_service(request).await,
            FrontKind::Ingress => client.explain_ingress(request).await,
        };
        match answer {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => Err(self.failed(&status).await.into()),
        }
    }

    /// How Pods came into traffic, and out of it.
    pub(super) async fn timeline(
        &self,
        request: v1::TimelineRequest,
    ) -> Result<v1::TimelineResponse, Failure> {
        match self.client.clone().timeline(limited(request)).await {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => Err(self.failed(&status).await.into()),
        }
    }

    /// The Pods that wait for their gates, and those without one, of a namespace, or of all if it is empty.
    pub(super) async fn gates(&self, namespace: &str) -> Result<v1::GatesResponse, Failure> {
        let namespace = namespace.to_owned();
        let request = limited(v1::GatesRequest { namespace });
        match self.client.clone().gates(request).await {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => Err(self.failed(&status).await.into()),
        }
    }

    async fn failed(&self, status: &Status) -> Trouble {
        // A status of the controller itself has no source; with one, the way to it broke.
        if std::error::Error::source(status).is_some()
            && let Some(problem) = self.problem.soon().await
        {
            return trouble::tunnel(&self.target, &problem);
        }
        told(&self.target, status)
    }
}

fn limited<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(ANSWER_TIMEOUT);
    request
}

fn unreachable(target: &str, error: &dyn std::error::Error) -> Trouble {
    let cause = trouble::innermost(error);
    Trouble::new(
        Exit::Unreachable,
        format!("cannot reach the controller at {target}: {cause}"),
        [
            format!("is {CONTROL} running with --api {target}? it listens on its own host only"),
            "from elsewhere: --kube".to_owned(),
        ],
    )
}

/// What a status of the controller means.
fn told(target: &str, status: &Status) -> Trouble {
    let words = match std::error::Error::source(status) {
        Some(source) => clean(&trouble::innermost(source)),
        None => clean(status.message()),
    };
    let code = status.code();
    match code {
        Code::NotFound => Trouble::new(Exit::DifferentOrMissing, words, []),
        Code::FailedPrecondition => Trouble::new(Exit::Refused, words, []),
        Code::Unimplemented => Trouble::new(
            Exit::Refused,
            format!("the controller at {target} does not know this question"),
            [format!(
                "it is older than this podline, or no {CONTROL} at all"
            )],
        ),
        _ => Trouble::new(
            Exit::Unreachable,
            format!("the controller at {target} did not answer: {words} ({code:?})"),
            ["try again; its log says more".to_owned()],
        ),
    }
}
