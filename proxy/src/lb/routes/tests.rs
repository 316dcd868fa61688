//! Precedence, spellings, and the index against a scan of the list.

use super::*;
use crate::lb::pick::SplitMix;
use podline_api::{PathMatch, Redirect};
use std::collections::BTreeMap;

mod measure;

const DEFAULT: SetId = SetId(0);

fn redirect(status: u16) -> Redirect {
    Redirect {
        scheme: Some("https".to_owned()),
        host: None,
        port: None,
        path: None,
        status,
    }
}

/// A route to the set "n"; "=" before the path: this one alone.
fn route(hosts: &[&str], path: &str, n: u32) -> HttpRoute {
    HttpRoute {
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        path: match path.strip_prefix('=') {
            Some(path) => PathMatch::Exact(path.to_owned()),
            None => PathMatch::Prefix(path.to_owned()),
        },
        action: RouteAction::Forward(format!("n{n}").parse().unwrap()),
    }
}

fn number(name: &Name) -> Option<SetId> {
    name.as_str()[1..].parse().ok().map(SetId)
}

fn routes(all: &[HttpRoute]) -> Routes {
    Routes::new(all, Some(DEFAULT), number)
}

fn found(routes: &Routes, host: &str, path: &str) -> u32 {
    match routes.find(host, path) {
        Some(Found::Forward(SetId(n))) => n,
        other => panic!("{host} {path}: {other:?}"),
    }
}

fn check(all: &[HttpRoute], expected: &[(&str, &str, u32)]) {
    let compiled = routes(all);
    let mut backwards = all.to_vec();
    backwards.reverse();
    let backwards = routes(&backwards);
    for (host, path, n) in expected {
        assert_eq!(found(&compiled, host, path), *n, "{host} {path}");
        assert_eq!(
            found(&backwards, host, path),
            *n,
            "backwards: {host} {path}"
        );
    }
}

#[test]
fn the_most_specific_host_with_a_path_that_matches_takes_it() {
    check(
        &[
            route(&[], "/", 1),
            route(&["*.example.com"], "/", 2),
            route(&["*.b.example.com"], "/b", 3),
            route(&["a.b.example.com"], "/a", 4),
            route(&["example.com", "example.org"], "/a", 5),
            route(&["*.com"], "/com", 6),
        ],
        &[
            ("a.b.example.com", "/a", 4),
            ("a.b.example.com", "/b", 3),
            ("a.b.example.com", "/c", 2),
            ("c.b.example.com", "/a", 2),
            ("x.example.com", "/", 2),
            ("x.y.z.example.com", "/a?b=/b", 2),
            ("example.com", "/a", 5),
            ("example.com", "/com/x", 6),
            ("example.com", "/", 1),
            ("example.org", "/a/", 5),
            ("b.example.com", "/b", 2),
            ("notexample.com", "/a", 1),
            (".example.com", "/a", 2),
            ("com", "/com", 1),
            ("", "/a", 1),
            ("a.b.example.com.evil.org", "/a", 1),
        ],
    );
}

#[test]
fn hosts_are_compared_without_port_dot_and_case() {
    let long = "a.".repeat(40_000) + "example.com";
    check(
        &[
            route(&["a.example.com"], "/", 1),
            route(&["*.example.com"], "/", 2),
            route(&["10.0.0.1"], "/", 3),
            route(&["[2001:db8::1]"], "/", 4),
        ],
        &[
            ("A.Example.COM", "/", 1),
            ("a.example.com:8080", "/", 1),
            ("a.example.com.", "/", 1),
            ("a.example.com.:80", "/", 1),
            ("B.example.com", "/", 2),
            ("a.example.com..", "/", 0),
            ("10.0.0.1:80", "/", 3),
            ("[2001:DB8::1]:80", "/", 4),
            ("[2001:db8::1", "/", 0),
            (":80", "/", 0),
            (&long, "/", 0),
        ],
    );
}

#[test]
fn exact_paths_win_then_the_longest_prefix_of_whole_segments() {
    check(
        &[
            route(&[], "/", 1),
            route(&[], "/a", 2),
            route(&[], "/a/b", 3),
            route(&[], "=/a/b", 4),
            route(&[], "/a-x", 5),
            route(&[], "=/a/b/c/", 6),
            route(&[], "/a/b/d/e", 7),
            route(&[], "/a//", 8),
        ],
        &[
            ("x", "/", 1),
            ("x", "/ab", 1),
            ("x", "/a", 2),
            ("x", "/a/", 2),
            ("x", "/a?/a/b", 2),
            ("x", "/a/bc", 2),
            ("x", "/a/b", 4),
            ("x", "/a/b?x", 4),
            ("x", "/a/b/", 3),
            ("x", "/a/b/c", 3),
            ("x", "/a/b/c/", 6),
            ("x", "/a/b/d", 3),
            ("x", "/a/b/d/e/f", 7),
            ("x", "/a-x/y", 5),
            ("x", "/a-xy", 1),
            ("x", "/a//b", 8),
            ("x", "/A", 1),
            ("x", "*", 1),
            ("x", "", 1),
        ],
    );
}

#[test]
fn no_spelling_of_a_path_leads_around_a_route() {
    let all = [
        route(&[], "/public", 1),
        route(&[], "/admin", 2),
        route(&[], "/%61b%2fc", 3),
        route(&[], "=/x/../exact", 4),
    ];
    check(
        &all,
        &[
            ("x", "/public/../admin", 2),
            ("x", "/public/%2e%2e/admin", 2),
            ("x", "/public/.%2E/admin", 2),
            ("x", "/public/..%2fadmin", 2),
            ("x", "/public%2f..%2fadmin", 2),
            ("x", "/public\\..\\admin", 2),
            ("x", "/public/..%5cadmin", 2),
            ("x", "/public/..;x=1/admin", 2),
            ("x", "/./admin/x", 2),
            ("x", "/../../admin", 2),
            ("x", "/%61dmin", 2),
            ("x", "/admin/../public", 1),
            ("x", "/public/a/..", 1),
            ("x", "/public/..", 0),
            ("x", "/public%2fadmin", 0),
            ("x", "/public/...", 1),
            ("x", "/public/.well-known/../x", 1),
            ("x", "/ab%2Fc/d", 3),
            ("x", "/exact", 4),
            ("x", "/y/../exact", 4),
        ],
    );
}

#[test]
fn the_first_of_equals_counts() {
    let compiled = routes(&[
        route(&["a"], "/a/", 1),
        route(&["a"], "/a", 2),
        route(&["a"], "=/b", 3),
        route(&["A"], "=/b", 4),
    ]);
    assert_eq!(found(&compiled, "a", "/a"), 1);
    assert_eq!(found(&compiled, "a", "/b"), 3);
}

#[test]
fn redirects_tell_how_much_matched_and_routes_without_a_set_are_left_out() {
    let mut all = vec![
        route(&[], "/a/b/", 1),
        route(&[], "=/exact", 1),
        route(&[], "/", 1),
    ];
    for (status, route) in (301..).zip(&mut all) {
        route.action = RouteAction::Redirect(redirect(status));
    }
    all.push(route(&[], "/gone", 9));
    let compiled = Routes::new(&all, None, |_| None);
    for (path, status, expected) in [
        ("/a/b", 301, 4),
        ("/a/b/c?d", 301, 4),
        ("/%61/b/c", 301, 4),
        ("/exact", 302, 6),
        ("/gone", 303, 0),
        ("/", 303, 0),
    ] {
        let Some(Found::Redirect { to, matched }) = compiled.find("x", path) else {
            panic!("{path}")
        };
        assert_eq!((to.status, matched), (status, expected), "{path}");
    }
    assert_eq!(compiled, Routes::new(&all, None, |_| None));
    assert_ne!(compiled, Routes::new(&all[1..], None, |_| None));
    assert_eq!(Routes::default().find("x", "/"), None);
    let none = Routes::new(&[route(&[], "/a", 9)], Some(DEFAULT), |_| None);
    assert_eq!(none.find("x", "/a"), Some(Found::Forward(DEFAULT)));
    assert_eq!(none, Routes::new(&[], Some(DEFAULT), number));
}

/// As the rules are written: every route is looked at, the best that matches counts.
fn scanned(all: &[HttpRoute], host: &str, path: &str) -> u32 {
    let mut best: Option<([usize; 4], u32)> = None;
    for route in all {
        let (exact, text) = match &route.path {
            PathMatch::Exact(text) => (1, text.as_str()),
            PathMatch::Prefix(text) => (0, text.trim_end_matches('/')),
        };
        let below = path.strip_prefix(text);
        let takes = match exact {
            1 => path == text,
            _ => below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        };
        let by_host = if route.hosts.is_empty() {
            Some([0, 0])
        } else {
            let ranks = route
                .hosts
                .iter()
                .filter_map(|of| match of.strip_prefix('*') {
                    Some(suffix) => host.ends_with(suffix).then_some([0, of.len()]),
                    None => (of == host).then_some([of.len(), of.len()]),
                });
            ranks.max()
        };
        let RouteAction::Forward(set) = &route.action else {
            continue;
        };
        if let (true, Some([named, length])) = (takes, by_host) {
            let rank = [named, length, exact, text.len()];
            if best.is_none_or(|(before, _)| rank > before) {
                best = Some((rank, number(set).unwrap().0));
            }
        }
    }
    best.map_or(0, |(_, n)| n)
}

#[test]
fn the_index_finds_what_a_scan_finds() {
    let mut random = SplitMix(7);
    let mut below = |n: u64| random.next() % n;
    let mut seen = BTreeMap::<bool, u32>::new();
    for _ in 0..300 {
        let mut path = |most: u64| -> String {
            let segments = 1 + below(most);
            (0..segments)
                .map(|_| ["/a", "/b", "/a-", "/ab", "/"][usize::try_from(below(5)).unwrap()])
                .collect()
        };
        let all: Vec<HttpRoute> = (1..=12)
            .map(|n| {
                let text = path(4);
                // Prefixes of empty segments at the end are compared elsewhere.
                let text = if n % 3 == 0 {
                    format!("={text}")
                } else {
                    text.trim_end_matches('/').to_owned() + "/"
                };
                let hosts: &[&str] = match n % 5 {
                    0 => &[],
                    1 => &["x.y.z"],
                    2 => &["*.y.z", "w.z"],
                    3 => &["*.z"],
                    _ => &["w.z"],
                };
                route(hosts, &text, n)
            })
            .collect();
        let compiled = routes(&all);
        for _ in 0..60 {
            let asked = path(6);
            for host in ["x.y.z", "v.y.z", "w.z", "z", "u.x.y.z"] {
                let expected = scanned(&all, host, &asked);
                assert_eq!(
                    found(&compiled, host, &asked),
                    expected,
                    "{host} {asked} {all:#?}"
                );
                *seen.entry(expected == 0).or_default() += 1;
            }
        }
    }
    assert!(seen.len() == 2 && seen[&false] > 10_000, "{seen:?}");
}
