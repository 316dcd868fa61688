//! Heads as they are forwarded: hop-by-hop fields taken out, the client told of, framing made unambiguous. Order and
//! case of the fields that stay are kept. Pure.

use super::h1::framing::{RequestFacts, ResponseFacts};
use super::h1::head::{Request, Response, Version};
use std::net::SocketAddr;

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct From {
    /// The client's address, as the connection or its PROXY header tells.
    pub(crate) client: SocketAddr,
    /// The port that it connected to.
    pub(crate) port: u16,
    /// It came over TLS.
    pub(crate) is_tls: bool,
    /// Its own X-Forwarded-* and Forwarded fields are believed: they are added to, else replaced.
    pub(crate) is_trusted: bool,
}

/// Appends the head that the backend gets, as HTTP/1.1, with `Connection: keep-alive` implied.
pub(crate) fn request_head(
    out: &mut Vec<u8>,
    head: &Request<'_, '_>,
    facts: &RequestFacts<'_>,
    from: &From,
) {
    let _ = (out, head, facts, from);
}

/// How the client's connection goes on after the response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Onward {
    /// The version of the request: HTTP/1.0 knows no chunks.
    pub(crate) version: Version,
    /// It ends after this response.
    pub(crate) close: bool,
}

/// Appends the head that the client gets; `cookie` is a field with its line end, or empty.
pub(crate) fn response_head(
    out: &mut Vec<u8>,
    head: &Response<'_, '_>,
    facts: &ResponseFacts,
    onward: Onward,
    cookie: &[u8],
) {
    let _ = (out, head, facts, onward, cookie);
}
