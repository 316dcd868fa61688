//! Heads and bodies as a client and a backend send them, through all that reads them; the seeds of the fuzz targets, and
//! some thousand mutations of them.

use super::body::{Body, Passed};
use super::{framing, head};

#[path = "../../../fuzz/http.rs"]
mod http;
mod measure;

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

/// xorshift64*: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32
    }

    /// One of so many, from 0.
    fn of(&mut self, count: usize) -> usize {
        usize::try_from(self.next()).unwrap() % count.max(1)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[7]
    }
}

/// What peers disagree about.
const PARTS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"#",
    b"0",
    b"1",
    b"+",
    b"\xff",
    b"\"",
    b"\r\n ",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"Host: b\r\n",
    b"Content-Length: 1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close, upgrade\r\n",
    b"http://b",
    b"HTTP/1.0",
];

fn mutate(random: &mut Random, seeds: &[&[u8]]) -> Vec<u8> {
    let mut data = seeds[random.of(seeds.len())].to_vec();
    for _ in 0..random.of(4) {
        let at = random.of(data.len() + 1);
        let until = (at + random.of(16)).min(data.len());
        let part = PARTS[random.of(PARTS.len())];
        let other = seeds[random.of(seeds.len())];
        match random.of(6) {
            0 => data.truncate(at),
            1 => drop(data.drain(at..until)),
            2 => drop(data.splice(at..until, [random.byte()])),
            3 => drop(data.splice(at..at, part.iter().copied())),
            4 => drop(data.splice(at..until, part.iter().copied())),
            _ => drop(data.splice(at..until, other[random.of(other.len())..].to_vec())),
        }
    }
    data
}

fn check(seeds: &[&[u8]], check: impl Fn(&[u8])) {
    for seed in seeds {
        check(seed);
    }
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for _ in 0..3_000 {
        check(&mutate(&mut random, seeds));
        let noise: Vec<u8> = (0..random.of(64)).map(|_| random.byte()).collect();
        check(&noise);
    }
}

macro_rules! seeds {
    ($folder:literal: $($name:literal)*) => {
        &[$(include_bytes!(concat!("../../../fuzz/seeds/", $folder, "/", $name))),*]
    };
}

#[test]
fn requests_mean_the_same_in_whatever_pieces_they_come() {
    let seeds: &[&[u8]] = seeds!(
        "http_request":
        "absolute" "asterisk" "bare-lf" "both-lengths" "browser"
        "chunked" "connect" "empty-line" "folded" "h2c"
        "latin1" "long" "many" "old" "oldest"
        "post" "preface" "signed-length" "two-codings" "two-lengths"
        "upgrade"
    );
    check(seeds, http::request);
}

#[test]
fn responses_mean_the_same_in_whatever_pieces_they_come() {
    let seeds: &[&[u8]] = seeds!(
        "http_response":
        "bare-lf" "both-lengths" "chunked" "continue" "empty"
        "hints" "latin1" "no-phrase" "not-http" "plain"
        "same" "switching" "two-lengths" "until-end"
    );
    check(seeds, http::response);
}

#[test]
fn bodies_have_the_same_data_in_whatever_pieces_they_come() {
    let seeds: &[&[u8]] = seeds!(
        "http_body":
        "bare-lf" "behind-data" "extension-lf" "extensions" "huge"
        "pieces" "plain" "prefixed" "signed" "smuggled"
        "too-huge" "too-long" "trailer" "zeroes"
    );
    check(seeds, http::body);
}
