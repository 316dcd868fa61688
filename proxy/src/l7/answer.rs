//! The proxy's own answers: refusals with their reason, and redirects. Pure.

use super::fault::Fault;

/// Appends the answer to a request that failed. `close`: the connection ends after it. `is_head`: the body is only told of.
pub(crate) fn refusal(out: &mut Vec<u8>, fault: Fault, close: bool, is_head: bool) {
    let _ = (out, fault, close, is_head);
}

/// Appends a redirect to `location`; `status` is 301, 302, 303, 307 or 308.
pub(crate) fn redirect(out: &mut Vec<u8>, status: u16, location: &str, close: bool, is_head: bool) {
    let _ = (out, status, location, close, is_head);
}
