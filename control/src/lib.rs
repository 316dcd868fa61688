//! Everything that tells a proxy what to do. So far that is `podline`, the command line.
//!
//! This crate knows a proxy only by its API (podline-api): it must not depend on podline-proxy.

pub mod cli;
