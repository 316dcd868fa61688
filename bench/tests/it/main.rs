//! `podline-bench` as a user has it, in network namespaces of its own.
