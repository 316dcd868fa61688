//! Where a request goes: its target in the forms that are served, and hosts. Pure.

use crate::l7::fault::Fault;
use std::net::Ipv6Addr;

/// A target, as views into the bytes that it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target<'b> {
    /// Of the absolute form alone.
    pub(super) host: Option<&'b str>,
    /// In origin form, or "*".
    pub(super) path_and_query: &'b str,
}

/// Reads a target, which has neither spaces nor control bytes.
///
/// # Errors
/// It is of no form that its method may have, or of a scheme that is not served.
pub(super) fn read<'b>(method: &str, target: &'b str) -> Result<Target<'b>, Fault> {
    // A fragment never leaves a client; some peers cut it off, and some take it for a part of the path.
    if target.as_bytes().contains(&b'#') {
        return Err(Fault::Malformed);
    }
    let path_and_query = target;
    if target.starts_with('/') || target == "*" && method == "OPTIONS" {
        return Ok(Target {
            host: None,
            path_and_query,
        });
    }
    let rest = after_scheme(target).ok_or(Fault::Malformed)?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path_and_query) = rest.split_at(end);
    let authority = host(authority.as_bytes())?;
    if authority.is_empty() {
        return Err(Fault::BadHost);
    }
    let path_and_query = match path_and_query {
        // RFC 9112, 3.2.4.
        "" if method == "OPTIONS" => "*",
        "" => "/",
        path if path.starts_with('/') => path,
        // A query without a path would have to be written anew; nobody sends that.
        _ => return Err(Fault::Malformed),
    };
    Ok(Target {
        host: Some(authority),
        path_and_query,
    })
}

fn after_scheme(target: &str) -> Option<&str> {
    ["http://", "https://"].iter().find_map(|scheme| {
        let (begin, rest) = target.split_at_checked(scheme.len())?;
        begin.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

/// A host with or without a port, or nothing. Stricter than the grammar: no percent-encoding and no delimiters, with which
/// one host could be written in several ways; and no user.
///
/// # Errors
/// It is none.
pub(super) fn host(value: &[u8]) -> Result<&str, Fault> {
    let host = std::str::from_utf8(value).map_err(|_| Fault::BadHost)?;
    let (is_named, port) = if let Some(rest) = host.strip_prefix('[') {
        let (address, port) = rest.split_once(']').ok_or(Fault::BadHost)?;
        (address.parse::<Ipv6Addr>().is_ok(), port)
    } else {
        let end = value.iter().position(|byte| !is_of_name(*byte));
        let (name, port) = host.split_at(end.unwrap_or(host.len()));
        (!name.is_empty() || port.is_empty(), port)
    };
    if is_named && is_port(port) {
        Ok(host)
    } else {
        Err(Fault::BadHost)
    }
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Nothing, or a colon and a port's number.
fn is_port(port: &str) -> bool {
    let Some(digits) = port.strip_prefix(':') else {
        return port.is_empty();
    };
    digits.len() <= 5
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && digits.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests;
