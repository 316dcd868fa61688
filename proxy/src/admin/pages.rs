//! What each admin page answers.

use http_body_util::Full;
use hyper::body::{Body, Bytes};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue,
};
use hyper::{Method, Request, Response, StatusCode};
use podline_api::v1;

use super::Pages;
use crate::overview::Overview;

/// The dashboard: one file that needs nothing from elsewhere.
pub(super) const DASHBOARD: &str = include_str!("dashboard.html");

const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
/// The dashboard may run what it holds and ask this proxy, nothing else.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Answers one request. A body is never read: a request that has one ends its connection.
pub(super) async fn answer<B: Body>(
    pages: Pages,
    request: &Request<B>,
    overview: Overview,
) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let mut response = if matches!(*request.method(), Method::GET | Method::HEAD) {
        page(pages, path, request.uri().query(), overview).await
    } else {
        let mut refusal = text(
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET and HEAD are answered here\n",
        );
        refusal
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        refusal
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        "x-content-type-options",
        HeaderValue::from_static("nosniff"),
    );
    if !request.body().is_end_stream() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn page(
    pages: Pages,
    path: &str,
    query: Option<&str>,
    overview: Overview,
) -> Response<Full<Bytes>> {
    match (path, pages) {
        ("/healthz", _) => text(StatusCode::OK, "ok\n"),
        ("/readyz", _) => match overview.state.ready() {
            Ok(()) => text(StatusCode::OK, "ready\n"),
            Err(why) => text(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("not ready: {why}\n"),
            ),
        },
        ("/metrics", _) => rendered(PROMETHEUS, move || overview.metrics()).await,
        ("/state", Pages::All) => {
            let summary = query.is_some_and(|query| query.split('&').any(|part| part == "summary"));
            let request = v1::GetRequest {
                summary,
                ..Default::default()
            };
            let render = move || {
                serde_json::to_string(&overview.state.get(&request))
                    .expect("the state holds only strings, numbers and lists")
            };
            rendered(JSON, render).await
        }
        ("/", Pages::All) => {
            let mut page = content(StatusCode::OK, HTML, DASHBOARD);
            page.headers_mut()
                .insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
            page
        }
        (_, Pages::All) => text(
            StatusCode::NOT_FOUND,
            "there are /, /healthz, /readyz, /metrics, /state and /state?summary\n",
        ),
        (_, Pages::Metrics) => text(
            StatusCode::NOT_FOUND,
            "there are /healthz, /readyz and /metrics\n",
        ),
    }
}

async fn rendered(
    kind: &'static str,
    render: impl FnOnce() -> String + Send + 'static,
) -> Response<Full<Bytes>> {
    match tokio::task::spawn_blocking(render).await {
        Ok(body) => content(StatusCode::OK, kind, body),
        Err(_) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the page could not be made\n",
        ),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    content(status, TEXT, body)
}

fn content(
    status: StatusCode,
    kind: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
