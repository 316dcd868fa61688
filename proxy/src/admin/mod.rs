//! The admin pages over HTTP/1.1, read-only: health, readiness, metrics, the state as JSON, and a dashboard.
//!
//! Callers are not trusted: requests are small, in GET or HEAD, and have to come soon. Rendering runs beside the
//! control threads, so that a large state does not hold up the API.

mod pages;

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::time::Duration;

use futures_util::StreamExt;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch as flag;
use tokio::task::JoinSet;

use crate::listen::{Accepted, Served};
use crate::overview::Overview;

/// Connections open at once.
pub(crate) const CONNECTIONS: usize = 24;
const MAX_HEAD_BYTES: usize = 16 << 10;
const MAX_HEADERS: usize = 64;
/// From the first byte, or the end of the last request, to the end of a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection is closed after so long, between two requests if it can be.
const MAX_AGE: Duration = Duration::from_mins(2);
/// What is still being sent then may take so long.
const GRACE: Duration = Duration::from_secs(10);

/// Which pages there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pages {
    /// All of them.
    All,
    /// Health, readiness and metrics, for probes and Prometheus.
    Metrics,
}

/// Serves until `closing` turns true.
pub(crate) async fn serve(
    served: Served,
    pages: Pages,
    overview: Overview,
    mut closing: flag::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let mut incoming = std::pin::pin!(served.incoming());
    loop {
        tokio::select! {
            _ = closing.wait_for(|closing| *closing) => break,
            Some(accepted) = incoming.next() => {
                connections.spawn(connection(accepted, pages, overview.clone()));
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn connection(io: Accepted, pages: Pages, overview: Overview) {
    let answer = service_fn(move |request| {
        let overview = overview.clone();
        async move { Ok::<_, Infallible>(pages::answer(pages, &request, overview).await) }
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS);
    let connection = server.serve_connection(TokioIo::new(io), answer);
    let mut connection = std::pin::pin!(connection);
    // A connection that breaks is the caller's business.
    if tokio::time::timeout(MAX_AGE, connection.as_mut())
        .await
        .is_err()
    {
        connection.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(GRACE, connection).await;
    }
}
