//! The proxy's state: what owners want, what workers act on, how backends do.
pub mod ports;
