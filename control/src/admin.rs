//! Health, readiness and metrics over HTTP/1.1, read-only. Must not know how the figures come about.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Connections open at once.
const CONNECTIONS: usize = 64;
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection is closed after so long.
const MAX_AGE: Duration = Duration::from_mins(2);
/// After an accept that failed for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// What there is to show.
pub trait Facts: Send + Sync + 'static {
    /// Why this replica is not ready; `Ok` if it is.
    fn ready(&self) -> Result<(), String>;
    /// What does not work, though this replica is ready all the same.
    fn troubles(&self) -> Vec<String>;
    /// Every metric, as Prometheus reads it.
    fn metrics(&self) -> String;
}

/// Binds the address.
///
/// # Errors
/// Somebody else has it, or it is none of this host's.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves for ever.
pub async fn serve(listener: TcpListener, facts: Arc<impl Facts>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return; // never closed
        };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let facts = Arc::clone(&facts);
        tokio::spawn(async move {
            let answer = service_fn(move |request| {
                let answer = answer(&request, &*facts);
                async move { Ok::<_, Infallible>(answer) }
            });
            let mut server = hyper::server::conn::http1::Builder::new();
            server
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT);
            let connection = server.serve_connection(TokioIo::new(stream), answer);
            // A connection that breaks is the caller's business.
            let _ = tokio::time::timeout(MAX_AGE, connection).await;
            drop(slot);
        });
    }
}

fn answer(request: &Request<Incoming>, facts: &impl Facts) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(
            StatusCode::METHOD_NOT_ALLOWED,
            "GET and HEAD only\n".to_owned(),
        );
    }
    match request.uri().path() {
        "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => match facts.ready() {
            Ok(()) => {
                let troubles = facts.troubles().into_iter();
                let lines = std::iter::once("ok".to_owned()).chain(troubles);
                text(StatusCode::OK, lines.map(|line| line + "\n").collect())
            }
            Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        },
        "/metrics" => text(StatusCode::OK, facts.metrics()),
        _ => text(
            StatusCode::NOT_FOUND,
            "/healthz, /readyz, /metrics\n".to_owned(),
        ),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
