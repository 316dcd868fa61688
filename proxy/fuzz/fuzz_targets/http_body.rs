//! A body in chunks from the network, in whatever pieces.
#![no_main]

#[path = "../http.rs"]
mod http;
#[path = "../l7.rs"]
mod l7;

libfuzzer_sys::fuzz_target!(|data: &[u8]| http::body(data));
