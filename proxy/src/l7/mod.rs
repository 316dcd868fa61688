//! HTTP: requests of one connection, each to a backend of its own.
//!
//! ```text
//!  client bytes --h1::head--> Request --h1::framing--> RequestFacts --lb::routes--> set --lb::pick--> backend
//!                                                                                      |
//!  client <--forward::response_head-- h1::body <-- backend (pool, or a dial) <--forward::request_head
//! ```
//!
//! `engine` is the only part that touches sockets; the others are functions of bytes. Own answers are in [`answer`], why
//! in [`fault`]; where redirects lead in [`redirect`].

pub(crate) mod answer;
pub(crate) mod cookie;
pub(crate) mod fault;
pub(crate) mod forward;
pub(crate) mod h1;
pub(crate) mod redirect;
