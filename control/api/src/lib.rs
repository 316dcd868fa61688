//! Podline's vocabulary. Start here: every other crate speaks in these words.
//!
//! | word | means | file |
//! |---|---|---|
//! | [`Listener`] | an address and port that clients connect to | `listener.rs` |
//! | [`Http`] | what a listener of protocol HTTP does with requests: its routes and settings | `http.rs` |
//! | [`Tls`], [`BackendTls`] | how clients and backends are spoken to over TLS | `tls.rs` |
//! | [`BackendSet`] | a named group of backends with a [`Policy`] and a [`HealthCheck`] | `backend_set.rs`, `health_check.rs`, `status_ranges.rs` |
//! | [`Affinity`] | a client stays with its backend | `affinity.rs` |
//! | [`Limits`] | what a listener takes at most, from whom | `limits.rs` |
//! | [`Backend`] | one address that may be picked; [`BackendKey`] says who it is | `backend.rs` |
//! | [`ProxyProtocol`] | headers that tell a listener's client to backends, or tell it who its client is | `proxy_protocol.rs` |
//! | [`Network`] | nodes, routes and ports between the proxy and its backends | `network.rs` |
//! | [`Neighbour`] | a machine on the same link | `neighbour.rs` |
//! | [`VirtualAddress`] | an address that moves from proxy to proxy | `virtual_address.rs` |
//! | [`Document`] | listeners and sets together: one owner's whole state, as in a file | `document.rs`, `file.rs` |
//! | [`Apply`] | one transaction that changes a proxy's state | `apply.rs` |
//! | [`Override`] | what an operator says about one backend, beside its owner | `overriding.rs` |
//! | [`Name`], [`Owner`] | what things are called, and who put them there | `name.rs` |
//! | [`Invalid`] | input that was refused: every offending field with its path | `invalid.rs` |
//! | [`Validity`] | from when to when a certificate is valid | `validity.rs` |
//! | [`Rejected`] | why a proxy refused an [`Apply`]; travels as a gRPC status | `rejected.rs` |
//!
//! The types here cannot hold what the proxy cannot do: they are made by `TryFrom` out of their wire form ([`v1`]),
//! which is also the file's form, and turned back by `From`. Nothing else in the project looks at wire values of
//! configuration. [`client`] is the typed client of a proxy's API.
//!
//! This crate is the leaf of the workspace: it must not know the proxy, the controller or Kubernetes.

mod address;
mod affinity;
mod apply;
mod backend;
mod backend_set;
pub mod client;
mod document;
pub mod duration;
mod file;
mod form;
mod health_check;
mod http;
mod invalid;
mod limits;
mod listener;
pub mod locate;
mod name;
mod neighbour;
mod network;
mod overriding;
mod proxy_protocol;
mod rejected;
mod status_ranges;
mod tls;
mod validity;
mod virtual_address;

pub use affinity::{Affinity, AffinityKind};
pub use apply::{Apply, BackendChange};
pub use backend::{Backend, BackendId, BackendKey, Weight};
pub use backend_set::{BackendHttp, BackendSet, HashKey, PassiveCheck, Policy, SetSettings};
pub use document::Document;
pub use file::yaml_options;
pub use health_check::{
    CheckKind, GrpcCheck, HealthCheck, HttpCheck, HttpMethod, HttpVersion, UdpCheck,
};
pub use http::{Http, HttpRoute, PathMatch, Redirect, RedirectPath, RouteAction};
pub use invalid::{Invalid, Violation};
pub use limits::{Caps, Limits};
pub use listener::{Listener, Protocol, SourceAddress, Transport};
pub use name::{Name, Owner};
pub use neighbour::{Mac, Neighbour};
pub use network::{Network, Node, PortShare, Route};
pub use overriding::{Override, OverrideAction};
pub use proxy_protocol::{AcceptProxy, ProxyHeader, ProxyProtocol};
pub use rejected::Rejected;
pub use status_ranges::StatusRanges;
pub use tls::{BackendTls, Certificate, ClientCertificates, Secret, TicketKey, Tls, TlsVersion};
pub use validity::Validity;
pub use virtual_address::VirtualAddress;

/// `podline.v1` as generated from `proto/`: messages, client and server.
pub mod v1 {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::pedantic,
        clippy::allow_attributes_without_reason,
        rustdoc::all,
        reason = "generated; the .proto files hold the documentation"
    )]
    tonic::include_proto!("podline.v1");
}

/// The descriptors of `podline.v1`, encoded, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/podline.v1.bin"));

/// The largest message either side takes, in bytes: a set of some hundred thousand backends.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;
