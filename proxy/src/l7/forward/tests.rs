//! Heads as they come out, byte by byte; and whatever goes in, one framing and no line that is not a field.

use super::*;
use crate::l7::h1::head;

mod identity;
mod measure;
mod random;

/// What stands in a head behind its start line, line by line.
fn lines(out: &[u8]) -> Vec<String> {
    let text = String::from_utf8(out.to_vec()).unwrap();
    let text = text.strip_suffix("\r\n\r\n").unwrap();
    text.split("\r\n").map(str::to_owned).collect()
}

fn facts(length: Length) -> RequestFacts<'static> {
    RequestFacts {
        length,
        keep_alive: true,
        host: "a.org",
        path_and_query: "/x?y",
        is_head: false,
        is_idempotent: true,
        upgrade: false,
        expects_continue: false,
    }
}

fn direct() -> From {
    From {
        client: ([192, 0, 2, 7], 40_000).into(),
        port: 80,
        is_tls: false,
        is_trusted: false,
    }
}

/// What a direct client's request ends with.
const IDENTITY: [&str; 5] = [
    "x-forwarded-for: 192.0.2.7",
    "x-real-ip: 192.0.2.7",
    "x-forwarded-proto: http",
    "x-forwarded-host: a.org",
    "x-forwarded-port: 80",
];

/// The head that comes out for a request with these fields, as lines.
fn request(fields: &str, facts: &RequestFacts<'_>, from: &From) -> Vec<String> {
    let bytes = format!("POST http://a.org/x?y HTTP/1.1\r\n{fields}\r\n");
    let mut room = head::fields();
    let head = head::request(bytes.as_bytes(), &mut room, 65_536);
    let head = head.unwrap().unwrap();
    let mut out = b"before".to_vec();
    request_head(&mut out, &head, facts, from);
    lines(out.strip_prefix(b"before").unwrap())
}

/// The fields that stay, of a direct client's request; those that tell of the client are checked and left out.
fn kept(fields: &str, facts: &RequestFacts<'_>) -> Vec<String> {
    let mut lines = request(fields, facts, &direct());
    assert_eq!(lines[..2], ["POST /x?y HTTP/1.1", "host: a.org"]);
    let at = lines.iter().position(|line| line == IDENTITY[0]).unwrap();
    let identity: Vec<String> = lines.drain(at..at + IDENTITY.len()).collect();
    assert_eq!(identity, IDENTITY);
    lines.split_off(2)
}

#[test]
fn order_and_case_of_fields_that_stay_are_kept() {
    let kept = kept(
        "Host: other.org\r\nUser-Agent: x\r\nACCEPT:  */* \r\nX-Empty:\r\nx-b: 1\r\nVia: 1.1 v\r\nX-B: 2\r\nCookie: a=b\r\n",
        &facts(Length::None),
    );
    let expected = [
        "User-Agent: x",
        "ACCEPT: */*",
        "X-Empty: ",
        "x-b: 1",
        "Via: 1.1 v",
        "X-B: 2",
        "Cookie: a=b",
    ];
    assert_eq!(kept, expected);
}

#[test]
fn hop_by_hop_fields_go() {
    let fields = "Connection: keep-alive, x-mine\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\nX-MINE: 1\r\n\
        Proxy-Authorization: Basic x\r\nTE: gzip\r\nUpgrade: websocket\r\nHTTP2-Settings: x\r\nProxy: http://evil\r\n\
        Trailer: x-sum\r\nExpect: 100-continue\r\nconnection: x-other ,, \"\r\nX-Other: 2\r\n";
    assert_eq!(kept(fields, &facts(Length::None)), ["Trailer: x-sum"]);
}

#[test]
fn connection_cannot_take_out_what_says_who_asks_and_for_what() {
    let fields = "Connection: host, content-length, transfer-encoding, authorization, cookie, x-forwarded-for\r\n\
        Connection: X-Real-IP, forwarded, x-forwarded-proto, content-type, close, expect, x-forwarded-host\r\n\
        Authorization: a\r\nCookie: b\r\nContent-Type: c\r\nContent-Length: 5\r\nExpect: 100-continue\r\n";
    let facts = RequestFacts {
        expects_continue: true,
        ..facts(Length::Exactly(5))
    };
    let expected = [
        "Authorization: a",
        "Cookie: b",
        "Content-Type: c",
        "Expect: 100-continue",
        "content-length: 5",
    ];
    assert_eq!(kept(fields, &facts), expected);
    // Of very many names the first few count: looking for each in each field would cost a client nothing.
    let many: Vec<_> = (0..5_000).map(|n| format!("n{n},")).collect();
    let many = many.concat();
    let fields = format!("Connection: {many}\r\nn0: a\r\nn15: b\r\nn16: c\r\n");
    assert_eq!(kept(&fields, &self::facts(Length::None)), ["n16: c"]);
}

#[test]
fn a_body_has_one_framing() {
    let both = "Content-Length: 5\r\ncontent-length: 5\r\nTransfer-Encoding: chunked\r\nTransfer_Encoding: x\r\n";
    for (fields, length, expected) in [
        (both, Length::Exactly(5), "content-length: 5"),
        (both, Length::Chunked, "transfer-encoding: chunked"),
        ("Content-Length: 0\r\n", Length::None, "content-length: 0"),
        (
            "content-length: 00\r\n",
            Length::Exactly(0),
            "content-length: 0",
        ),
        (
            "",
            Length::Exactly(u64::MAX),
            "content-length: 18446744073709551615",
        ),
        ("", Length::None, ""),
    ] {
        let mut kept = kept(fields, &facts(length));
        kept.retain(|line| line.contains("content-length") || line.contains("transfer-encoding"));
        let expected = [expected].into_iter().filter(|line| !line.is_empty());
        assert_eq!(kept, expected.collect::<Vec<_>>(), "{length:?}");
    }
}

#[test]
fn trailers_and_upgrades_are_asked_for_where_the_client_does() {
    let upgrade = RequestFacts {
        upgrade: true,
        ..facts(Length::None)
    };
    let plain = facts(Length::None);
    for (fields, facts, expected) in [
        (
            "TE: trailers\r\n",
            &plain,
            vec!["te: trailers", "connection: te"],
        ),
        (
            "TE: gzip;q=0.5, Trailers;q=1\r\n",
            &plain,
            vec!["te: trailers", "connection: te"],
        ),
        ("TE: trailersx, gzip\r\n", &plain, vec![]),
        (
            "Upgrade: websocket\r\nConnection: Upgrade\r\n",
            &upgrade,
            vec!["Upgrade: websocket", "connection: upgrade"],
        ),
        (
            "Connection: Upgrade, TE\r\nUpgrade: websocket\r\nTE: trailers\r\n",
            &upgrade,
            vec![
                "Upgrade: websocket",
                "te: trailers",
                "connection: upgrade, te",
            ],
        ),
        (
            "Upgrade: websocket\r\nConnection: Upgrade\r\n",
            &plain,
            vec![],
        ),
        (
            "Connection: HTTP2-Settings\r\nHTTP2-Settings: x\r\n",
            &plain,
            vec![],
        ),
    ] {
        assert_eq!(kept(fields, facts), expected, "{fields}");
    }
}

#[test]
fn a_request_without_a_host_has_an_empty_one() {
    let facts = RequestFacts {
        host: "",
        path_and_query: "*",
        ..facts(Length::None)
    };
    let lines = request("", &facts, &direct());
    assert_eq!(lines[..3], ["POST * HTTP/1.1", "host: ", IDENTITY[0]]);
    assert!(
        !lines
            .iter()
            .any(|line| line.starts_with("x-forwarded-host"))
    );
}

fn answered(length: Length) -> ResponseFacts {
    ResponseFacts {
        length,
        keep_alive: true,
        idle_timeout_s: None,
        switches: false,
        is_interim: false,
    }
}

const STAYS: Onward = Onward {
    version: Version::Http11,
    close: false,
};

fn response(start: &str, fields: &str, facts: &ResponseFacts, onward: Onward) -> Vec<String> {
    let bytes = format!("{start}\r\n{fields}\r\n");
    let mut room = head::fields();
    let head = head::response(bytes.as_bytes(), &mut room, 65_536);
    let head = head.unwrap().unwrap();
    let mut out = Vec::new();
    response_head(&mut out, &head, facts, onward, b"set-cookie: p=1\r\n");
    let mut lines = lines(&out);
    let cookies = lines.len();
    lines.retain(|line| line != "set-cookie: p=1");
    let has_cookie = cookies - lines.len() == 1;
    assert_eq!(has_cookie, !facts.is_interim, "{lines:?}");
    lines
}

#[test]
fn responses_are_the_backend_s_but_for_hop_by_hop_fields() {
    let fields = "Server: x\r\nDATE: y\r\nConnection: close, x-mine, set-cookie\r\nKeep-Alive: timeout=5\r\nX-Mine: z\r\n\
        Set-Cookie: a=b\r\nset-cookie: c=d\r\nProxy-Authenticate: x\r\nUpgrade: h2c\r\nVia: 1.0 v\r\nX-Forwarded-For: w\r\n";
    let lines = response(
        "HTTP/1.0 299 All  good",
        fields,
        &answered(Length::Exactly(3)),
        STAYS,
    );
    let expected = [
        "HTTP/1.1 299 All  good",
        "Server: x",
        "DATE: y",
        "Set-Cookie: a=b",
        "set-cookie: c=d",
        "Via: 1.0 v",
        "X-Forwarded-For: w",
        "content-length: 3",
    ];
    assert_eq!(lines, expected);
    let bare = response("HTTP/1.1 200", "", &answered(Length::Exactly(0)), STAYS);
    assert_eq!(bare, ["HTTP/1.1 200 ", "content-length: 0"]);
}

#[test]
fn a_body_is_told_of_as_the_client_can_read_it() {
    let old = |close| Onward {
        version: Version::Http10,
        close,
    };
    let closes = Onward {
        close: true,
        ..STAYS
    };
    let chunked = "transfer-encoding: chunked";
    for (length, onward, expected) in [
        (Length::Exactly(9), STAYS, vec!["content-length: 9"]),
        (
            Length::Exactly(9),
            closes,
            vec!["content-length: 9", "connection: close"],
        ),
        (
            Length::Exactly(9),
            old(false),
            vec!["content-length: 9", "connection: keep-alive"],
        ),
        (Length::Chunked, STAYS, vec![chunked]),
        (Length::Chunked, old(true), vec!["connection: close"]),
        (Length::UntilEnd, STAYS, vec![chunked]),
        (Length::UntilEnd, closes, vec![chunked, "connection: close"]),
        (Length::UntilEnd, old(true), vec!["connection: close"]),
        // As to HEAD: what it would have been.
        (Length::None, STAYS, vec!["content-length: 7"]),
    ] {
        let fields = "Content-Length: 7\r\nTransfer-Encoding: chunked\r\nContent-Length: 8\r\n";
        let lines = response("HTTP/1.1 200 OK", fields, &answered(length), onward);
        assert_eq!(lines[1..], expected, "{length:?} {onward:?}");
    }
}

#[test]
fn a_response_without_a_body_keeps_its_length_where_it_may_have_one() {
    for (status, value, expected) in [
        (304, "12", Some("content-length: 12")),
        (304, "+12", None),
        (304, "", None),
        (304, "99999999999999999999", None),
        (204, "0", None),
        (205, "0", Some("content-length: 0")),
    ] {
        let fields = format!("Content-Length: {value}\r\n");
        let start = format!("HTTP/1.1 {status} X");
        let lines = response(&start, &fields, &answered(Length::None), STAYS);
        assert_eq!(
            lines.get(1).map(String::as_str),
            expected,
            "{status} {value}"
        );
    }
}

#[test]
fn interim_responses_and_switches_say_nothing_of_the_connection() {
    let interim = ResponseFacts {
        is_interim: true,
        ..answered(Length::None)
    };
    let closes = Onward {
        close: true,
        ..STAYS
    };
    let fields = "Link: </a>\r\nConnection: close\r\nContent-Length: 0\r\n";
    let lines = response("HTTP/1.1 103 Early Hints", fields, &interim, closes);
    assert_eq!(lines, ["HTTP/1.1 103 Early Hints", "Link: </a>"]);

    let switches = ResponseFacts {
        switches: true,
        ..answered(Length::None)
    };
    let fields = "UPGRADE: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n";
    let lines = response(
        "HTTP/1.1 101 Switching Protocols",
        fields,
        &switches,
        closes,
    );
    let expected = [
        "HTTP/1.1 101 Switching Protocols",
        "UPGRADE: websocket",
        "Sec-WebSocket-Accept: x",
        "connection: upgrade",
    ];
    assert_eq!(lines, expected);

    let fields = "Upgrade: TLS/1.3\r\nConnection: Upgrade\r\nContent-Length: 1\r\n";
    let lines = response(
        "HTTP/1.1 426 Upgrade Required",
        fields,
        &answered(Length::Exactly(1)),
        closes,
    );
    assert_eq!(
        lines[1..],
        [
            "Upgrade: TLS/1.3",
            "content-length: 1",
            "connection: upgrade, close"
        ]
    );
}
