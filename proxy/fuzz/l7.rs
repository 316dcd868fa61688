//! The parts of HTTP that are fuzzed, compiled as they stand: the proxy does not show them to others.
#![allow(dead_code, reason = "each target uses its part")]

#[path = "../src/l7/fault.rs"]
pub(crate) mod fault;
#[path = "../src/l7/h1/mod.rs"]
pub(crate) mod h1;
