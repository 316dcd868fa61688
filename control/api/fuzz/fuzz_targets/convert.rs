//! A request from the network: wire bytes to [`podline_api::Apply`] and back.
#![no_main]

#[path = "../checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::convert(data));
