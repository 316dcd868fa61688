//! HTTP: requests of one connection, each to a backend of its own.
//!
//! ```text
//!  client bytes --h1::head--> Request --h1::framing--> RequestFacts --lb::routes--> set --lb::pick--> backend
//!                                                                                      |
//!  client <--forward::response_head-- h1::body <-- backend (pool, or a dial) <--forward::request_head
//! ```
//!
//! A [`conversation`] is one client's connection, an exchange one request of it. [`engine`], `exchange`, `seek` and
//! `upgrade` are the worker's part, and the only ones that touch sockets; [`pool`] keeps connections to backends; the
//! others are functions of bytes; [`h2`] brings the streams of HTTP/2 in the form of such connections. Own answers are in [`answer`], why in [`fault`]; where redirects lead in [`redirect`].

pub(crate) mod answer;
pub(crate) mod conversation;
pub(crate) mod cookie;
pub(crate) mod engine;
mod exchange;
pub(crate) mod fault;
pub(crate) mod forward;
pub(crate) mod h1;
pub(crate) mod h2;
pub(crate) mod pool;
pub(crate) mod redirect;
mod retry;
mod seek;
pub(crate) mod tally;
mod upgrade;
