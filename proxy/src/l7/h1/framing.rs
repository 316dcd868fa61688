//! What a head says of the message: how long its body is, whether the connection stays, what it asks for. One pass over
//! the fields; what can be read in two ways is refused.

use super::head::{Request, Response};
use crate::l7::fault::Fault;

/// How the length of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// There is no body.
    None,
    /// So many bytes.
    Exactly(u64),
    /// In chunks.
    Chunked,
    /// Up to the end of the connection; responses only.
    UntilEnd,
}

/// What a request's head says.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is what one field says")]
pub(crate) struct RequestFacts<'b> {
    pub(crate) length: Length,
    /// The client wants to go on after the answer.
    pub(crate) keep_alive: bool,
    /// Of the target in absolute form, else of the Host field; with a port if it has one. Empty with HTTP/1.0 alone.
    pub(crate) host: &'b str,
    /// The target's path and query in origin form, or "*".
    pub(crate) path_and_query: &'b str,
    pub(crate) is_head: bool,
    /// Safe to send twice: GET, HEAD, OPTIONS, TRACE, PUT, DELETE.
    pub(crate) is_idempotent: bool,
    /// It asks for another protocol (`Connection: upgrade` with an `Upgrade` field), and may: HTTP/1.1.
    pub(crate) upgrade: bool,
    /// It waits for `100 Continue` before it sends its body.
    pub(crate) expects_continue: bool,
}

/// What a response's head says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResponseFacts {
    pub(crate) length: Length,
    /// The backend goes on after it.
    pub(crate) keep_alive: bool,
    /// From the `Keep-Alive: timeout=` field, in seconds.
    pub(crate) idle_timeout_s: Option<u32>,
    /// 101: the connection is another protocol's from here on.
    pub(crate) switches: bool,
    /// 1xx but 101: another response follows.
    pub(crate) is_interim: bool,
}

/// What a request's head says.
///
/// # Errors
/// It can be read in two ways, or cannot be forwarded.
pub(crate) fn request<'b>(head: &Request<'_, 'b>) -> Result<RequestFacts<'b>, Fault> {
    let _ = head;
    Err(Fault::NotImplemented)
}

/// What a response's head says; `to_head`: it answers HEAD, `upgraded`: the request asked for another protocol.
///
/// # Errors
/// [`Fault::BadResponse`]: it can be read in two ways, or switches protocols unasked.
pub(crate) fn response(
    head: &Response<'_, '_>,
    to_head: bool,
    upgraded: bool,
) -> Result<ResponseFacts, Fault> {
    let _ = (head, to_head, upgraded);
    Err(Fault::BadResponse)
}
