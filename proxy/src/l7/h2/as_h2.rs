//! Messages in the form of HTTP/1.1, as the engine writes them, as messages of HTTP/2. Pure.

use crate::l7::h1::head::{Request, Response};
use http::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, StatusCode, Uri, Version};
use httparse::Header;
use std::fmt::Write;

/// It cannot be said in HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unfit;

/// A request; `authority` stands in for the host where there is none to name.
///
/// # Errors
/// It asks for a tunnel, or has bytes that no field may have.
pub(crate) fn request(
    head: &Request<'_, '_>,
    scheme: Scheme,
    authority: &str,
) -> Result<http::Request<()>, Unfit> {
    let host = head.fields.iter().find(|it| is(it.name, &HOST));
    let host = host.map_or(Ok(""), |it| std::str::from_utf8(it.value));
    let host = match host.map_err(|_| Unfit)? {
        "" => authority,
        host => host,
    };
    let uri = Uri::builder()
        .scheme(scheme)
        .authority(Authority::try_from(host).map_err(|_| Unfit)?)
        .path_and_query(path(head.target)?)
        .build();
    let mut request = http::Request::new(());
    *request.method_mut() = Method::from_bytes(head.method.as_bytes()).map_err(|_| Unfit)?;
    *request.uri_mut() = uri.map_err(|_| Unfit)?;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = fields(head.fields, |name| *name == HOST)?;
    Ok(request)
}

/// A response.
///
/// # Errors
/// It switches protocols, or has bytes that no field may have.
pub(crate) fn response(head: &Response<'_, '_>) -> Result<http::Response<()>, Unfit> {
    let status = StatusCode::from_u16(head.status).map_err(|_| Unfit)?;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Unfit);
    }
    let mut response = http::Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = Version::HTTP_2;
    *response.headers_mut() = fields(head.fields, |_| false)?;
    Ok(response)
}

/// Adds a line of a trailer.
///
/// # Errors
/// It is no field.
pub(crate) fn add_trailer(trailers: &mut HeaderMap, line: &[u8]) -> Result<(), Unfit> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or(Unfit)?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let name = HeaderName::from_bytes(name).map_err(|_| Unfit)?;
    if !is_of_connection(&name, value) {
        let value = HeaderValue::from_bytes(value).map_err(|_| Unfit)?;
        trailers.append(name, value);
    }
    Ok(())
}

/// All fields but those that say how one connection goes on, and those that are `left_out`.
fn fields(from: &[Header<'_>], left_out: impl Fn(&HeaderName) -> bool) -> Result<HeaderMap, Unfit> {
    let mut fields = HeaderMap::with_capacity(from.len());
    for field in from {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Unfit)?;
        if !left_out(&name) && !is_of_connection(&name, field.value) {
            let value = HeaderValue::from_bytes(field.value).map_err(|_| Unfit)?;
            fields.append(name, value);
        }
    }
    Ok(fields)
}

/// RFC 9113, 8.2.2. Of TE one value alone may pass.
fn is_of_connection(name: &HeaderName, value: &[u8]) -> bool {
    *name == CONNECTION
        || *name == TRANSFER_ENCODING
        || *name == UPGRADE
        || *name == TE && value != b"trailers"
        || matches!(
            name.as_str(),
            "keep-alive" | "proxy-connection" | "http2-settings"
        )
}

fn is(name: &str, known: &HeaderName) -> bool {
    name.eq_ignore_ascii_case(known.as_str())
}

/// A path, with those of its bytes escaped that HTTP/1.1's readers let pass and HTTP/2's do not.
fn path(target: &str) -> Result<PathAndQuery, Unfit> {
    if let Ok(path) = PathAndQuery::try_from(target) {
        return Ok(path);
    }
    let mut escaped = String::with_capacity(target.len() + 16);
    for character in target.chars() {
        match character {
            '<' | '>' | '`' | '"' | '{' | '}' | '|' | '\\' | '^' => {
                write!(escaped, "%{:02X}", u32::from(character)).map_err(|_| Unfit)?;
            }
            other => escaped.push(other),
        }
    }
    PathAndQuery::try_from(escaped).map_err(|_| Unfit)
}

#[cfg(test)]
mod tests;
