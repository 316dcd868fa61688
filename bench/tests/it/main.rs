//! `podline-bench` as a user has it, in network namespaces of its own.

#![expect(clippy::unwrap_used, reason = "helpers of tests may, as tests do")]

mod account;
mod loads;
mod loads_go_wrong;
mod loads_tls;
mod measure;
#[cfg(feature = "pingora")]
mod oracle;
mod pods;
mod report;
mod requests;
mod run;
mod subject;
mod support;
