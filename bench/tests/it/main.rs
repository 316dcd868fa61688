//! `podline-bench` as a user has it, in network namespaces of its own.

mod loads;
mod loads_go_wrong;
mod measure;
mod pods;
mod support;
