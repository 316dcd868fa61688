//! Spellings of paths and how they are seen.

use super::view;
use crate::lb::pick::SplitMix;
use std::borrow::Cow;

#[test]
fn each_spelling_has_its_view() {
    for (path, expected) in [
        ("/", "/"),
        ("", "/"),
        ("*", "/"),
        ("a/b", "/"),
        ("/a/b", "/a/b"),
        ("/a//b/", "/a//b/"),
        ("/a.b/c..d/e.", "/a.b/c..d/e."),
        ("/%61%2D%2e%5f%7E", "/a-._~"),
        ("/%2f%3a%2F", "/%2F%3A%2F"),
        ("/%252e", "/%252e"),
        ("/%", "/%25"),
        ("/%4", "/%254"),
        ("/%zz%+1", "/%25zz%25+1"),
        ("/a/.", "/a/"),
        ("/a/./b", "/a/b"),
        ("/a/..", "/"),
        ("/a/b/..", "/a/"),
        ("/a/b/../c", "/a/c"),
        ("/a/%2e./c", "/c"),
        ("/..", "/"),
        ("/../..", "/"),
        ("/.", "/"),
        ("/...", "/..."),
        ("/.a/..b", "/.a/..b"),
        ("/a//../b", "/a/b"),
        ("/a/..;v=1/b", "/b"),
        ("/a/.;/b", "/a/b"),
        ("/a;v=1/b", "/a;v=1/b"),
        ("/a%2F..%2Fb", "/b"),
        ("/a/..%5cb", "/b"),
        ("/a/.%2fb", "/a/b"),
        ("/x/a\\..\\b", "/x/b"),
        ("/a%2Fb", "/a%2Fb"),
        ("/ä/../ö%C3%A4", "/ö%C3%A4"),
    ] {
        assert_eq!(view(path), expected, "{path}");
    }
}

#[test]
fn usual_paths_are_seen_as_they_are() {
    for path in ["/", "/a/b", "/index.html", "/a/b.c/", "/a;b=c,d"] {
        assert!(
            matches!(view(path), Cow::Borrowed(same) if same == path),
            "{path}"
        );
    }
}

/// A view has no dot segment left, and is its own view.
#[test]
fn a_view_says_all() {
    let parts = [
        "/", "a", ".", "..", "%2e", "%2F", "\\", ";", "%41", "%", "b", "%5C", "ä",
    ];
    let mut random = SplitMix(3);
    for _ in 0..50_000 {
        let count = random.next() % 12;
        let path: String = (0..count)
            .map(|_| parts[usize::try_from(random.next()).unwrap() % parts.len()])
            .collect();
        let path = format!("/{path}");
        let seen = view(&path).into_owned();
        assert!(seen.starts_with('/'), "{path} -> {seen}");
        let plain = seen
            .replace("%2F", "/")
            .replace("%5C", "/")
            .replace('\\', "/");
        let dotted = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
        assert!(!plain.split('/').any(dotted), "{path} -> {seen}");
        assert_eq!(view(&seen), seen, "{path}");
    }
}
