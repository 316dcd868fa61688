//! Routes in words, as tools show them. Must not know where they are shown.

use std::fmt;

use crate::http::{PathMatch, Redirect, RedirectPath, RouteAction};
use crate::{HttpRoute, Invalid, v1};

/// `*.example.com/api`: its first host and its path, with what these leave open.
impl fmt::Display for HttpRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.hosts.first().map_or("*", String::as_str))?;
        match &self.path {
            PathMatch::Exact(path) => write!(f, "{path} exactly")?,
            PathMatch::Prefix(path) => f.write_str(path)?,
        }
        match self.hosts.len() {
            0 | 1 => Ok(()),
            2 => f.write_str(", and for 1 more host"),
            many => write!(f, ", and for {} more hosts", many - 1),
        }
    }
}

/// The set's name, or where clients are sent.
impl fmt::Display for RouteAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forward(set) => set.fmt(f),
            Self::Redirect(redirect) => redirect.fmt(f),
        }
    }
}

/// `301 to scheme https, path /home`: what changes.
impl fmt::Display for Redirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (full, prefix) = match &self.path {
            None => (None, None),
            Some(RedirectPath::Full(path)) => (Some(path), None),
            Some(RedirectPath::Prefix(path)) => (None, Some(path)),
        };
        let port = self.port.map(|port| port.to_string());
        let parts = [
            ("scheme", self.scheme.as_ref()),
            ("host", self.host.as_ref()),
            ("port", port.as_ref()),
            ("path", full),
            ("prefix", prefix),
        ];
        let parts = parts.into_iter();
        let parts = parts.filter_map(|(what, value)| Some(format!("{what} {}", value?)));
        let parts: Vec<String> = parts.collect();
        write!(f, "{} to {}", self.status, parts.join(", "))
    }
}

impl TryFrom<v1::HttpRoute> for HttpRoute {
    type Error = Invalid;

    fn try_from(wire: v1::HttpRoute) -> Result<Self, Invalid> {
        Self::read(&wire)
    }
}
