//! Where a redirect leads: the `Location` for one request. Pure.
//!
//! As the Gateway API's HTTPRequestRedirectFilter has it: what is absent stays as it was asked for, a changed scheme brings
//! its own port, and a port that the scheme implies is left out. The query always stays.

use crate::lb::routes::view;
use podline_api::{Redirect, RedirectPath};

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// With its port, if it has one; empty: the request named none.
    pub(crate) host: &'a str,
    /// In origin form, or "*".
    pub(crate) path_and_query: &'a str,
    /// It came over TLS.
    pub(crate) is_tls: bool,
    /// As [`crate::lb::routes::Found`] tells it.
    pub(crate) matched: usize,
}

/// The value of `Location`: visible ASCII alone. Nothing where the request's host is needed and is missing or invalid, or
/// where what comes out could be read as another host: such a request is answered as one with a bad host.
pub(crate) fn location(to: &Redirect, asked: &Asked<'_>) -> Option<String> {
    let scheme = if asked.is_tls { "https" } else { "http" };
    let new_scheme = to.scheme.as_deref().unwrap_or(scheme);
    if !["http", "https"].contains(&new_scheme) {
        return None;
    }
    let mut out = String::with_capacity(asked.host.len() + asked.path_and_query.len() + 64);
    let target = Authority::parse(asked.host);
    let host = to.host.as_deref().or(target.map(|target| target.host));
    match host {
        Some(host) if is_host(host) => {
            let asked_port = target.and_then(|target| target.port);
            let kept = asked_port.filter(|_| new_scheme == scheme);
            put_origin(&mut out, new_scheme, host, to.port.or(kept));
        }
        // HTTP/1.0 need not say where it is. If nothing else changes, a path alone says where to go.
        None if asked.host.is_empty() && new_scheme == scheme && to.port.is_none() => {}
        _ => return None,
    }
    put_path(&mut out, to.path.as_ref(), asked);
    // "//other.example/" alone would name a host.
    let is_elsewhere = host.is_none() && out.starts_with("//");
    (!is_elsewhere).then_some(out)
}

fn put_origin(out: &mut String, scheme: &str, host: &str, port: Option<u16>) {
    out.push_str(scheme);
    out.push_str("://");
    out.push_str(host);
    let implied = if scheme == "https" { 443 } else { 80 };
    if let Some(port) = port.filter(|port| *port != implied) {
        out.push(':');
        out.push_str(&port.to_string());
    }
}

/// The path as it becomes, and the query as it was.
fn put_path(out: &mut String, to: Option<&RedirectPath>, asked: &Asked<'_>) {
    let (path, query) = match asked.path_and_query.find('?') {
        Some(mark) => asked.path_and_query.split_at(mark),
        None => (asked.path_and_query, ""),
    };
    match to {
        None => put_encoded(out, if path.starts_with('/') { path } else { "/" }),
        Some(RedirectPath::Full(full)) => {
            if !full.starts_with('/') {
                out.push('/');
            }
            put_encoded(out, full);
        }
        Some(RedirectPath::Prefix(prefix)) => {
            // What matched was the view of the path, so the rest is of that too.
            let seen = view(path);
            let rest = seen.get(asked.matched..).unwrap_or_default();
            let prefix = prefix.trim_end_matches('/');
            let is_rooted = if prefix.is_empty() { rest } else { prefix }.starts_with('/');
            if !is_rooted {
                out.push('/');
            }
            put_encoded(out, prefix);
            put_encoded(out, rest);
        }
    }
    put_encoded(out, query);
}

/// What may stand in a path or query as it is; all else, line ends before all, in percent-encoding.
fn put_encoded(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte) {
            out.push(char::from(byte));
        } else {
            const DIGITS: [char; 16] = [
                '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
            ];
            out.push('%');
            out.push(DIGITS[usize::from(byte >> 4)]);
            out.push(DIGITS[usize::from(byte & 15)]);
        }
    }
}

/// A host, and its port if it has one.
#[derive(Clone, Copy, Debug)]
struct Authority<'a> {
    host: &'a str,
    port: Option<u16>,
}

impl<'a> Authority<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let end = text.find(']').map_or(0, |bracket| bracket + 1);
        let (host, port) = match text.get(end..)?.find(':') {
            Some(colon) => text.split_at(end + colon),
            None => (text, ""),
        };
        let port = match port.strip_prefix(':') {
            None | Some("") => None,
            Some(digits) => Some(port_number(digits)?),
        };
        is_host(host).then_some(Self { host, port })
    }
}

fn port_number(digits: &str) -> Option<u16> {
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

/// A name or an address as URLs have it: nothing that would end it.
fn is_host(host: &str) -> bool {
    if let Some(ip) = host.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')) {
        return ip.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    !host.is_empty() && host.len() <= 253 && host.bytes().all(is_part)
}

#[cfg(test)]
mod tests;
