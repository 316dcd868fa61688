//! What a head costs. The only file here that may look at a clock.

use super::*;
use crate::l7::h1::head;
use std::hint::black_box;
use std::time::Instant;

const ROUNDS: u32 = 50_000;

fn time(what: &str, rounds: u32, mut run: impl FnMut()) {
    let mut fastest = u128::MAX;
    for _ in 0..20 {
        let start = Instant::now();
        (0..rounds).for_each(|_| run());
        fastest = fastest.min(start.elapsed().as_nanos() / u128::from(rounds));
    }
    println!("{what}: {fastest} ns");
}

/// `cargo test --release -p podline-proxy --lib forward::tests::measure -- --ignored --nocapture`
#[test]
#[ignore = "measures; run by hand"]
fn a_head() {
    let bytes = b"GET /a/b HTTP/1.1\r\nHost: a.org\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\
        Accept-Encoding: gzip\r\nConnection: keep-alive\r\n\r\n";
    let mut room = head::fields();
    let request = head::request(bytes, &mut room, 65_536).unwrap().unwrap();
    let facts = facts(Length::None);
    let mut out = Vec::with_capacity(4_096);
    let mut from = direct();
    time("a GET of 5 fields", ROUNDS, || {
        out.clear();
        request_head(&mut out, black_box(&request), &facts, black_box(&from));
    });
    from.client = "[2001:db8::1234:5678]:80".parse().unwrap();
    time("over IPv6", ROUNDS, || {
        out.clear();
        request_head(&mut out, black_box(&request), &facts, black_box(&from));
    });
    let bytes = b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
        Content-Type: text/plain\r\nContent-Length: 12\r\nConnection: keep-alive\r\n\r\n";
    let mut room = head::fields();
    let response = head::response(bytes, &mut room, 65_536).unwrap().unwrap();
    let facts = answered(Length::Exactly(12));
    time("a response of 5 fields", ROUNDS, || {
        out.clear();
        response_head(&mut out, black_box(&response), &facts, STAYS, b"");
    });
    let named: Vec<_> = (0..4_000).map(|n| format!("a{n:05},")).collect();
    let others: Vec<_> = (0..90).map(|n| format!("b{n:05}: x\r\n")).collect();
    let (named, others) = (named.concat(), others.concat());
    let bytes = format!("GET / HTTP/1.1\r\nConnection: {named}\r\n{others}\r\n");
    let mut room = head::fields();
    let request = head::request(bytes.as_bytes(), &mut room, 65_536);
    let request = request.unwrap().unwrap();
    let facts = self::facts(Length::None);
    time("4,000 names in Connection, 90 fields", 100, || {
        out.clear();
        request_head(&mut out, black_box(&request), &facts, &from);
    });
}
