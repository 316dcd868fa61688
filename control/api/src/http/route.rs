//! Routes of HTTP listeners, on the wire and in files: which hosts, paths and redirects are right.

use crate::address::shorten;
use crate::http::{PathMatch, Redirect, RedirectPath, RouteAction};
use crate::invalid::Checks;
use crate::{HttpRoute, Invalid, Name, form, v1};

const MAX_HOSTS: usize = 100;
const LONGEST_HOST: usize = 253;
const LONGEST_LABEL: usize = 63;
const LONGEST_PATH: usize = 1_024;
const STATUSES: [u32; 5] = [301, 302, 303, 307, 308];
const FOUND: u16 = 302;

impl HttpRoute {
    pub(super) fn read(wire: &v1::HttpRoute) -> Result<Self, Invalid> {
        let mut checks = Checks::default();
        if wire.hosts.len() > MAX_HOSTS {
            let many = wire.hosts.len();
            let problem = format!("{many} entries are too many: use {MAX_HOSTS} at most");
            checks.refuse("hosts", problem);
        }
        let hosts = wire.hosts.iter().take(MAX_HOSTS).map(String::as_str);
        let hosts = checks.each("hosts", hosts.collect(), |host| {
            match host.strip_prefix("*.") {
                Some(below) => host_name(below).map(|below| format!("*.{below}")),
                None => host_name(host),
            }
        });
        let path = checks.take("path", PathMatch::read(wire.path.as_ref()));
        let action = action(&mut checks, wire);
        if let (Some(PathMatch::Exact(_)), Some(RouteAction::Redirect(redirect))) = (&path, &action)
            && matches!(redirect.path, Some(RedirectPath::Prefix(_)))
        {
            let problem = "is for routes with a prefix: use redirect.path where the path is exact";
            checks.refuse("redirect.prefix", problem);
        }
        checks.finish(path.zip(action).map(|(path, action)| Self {
            hosts: hosts.into_iter().map(|(_, host)| host).collect(),
            path,
            action,
        }))
    }
}

fn action(checks: &mut Checks, wire: &v1::HttpRoute) -> Option<RouteAction> {
    match (wire.backend_set.as_str(), &wire.redirect) {
        ("", None) => {
            checks.refuse("backendSet", "is required: name a set, or write redirect");
            None
        }
        ("", Some(redirect)) => checks
            .take("redirect", Redirect::read(redirect))
            .map(RouteAction::Redirect),
        (name, None) => checks
            .take("backendSet", Name::try_from(name))
            .map(RouteAction::Forward),
        (_, Some(_)) => {
            checks.refuse("redirect", "stands beside backendSet: write one of both");
            None
        }
    }
}

impl PathMatch {
    fn read(wire: Option<&v1::HttpPath>) -> Result<Self, Invalid> {
        let Some(wire) = wire else {
            return Ok(Self::Prefix("/".to_owned()));
        };
        match (&wire.exact, &wire.prefix) {
            (Some(exact), None) => path(exact)
                .map(Self::Exact)
                .map_err(|invalid| invalid.at("exact")),
            (None, Some(prefix)) => path(prefix)
                .map(Self::Prefix)
                .map_err(|invalid| invalid.at("prefix")),
            (None, None) => Err(Invalid::one(
                "",
                "says nothing: write exact or prefix, or leave path out",
            )),
            (Some(_), Some(_)) => Err(Invalid::one("", "says exact and prefix: write one of both")),
        }
    }
}

impl Redirect {
    fn read(wire: &v1::HttpRedirect) -> Result<Self, Invalid> {
        let mut checks = Checks::default();
        let scheme = checks.take("scheme", wire.scheme.as_deref().map(scheme).transpose());
        let host = checks.take("host", wire.host.as_deref().map(host_name).transpose());
        let port = wire
            .port
            .map(|port| form::number(Some(port), 0, 1..=65_535));
        let port = checks.take("port", port.transpose());
        let full = checks.take("path", wire.path.as_deref().map(path).transpose());
        let prefix = checks.take("prefix", wire.prefix.as_deref().map(path).transpose());
        if wire.path.is_some() && wire.prefix.is_some() {
            checks.refuse("prefix", "stands beside path: write one of both");
        }
        let status = checks.take("status", status(wire.status));
        let is_empty = v1::HttpRedirect {
            status: None,
            ..wire.clone()
        } == v1::HttpRedirect::default();
        if is_empty {
            let problem = "changes nothing: write scheme, host, port, path or prefix";
            checks.refuse("", problem);
        }
        let value = || {
            let (full, prefix) = (full?, prefix?);
            Some(Self {
                scheme: scheme?,
                host: host?,
                port: port?,
                path: full
                    .map(RedirectPath::Full)
                    .or(prefix.map(RedirectPath::Prefix)),
                status: status?,
            })
        };
        let value = value();
        checks.finish(value)
    }
}

fn scheme(text: &str) -> Result<String, Invalid> {
    let lower = text.to_ascii_lowercase();
    if ["http", "https"].contains(&lower.as_str()) {
        return Ok(lower);
    }
    let problem = format!("{} is no scheme: use http or https", shorten(text));
    Err(Invalid::one("", problem))
}

fn status(wire: Option<u32>) -> Result<u16, Invalid> {
    let Some(status) = wire else {
        return Ok(FOUND);
    };
    let known = STATUSES.contains(&status).then(|| status.try_into().ok());
    known.flatten().ok_or_else(|| {
        let problem = format!("{status} is no redirect: use 301, 302, 303, 307 or 308");
        Invalid::one("", problem)
    })
}

/// A DNS name, or an IPv4 address, in lower case.
fn host_name(text: &str) -> Result<String, Invalid> {
    let is_inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    let is_label = |label: &str| {
        (1..=LONGEST_LABEL).contains(&label.len())
            && label.bytes().all(is_inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() <= LONGEST_HOST && text.split('.').all(is_label) {
        return Ok(text.to_ascii_lowercase());
    }
    let problem = format!(
        "{} is no host name: write www.example.com, or *.example.com where a wildcard may stand, without port",
        shorten(text)
    );
    Err(Invalid::one("", problem))
}

fn path(text: &str) -> Result<String, Invalid> {
    let is_plain = |b: u8| b.is_ascii_graphic() && b != b'?' && b != b'#';
    let problem = if text.len() > LONGEST_PATH {
        format!("is longer than {LONGEST_PATH} characters")
    } else if !text.starts_with('/') {
        format!("{} does not begin with /", shorten(text))
    } else if !text.bytes().all(is_plain) {
        let shown = shorten(text);
        format!("{shown} must be printable ASCII without spaces, ? and #: write others as %20")
    } else {
        return Ok(text.to_owned());
    };
    Err(Invalid::one("", problem))
}

impl From<&HttpRoute> for v1::HttpRoute {
    fn from(route: &HttpRoute) -> Self {
        let (exact, prefix) = match &route.path {
            PathMatch::Exact(path) => (Some(path.clone()), None),
            PathMatch::Prefix(path) => (None, Some(path.clone())),
        };
        let (backend_set, redirect) = match &route.action {
            RouteAction::Forward(set) => (set.into(), None),
            RouteAction::Redirect(redirect) => (String::new(), Some(redirect.into())),
        };
        Self {
            hosts: route.hosts.clone(),
            path: Some(v1::HttpPath { exact, prefix }),
            backend_set,
            redirect,
        }
    }
}

impl From<&Redirect> for v1::HttpRedirect {
    fn from(redirect: &Redirect) -> Self {
        let (path, prefix) = match &redirect.path {
            None => (None, None),
            Some(RedirectPath::Full(path)) => (Some(path.clone()), None),
            Some(RedirectPath::Prefix(path)) => (None, Some(path.clone())),
        };
        Self {
            scheme: redirect.scheme.clone(),
            host: redirect.host.clone(),
            port: redirect.port.map(Into::into),
            path,
            prefix,
            status: Some(redirect.status.into()),
        }
    }
}
