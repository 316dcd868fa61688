//! Tables that people can read, on any terminal.

use super::*;
use crate::compare::compare;
use crate::synthetic::{ALL, World};

fn everything() -> RunResult {
    World {
        subjects: ALL,
        ..World::headline(5)
    }
    .run()
}

fn widest(text: &str) -> usize {
    text.lines()
        .map(|line| line.chars().count())
        .max()
        .unwrap_or(0)
}

#[test]
fn tables_keep_to_their_width() {
    let result = everything();
    let after = World {
        subjects: ALL,
        slowed: 1.5,
        ..World::headline(6)
    };
    let comparison = compare(&result, &after.run());
    println!(
        "{}\n{}\n{}",
        run(&result, WIDTH),
        headline(&result, WIDTH),
        super::comparison(&comparison, WIDTH)
    );
    for width in [60, 80, WIDTH, 160] {
        for text in [
            run(&result, width),
            headline(&result, width),
            super::comparison(&comparison, width),
        ] {
            assert!(widest(&text) <= width, "{width}:\n{text}");
        }
    }
    // Too narrow for a table, but it is one.
    assert!(run(&result, 0).contains("haproxy"));
}

#[test]
fn nothing_is_lost_at_full_width() {
    let text = run(&everything(), 160);
    for part in [
        "RATE",
        "CPU per request",
        "CPU per GB",
        "P99.9",
        "nodeport-iptables-cluster",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    assert!(!text.contains("FAILED"), "nothing failed:\n{text}");
}

#[test]
fn the_headline_has_every_figure() {
    let text = headline(&World::headline(5).run(), WIDTH);
    for part in [
        "bulk: throughput",
        "rr: latency p99.9",
        "rr: proxy CPU per request",
        "crr: machine CPU per connection",
        "connection-tracking entries",
        "hops from client to Pod",
        "balance: most/least of a Pod",
        "client's address survived",
        "direct has",
        "Made-up processor",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
}

#[test]
fn voids_and_skipped_subjects_are_told() {
    let mut result = everything();
    result.cells[1].void = Some("it died".to_owned());
    result
        .skipped
        .insert("envoy".to_owned(), "not found in PATH".to_owned());
    result.is_cut_short = true;
    for text in [
        run(&result, WIDTH),
        headline(&result, WIDTH),
        markdown(&result),
    ] {
        for part in [
            "it died",
            "not found in PATH",
            "ended before its last round",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
    }
}

#[test]
fn steps_stand_beside_each_other() {
    let mut result = crate::synthetic::stepped();
    result.cells[0].void = Some("it died".to_owned());
    let text = run(&result, WIDTH);
    println!("{text}");
    for part in [
        "crr by backends: medians of 7 rounds, CPU per connection",
        "proxy CPU    direct   ",
        " void ",
        "p99          direct   ",
        "direct in crr-backends-2 is void: it died",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    let header = text.lines().nth(1).unwrap_or_default();
    let words: Vec<_> = header.split_whitespace().collect();
    assert_eq!(words, ["FIGURE", "SUBJECT", "2", "20", "200"]);
    assert!(widest(&text) <= WIDTH, "{text}");
}

#[test]
fn markdown_is_the_headline() {
    let result = World::headline(5).run();
    let text = markdown(&result);
    println!("{text}");
    let rows: Vec<&str> = text
        .lines()
        .take_while(|line| line.starts_with('|'))
        .collect();
    let found = headline::headline(&result);
    assert_eq!(rows.len(), found.rows.len() + 2);
    let bars = |line: &str| line.matches('|').count();
    assert!(rows.iter().all(|row| bars(row) == found.subjects.len() + 2));
    assert_eq!(markdown_text("<b>|a_b"), "&lt;b&gt;\\|a\\_b");
}

#[test]
fn empty_and_hostile_results_have_tables() {
    let mut result = everything();
    for cell in &mut result.cells {
        cell.subject = format!("\x1b[2J|{}", cell.subject);
        cell.unit = String::new();
        cell.rounds.truncate(1);
    }
    for text in [
        run(&result, WIDTH),
        headline(&result, WIDTH),
        markdown(&result),
    ] {
        assert!(!text.contains('\x1b'));
    }
    result.cells.clear();
    assert!(run(&result, WIDTH).contains("Nothing was measured"));
    assert!(!headline(&result, WIDTH).is_empty());
    let _ = markdown(&result);
}

#[test]
fn a_refusal_is_all_there_is_to_say() {
    let mut other = everything();
    other.scenario = "udp".to_owned();
    let text = super::comparison(&compare(&everything(), &other), WIDTH);
    assert!(
        text.starts_with("Warning: the first run is of scenario"),
        "{text}"
    );
}
