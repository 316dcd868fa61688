//! Cookies that are read as they were written, and others.

use super::*;
use crate::lb::pick::SplitMix;
use httparse::Header;

fn field<'a>(name: &'a str, value: &'a [u8]) -> Header<'a> {
    Header { name, value }
}

fn written(name: &str, host: u64, max_age_s: Option<u64>, secure: bool) -> String {
    let mut out = Vec::new();
    write(&mut out, name, host, max_age_s, secure);
    String::from_utf8(out).unwrap()
}

/// What a browser sends back.
fn pair(name: &str, host: u64) -> String {
    let line = written(name, host, None, false);
    let pair = line.strip_prefix("set-cookie: ").unwrap();
    pair.split(';').next().unwrap().to_owned()
}

fn read_one(value: &str, name: &str) -> Option<u64> {
    read(&[field("Cookie", value.as_bytes())], name)
}

#[test]
fn attributes_are_as_asked_for() {
    let value = pair("podline", 7);
    for (max_age_s, secure, expected) in [
        (None, false, "; Path=/; HttpOnly; SameSite=Lax\r\n"),
        (None, true, "; Path=/; HttpOnly; SameSite=Lax; Secure\r\n"),
        (
            Some(3_600),
            false,
            "; Max-Age=3600; Path=/; HttpOnly; SameSite=Lax\r\n",
        ),
    ] {
        let line = written("podline", 7, max_age_s, secure);
        assert_eq!(line, format!("set-cookie: {value}{expected}"));
    }
    for name in ["", "a b", "a=b", "a;b", "a\r\nb", "ä"] {
        assert_eq!(written(name, 7, None, false), "", "{name}");
    }
}

#[test]
fn every_host_is_read_as_it_was_written() {
    let mut random = SplitMix(1);
    let hosts = (0..1_000).map(|_| 1 + random.next() % ((1 << HOST_BITS) - 1));
    for host in hosts.chain([1, (1 << HOST_BITS) - 1]) {
        let pair = pair("podline", host);
        assert_eq!(pair.len(), "podline=".len() + DIGITS);
        assert!(
            !pair.contains(&format!("{host:010x}")),
            "{host:x} is in {pair}"
        );
        assert_eq!(read_one(&pair, "podline"), Some(host));
    }
}

/// Browsers keep cookies longer than a release lives.
#[test]
fn values_are_the_same_for_ever() {
    assert_eq!(pair("podline", 7), "podline=5bc8b983820fc61f");
}

#[test]
fn a_cookie_is_found_among_others() {
    let (one, two) = (pair("p", 1), pair("p", 2));
    let digits = &one[2..];
    for (value, expected) in [
        (one.clone(), Some(1)),
        (format!("a=b; {one}; c=d"), Some(1)),
        (format!("a=b;{one};c=d"), Some(1)),
        (format!("  a=b ;\t{one}\t; "), Some(1)),
        (format!("p=\"{digits}\""), Some(1)),
        (format!("{one}; {two}"), Some(1)),
        (format!("p=1234; {two}; {one}"), Some(2)),
        (format!("xp={digits}; pp={digits}; P={digits}"), None),
        (format!("a=\"; {one}\""), None),
        (format!("p ={digits}"), None),
        (format!("p= {digits}"), None),
        (format!("p={digits}0"), None),
        (format!("p=0{digits}"), None),
        (format!("p={}", digits.to_uppercase()), None),
        (format!("p=+{}", &digits[1..]), None),
        (format!("p=\"{digits}"), None),
        (format!("p={:016x}", mix(SALT)), None),
        (format!("p={:016x}", mix(SALT ^ 1 << HOST_BITS)), None),
        ("p=".to_owned(), None),
        ("p".to_owned(), None),
        ("=".to_owned(), None),
        (";;;".to_owned(), None),
        (String::new(), None),
    ] {
        assert_eq!(read_one(&value, "p"), expected, "{value}");
    }
    let fields = [
        field("cooked", one.as_bytes()),
        field("cookie", b"\xff=\xff; a=b"),
        field("COOKIE", two.as_bytes()),
        field("Cookie", one.as_bytes()),
    ];
    assert_eq!(read(&fields, "p"), Some(2));
    assert_eq!(read(&fields[..2], "p"), None);
}

/// Made-up values are nobody's: of 2^24 one is somebody's hash.
#[test]
fn what_nobody_wrote_is_ignored() {
    let mut random = SplitMix(2);
    let found = (0..100_000).filter(|_| {
        let value = format!("p={:016x}", random.next());
        read_one(&value, "p").is_some()
    });
    assert!(found.count() <= 1);
}
