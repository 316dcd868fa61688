//! What the crate promises to others, through its public names alone.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod client;
mod convert;
mod file;
mod http;
mod operate;
mod overriding;
mod rejected;
mod seeds;
mod tidy;
mod tls;
mod wire_seeds;
