//! TLS for API addresses that are open to the network: both ends show a certificate.
//!
//! `certificates` loads the files and follows them, `server` makes rustls' settings of them, `accept` takes a connection
//! through its handshake, `plain` answers whoever speaks no TLS. What a caller may do is decided in `api::identity`.

pub(crate) mod accept;
pub(crate) mod certificates;
mod plain;
mod server;
pub(crate) mod session;
