//! What a listener of protocol HTTP does with requests. The forms on the wire are in `http/`.

mod route;
mod settings;
mod words;

use std::time::Duration;

use ipnet::IpNet;

use crate::Name;

/// How requests are taken, routed and limited. Defaults are CLB's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Where requests go; the most specific takes one, and the listener's own set what none takes. At most 1,000.
    pub routes: Vec<HttpRoute>,
    /// A head, or the next piece of a body, may take so long: 1 s to 120 s, default 60 s. Then 408.
    pub request_timeout: Duration,
    /// A backend may be silent for so long while it owes an answer: 1 s to 1 h, default 60 s. Then 504.
    pub response_timeout: Duration,
    /// A connection may wait for its next request for so long: 0 to 15 min, default 75 s; 0: each has one request.
    pub keep_alive_timeout: Duration,
    /// Bytes of a request's body: 1 KiB to 10 GiB, default 60 MiB. Beyond: 413.
    pub max_body_bytes: u64,
    /// Bytes of a head: 1 KiB to 64 KiB, default 32 KiB. Beyond: 431.
    pub max_head_bytes: u32,
    /// Whose X-Forwarded-* and Forwarded fields are believed. At most 1,000, default none.
    pub trusted: Vec<IpNet>,
    /// A connection is closed after a request once it is so old: 1 s to 7 days; absent: never.
    pub max_connection_age: Option<Duration>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            routes: Vec::new(),
            request_timeout: Duration::from_mins(1),
            response_timeout: Duration::from_mins(1),
            keep_alive_timeout: Duration::from_secs(75),
            max_body_bytes: 60 << 20,
            max_head_bytes: 32 << 10,
            trusted: Vec::new(),
            max_connection_age: None,
        }
    }
}

/// Which requests, and what is done with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRoute {
    /// Lower case, exact or with a leading "*."; none: every host. At most 100.
    pub hosts: Vec<String>,
    /// Which paths.
    pub path: PathMatch,
    /// What is done.
    pub action: RouteAction,
}

/// Which paths a route takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    /// This one alone.
    Exact(String),
    /// This one and all below it: "/a" takes "/a" and "/a/b", not "/ab". "/" takes all.
    Prefix(String),
}

/// What a route does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteAction {
    /// Forwards to this set.
    Forward(Name),
    /// Sends the client elsewhere.
    Redirect(Redirect),
}

/// Where a client is sent: what is absent stays as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// "http" or "https".
    pub scheme: Option<String>,
    /// Without port.
    pub host: Option<String>,
    /// Absent: the scheme's own where that changes, else as asked for.
    pub port: Option<u16>,
    /// The path.
    pub path: Option<RedirectPath>,
    /// 301, 302, 303, 307 or 308; default 302.
    pub status: u16,
}

/// What becomes of the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedirectPath {
    /// It is this, and the query stays.
    Full(String),
    /// The prefix that matched becomes this.
    Prefix(String),
}
