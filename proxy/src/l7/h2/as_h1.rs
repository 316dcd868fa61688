//! Messages of HTTP/2 in the form of HTTP/1.1, which is what the engine reads. What makes a message ambiguous stays in it:
//! whoever reads the form refuses it, and says why. Pure.

use bytes::{BufMut, BytesMut};
use http::header::{CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, request, response};

/// How a body follows its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// It has none.
    Nothing,
    /// As it is: its length was told.
    Bare,
    /// In chunks.
    Chunks,
}

/// It is none of HTTP/2's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Appends the head of a request; `has_body`: more than the head is to come.
///
/// # Errors
/// Its target is none that a path may be. Then nothing was appended.
pub(crate) fn request_head(
    out: &mut BytesMut,
    head: &request::Parts,
    has_body: bool,
) -> Result<Form, Malformed> {
    let authority = head.uri.authority().map_or("", |it| it.as_str());
    let path = head.uri.path_and_query().map_or("", |it| it.as_str());
    let target = match head.method {
        Method::CONNECT => authority,
        // Anything else could name another host than the authority does.
        _ if path.starts_with('/') => path,
        Method::OPTIONS if path == "*" => path,
        _ => return Err(Malformed),
    };
    put(out, &[head.method.as_str(), " ", target, " HTTP/1.1\r\n"]);
    if !authority.is_empty() {
        put(out, &["host: ", authority, "\r\n"]);
    }
    for host in head.headers.get_all(HOST) {
        let is_same = host.as_bytes().eq_ignore_ascii_case(authority.as_bytes());
        if authority.is_empty() || !is_same {
            put_field(out, &HOST, host);
        }
    }
    put_cookies(out, &head.headers);
    let others = |name: &HeaderName| *name != HOST && *name != COOKIE;
    Ok(put_fields(out, &head.headers, others, has_body))
}

/// Appends the head of a response; `to_head`: to a request for the head alone.
///
/// # Errors
/// It switches protocols, which HTTP/2 does not.
pub(crate) fn response_head(
    out: &mut BytesMut,
    head: &response::Parts,
    has_body: bool,
    to_head: bool,
) -> Result<Form, Malformed> {
    let status = head.status;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Malformed);
    }
    let phrase = status.canonical_reason().unwrap_or_default();
    put(out, &["HTTP/1.1 ", status.as_str(), " ", phrase, "\r\n"]);
    if status.is_informational() {
        let others = |name: &HeaderName| *name != CONTENT_LENGTH;
        return Ok(put_fields(out, &head.headers, others, false));
    }
    let is_told = head.headers.contains_key(CONTENT_LENGTH);
    let has_none = matches!(status.as_u16(), 204 | 304) || to_head;
    if !has_body && !is_told && !has_none {
        put(out, &["content-length: 0\r\n"]);
    }
    Ok(put_fields(out, &head.headers, |_| true, has_body))
}

/// Appends a part of a body.
pub(crate) fn data(out: &mut BytesMut, bytes: &[u8], form: Form) {
    if bytes.is_empty() {
        return; // a chunk of no data would be the last
    }
    if form == Form::Chunks {
        put_hex(out, bytes.len());
        put(out, &["\r\n"]);
    }
    out.extend_from_slice(bytes);
    if form == Form::Chunks {
        put(out, &["\r\n"]);
    }
}

/// Appends the end of a body. Trailers have their place behind chunks alone.
pub(crate) fn end(out: &mut BytesMut, trailers: Option<&HeaderMap>, form: Form) {
    if form != Form::Chunks {
        return;
    }
    put(out, &["0\r\n"]);
    for (name, value) in trailers.into_iter().flatten() {
        put_field(out, name, value);
    }
    put(out, &["\r\n"]);
}

/// All fields but those that `others` leaves out, how the body follows, and the empty line.
fn put_fields(
    out: &mut BytesMut,
    fields: &HeaderMap,
    others: impl Fn(&HeaderName) -> bool,
    has_body: bool,
) -> Form {
    let mut length: Option<&HeaderValue> = None;
    for (name, value) in fields {
        let is_repeated = name == CONTENT_LENGTH && length == Some(value);
        if name == CONTENT_LENGTH {
            length = Some(value);
        }
        if others(name) && !is_repeated {
            put_field(out, name, value);
        }
    }
    let form = match (has_body, length) {
        (false, _) => Form::Nothing,
        (true, Some(_)) => Form::Bare,
        (true, None) => Form::Chunks,
    };
    if form == Form::Chunks {
        put(out, &["transfer-encoding: chunked\r\n"]);
    }
    put(out, &["\r\n"]);
    form
}

/// Cookies may come in several fields (RFC 9113, 8.2.3), and HTTP/1.1 has them in one.
fn put_cookies(out: &mut BytesMut, fields: &HeaderMap) {
    let mut between = "cookie: ";
    for cookie in fields.get_all(COOKIE) {
        put(out, &[between]);
        out.extend_from_slice(cookie.as_bytes());
        between = "; ";
    }
    if between == "; " {
        put(out, &["\r\n"]);
    }
}

fn put_field(out: &mut BytesMut, name: &HeaderName, value: &HeaderValue) {
    put(out, &[name.as_str(), ": "]);
    out.extend_from_slice(value.as_bytes());
    put(out, &["\r\n"]);
}

fn put_hex(out: &mut BytesMut, number: usize) {
    let digits = (usize::BITS - number.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        out.put_u8(b"0123456789abcdef"[number >> (4 * place) & 0xf]);
    }
}

fn put(out: &mut BytesMut, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}

#[cfg(test)]
mod tests;
