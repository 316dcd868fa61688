//! HTTP/1.0 and 1.1 as bytes. Pure: no sockets, no clock.
//!
//! What can be read in two ways is refused, never passed on (request smuggling). Read `head`, then `framing`, then `body`.

pub(crate) mod body;
pub(crate) mod chunks;
pub(crate) mod framing;
pub(crate) mod head;
mod request_target;

#[cfg(test)]
mod tests;
