//! Requests that two readers may read in two ways, as bytes: what a proxy must refuse or write anew, and never pass on as
//! it is. Tests of all that forward HTTP share them. It must not know who forwards, nor with what they are answered. Pure.

/// Fields whose message has two lengths, or none that is sure.
pub const TWO_LENGTHS: &[&str] = &[
    "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "Content-Length: 5\r\nContent-Length: 5\r\n",
    "Content-Length: 5\r\nContent-Length: 6\r\n",
    "Content-Length: 5, 5\r\n",
    "Content-Length: 5, 6\r\n",
    "Content-Length: +5\r\n",
    "Content-Length: -5\r\n",
    "Content-Length: 0x5\r\n",
    "Content-Length: \r\n",
    "Content-Length: 99999999999999999999\r\n",
];

/// Codings of a body that are not `chunked` alone.
pub const CODINGS: &[&str] = &[
    "Transfer-Encoding: chunked, chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: identity, chunked\r\n",
    "Transfer-Encoding: chunked, identity\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Transfer-Encoding: \"chunked\"\r\n",
];

/// Fields that break the grammar.
pub const BROKEN: &[&str] = &[
    "Transfer-Encoding : chunked\r\n",
    "Transfer-Encoding\r\n : chunked\r\n",
    "Transfer-Encoding: \u{b}chunked\r\n",
    "X: a\r\n Transfer-Encoding: chunked\r\n",
    "X: a\nTransfer-Encoding: chunked\r\n",
    "X: a\rTransfer-Encoding: chunked\r\n",
    "X: a\0b\r\n",
    "X\u{e9}: a\r\n",
    ": a\r\n",
    "X\r\n",
];

/// Whole heads whose host is not one.
pub const HOSTS: &[&str] = &[
    "GET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
];

/// Whole heads whose first line is none.
pub const LINES: &[&str] = &[
    "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /#a HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n\n",
    "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
];

/// The head of a tunnel.
pub const TUNNEL: &str = "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n";

/// Its target and its Host field name two hosts.
pub const TWO_HOSTS: &str = "GET http://shop.example/a?b HTTP/1.1\r\nHost: other.example\r\n\r\n";

/// Beginnings of bodies in chunks that are no chunks.
pub const CHUNKS: &[&str] = &[
    "-1\r\n",
    "+3\r\nabc\r\n",
    "0x3\r\nabc",
    "3 \r\nabc\r\n",
    "3\nabc\r\n",
    "3\r\nabcd\r\n",
    "3;a\nb\r\nabc\r\n",
    "11111111111111111\r\n",
    "\r\n",
    "g\r\n",
];

/// A request with these fields, whose body is empty in chunks and begins another request if it has a length.
pub fn with_fields(fields: &str) -> String {
    let body = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")
}

/// A request in chunks that begins so, and ends as it should.
pub fn with_chunks(begin: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{begin}0\r\n\r\n")
}
