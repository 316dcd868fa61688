//! The typed client of a proxy's API, in plain text on the proxy's own machine and with mutual TLS over a network.

mod tls;

use std::io;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

use crate::{MAX_MESSAGE_BYTES, Rejected, v1};
pub use tls::ClientTls;
use tls::TlsFailure;

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
    /// What we were told to show or trust cannot be used. Our fault: do not retry.
    #[error("cannot use TLS: {problem}")]
    BadTls {
        /// Which part, and what is wrong with it.
        problem: String,
    },
    /// Whoever answers there is not the proxy that we trust, or we trust the wrong CA. Nothing was sent.
    #[error("cannot verify the certificate of the proxy at {target}: {problem}")]
    Untrusted {
        /// As it was given.
        target: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The proxy does not accept our certificate: use one that its client CA signed.
    #[error("the proxy at {target} refused our certificate: {problem}")]
    CertificateRefused {
        /// As it was given.
        target: String,
        /// What it said.
        problem: String,
    },
    /// The target speaks no TLS: leave the certificates out, or mend the address.
    #[error("the proxy at {target} does not speak TLS there")]
    PlainText {
        /// As it was given.
        target: String,
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
    /// Connects to `host:port` or `unix:PATH` in plain text, within 3 s.
    pub async fn connect(target: &str) -> Result<Self, ClientError> {
        Self::connect_with(target, None).await
    }

    /// Connects to `host:port` with mutual TLS, or without any if `tls` is absent, within 3 s. A Unix socket
    /// (`unix:PATH`) is reached in plain text always.
    pub async fn connect_with(target: &str, tls: Option<&ClientTls>) -> Result<Self, ClientError> {
        Self::connect_watchful(target, tls, KEEP_ALIVE).await
    }

    /// The same, and asks every `keep_alive` whether the other end is there: a proxy that says nothing for so long
    /// after that has its calls ended.
    pub async fn connect_watchful(
        target: &str,
        tls: Option<&ClientTls>,
        keep_alive: Duration,
    ) -> Result<Self, ClientError> {
        let endpoint = endpoint(target, keep_alive)?;
        let channel = match (target.strip_prefix("unix:"), tls) {
            (Some(path), _) => {
                let connector = unix_connector(path.to_owned());
                endpoint.connect_with_connector(connector).await
            }
            (None, Some(tls)) => {
                let connector = tls_connector(target, tls)?;
                endpoint.connect_with_connector(connector).await
            }
            (None, None) => endpoint.connect().await,
        };
        Self::of(target, channel)
    }

    /// Speaks over a connection that is there already, and over no other: when it breaks, that is the end. The proxy has
    /// to say something first, as every HTTP/2 server does. `target` is what to call it.
    pub async fn over<S>(
        target: &str,
        stream: S,
        tls: Option<&ClientTls>,
    ) -> Result<Self, ClientError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let endpoint = Endpoint::from_static("http://proxy").connect_timeout(CONNECT_TIMEOUT);
        let mut stream = Some(stream);
        let mut taken = move || stream.take().ok_or(io::ErrorKind::NotConnected.into());
        let channel = if let Some(tls) = tls {
            let problem = |problem| ClientError::BadTls { problem };
            let connector = tls::Connector::new(tls).map_err(problem)?;
            let connector = tower::service_fn(move |_| {
                let (connector, stream) = (connector.clone(), taken());
                async move { connector.over(stream?).await }
            });
            endpoint.connect_with_connector(connector).await
        } else {
            let connector = tower::service_fn(move |_| {
                let stream: io::Result<S> = taken();
                async move { heard(stream?).await.map(TokioIo::new) }
            });
            endpoint.connect_with_connector(connector).await
        };
        Self::of(target, channel)
    }

    fn of(
        target: &str,
        channel: Result<Channel, tonic::transport::Error>,
    ) -> Result<Self, ClientError> {
        let channel = channel.map_err(|source| match TlsFailure::among(&source) {
            Some(failure) => of_tls(target, failure),
            None => ClientError::Unreachable {
                target: target.to_owned(),
                source,
            },
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

    /// Proves ways to nodes now. Takes a few seconds for those that fail.
    pub async fn prove(&self, request: v1::ProveRequest) -> Result<v1::ProveResponse, ClientError> {
        let answer = self.inner.clone().prove(limited(request)).await;
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
        if let Some(failure) = TlsFailure::among(&status) {
            return of_tls(&target, failure);
        }
        match Rejected::from_status(&status) {
            Some(source) => ClientError::Rejected { target, source },
            None => ClientError::Failed {
                target,
                source: Box::new(status),
            },
        }
    }
}

fn of_tls(target: &str, failure: &TlsFailure) -> ClientError {
    let (target, problem) = (target.to_owned(), failure.to_string());
    match failure {
        TlsFailure::Untrusted(_) => ClientError::Untrusted { target, problem },
        TlsFailure::Refused(_) => ClientError::CertificateRefused { target, problem },
        TlsFailure::PlainText => ClientError::PlainText { target },
    }
}

/// The connection, once the other end has said something.
///
/// # Errors
/// It ended instead.
pub async fn heard<S: AsyncRead + Unpin>(stream: S) -> io::Result<BufReader<S>> {
    let mut stream = BufReader::new(stream);
    if stream.fill_buf().await?.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(stream)
}

fn endpoint(target: &str, keep_alive: Duration) -> Result<Endpoint, ClientError> {
    let bad = || ClientError::BadTarget {
        target: target.to_owned(),
    };
    let uri = match target.strip_prefix("unix:") {
        Some("") => return Err(bad()),
        Some(_) => "http://unix".to_owned(), // the connector ignores it
        None if !is_host_and_port(target) => return Err(bad()),
        None => format!("http://{target}"),
    };
    let endpoint = Endpoint::from_shared(uri).map_err(|_| bad())?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(keep_alive)
        .keep_alive_timeout(keep_alive)
        .keep_alive_while_idle(true))
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

/// Connects to `target` with TLS, whatever the address.
fn tls_connector(
    target: &str,
    tls: &ClientTls,
) -> Result<
    impl tower::Service<
        tonic::transport::Uri,
        Response = TokioIo<TlsStream<TcpStream>>,
        Error = std::io::Error,
        Future: Send + 'static,
    > + Send
    + 'static,
    ClientError,
> {
    let connector = tls::Connector::new(tls).map_err(|problem| ClientError::BadTls { problem })?;
    let target = target.to_owned();
    Ok(tower::service_fn(move |_| {
        connector.clone().connect(target.clone())
    }))
}
