//! HTTPS for the API server, with bounds for everything that whoever else reaches the port may do. Must not know what the
//! answers mean.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::answer::{Reviews, Webhook};
use super::{DRAIN_PATH, INJECT_PATH};

/// Connections open at once: an API server has a few, and there are a few of them.
const CONNECTIONS: usize = 256;
/// The API server's own limit for an object is 3 MiB, and a review may hold two.
const BODY_BYTES: usize = 8 << 20;
const HANDSHAKE: Duration = Duration::from_secs(5);
/// From the handshake to the first whole head.
const FIRST_HEAD: Duration = Duration::from_secs(10);
/// From an answer to the next whole head: longer than the API server keeps a connection that it does not use, so that it
/// never asks just as we hang up.
const NEXT_HEAD: Duration = Duration::from_mins(2);
const BODY: Duration = Duration::from_secs(5);
/// After an accept that failed for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// What is wrong is told so often at most.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Streams of one HTTP/2 connection at once.
const STREAMS: u32 = 256;

/// What is shown to the API server, as it is now; without any nobody is answered.
pub type Tls = watch::Receiver<Option<Arc<ServerConfig>>>;

/// Serves for ever.
pub async fn serve(listener: TcpListener, mut tls: Tls, reviews: Reviews) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let desk = Arc::new(Desk {
        reviews,
        told: Told::default(),
    });
    let mut shown = Shown::default();
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return; // never closed
        };
        let Ok((stream, from)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let newest = tls.borrow_and_update().clone();
        let Some(acceptor) = shown.acceptor(newest) else {
            continue; // nothing to show yet
        };
        let desk = Arc::clone(&desk);
        tokio::spawn(async move {
            if let Err(problem) = connection(stream, acceptor, &desk).await {
                desk.told.tell(from, &problem);
            }
            drop(slot);
        });
    }
}

/// What is shown, made ready for HTTP.
#[derive(Default)]
struct Shown {
    of: Option<Arc<ServerConfig>>,
    ready: Option<TlsAcceptor>,
}

impl Shown {
    fn acceptor(&mut self, newest: Option<Arc<ServerConfig>>) -> Option<TlsAcceptor> {
        let is_same = match (&self.of, &newest) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            (None, None) => true,
            _ => false,
        };
        if !is_same {
            self.ready = newest.as_deref().map(|config| {
                let mut config = config.clone();
                config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
                TlsAcceptor::from(Arc::new(config))
            });
            self.of = newest;
        }
        self.ready.clone()
    }
}

/// One connection, to its end.
///
/// # Errors
/// It ended otherwise than it should: how.
async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    desk: &Arc<Desk>,
) -> Result<(), String> {
    // Answers are small, and each is waited for.
    let _ = stream.set_nodelay(true);
    let stream = match timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if is_hang_up(&error) => return Ok(()),
        Ok(Err(error)) => return Err(format!("no TLS: {error}")),
        Err(_) => return Err(format!("no TLS within {HANDSHAKE:?}")),
    };
    let heard = Arc::new(Notify::new());
    let service = service_fn(|request: Request<Incoming>| {
        heard.notify_one();
        let desk = Arc::clone(desk);
        async move { Ok::<_, Infallible>(desk.answer(request).await) }
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(NEXT_HEAD);
    server
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(NEXT_HEAD)
        .max_concurrent_streams(STREAMS);
    let serving = server.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // One that breaks is the caller's business.
        _ = serving => Ok(()),
        () = silent(&heard) => Err(format!("asked nothing within {FIRST_HEAD:?}")),
    }
}

/// Ends if nothing is asked at all.
async fn silent(heard: &Notify) {
    if timeout(FIRST_HEAD, heard.notified()).await.is_ok() {
        std::future::pending::<()>().await;
    }
}

/// Somebody only looked whether the port is there.
fn is_hang_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// Whom requests come to.
struct Desk {
    reviews: Reviews,
    told: Told,
}

impl Desk {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        let webhook = match path {
            INJECT_PATH => Webhook::Inject,
            DRAIN_PATH => Webhook::Drain,
            _ => {
                let paths = format!("{INJECT_PATH}, {DRAIN_PATH}\n");
                return text(StatusCode::NOT_FOUND, paths);
            }
        };
        if *request.method() != Method::POST {
            return text(StatusCode::METHOD_NOT_ALLOWED, "POST only\n".to_owned());
        }
        if !is_json(request.headers()) {
            let problem = "application/json only\n".to_owned();
            return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, problem);
        }
        let body = match timeout(BODY, body(request.into_body())).await {
            Ok(Ok(body)) => body,
            Ok(Err(refusal)) => return refusal,
            Err(_) => {
                let problem = format!("the body did not come within {BODY:?}\n");
                return closing(text(StatusCode::REQUEST_TIMEOUT, problem));
            }
        };
        match self.reviews.answer(webhook, &body).await {
            Ok(answer) => json(answer),
            Err(problem) => {
                self.told.refused(webhook, &problem);
                text(StatusCode::BAD_REQUEST, format!("{problem}\n"))
            }
        }
    }
}

async fn body(body: Incoming) -> Result<Bytes, Response<Full<Bytes>>> {
    let too_long = || {
        let problem = format!("more than {BODY_BYTES} bytes\n");
        closing(text(StatusCode::PAYLOAD_TOO_LARGE, problem))
    };
    if body.size_hint().lower() > BODY_BYTES as u64 {
        return Err(too_long());
    }
    match Limited::new(body, BODY_BYTES).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(too_long()),
        Err(_) => Err(closing(text(
            StatusCode::BAD_REQUEST,
            "the body broke off\n".to_owned(),
        ))),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/json")
}

fn json(body: Vec<u8>) -> Response<Full<Bytes>> {
    of_kind(StatusCode::OK, "application/json", body.into())
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    of_kind(status, "text/plain; charset=utf-8", body.into())
}

fn of_kind(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Nothing more is read from where this goes.
fn closing(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    let close = header::HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}

/// What was told of what is wrong: whoever reaches the port can do wrong as often as they like.
#[derive(Debug, Default)]
struct Told(Mutex<Count>);

#[derive(Debug, Default)]
struct Count {
    last: Option<Instant>,
    untold: u64,
}

impl Told {
    fn tell(&self, from: SocketAddr, problem: &str) {
        if let Some(untold) = self.turn() {
            tracing::warn!(%from, problem, untold, "a webhook's caller is no API server");
        }
    }

    fn refused(&self, webhook: Webhook, problem: &str) {
        if let Some(untold) = self.turn() {
            let webhook = webhook.as_str();
            tracing::warn!(
                webhook,
                problem,
                untold,
                "a webhook was asked what it cannot read"
            );
        }
    }

    /// How many were not told before this one; nothing if it is not to be told either.
    fn turn(&self) -> Option<u64> {
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if count.last.is_some_and(|at| at.elapsed() < TELL_EVERY) {
            count.untold += 1;
            return None;
        }
        count.last = Some(Instant::now());
        Some(std::mem::take(&mut count.untold))
    }
}

#[cfg(test)]
mod tests;
