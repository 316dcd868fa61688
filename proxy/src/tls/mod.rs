//! TLS.
//!
//! Of listeners: `listener` makes ready what a listener shows and asks for, `tickets` lets clients resume at every proxy,
//! `shown` for which names a connection was shown a certificate, `backend` is how backends are spoken to, `session` is one connection as a function of bytes, `fault` says why a
//! handshake came to nothing. Who moves the bytes is `l4::sealed`.
//!
//! Of API addresses that are open to the network, where both ends show a certificate: `certificates` loads the files and
//! follows them, `server` makes rustls' settings of them, `accept` takes a connection through its handshake, `plain`
//! answers whoever speaks no TLS. What a caller may do is decided in `api::identity`.

use std::time::SystemTime;

pub(crate) mod accept;
pub(crate) mod backend;
pub(crate) mod certificates;
pub(crate) mod fault;
pub mod listener;
mod plain;
mod server;
pub(crate) mod session;
pub(crate) mod shown;
pub(crate) mod tickets;

/// The time of day, in seconds since the Unix epoch.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
