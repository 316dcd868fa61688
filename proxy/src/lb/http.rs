//! What an HTTP listener does with requests, compiled from its configuration.

use super::SetId;
use super::limits::Ranges;
use super::routes::Routes;
use podline_api::{Http, Name};
use std::net::IpAddr;
use std::time::Duration;

/// A listener's rules for requests.
#[derive(Debug, PartialEq, Eq)]
pub struct HttpRules {
    /// The listener's port, which backends are told.
    pub port: u16,
    /// Which set takes a request.
    pub routes: Routes,
    /// Whose X-Forwarded-* and Forwarded fields are believed; none: nobody's.
    trusted: Option<Ranges>,
    /// A head, or the next piece of a body, may take so long.
    pub request_timeout_ms: u64,
    /// A backend that owes an answer may be silent for so long.
    pub response_timeout_ms: u64,
    /// A connection may wait for its next request for so long; 0: it ends after each.
    pub keep_alive_ms: u64,
    /// Bytes of a request's body.
    pub max_body_bytes: u64,
    /// Bytes of a head.
    pub max_head_bytes: usize,
    /// A connection ends after a request once it is so old; none: never.
    pub max_age_ms: Option<u64>,
}

impl HttpRules {
    /// The rules that the configuration asks for; `set` tells a set's number.
    pub fn new(
        wanted: &Http,
        port: u16,
        default: Option<SetId>,
        set: impl Fn(&Name) -> Option<SetId>,
    ) -> Self {
        Self {
            port,
            routes: Routes::new(&wanted.routes, default, set),
            trusted: (!wanted.trusted.is_empty()).then(|| Ranges::new(&wanted.trusted)),
            request_timeout_ms: millis(wanted.request_timeout),
            response_timeout_ms: millis(wanted.response_timeout),
            keep_alive_ms: millis(wanted.keep_alive_timeout),
            max_body_bytes: wanted.max_body_bytes,
            max_head_bytes: usize::try_from(wanted.max_head_bytes).unwrap_or(usize::MAX),
            max_age_ms: wanted.max_connection_age.map(millis),
        }
    }

    /// Whether X-Forwarded-* and Forwarded fields from `peer`, who connected, are believed.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted
            .as_ref()
            .is_some_and(|trusted| trusted.contain(peer))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
