//! What reading costs; run by hand, in a release build.

use std::hint::black_box;
use std::time::Instant;

use super::super::body::Body;
use super::super::framing::Length;
use super::super::{framing, head};

const ROUNDS: u32 = 1_000_000;

fn time(what: &str, bytes: usize, mut work: impl FnMut()) {
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        work();
    }
    println!("{what}, {bytes} bytes: {:?}", begun.elapsed() / ROUNDS);
}

fn of_request(what: &str, bytes: &[u8]) {
    time(what, bytes.len(), || {
        let mut fields = head::fields();
        let head = head::request(black_box(bytes), &mut fields, 32_768);
        black_box(framing::request(&head.unwrap().unwrap()).unwrap());
    });
    time("  the parser alone", bytes.len(), || {
        let mut fields = head::fields();
        let mut head = httparse::Request::new(&mut []);
        let read = head.parse_with_uninit_headers(black_box(bytes), &mut fields);
        black_box(read.unwrap());
    });
}

#[test]
#[ignore = "measures; run by hand"]
fn heads_and_chunks() {
    of_request(
        "a short request",
        b"GET /bench HTTP/1.1\r\nHost: bench.example.com\r\nUser-Agent: bench/1\r\nAccept: */*\r\n\r\n",
    );
    of_request(
        "a browser's request",
        b"GET /index.html?a=b HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux \
          x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\nAccept: text/html,application/xml;q=0.9,*/*;q=0.8\r\n\
          Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\nReferer: https://www.example.com/\r\n\
          Connection: keep-alive\r\nCookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\
          Upgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\nPragma: no-cache\r\n\r\n",
    );
    let response = b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
                     Content-Type: text/plain\r\nContent-Length: 1024\r\nConnection: keep-alive\r\n\r\n";
    time("a response", response.len(), || {
        let mut fields = head::fields();
        let head = head::response(black_box(response), &mut fields, 32_768);
        let head = head.unwrap().unwrap();
        black_box(framing::response(&head, false, false).unwrap());
    });
    for size in [64, 1_024, 8_192] {
        let data = "x".repeat(size);
        let chunks = format!("{size:x}\r\n{data}\r\n").repeat(4);
        let mut out = Vec::new();
        let mut body = Body::new(Length::Chunked, true);
        time("4 chunks", chunks.len(), || {
            out.clear();
            let passed = body.take(black_box(chunks.as_bytes()), &mut out, u64::MAX);
            black_box(passed.unwrap());
        });
    }
}
