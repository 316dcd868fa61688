//! Network namespaces, toy Pods and kube-proxy's rules for Podline's tests and benches. Start at [`Lab`], then
//! [`Topology`], or [`Segment`] where there are nodes; [`kube_proxy`] gives these node ports.
//!
//! Namespaces here have no name in the file system: a thread of this process holds each of them, so that when the
//! process ends, however it ends, the kernel takes its namespaces, links, addresses and routes away. What can outlive
//! it are child processes; the next lab ends those (see [`Child`]).
//!
//! This crate knows nothing about Podline: it is what Podline is tested against.

mod child;
mod crowd;
mod error;
mod hops;
pub mod kube_proxy;
mod lab;
mod link;
mod loopback;
mod namespace;
mod new_netns;
pub mod pattern;
mod pod;
pub mod requests;
mod require;
mod segment;
mod serve;
mod star;
mod tool;
mod topology;
mod tunnel;
pub mod wait;

pub use child::Child;
pub use error::LabError;
pub use hops::{HopMeter, Watched};
pub use lab::Lab;
pub use loopback::own_loopback;
pub use namespace::Namespace;
pub use pod::{Behaviour, Pod, PodCounts};
pub use require::{require, require_netns};
pub use segment::{Cni, Segment, SegmentNode, SegmentPlan, Wire};
pub use star::Star;
pub use topology::Topology;
