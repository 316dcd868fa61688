//! What the API server is to be told of a Service: finalizer, annotations, status, events.
//!
//! `wish` decides, purely, what a Service should say; `difference` what of it has to be written; `writer` writes it. A
//! write happens only where the object, as it was last seen, says something else.

mod addresses;
pub mod difference;
pub mod ingress;
pub mod source;
pub mod wish;
pub mod writer;

#[cfg(test)]
mod tests;
