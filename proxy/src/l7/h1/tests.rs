//! Heads and bodies as a client and a backend send them, through all that reads them.

use super::body::{Body, Passed};
use super::{framing, head};

#[test]
fn a_plain_exchange_is_read() {
    let bytes = b"GET /a?b HTTP/1.1\r\nHost: example.com\r\n\r\nrest";
    let mut fields = head::fields();
    let request = head::request(bytes, &mut fields, 8_192).unwrap().unwrap();
    assert_eq!(request.length, bytes.len() - 4);
    let facts = framing::request(&request).unwrap();
    assert_eq!((facts.host, facts.path_and_query), ("example.com", "/a?b"));
    assert_eq!(facts.length, framing::Length::None);

    let bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut fields = head::fields();
    let response = head::response(bytes, &mut fields, 8_192).unwrap().unwrap();
    let facts = framing::response(&response, false, false).unwrap();
    assert!(facts.keep_alive);
    let mut body = Body::new(facts.length, true);
    let mut out = Vec::new();
    let chunks = b"005;a=b\r\nhello\r\n0\r\nHost: x\r\nchecksum: 1\r\n\r\nHTTP";
    let passed = body.take(chunks, &mut out, u64::MAX);
    assert_eq!(passed, Ok(Passed::Rewritten(chunks.len() - 4)));
    assert!(body.is_done());
    assert_eq!(out, b"5\r\nhello\r\n0\r\nchecksum: 1\r\n\r\n");
}
