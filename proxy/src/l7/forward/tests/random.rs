//! Heads of random fields: what comes out can be read in one way only.

use super::*;
use crate::l7::h1::framing;
use crate::lb::pick::SplitMix;

const NAMES: [&str; 24] = [
    "Host",
    "Content-Length",
    "content-length",
    "Transfer-Encoding",
    "Connection",
    "Upgrade",
    "TE",
    "Expect",
    "X-Forwarded-For",
    "x_forwarded_for",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Real-IP",
    "Forwarded",
    "Proxy-Connection",
    "Keep-Alive",
    "Cookie",
    "X",
    "a",
    "X-Forwarded-",
    "Set-Cookie",
    "Trailer",
    "Proxy-Authenticate",
    "proxy",
];
const VALUES: [&str; 16] = [
    "",
    "1",
    "5, 5",
    "chunked",
    "chunked, gzip",
    "close",
    "keep-alive, upgrade",
    "host, content-length, transfer-encoding, a",
    "x-forwarded-for, x, te",
    "websocket",
    "h2c",
    "trailers, gzip",
    "10.0.0.1, 10.0.0.2",
    "for=\"[::1]\";by=x",
    "\u{e4}\u{7d}",
    "a\tb  c",
];

fn one<T: Copy>(random: &mut SplitMix, of: &[T]) -> T {
    of[usize::try_from(random.next() % of.len() as u64).unwrap()]
}

fn fields(random: &mut SplitMix) -> String {
    let count = random.next() % 20;
    let field = |_| format!("{}: {}\r\n", one(random, &NAMES), one(random, &VALUES));
    (0..count).map(field).collect::<Vec<_>>().concat()
}

/// Reads a head that came out: it takes up all bytes. How many fields have a name, and the value of the last.
fn named<'a>(fields: &'a [Header<'_>], name: &str) -> (usize, &'a [u8]) {
    let of = |field: &&Header<'_>| field.name.eq_ignore_ascii_case(name);
    let last = fields.iter().rfind(of).map_or(&[][..], |field| field.value);
    (fields.iter().filter(of).count(), last)
}

fn check_framing(fields: &[Header<'_>], length: Length, chunks: bool) {
    let (lengths, value) = named(fields, "content-length");
    let (codings, coding) = named(fields, "transfer-encoding");
    assert!(lengths + codings <= 1, "{lengths} {codings}");
    match length {
        Length::Exactly(bytes) => assert_eq!(value, bytes.to_string().as_bytes()),
        Length::Chunked | Length::UntilEnd => {
            assert_eq!((lengths, codings), (0, usize::from(chunks)));
            assert!(!chunks || coding == b"chunked");
        }
        Length::None => assert_eq!(codings, 0),
    }
    for name in [
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy",
    ] {
        let is_response_s = name == "proxy" || name == "proxy-authenticate";
        assert!(is_response_s || named(fields, name).0 == 0, "{name}");
    }
    assert!(named(fields, "connection").0 <= 1);
    for field in fields {
        assert!(!field.value.contains(&b'\r') && !field.value.contains(&b'\n'));
    }
}

#[test]
fn a_request_that_comes_out_is_read_in_one_way() {
    let mut random = SplitMix(11);
    for _ in 0..20_000 {
        let length = one(
            &mut random,
            &[Length::None, Length::Exactly(5), Length::Chunked],
        );
        let facts = RequestFacts {
            upgrade: random.next().is_multiple_of(2),
            expects_continue: random.next().is_multiple_of(2),
            ..facts(length)
        };
        let from = From {
            is_trusted: random.next().is_multiple_of(2),
            ..direct()
        };
        let sent = fields(&mut random);
        let lines = request(&sent, &facts, &from);
        let out = lines.join("\r\n") + "\r\n\r\n";
        let mut room = head::fields();
        let head = head::request(out.as_bytes(), &mut room, 65_536);
        let head = head.unwrap().unwrap();
        assert_eq!((head.length, head.target), (out.len(), "/x?y"));
        assert_eq!(head.version, Version::Http11);
        assert_eq!(named(head.fields, "host"), (1, &b"a.org"[..]));
        assert_eq!(head.fields.len() + 1, lines.len());
        check_framing(head.fields, length, true);
        let (lists, list) = named(head.fields, "x-forwarded-for");
        assert_eq!(lists, 1);
        assert!(list.ends_with(b"192.0.2.7"));
        assert!(from.is_trusted || list == b"192.0.2.7");
        for name in [
            "x-real-ip",
            "x-forwarded-proto",
            "x-forwarded-host",
            "x-forwarded-port",
        ] {
            let count = named(head.fields, name).0;
            assert!(count == 1 || from.is_trusted && count > 1, "{name} {sent}");
        }
        for name in ["x_forwarded_for", "forwarded", "x-forwarded-"] {
            assert!(from.is_trusted || named(head.fields, name).0 == 0, "{name}");
        }
    }
}

#[test]
fn a_response_that_comes_out_is_read_in_one_way() {
    let mut random = SplitMix(12);
    let lengths = [
        Length::None,
        Length::Exactly(5),
        Length::Chunked,
        Length::UntilEnd,
    ];
    for _ in 0..20_000 {
        let length = one(&mut random, &lengths);
        let onward = Onward {
            version: one(&mut random, &[Version::Http10, Version::Http11]),
            close: random.next().is_multiple_of(2),
        };
        let status = one(&mut random, &[200, 204, 304, 426, 999]);
        let start = format!("HTTP/1.0 {status} a b");
        let sent = fields(&mut random);
        let lines = response(&start, &sent, &answered(length), onward);
        let out = lines.join("\r\n") + "\r\n\r\n";
        let mut room = head::fields();
        let head = head::response(out.as_bytes(), &mut room, 65_536);
        let head = head.unwrap().unwrap();
        assert_eq!((head.status, head.phrase), (status, "a b"));
        assert_eq!(head.length, out.len());
        check_framing(head.fields, length, onward.version == Version::Http11);
        let closes = named(head.fields, "connection").1.ends_with(b"close");
        assert_eq!(closes, onward.close, "{sent}");
    }
}

/// Through the readers, and what comes out through them again: it says the same.
#[test]
fn what_is_asked_and_forwarded_reads_as_before() {
    let mut random = SplitMix(13);
    let (mut forwarded, mut chunked) = (0, 0);
    for _ in 0..60_000 {
        let targets = ["/x?y", "http://b.org:81/p", "*", "/a%2f../b"];
        let target = one(&mut random, &targets);
        let method = one(&mut random, &["GET", "POST", "OPTIONS", "HEAD"]);
        let version = one(&mut random, &["1.0", "1.1"]);
        let hosts = ["Host: a.org:80\r\n", "host: [::1]\r\n", ""];
        let host = one(&mut random, &hosts);
        let others = fields(&mut random);
        let sent = format!("{method} {target} HTTP/{version}\r\n{host}{others}\r\n");
        let mut room = head::fields();
        let Ok(Some(read)) = head::request(sent.as_bytes(), &mut room, 65_536) else {
            continue;
        };
        let Ok(facts) = framing::request(&read) else {
            continue;
        };
        let mut out = Vec::new();
        request_head(&mut out, &read, &facts, &direct());
        let mut room = head::fields();
        let again = head::request(&out, &mut room, 65_536).unwrap().unwrap();
        assert_eq!((again.length, again.method), (out.len(), read.method));
        if facts.host.is_empty() {
            // Of HTTP/1.0. Backends get an empty host, which is refused here.
            assert_eq!(version, "1.0");
            continue;
        }
        let same = framing::request(&again).unwrap();
        let told = |facts: &RequestFacts<'_>| (facts.upgrade, facts.expects_continue);
        assert_eq!(told(&same), told(&facts), "{sent}");
        let aim = |facts: &RequestFacts<'_>| format!("{} {}", facts.host, facts.path_and_query);
        assert_eq!(aim(&same), aim(&facts), "{sent}");
        assert_eq!(same.length, facts.length, "{sent}");
        assert!(same.keep_alive, "backends keep the connection");
        forwarded += 1;
        chunked += u32::from(facts.length == Length::Chunked);
    }
    assert!(forwarded > 1_000 && chunked > 50, "{forwarded}, {chunked}");
}

#[test]
fn what_is_answered_and_forwarded_reads_as_before() {
    let mut random = SplitMix(14);
    let mut forwarded = 0;
    for _ in 0..60_000 {
        let status = one(&mut random, &[101, 103, 200, 204, 304, 426]);
        let version = one(&mut random, &["1.0", "1.1"]);
        let to_head = random.next().is_multiple_of(4);
        let others = fields(&mut random);
        let sent = format!("HTTP/{version} {status} X\r\n{others}\r\n");
        let mut room = head::fields();
        let Ok(Some(read)) = head::response(sent.as_bytes(), &mut room, 65_536) else {
            continue;
        };
        let Ok(facts) = framing::response(&read, to_head, true) else {
            continue;
        };
        let onward = Onward {
            version: one(&mut random, &[Version::Http10, Version::Http11]),
            close: random.next().is_multiple_of(2),
        };
        let mut out = Vec::new();
        response_head(&mut out, &read, &facts, onward, b"");
        let mut room = head::fields();
        let again = head::response(&out, &mut room, 65_536).unwrap().unwrap();
        assert_eq!((again.length, again.status), (out.len(), status));
        let same = framing::response(&again, to_head, true).unwrap();
        let expected = match facts.length {
            Length::UntilEnd if onward.version == Version::Http11 => Length::Chunked,
            Length::Chunked if onward.version == Version::Http10 => Length::UntilEnd,
            length => length,
        };
        assert_eq!(same.length, expected, "{sent}");
        assert_eq!(same.switches, facts.switches);
        assert_eq!(same.is_interim, facts.is_interim);
        forwarded += 1;
    }
    assert!(forwarded > 10_000, "{forwarded}");
}
