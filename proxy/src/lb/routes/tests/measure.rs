//! What a look-up costs. The only file here that may look at a clock.

use super::*;
use std::hint::black_box;
use std::time::Instant;

const ROUNDS: u32 = 20_000;

fn time(what: &str, routes: &Routes, host: &str, path: &str) {
    let mut fastest = u128::MAX;
    for _ in 0..20 {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            black_box(routes.find(black_box(host), black_box(path)));
        }
        fastest = fastest.min(start.elapsed().as_nanos() / u128::from(ROUNDS));
    }
    println!("{what}: {fastest} ns");
}

/// `cargo test --release -p podline-proxy --lib routes::tests::measure -- --ignored --nocapture`
#[test]
#[ignore = "measures; run by hand"]
fn a_look_up() {
    let none = routes(&[]);
    time("no routes", &none, "www.example.com", "/a/b/c?d=e");
    let mut all: Vec<HttpRoute> = (1..1_000)
        .map(|n| {
            let host = format!("host-{}.example.com", n % 100);
            route(&[&host], &format!("/api/v1/things-{n}"), n)
        })
        .collect();
    all.push(route(&["*.example.com"], "/", 1_000));
    let start = Instant::now();
    let thousand = routes(&all);
    println!("compiling 1,000 routes: {:?}", start.elapsed());
    let host = "host-42.example.com";
    let path = "/api/v1/things-542/and/more?d=e";
    time("1,000 routes, exact host", &thousand, host, path);
    time(
        "its port and case",
        &thousand,
        "Host-42.example.com:8080",
        path,
    );
    time("by wildcard", &thousand, "www.a.b.example.com", path);
    time(
        "with a dot segment",
        &thousand,
        host,
        "/api/v2/../v1/things-542",
    );
    let slashes = "/a".repeat(30_000);
    time("a path of 60,000 bytes", &thousand, host, &slashes);
    let one: Vec<_> = (1..1_000)
        .map(|n| route(&[], &format!("/api/v1/things-{n}"), n))
        .collect();
    time("1,000 prefixes of one host", &routes(&one), host, path);
}
