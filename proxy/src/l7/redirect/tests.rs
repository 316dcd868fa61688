//! Where redirects lead, and what does not get into a field.

use super::*;

fn to(host: &str, port: u16, scheme: &str) -> Redirect {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Redirect {
        scheme: some(scheme),
        host: some(host),
        port: (port > 0).then_some(port),
        path: None,
        status: 302,
    }
}

fn asked<'a>(host: &'a str, path_and_query: &'a str) -> Asked<'a> {
    Asked {
        host,
        path_and_query,
        is_tls: false,
        matched: 0,
    }
}

#[test]
fn what_is_absent_stays_as_it_was_asked_for() {
    for (to, is_tls, host, expected) in [
        (to("", 0, ""), false, "a.org", "http://a.org"),
        (to("", 0, ""), true, "a.org", "https://a.org"),
        (to("", 0, ""), false, "A.org:8080", "http://A.org:8080"),
        (to("", 0, ""), false, "a.org:80", "http://a.org"),
        (to("", 0, ""), true, "a.org:80", "https://a.org:80"),
        (to("", 0, ""), false, "a.org:", "http://a.org"),
        (to("", 0, "https"), false, "a.org", "https://a.org"),
        (to("", 0, "https"), false, "a.org:8080", "https://a.org"),
        (to("", 0, "https"), true, "a.org:8443", "https://a.org:8443"),
        (
            to("", 8443, "https"),
            false,
            "a.org:1",
            "https://a.org:8443",
        ),
        (to("", 443, "https"), false, "a.org:1", "https://a.org"),
        (to("", 80, "https"), false, "a.org:1", "https://a.org:80"),
        (to("b.org", 0, ""), false, "a.org:8080", "http://b.org:8080"),
        (to("b.org", 0, "http"), true, "a.org:8443", "http://b.org"),
        (to("b.org", 0, "https"), false, "", "https://b.org"),
        (
            to("b.org", 0, "https"),
            false,
            "a.org/evil",
            "https://b.org",
        ),
        (
            to("", 0, ""),
            false,
            "[2001:db8::1]:8080",
            "http://[2001:db8::1]:8080",
        ),
        (to("", 0, ""), false, "10.0.0.1", "http://10.0.0.1"),
        (to("", 0, ""), false, "", ""),
    ] {
        let asked = Asked {
            is_tls,
            ..asked(host, "/x?y=/z")
        };
        let location = location(&to, &asked).unwrap();
        assert_eq!(location, format!("{expected}/x?y=/z"), "{to:?} {host}");
    }
}

/// The table of the Gateway API's ReplacePrefixMatch, and more.
#[test]
fn the_prefix_that_matched_is_replaced() {
    for (path, matched, prefix, expected) in [
        ("/foo/bar", 4, "/xyz", "/xyz/bar"),
        ("/foo/bar", 4, "/xyz/", "/xyz/bar"),
        ("/foo", 4, "/xyz", "/xyz"),
        ("/foo/", 4, "/xyz", "/xyz/"),
        ("/foo/bar", 4, "", "/bar"),
        ("/foo/", 4, "", "/"),
        ("/foo", 4, "", "/"),
        ("/foo/", 4, "/", "/"),
        ("/foo", 4, "/", "/"),
        ("/foo/bar", 0, "/xyz", "/xyz/foo/bar"),
        ("/", 0, "/xyz", "/xyz/"),
        ("/%66oo/x/../b%41r", 4, "/xyz", "/xyz/bAr"),
        ("/foo", 4, "xyz", "/xyz"),
        ("/foo", 99, "/xyz", "/xyz"),
        ("*", 0, "/xyz", "/xyz/"),
    ] {
        let mut to = to("a.org", 0, "");
        to.path = Some(RedirectPath::Prefix(prefix.to_owned()));
        let with_query = format!("{path}?q=/foo");
        let asked = Asked {
            matched,
            ..asked("b", &with_query)
        };
        let expected = format!("http://a.org{expected}?q=/foo");
        assert_eq!(location(&to, &asked), Some(expected), "{path} {prefix}");
    }
}

#[test]
fn a_full_path_replaces_all_but_the_query() {
    for (full, path, expected) in [
        ("/new", "/a/b?c", "/new?c"),
        ("/new", "/a", "/new"),
        ("new", "/a", "/new"),
        ("", "/a", "/"),
        ("/n w\r\n", "/a", "/n%20w%0D%0A"),
    ] {
        let mut to = to("a.org", 0, "");
        to.path = Some(RedirectPath::Full(full.to_owned()));
        let expected = format!("http://a.org{expected}");
        assert_eq!(location(&to, &asked("b", path)), Some(expected), "{full}");
    }
}

#[test]
fn nobody_is_sent_to_a_host_that_the_request_made_up() {
    for host in [
        "",
        "a@b",
        "a b",
        "a/b",
        "a\\b",
        "a?b",
        "a#b",
        "a\r\nset-cookie: x",
        "a:b",
        "a:99999",
        "a:+80",
        "a:80:80",
        "[::1",
        "[::1]x",
        "[x]",
        "::1",
        "ä",
        &"a".repeat(254),
    ] {
        assert_eq!(
            location(&to("", 0, "https"), &asked(host, "/")),
            None,
            "{host}"
        );
    }
    // A path alone must not be one that names a host.
    assert_eq!(location(&to("", 0, ""), &asked("", "//evil.org/")), None);
    assert_eq!(
        location(&to("", 0, ""), &asked("", "/\\evil.org/")).unwrap(),
        "/%5Cevil.org/"
    );
    assert_eq!(location(&to("", 81, ""), &asked("", "/")), None);
    assert_eq!(location(&to("", 0, "javascript"), &asked("a", "/")), None);
    assert_eq!(location(&to("a\r\nb", 0, ""), &asked("a", "/")), None);
}

#[test]
fn whatever_the_path_only_visible_ascii_comes_out() {
    let path: String = (0..0x250).filter_map(char::from_u32).collect();
    let path = format!("/{path}");
    for kept in [None, Some(RedirectPath::Prefix("/ \r\n".to_owned()))] {
        let to = Redirect {
            path: kept,
            ..to("", 0, "")
        };
        let location = location(&to, &asked("a", &path)).unwrap();
        assert!(
            location.bytes().all(|byte| byte.is_ascii_graphic()),
            "{location}"
        );
    }
}
