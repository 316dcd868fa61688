//! Targets and hosts, one a row.

use super::*;

#[test]
fn targets_are_read_in_the_forms_that_their_methods_have() {
    for (line, host, path) in [
        ("GET /", None, "/"),
        ("GET /a/../b?c=//d", None, "/a/../b?c=//d"),
        ("GET //host/a", None, "//host/a"),
        ("OPTIONS *", None, "*"),
        ("OPTIONS /", None, "/"),
        ("GET http://a", Some("a"), "/"),
        ("GET HTTP://a:80/b?c", Some("a:80"), "/b?c"),
        ("GET https://[::1]:443/", Some("[::1]:443"), "/"),
        ("OPTIONS http://a", Some("a"), "*"),
        ("OPTIONS http://a/", Some("a"), "/"),
    ] {
        let (method, target) = line.split_once(' ').unwrap();
        let expected = Target {
            host,
            path_and_query: path,
        };
        assert_eq!(read(method, target), Ok(expected), "{line}");
    }
}

#[test]
fn other_targets_are_refused() {
    for (line, fault) in [
        ("GET *", Fault::Malformed),
        ("OPTIONS **", Fault::Malformed),
        ("GET a", Fault::Malformed),
        ("GET a:80", Fault::Malformed),
        ("GET ?a", Fault::Malformed),
        ("GET \\a", Fault::Malformed),
        ("GET /a#b", Fault::Malformed),
        ("GET http://a/#b", Fault::Malformed),
        ("GET ftp://a/", Fault::Malformed),
        ("GET http:/a", Fault::Malformed),
        ("GET http:a", Fault::Malformed),
        ("GET http://a?b", Fault::Malformed),
        ("GET http\u{e9}://a", Fault::Malformed),
        ("GET http://", Fault::BadHost),
        ("GET http:///a", Fault::BadHost),
        ("GET http://:80/a", Fault::BadHost),
        ("GET http://a@b/", Fault::BadHost),
        ("GET http://a:b@c/", Fault::BadHost),
        ("GET http://a\\b/", Fault::BadHost),
        ("GET http://a,b/", Fault::BadHost),
        ("GET http://a:/", Fault::BadHost),
    ] {
        let (method, target) = line.split_once(' ').unwrap();
        assert_eq!(read(method, target), Err(fault), "{line}");
    }
}

#[test]
fn hosts_are_names_or_addresses_with_or_without_a_port() {
    for value in [
        "",
        "example.com",
        "EXAMPLE.com.",
        "a_b~c-d.e:1",
        "192.0.2.1",
        "192.0.2.1:65535",
        "[::1]",
        "[2001:db8::192.0.2.1]:00080",
    ] {
        assert_eq!(host(value.as_bytes()), Ok(value));
    }
    for value in [
        ":80",
        "a:",
        "a:b",
        "a:65536",
        "a:+80",
        "a:000080",
        "a:80:80",
        "a b",
        "a,b",
        "a/b",
        "a?b",
        "a#b",
        "a@b",
        "a\\b",
        "a%41",
        "a;b",
        "b\u{fc}cher.example",
        "[::1",
        "::1",
        "[]",
        "[::1]a",
        "[::1]:",
        "[fe80::1%eth0]",
        "[v1.a]",
        "[192.0.2.1]",
        "a[::1]",
        "\"a\"",
    ] {
        assert_eq!(host(value.as_bytes()), Err(Fault::BadHost), "{value}");
    }
    assert_eq!(host(b"a\xff"), Err(Fault::BadHost));
}
