//! `podline-bench` as a user has it, in network namespaces of its own.
#![expect(clippy::unwrap_used, reason = "helpers of tests may, as tests do")]

mod report;
