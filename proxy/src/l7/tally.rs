//! What is counted of requests, and their line in the access log.

use super::conversation::Exchange;
use super::fault::Fault;
use crate::worker::connection::{Connection, source_name};
use std::sync::atomic::Ordering::Relaxed;

/// Counts a request that was answered, by a backend or with `fault`.
pub(super) fn count(
    connection: &Connection,
    exchange: Option<&Exchange>,
    fault: Option<Fault>,
    now_ms: u64,
) {
    let counters = &connection.counters.http;
    if let Some(fault) = fault {
        counters.faults[fault as usize].fetch_add(1, Relaxed);
    }
    let status = match (fault, exchange) {
        (Some(fault), _) => fault.status(),
        (None, Some(exchange)) => exchange.status,
        (None, None) => return,
    };
    let took_ms = exchange.map(|exchange| now_ms.saturating_sub(exchange.began_ms));
    counters.requests.count(status, took_ms);
    if let Some(backend) = &connection.backend {
        backend.count_request(status, took_ms);
        if fault.is_none() {
            backend.count_success();
        }
    }
}

/// Writes the request's line into the access log; `reason`: why no backend answered it. What was no request has 400.
pub(super) fn log(
    connection: &Connection,
    exchange: Option<&Exchange>,
    reason: Option<&str>,
    now_ms: u64,
) {
    let backend = connection.backend.as_ref().map(|b| b.key.address);
    let via = connection.via.as_ref().map(|via| via.peer);
    tracing::info!(
        target: "podline::access",
        listener = %connection.route.name,
        client = %connection.peer,
        via = via.map(tracing::field::display),
        backend = backend.map(tracing::field::display),
        source = source_name(connection.source),
        request = exchange.and_then(|exchange| exchange.line.as_deref()),
        status = exchange.map_or(400, |exchange| exchange.status),
        milliseconds = exchange.map_or(0, |it| now_ms.saturating_sub(it.began_ms)),
        reason,
    );
}
