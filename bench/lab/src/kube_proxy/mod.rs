//! kube-proxy's part of a node without Kubernetes: the rules it would write for Services and endpoints, in both modes and
//! both policies, and their life in a namespace. Start at [`NodeView`], make [`Rules`] of it, and give them to
//! [`KubeProxy::install`].
//!
//! ```text
//! view      Services, endpoints, the node         names           what chains are called
//! iptables, nftables   rules of a view, as text   counters        what the kernel's text says of packets
//! rules     the text with its flavour             install         into and out of a namespace; the only I/O
//! ```
//!
//! Endpoints are those that serve; affinity and source ranges are not made.

mod counters;
mod install;
mod iptables;
mod names;
mod nftables;
mod rules;
mod segment;
mod stale;
mod view;

pub use counters::Counter;
pub use install::{KubeProxy, available};
pub use rules::Rules;
pub use view::{
    Endpoint, Family, Flavour, NodeView, Protocol, Service, ServicePort, TrafficPolicy,
};
