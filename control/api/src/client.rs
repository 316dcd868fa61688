//! The typed client of a proxy's API.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

use crate::{MAX_MESSAGE_BYTES, Rejected, v1};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Longer than any answer of a proxy that lives: it waits at most 1 s for its workers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a call did not give its answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The target is not `host:port` or `unix:PATH`. Our fault: do not retry.
    #[error("{target:?} is not a proxy address: write host:port or unix:PATH")]
    BadTarget {
        /// As it was given.
        target: String,
    },
    /// Nothing answers there. Nothing was changed: retry when a proxy runs.
    #[error("cannot reach the proxy at {target}")]
    Unreachable {
        /// As it was given.
        target: String,
        /// The system's words.
        #[source]
        source: tonic::transport::Error,
    },
    /// The proxy refused the request; see [`Rejected`] for what to do.
    #[error("the proxy at {target} refused the request")]
    Rejected {
        /// As it was given.
        target: String,
        /// Why.
        #[source]
        source: Rejected,
    },
    /// The call broke, or the proxy answered in a way this client does not know.
    #[error("the proxy at {target} did not answer")]
    Failed {
        /// As it was given.
        target: String,
        /// What gRPC says.
        #[source]
        source: Box<Status>,
    },
}

/// A connection to a proxy's API. Cheap to clone; it reconnects by itself.
#[derive(Clone, Debug)]
pub struct ProxyClient {
    target: String,
    inner: v1::proxy_client::ProxyClient<Channel>,
}

impl ProxyClient {
    /// Connects to `host:port` or `unix:PATH`, within 3 s.
    pub async fn connect(target: &str) -> Result<Self, ClientError> {
        let bad = || ClientError::BadTarget {
            target: target.to_owned(),
        };
        let uri = match target.strip_prefix("unix:") {
            Some("") => return Err(bad()),
            Some(_) => "http://unix".to_owned(), // the connector below ignores it
            None if !is_host_and_port(target) => return Err(bad()),
            None => format!("http://{target}"),
        };
        let endpoint = Endpoint::from_shared(uri)
            .map_err(|_| bad())?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true);
        let channel = match target.strip_prefix("unix:") {
            Some(path) => {
                endpoint
                    .connect_with_connector(unix_connector(path.to_owned()))
                    .await
            }
            None => endpoint.connect().await,
        };
        let channel = channel.map_err(|source| ClientError::Unreachable {
            target: target.to_owned(),
            source,
        })?;
        let inner = v1::proxy_client::ProxyClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Ok(Self {
            target: target.to_owned(),
            inner,
        })
    }

    /// Where it connects, as it was given.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// One transaction.
    ///
    /// # Cancel safety
    /// Once sent, the request may take effect though the answer is not awaited.
    pub async fn apply(
        &self,
        request: impl Into<v1::ApplyRequest>,
    ) -> Result<v1::ApplyResponse, ClientError> {
        let answer = self.inner.clone().apply(limited(request.into())).await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| self.error(status))
    }

    /// What the proxy has and how it does.
    pub async fn get(&self, request: v1::GetRequest) -> Result<v1::GetResponse, ClientError> {
        let answer = self.inner.clone().get(limited(request)).await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| self.error(status))
    }

    /// Many transactions over one call: one answer for each request, in order; a refused one is answered with
    /// `refusal`. Ends when `requests` does.
    pub async fn push(
        &self,
        requests: impl tonic::IntoStreamingRequest<Message = v1::ApplyRequest>,
    ) -> Result<Streaming<v1::ApplyResponse>, ClientError> {
        let answer = self.inner.clone().push(requests).await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| self.error(status))
    }

    /// Why backends get traffic, or why not.
    pub async fn explain(
        &self,
        request: v1::ExplainRequest,
    ) -> Result<v1::ExplainResponse, ClientError> {
        let answer = self.inner.clone().explain(limited(request)).await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| self.error(status))
    }

    /// Drains a backend or changes its weight, beside its owner.
    ///
    /// # Cancel safety
    /// Once sent, the request may take effect though the answer is not awaited.
    pub async fn override_backend(
        &self,
        request: impl Into<v1::OverrideRequest>,
    ) -> Result<v1::OverrideResponse, ClientError> {
        let answer = self.inner.clone().r#override(limited(request.into())).await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| self.error(status))
    }

    /// Events as they happen: hello, then the whole state, then changes. Ends with an error if it is too slow.
    pub async fn watch(&self) -> Result<Streaming<v1::WatchResponse>, ClientError> {
        let answer = self.inner.clone().watch(v1::WatchRequest {}).await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| self.error(status))
    }

    /// Tells what a status of this proxy means; for those that end a watch.
    pub fn error(&self, status: Status) -> ClientError {
        let target = self.target.clone();
        match Rejected::from_status(&status) {
            Some(source) => ClientError::Rejected { target, source },
            None => ClientError::Failed {
                target,
                source: Box::new(status),
            },
        }
    }
}

fn is_host_and_port(target: &str) -> bool {
    let parts = target
        .rsplit_once(':')
        .map(|(host, port)| (host, port.parse::<u16>()));
    !target.contains('/') && matches!(parts, Some((host, Ok(1..))) if !host.is_empty())
}

fn limited<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(ANSWER_TIMEOUT);
    request
}

/// Connects to the socket at `path`, whatever the address.
fn unix_connector(
    path: String,
) -> impl tower::Service<
    tonic::transport::Uri,
    Response = TokioIo<tokio::net::UnixStream>,
    Error = std::io::Error,
    Future: Send + 'static,
> + Send
+ 'static {
    tower::service_fn(move |_| {
        let path = path.clone();
        async move {
            tokio::net::UnixStream::connect(path)
                .await
                .map(TokioIo::new)
        }
    })
}
