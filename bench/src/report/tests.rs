//! Pages of any result: whole, well-formed, and text where it was text.

use super::*;
use crate::result::Cell;
use crate::synthetic::{ALL, TESTS, World};

fn big() -> RunResult {
    const NAMES: [&str; 10] = {
        let mut names = [""; 10];
        let mut n = 0;
        while n < 10 {
            names[n] = TESTS[n].0;
            n += 1;
        }
        names
    };
    World {
        scenario: "everything",
        subjects: ALL,
        tests: &NAMES,
        ..World::headline(8)
    }
    .run()
}

/// Elements that have no end.
const VOID: [&str; 3] = ["meta", "link", "wbr"];

/// Whether all elements end where they must, and no number is none.
fn check(result: &RunResult) -> String {
    let page = html(result);
    let body = page.split_once("</style>").expect("there is a style").1;
    let mut open: Vec<&str> = vec!["html", "head"];
    for part in body.split('<').skip(1) {
        let (tag, _) = part.split_once('>').expect("tags end");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "at </{tag}>");
        } else if !tag.ends_with('/') {
            let name = tag.split(' ').next().unwrap_or_default();
            if !VOID.contains(&name) {
                open.push(name);
            }
        }
        for broken in ["NaN", "inf", "Infinity", "=\"-0.0\""] {
            assert!(!tag.contains(broken), "{tag}");
        }
    }
    assert!(open.is_empty(), "{open:?}");
    page
}

#[test]
fn steps_are_drawn_over_their_numbers() {
    let mut result = crate::synthetic::stepped();
    let page = check(&result);
    for part in [
        "<h2>crr by backends</h2>",
        "href=\"#series-1\"",
        "Proxy CPU per request over backends",
        "Memory of the proxy over backends",
        ">200</span>",
        "<h2>rr-backends-20</h2>",
    ] {
        assert!(page.contains(part), "{part}");
    }
    // One step is a point, and no step that counts is no plot.
    result.cells.retain(|cell| cell.test.ends_with("-2"));
    assert!(check(&result).contains("class=\"dot s0 d0\""));
    for cell in &mut result.cells {
        cell.void = Some("it died".to_owned());
    }
    assert!(!check(&result).contains("class=\"dot"));
}

#[test]
fn a_page_has_everything() {
    let page = check(&World::headline(4).run());
    for part in [
        "<h1>direct-vs-nodeport</h1>",
        "2026-01-02T03:04:05Z",
        "Made-up processor",
        "rr: latency p99.9",
        "direct has",
        "Throughput",
        "CPU per request",
        "Latency",
        "99.99%",
        "Balance over Pods",
        "How to read this",
    ] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn a_page_asks_nobody_for_anything() {
    let page = check(&big());
    for part in [
        "http://", "https://", "src=", "@import", "url(", "<script", "onload",
    ] {
        assert!(!page.contains(part), "{part}");
    }
}

#[test]
fn timelines_have_marks_and_failures() {
    let page = check(&big());
    for part in [
        "Over time",
        "Pod 2 deleted",
        "class=\"failed\"",
        "class=\"mark\"",
        "80 failed",
    ] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn whatever_the_file_holds_is_text() {
    const EVIL: &str = "</title></style><script>alert(1)</script><img src=x onerror=\"y\">&'";
    let mut result = big();
    result.scenario = EVIL.to_owned();
    result.began = EVIL.to_owned();
    result.machine.kernel = EVIL.to_owned();
    result.machine.processor = EVIL.to_owned();
    result.versions.insert(EVIL.to_owned(), EVIL.to_owned());
    result.skipped.insert(EVIL.to_owned(), EVIL.to_owned());
    for cell in &mut result.cells {
        cell.test = format!("{EVIL}{}", cell.test);
        cell.subject = format!("direct-{EVIL}{}", cell.subject);
        cell.unit = format!("10k {EVIL}s");
        for round in &mut cell.rounds {
            round.failures.insert(EVIL.to_owned(), 1);
            round.sources.insert(EVIL.to_owned(), 1);
            round.marks.push((1.0, EVIL.to_owned()));
        }
    }
    result.cells[0].void = Some(EVIL.to_owned());
    result.cells[1].subject = "direct".to_owned();
    result.cells[2].subject = "nodeport-x".to_owned();
    let page = check(&result);
    assert!(!page.contains("<script"));
    assert!(!page.contains("<img"));
}

#[test]
fn small_and_empty_results_have_pages() {
    let mut result = World::headline(4).run();
    result
        .cells
        .iter_mut()
        .for_each(|cell| cell.rounds.truncate(1));
    check(&result);
    result
        .cells
        .iter_mut()
        .for_each(|cell| cell.void = Some("it died".to_owned()));
    assert!(check(&result).contains("it died"));
    result.cells.iter_mut().for_each(|cell| cell.rounds.clear());
    check(&result);
    result.cells.clear();
    result.machine = crate::result::Machine::default();
    assert!(check(&result).contains("Nothing was measured"));
}

#[test]
fn odd_numbers_have_pages() {
    let mut result = big();
    let odd = [0.0, -1.0, 1e308, 1e-308];
    for (n, cell) in result.cells.iter_mut().enumerate() {
        for (m, round) in cell.rounds.iter_mut().enumerate() {
            round.units = odd[(n + m) % 4];
            round.machine_cpu = odd[(n + 2 * m) % 4];
            round.latency = vec![
                (2.0, 5),
                (-1.0, 3),
                (1.0, u64::MAX),
                (0.5, 0),
                (0.3, u64::MAX),
            ];
            round.marks = vec![(odd[m % 4], "x".to_owned()); 100];
            round.pieces = vec![(u64::MAX, u64::MAX, u64::MAX), (0, 0, 0)];
            round.pods = [(1, u64::MAX), (2, 0)].into();
        }
    }
    check(&result);
}

#[test]
fn a_long_timeline_is_drawn_in_few_columns() {
    let mut result = big();
    let last = result.cells.last_mut().expect("there are cells");
    last.rounds[0].pieces = vec![(5, 1, 7_000); 40_000];
    assert!(check(&result).len() < 4_000_000);
}

#[test]
fn what_tls_agreed_on_and_what_it_costs_are_facts() {
    let mut result = big();
    for (n, name) in [(0, "https"), (1, "https-close")] {
        let template = result.cells[n].clone();
        let mut cell = Cell {
            test: name.to_owned(),
            subject: "envoy".to_owned(),
            void: None,
            ..template
        };
        for round in &mut cell.rounds {
            round.failures.clear();
            round.proxy_cpu = Some(if n == 0 { 1.0 } else { 3.0 });
            round.units = 1.0;
            round.suites = [("TLS13_<b>".to_owned(), 1_000)].into();
        }
        result.cells.push(cell);
    }
    let page = check(&result);
    for part in [
        "<dt>TLS</dt><dd>TLS13_&lt;b&gt; (envoy)</dd>",
        "<dt>CPU of a handshake</dt><dd>envoy 2.00 ms</dd>",
    ] {
        assert!(page.contains(part), "{part}");
    }
}
