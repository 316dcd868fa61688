//! The server that runs as a Pod of a benchmark, in a process of its own, on all of [`crate::wire::port`].
