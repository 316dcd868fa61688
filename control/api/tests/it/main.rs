//! What the crate promises to others, through its public names alone.

mod convert;
mod file;
mod rejected;
mod seeds;
mod wire_seeds;
