//! How an HTTP listener's requests are taken, on the wire and in files: which values are right, and what is absent.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::invalid::Checks;
use crate::limits::source_range;
use crate::{Http, HttpRoute, Invalid, Protocol, duration, form, v1};

const REQUEST: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(2);
const RESPONSE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(1);
const KEEP_ALIVE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_mins(15);
const AGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(7 * 24);
const BODY: RangeInclusive<u64> = 1 << 10..=10 << 30;
const HEAD: RangeInclusive<u32> = 1 << 10..=64 << 10;
const MAX_ROUTES: usize = 1_000;
const MAX_RANGES: usize = 1_000;

impl Http {
    /// Reads what stands among the other fields of a listener; nothing where its protocol is another.
    pub(crate) fn of_listener(
        wire: &v1::Listener,
        protocol: Option<Protocol>,
    ) -> Result<Option<Self>, Invalid> {
        let mut checks = Checks::default();
        if protocol.is_some_and(|protocol| !protocol.is_http()) {
            for (field, is_set) in [
                ("routes", !wire.routes.is_empty()),
                ("http", wire.http.is_some()),
            ] {
                if is_set {
                    checks.refuse(field, "is for `protocol: HTTP` or `HTTPS`");
                }
            }
            return checks.finish(Some(None));
        }
        let routes = &wire.routes;
        let first = &routes[..routes.len().min(MAX_ROUTES)];
        if first.len() < routes.len() {
            let many = routes.len();
            let problem = format!("{many} entries are too many: use {MAX_ROUTES} at most");
            checks.refuse("routes", problem);
        }
        let routes = checks.each("routes", first.iter().collect(), HttpRoute::read);
        let settings = Self::read(wire.http.as_ref());
        let settings = checks.take("http", settings);
        checks.finish(settings.map(|settings| {
            let routes = routes.into_iter().map(|(_, route)| route).collect();
            Some(Self { routes, ..settings })
        }))
    }

    fn read(wire: Option<&v1::HttpSettings>) -> Result<Self, Invalid> {
        let default = Self::default();
        let Some(wire) = wire else {
            return Ok(default);
        };
        let mut checks = Checks::default();
        let mut within = |field: &str, wire, default, range| {
            checks.take(field, duration::from_wire(wire, default, range))
        };
        let request = within(
            "requestTimeout",
            wire.request_timeout,
            default.request_timeout,
            REQUEST,
        );
        let response = within(
            "responseTimeout",
            wire.response_timeout,
            default.response_timeout,
            RESPONSE,
        );
        let keep_alive = within(
            "keepAliveTimeout",
            wire.keep_alive_timeout,
            default.keep_alive_timeout,
            KEEP_ALIVE,
        );
        let age = wire.max_connection_age;
        let age = age.map(|_| duration::from_wire(age, Duration::ZERO, AGE));
        let age = checks.take("maxConnectionAge", age.transpose());
        let body = wire.max_body_bytes.unwrap_or(default.max_body_bytes);
        if !BODY.contains(&body) {
            let (low, high) = (BODY.start(), BODY.end());
            let problem = format!("{body} is out of range: use {low} to {high}");
            checks.refuse("maxBodyBytes", problem);
        }
        let head = form::number(wire.max_head_bytes, default.max_head_bytes, HEAD);
        let head = checks.take("maxHeadBytes", head);
        let trusted = &wire.trusted_proxies;
        if trusted.len() > MAX_RANGES {
            let many = trusted.len();
            let problem = format!("{many} entries are too many: use {MAX_RANGES} at most");
            checks.refuse("trustedProxies", problem);
        }
        let trusted = trusted.iter().take(MAX_RANGES).map(String::as_str);
        let trusted = checks.each("trustedProxies", trusted.collect(), source_range);
        let value = || {
            Some(Self {
                routes: Vec::new(),
                request_timeout: request?,
                response_timeout: response?,
                keep_alive_timeout: keep_alive?,
                max_body_bytes: body,
                max_head_bytes: head?,
                trusted: trusted.into_iter().map(|(_, range)| range).collect(),
                max_connection_age: age?,
            })
        };
        let value = value();
        checks.finish(value)
    }

    /// Writes it into a listener's wire form.
    pub(crate) fn write(&self, wire: &mut v1::Listener) {
        wire.routes = self.routes.iter().map(Into::into).collect();
        wire.http = Some(v1::HttpSettings {
            request_timeout: Some(duration::to_wire(self.request_timeout)),
            response_timeout: Some(duration::to_wire(self.response_timeout)),
            keep_alive_timeout: Some(duration::to_wire(self.keep_alive_timeout)),
            max_body_bytes: Some(self.max_body_bytes),
            max_head_bytes: Some(self.max_head_bytes),
            trusted_proxies: self.trusted.iter().map(ToString::to_string).collect(),
            max_connection_age: self.max_connection_age.map(duration::to_wire),
        });
    }
}
