//! What heads say, one a row; the shapes with which requests are smuggled among them.

use super::super::head;
use super::*;

/// What a head of these lines says; `|` stands for a line end.
fn asked(lines: &str) -> Result<RequestFacts<'static>, Fault> {
    let text = format!("{}\r\n\r\n", lines.replace('|', "\r\n"));
    let text: &'static str = text.leak();
    let mut fields = head::fields();
    let head = head::request(text.as_bytes(), &mut fields, 8_192);
    request(&head.unwrap().unwrap())
}

/// As [`asked`], of a POST with a host and these fields.
fn posted(fields: &str) -> Result<RequestFacts<'static>, Fault> {
    asked(&format!("POST / HTTP/1.1|Host: a|{fields}"))
}

fn answered(lines: &str) -> Result<ResponseFacts, Fault> {
    answered_to(lines, false, false)
}

fn answered_to(lines: &str, to_head: bool, upgraded: bool) -> Result<ResponseFacts, Fault> {
    let text = format!("HTTP/1.1 {}\r\n\r\n", lines.replace('|', "\r\n"));
    let text = text.replace("HTTP/1.1 HTTP/1.0", "HTTP/1.0");
    let mut fields = head::fields();
    let head = head::response(text.as_bytes(), &mut fields, 8_192);
    response(&head.unwrap().unwrap(), to_head, upgraded)
}

#[test]
fn lengths_of_requests_are_told_in_one_way() {
    for (fields, length) in [
        ("a: b", Length::None),
        ("Content-Length: 0", Length::Exactly(0)),
        ("content-length: 0042", Length::Exactly(42)),
        (
            "CONTENT-LENGTH: 18446744073709551615",
            Length::Exactly(u64::MAX),
        ),
        ("Transfer-Encoding: chunked", Length::Chunked),
        ("transfer-encoding: \tChUnKeD ", Length::Chunked),
        ("Content_Length: 1|Content-Lengths: 2", Length::None),
    ] {
        assert_eq!(posted(fields).map(|facts| facts.length), Ok(length));
    }
}

#[test]
fn lengths_that_can_be_read_in_two_ways_are_refused() {
    for fields in [
        "Content-Length: 1|Transfer-Encoding: chunked",
        "Transfer-Encoding: chunked|Content-Length: 1",
        "Transfer-Encoding: chunked|a: b|content-length: 0",
        "Transfer-Encoding: xchunked|Content-Length: 1",
        "Transfer-Encoding:|Content-Length: 1",
        "Content-Length: 1|Content-Length: 1",
        "Content-Length: 1|Content-Length: 2",
        "Content-Length: 1, 1",
        "Content-Length: 1, 2",
        "Content-Length: +1",
        "Content-Length: -1",
        "Content-Length: 0x1",
        "Content-Length: 1 0",
        "Content-Length: 1.0",
        "Content-Length: 1e3",
        "Content-Length: \"1\"",
        "Content-Length: 1;",
        "Content-Length:",
        "Content-Length: 18446744073709551616",
        "Content-Length: 99999999999999999999999",
        "Content-Length: \u{661}",
        "Transfer-Encoding: chunked|Transfer-Encoding: chunked",
    ] {
        let fault = posted(fields).map(|facts| facts.length);
        assert_eq!(fault, Err(Fault::AmbiguousLength), "{fields}");
    }
    let in_http10 = asked("POST / HTTP/1.0|Transfer-Encoding: chunked");
    assert_eq!(in_http10.unwrap_err(), Fault::AmbiguousLength);
}

#[test]
fn codings_that_are_not_chunked_alone_are_refused() {
    for fields in [
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked;a=b",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding:",
        "Transfer-Encoding: chunked|Transfer-Encoding: identity",
        "Transfer-Encoding: identity|Transfer-Encoding: chunked",
        "Transfer-Encoding: chunk\u{e9}d",
    ] {
        let fault = posted(fields).map(|facts| facts.length);
        assert_eq!(fault, Err(Fault::NotImplemented), "{fields}");
    }
}

#[test]
fn hosts_are_told_once() {
    for (lines, host) in [
        ("GET / HTTP/1.1|hOST: a:80", "a:80"),
        ("GET / HTTP/1.0|Host: a", "a"),
        ("GET / HTTP/1.0", ""),
        ("GET / HTTP/1.0|Host:", ""),
        ("GET http://b/ HTTP/1.1|Host: a", "b"),
        ("GET http://b/ HTTP/1.0", "b"),
    ] {
        assert_eq!(asked(lines).map(|facts| facts.host), Ok(host), "{lines}");
    }
    for lines in [
        "GET / HTTP/1.1",
        "GET / HTTP/1.1|Host:",
        "GET / HTTP/1.1|Host: a|Host: a",
        "GET / HTTP/1.1|Host: a|host: b",
        "GET / HTTP/1.0|Host: a|Host: b",
        "GET / HTTP/1.1|Host: a, b",
        "GET / HTTP/1.1|Host: a/b",
        "GET / HTTP/1.0|Host: a b",
        "GET http://b/ HTTP/1.1",
        "GET http://b/ HTTP/1.1|Host:",
        "GET http://b/ HTTP/1.1|Host: a@c",
        "GET http://b/ HTTP/1.1|Host: b|Host: b",
        "GET http://b@c/ HTTP/1.1|Host: b",
    ] {
        let fault = asked(lines).map(|facts| facts.host);
        assert_eq!(fault, Err(Fault::BadHost), "{lines}");
    }
    let fragment = asked("GET /a#b HTTP/1.1|Host: a").map(|facts| facts.host);
    assert_eq!(fragment, Err(Fault::Malformed));
}

#[test]
fn connections_stay_as_their_version_and_fields_say() {
    for (lines, stays) in [
        ("HTTP/1.1|a: b", true),
        ("HTTP/1.1|Connection: close", false),
        ("HTTP/1.1|Connection: x ,CLOSE\t, y", false),
        ("HTTP/1.1|Connection: keep-alive|Connection: close", false),
        ("HTTP/1.1|Connection: close, keep-alive", false),
        ("HTTP/1.1|Connection: ,|Connection:", true),
        ("HTTP/1.1|Connection: closed", true),
        ("HTTP/1.1|Keep-Alive: close", true),
        ("HTTP/1.0|a: b", false),
        ("HTTP/1.0|Connection: Keep-Alive", true),
        ("HTTP/1.0|Connection: keep-alive, close", false),
        ("HTTP/1.0|Proxy-Connection: keep-alive", false),
    ] {
        let asked = asked(&format!("GET / {lines}|Host: a"));
        assert_eq!(asked.map(|facts| facts.keep_alive), Ok(stays), "{lines}");
        let answered = answered(
            &format!("{lines}|Content-Length: 0")
                .replacen('|', " 200|", 1)
                .replace("HTTP/1.1 ", ""),
        );
        assert_eq!(answered.map(|facts| facts.keep_alive), Ok(stays), "{lines}");
    }
}

#[test]
fn only_protocols_whose_bytes_may_pass_unread_are_asked_for() {
    for (lines, is_upgrade) in [
        ("HTTP/1.1|Connection: Upgrade|Upgrade: websocket", true),
        (
            "HTTP/1.1|Upgrade: a/1, b|Connection: keep-alive, upgrade",
            true,
        ),
        ("HTTP/1.1|Connection: upgrade", false),
        ("HTTP/1.1|Upgrade: websocket", false),
        ("HTTP/1.0|Connection: upgrade|Upgrade: websocket", false),
        ("HTTP/1.1|Connection: upgrade|Upgrade: h2c", false),
        (
            "HTTP/1.1|Connection: upgrade|Upgrade: websocket, H2C",
            false,
        ),
        (
            "HTTP/1.1|Connection: upgrade|Upgrade: websocket|Upgrade: h2c",
            false,
        ),
        (
            "HTTP/1.1|Connection: upgrade|Upgrade: h2c|Upgrade: websocket",
            false,
        ),
        ("HTTP/1.1|Connection: upgrade|Upgrade: HTTP/2.0", false),
        (
            "HTTP/1.1|Connection: upgrade|Upgrade: TLS/1.2, HTTP/1.1",
            false,
        ),
    ] {
        let asked = asked(&format!("GET / {lines}|Host: a"));
        assert_eq!(asked.map(|facts| facts.upgrade), Ok(is_upgrade), "{lines}");
    }
}

#[test]
fn a_client_waits_for_100_continue_with_a_body_alone() {
    for (lines, is_waiting) in [
        ("HTTP/1.1|Expect: 100-Continue|Content-Length: 1", true),
        (
            "HTTP/1.1|Transfer-Encoding: chunked|Expect: 100-continue",
            true,
        ),
        ("HTTP/1.1|Expect: 100-continue|Content-Length: 0", false),
        ("HTTP/1.1|Expect: 100-continue", false),
        ("HTTP/1.0|Expect: 100-continue|Content-Length: 1", false),
        ("HTTP/1.1|Expect: x|Content-Length: 1", false),
    ] {
        let asked = asked(&format!("PUT / {lines}|Host: a"));
        assert_eq!(asked.map(|facts| facts.expects_continue), Ok(is_waiting));
    }
}

#[test]
fn methods_say_what_may_be_sent_twice() {
    for (method, is_head, is_idempotent) in [
        ("GET", false, true),
        ("HEAD", true, true),
        ("PUT", false, true),
        ("DELETE", false, true),
        ("OPTIONS", false, true),
        ("TRACE", false, true),
        ("POST", false, false),
        ("PATCH", false, false),
        ("get", false, false),
        ("head", false, false),
    ] {
        let facts = asked(&format!("{method} / HTTP/1.1|Host: a")).unwrap();
        assert_eq!(
            (facts.is_head, facts.is_idempotent),
            (is_head, is_idempotent)
        );
    }
}

#[test]
fn lengths_of_responses_are_told_in_one_way() {
    for (lines, length, stays) in [
        ("200|Content-Length: 5", Length::Exactly(5), true),
        (
            "200|Content-Length: 5|Content-Length: 5",
            Length::Exactly(5),
            true,
        ),
        ("200|Transfer-Encoding: Chunked", Length::Chunked, true),
        ("200", Length::UntilEnd, false),
        (
            "HTTP/1.0 200|Connection: keep-alive",
            Length::UntilEnd,
            false,
        ),
        ("205|Content-Length: 0", Length::Exactly(0), true),
        ("204", Length::None, true),
        ("204|Content-Length: 0", Length::None, true),
        ("204|Content-Length: 5", Length::None, false),
        ("204|Content-Length: x", Length::None, false),
        ("204|Transfer-Encoding: chunked", Length::None, false),
        ("304|Content-Length: 5", Length::None, true),
        ("304|Transfer-Encoding: chunked", Length::None, true),
        ("304", Length::None, true),
        ("100|Content-Length: 5", Length::None, false),
        ("103|Link: a", Length::None, true),
    ] {
        let facts = answered(lines).unwrap();
        assert_eq!((facts.length, facts.keep_alive), (length, stays), "{lines}");
    }
    for lines in [
        "200|Content-Length: 5",
        "200|Transfer-Encoding: chunked",
        "200",
    ] {
        let facts = answered_to(lines, true, false).unwrap();
        assert_eq!((facts.length, facts.keep_alive), (Length::None, true));
    }
    for lines in [
        "200|Content-Length: 5|Transfer-Encoding: chunked",
        "200|Transfer-Encoding: chunked|Content-Length: 5",
        "304|Transfer-Encoding: chunked|Content-Length: 5",
        "200|Content-Length: 5|Content-Length: 6",
        "200|Content-Length: 5|Content-Length: x",
        "200|Content-Length: x|Content-Length: 5",
        "200|Content-Length: 5|Content-Length: 6|Content-Length: 6",
        "200|Content-Length: 5, 5",
        "200|Content-Length: +5",
        "200|Content-Length: -5",
        "200|Content-Length:",
        "200|Transfer-Encoding: gzip, chunked",
        "200|Transfer-Encoding: identity",
        "200|Transfer-Encoding: chunked|Transfer-Encoding: chunked",
        "HTTP/1.0 200|Transfer-Encoding: chunked",
    ] {
        for to_head in [false, true] {
            let fault = answered_to(lines, to_head, false).map(|facts| facts.length);
            assert_eq!(fault, Err(Fault::BadResponse), "{lines}");
        }
    }
}

#[test]
fn responses_switch_only_where_they_were_asked_to() {
    let switches = answered_to("101|Upgrade: websocket|Connection: upgrade", false, true);
    let switches = switches.unwrap();
    assert!(switches.switches && !switches.is_interim);
    assert_eq!(switches.length, Length::None);
    let unasked = answered("101|Upgrade: websocket");
    assert_eq!(unasked.map(|facts| facts.length), Err(Fault::BadResponse));
    for (lines, is_interim) in [("100", true), ("103", true), ("199", true), ("200", false)] {
        let facts = answered_to(lines, false, true).unwrap();
        assert_eq!((facts.is_interim, facts.switches), (is_interim, false));
    }
}

#[test]
fn backends_say_how_long_they_stay() {
    for (value, seconds) in [
        ("timeout=5", Some(5)),
        ("max=100, Timeout=60", Some(60)),
        ("timeout=5|Keep-Alive: max=3", Some(5)),
        ("timeout=0", Some(0)),
        ("timeout=-1", None),
        ("timeout=", None),
        ("timeout=4294967296", None),
        ("timeout", None),
        ("max=5", None),
    ] {
        let facts = answered(&format!("200|Content-Length: 0|Keep-Alive: {value}")).unwrap();
        assert_eq!(facts.idle_timeout_s, seconds, "{value}");
    }
}
