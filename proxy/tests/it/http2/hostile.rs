//! Clients of HTTP/2 that mean no good: what is ambiguous goes to no backend, and what floods is broken off.

use std::thread;
use std::time::Duration;

use podline_api::v1;
use podline_lab::wait;

use crate::harness::h2::{
    self, BAD_REQUEST, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, OK, PING, PRIORITY,
    RST_STREAM, Raw, SETTINGS, Told, WINDOW_UPDATE, block, frame,
};
use crate::harness::web::{self, Server, serve_http, serve_with};
use crate::harness::{LONG, Proxy, wire};

const PROTOCOL_ERROR: u32 = 1;
const ENHANCE_YOUR_CALM: u32 = 11;

/// The pseudo fields of an ordinary request.
const USUAL: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":authority", "shop.example"),
    (":path", "/"),
];

const MALFORMED: Told = Told::Reset(PROTOCOL_ERROR);
/// What is not even a field breaks the connection off.
const BROKEN: Told = Told::GoAway(PROTOCOL_ERROR);

/// Fields beside the usual ones, and what comes of them.
const BESIDE: &[(&str, &str, Told)] = &[
    ("X-Mine", "1", BROKEN),
    ("connection", "x-mine", MALFORMED),
    ("keep-alive", "5", MALFORMED),
    ("transfer-encoding", "chunked", MALFORMED),
    ("upgrade", "websocket", MALFORMED),
    ("te", "gzip", MALFORMED),
    ("content-length", "5", MALFORMED),
    ("content-length", "+0", MALFORMED),
    (":path", "/b", MALFORMED),
    (":authority", "b", MALFORMED),
    (":status", "200", MALFORMED),
    (":protocol", "websocket", MALFORMED),
    ("host", "other.example", BAD_REQUEST),
];

/// Fields in the place of usual ones.
const INSTEAD: &[(&str, &str, Told)] = &[
    (":path", "", MALFORMED),
    (":path", "/a b", MALFORMED),
    (":path", "/\r\nx: y", MALFORMED),
    (":path", "*", MALFORMED),
    (":path", "http://other.example/", MALFORMED),
    (":authority", "a@shop.example", BAD_REQUEST),
];

#[test]
fn what_could_be_read_in_two_ways_goes_to_no_backend() {
    let proxy = Proxy::start();
    let server = Server::saying("a");
    let address = serve_http(&proxy, &[server.address]);
    let with = |more: &[(&str, &str)]| block(&[&USUAL[..], more].concat());
    let beside = BESIDE.iter().map(|&(name, value, expected)| {
        let fields = with(&[(name, value)]);
        (name, value, fields, expected)
    });
    let instead = INSTEAD.iter().map(|&(name, value, expected)| {
        let fields = USUAL.map(|usual| {
            if usual.0 == name {
                (name, value)
            } else {
                usual
            }
        });
        (name, value, block(&fields), expected)
    });
    let lengths = with(&[("content-length", "0"), ("content-length", "1")]);
    let late = with(&[("x", "y"), (":path", "/b")]);
    let nowhere = block(&[USUAL[0], USUAL[1], USUAL[3]]);
    let others = [
        ("lengths", "0 and 1", lengths, MALFORMED),
        ("a late path", "/b", late, MALFORMED),
        ("host", "none", nowhere, BAD_REQUEST),
    ];
    for (name, value, fields, expected) in beside.chain(instead).chain(others) {
        let mut client = Raw::connect(address, &[]);
        client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields));
        assert_eq!(client.told(), expected, "{name}: {value:?}");
        if expected != BROKEN {
            // The connection serves others.
            client.send(&h2::head(3));
            assert_eq!(client.told(), OK, "{name}: {value:?}");
        }
    }
    for bytes in ["a\r\nb", "a\nb", "a\0b", "a\rb"] {
        let mut client = Raw::connect(address, &[]);
        let fields = with(&[("x-mine", bytes)]);
        client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields));
        let told = client.told();
        let is_refused = matches!(told, Told::GoAway(n) | Told::Reset(n) if n != 0);
        assert!(is_refused, "{bytes:?}: {told:?}");
    }
    let seen = server.seen();
    assert!(seen.iter().all(|got| got.line() == "GET / HTTP/1.1"));
    assert!(seen.iter().all(|got| got.field("x-mine").is_none()));
}

#[test]
fn a_body_that_is_not_as_long_as_was_told_makes_no_request() {
    let proxy = Proxy::start();
    let server = Server::saying("a");
    let address = serve_http(&proxy, &[server.address]);
    for length in [4, 6] {
        let fields = [&USUAL[..], &[("content-length", "5")]].concat();
        let mut client = Raw::connect(address, &[]);
        client.send(&frame(HEADERS, END_HEADERS, 1, &block(&fields)));
        client.send(&frame(DATA, END_STREAM, 1, &vec![b'a'; length]));
        assert_eq!(client.told(), Told::Reset(PROTOCOL_ERROR));
    }
    assert_eq!(server.seen().len(), 0);
}

/// Sends `next(n)` for each n until the connection ends; how many that were, and the last that it was told.
fn flood(
    address: std::net::SocketAddr,
    most: u32,
    next: impl Fn(u32) -> Vec<u8>,
) -> (u32, Option<Told>) {
    let mut client = Raw::connect(address, &[]);
    let mut reader = Raw {
        stream: client.stream.try_clone().unwrap(),
    };
    // Reads all the time, so that nothing but the flood can be why it ends.
    let told = thread::spawn(move || {
        let mut last = None;
        loop {
            match reader.told() {
                Told::End => return last,
                told => last = Some(told),
            }
        }
    });
    let sent = (0..most).find(|n| client.try_send(&next(*n)).is_err());
    drop(client.stream.shutdown(std::net::Shutdown::Write));
    (sent.unwrap_or(most), told.join().unwrap())
}

/// The nth part of a flood.
type Next<'a> = &'a dyn Fn(u32) -> Vec<u8>;

#[test]
fn floods_are_broken_off_and_others_do_not_notice() {
    const MOST: u32 = 200_000;
    let proxy = web::one_worker();
    let server = Server::saying("a");
    let address = serve_http(&proxy, &[server.address]);
    let reset = |n: u32| {
        let mut bytes = h2::head(2 * n + 1);
        bytes.extend(frame(RST_STREAM, 0, 2 * n + 1, &8_u32.to_be_bytes()));
        bytes
    };
    let continued = |n: u32| match n {
        0 => frame(HEADERS, END_STREAM, 1, &block(&USUAL)),
        _ => frame(CONTINUATION, 0, 1, &block(&[("x-mine", &"a".repeat(100))])),
    };
    let opened = |n: u32| match n {
        0 => frame(HEADERS, END_HEADERS, 1, &block(&USUAL)),
        _ => frame(DATA, 0, 1, b""),
    };
    let priority = [0, 0, 0, 0, 16];
    let floods: [(&str, Next<'_>); 7] = [
        ("resets", &reset),
        ("continuations", &continued),
        ("settings", &|_| frame(SETTINGS, 0, 0, &[])),
        ("pings", &|_| frame(PING, 0, 0, &[0; 8])),
        ("idle-frames", &|_| frame(PRIORITY, 0, 1, &priority)),
        ("idle-frames", &|_| frame(77, 0, 1, &[0; 100])),
        ("idle-frames", &opened),
    ];
    let mut other = web::Client::connect(address);
    for (reason, next) in floods {
        let before = floods_of(&proxy, reason);
        let (sent, told) = flood(address, MOST, next);
        assert!(sent < MOST, "{reason}");
        wait::until(LONG, "the flood is counted", || {
            floods_of(&proxy, reason) == before + 1
        });
        // Where the reset of the connection did not overtake it.
        if let Some(Told::GoAway(code)) = told {
            assert_eq!(code, ENHANCE_YOUR_CALM, "{reason}");
        }
        assert_eq!(other.get("/").text(), "a");
    }
    wait::until(LONG, "they are gone", || proxy.active() == 1);
}

#[test]
fn whoever_breaks_the_protocol_is_told_and_counted() {
    let proxy = web::one_worker();
    let server = Server::saying("a");
    let address = serve_http(&proxy, &[server.address]);
    let broken = [
        // A stream of the server's, a frame of no stream, and a head that cannot be read.
        h2::head(2),
        frame(DATA, 0, 0, b"a"),
        frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0xff; 8]),
    ];
    for (n, bytes) in broken.iter().enumerate() {
        let mut client = Raw::connect(address, &[]);
        client.send(bytes);
        while !matches!(client.told(), Told::GoAway(_) | Told::End) {}
        wait::until(LONG, "it is counted", || {
            proxy.listener("web").http.unwrap().http2_errors == n as u64 + 1
        });
    }
    let mut other = Raw::connect(address, &[]);
    other.send(&h2::head(1));
    drop(other);
    wait::until(LONG, "they are gone", || proxy.active() == 0);
    let http = proxy.listener("web").http.unwrap();
    assert_eq!(http.http2_errors, 3, "leaving is no fault");
    assert!(http.http2_floods.is_empty());
}

fn floods_of(proxy: &Proxy, reason: &str) -> u64 {
    let http = proxy.listener("web").http.unwrap();
    http.http2_floods.get(reason).copied().unwrap_or(0)
}

#[test]
fn a_client_that_does_not_read_costs_little_and_is_cut() {
    const BODY: usize = 2 << 20;
    let body = Box::leak("a".repeat(BODY).into_boxed_str());
    let proxy = crate::harness::Start {
        workers: 1,
        alone: true,
        ..Default::default()
    }
    .ready();
    let server = Server::saying(body);
    let settings = v1::HttpSettings {
        response_timeout: wire::time(Duration::from_secs(2)),
        ..Default::default()
    };
    let address = serve_with(&proxy, &[server.address], settings);
    // What stays of the first streams is not what is measured.
    h2::run(async {
        let client = h2::Client::connect(address).await;
        for _ in 0..4 {
            assert_eq!(client.get("/").await.unwrap().body.len(), BODY);
        }
    });
    wait::until(LONG, "the first is gone", || proxy.active() == 0);
    let before = proxy.resident_bytes();
    // Without a window for streams; and with the greatest, but nobody who reads.
    for window in [0, i32::MAX.cast_unsigned()] {
        let mut client = Raw::connect(address, &[(4, window)]);
        let more = (i32::MAX.cast_unsigned() - 65_535).to_be_bytes();
        client.send(&frame(WINDOW_UPDATE, 0, 0, &more));
        let seen = server.seen().len();
        for n in 0..100 {
            client.send(&h2::head(2 * n + 1));
        }
        wait::until(LONG, "all are asked for", || {
            server.seen().len() == seen + 100
        });
        let most = std::cell::Cell::new(0);
        wait::until(LONG, "the client, or each of its requests, is cut", || {
            most.set(most.get().max(proxy.resident_bytes()));
            server.ended() >= seen + 100 - 4
        });
        let grown = most.get().saturating_sub(before);
        // A tenth of what is asked for, and most of that is what the allocator keeps.
        assert!(grown < 16 << 20, "window {window}: {} KiB", grown / 1024);
    }
    wait::until(LONG, "nobody is left", || proxy.active() == 0);
}

#[test]
fn a_head_that_does_not_come_in_time_ends_the_connection() {
    let proxy = Proxy::start();
    let server = Server::saying("a");
    let settings = v1::HttpSettings {
        request_timeout: wire::time(Duration::from_secs(1)),
        ..Default::default()
    };
    let address = serve_with(&proxy, &[server.address], settings);
    let halves: [&[u8]; 3] = [
        &frame(HEADERS, END_STREAM, 1, &block(&USUAL)),
        &h2::head(1)[..12],
        b"",
    ];
    for half in halves {
        let mut client = Raw::connect(address, &[]);
        client.send(half);
        loop {
            match client.told() {
                Told::GoAway(_) => {}
                Told::End => break,
                other => panic!("{other:?}"),
            }
        }
    }
    // A preface that stays a part.
    let mut client = web::Client::connect(address);
    client.send("PRI * HTTP/2.0\r\n\r\nSM");
    assert_eq!(client.answer().status, 408);
    wait::until(LONG, "they are gone", || proxy.active() == 0);
    assert_eq!(server.seen().len(), 0);
}
