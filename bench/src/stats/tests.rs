//! Medians, spreads, and cells that mean nothing.

use super::*;
use crate::result::{Round, RunResult};
use crate::synthetic::{ALL, Chance, World};

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

#[test]
fn medians_and_quantiles() {
    assert_eq!(median([]), None);
    assert_eq!(median([f64::NAN]), None);
    assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
    assert_eq!(median([4.0, 1.0, 2.0, f64::INFINITY, 3.0]), Some(2.5));
    assert_eq!(quantile([1.0, 2.0, 3.0, 4.0, 5.0], 0.25), Some(2.0));
    assert_eq!(quantile([1.0, 2.0], 7.0), Some(2.0));
}

#[test]
fn an_interval_needs_seven_rounds() {
    let spread = |count: u32| Spread::of((1..=count).map(f64::from)).unwrap();
    assert_eq!(spread(6).likely, None);
    assert_eq!(spread(7).likely, Some((1.0, 7.0)));
    // As in the tables of the sign test.
    assert_eq!(spread(9).likely, Some((2.0, 8.0)));
    assert_eq!(spread(15).likely, Some((4.0, 12.0)));
    assert_eq!(spread(100).likely, Some((40.0, 61.0)));
    assert!(spread(20_000).likely.is_some());
    assert!(!spread(1).excludes(3.0));
    assert!(spread(7).excludes(7.5));
}

/// A round of a second.
fn round(units: f64, proxy_cpu: f64) -> Round {
    Round {
        units,
        seconds: 1.0,
        proxy_cpu: Some(proxy_cpu),
        machine_cpu: proxy_cpu * 2.0,
        begun: 1000,
        pods: [(1, 500), (2, 500)].into(),
        ..Round::default()
    }
}

fn cell(subject: &str, rounds: Vec<Round>) -> Cell {
    Cell {
        step: None,
        test: "rr".to_owned(),
        subject: subject.to_owned(),
        unit: "1k requests".to_owned(),
        rounds,
        is_balanced: true,
        void: None,
    }
}

fn run(cells: Vec<Cell>) -> RunResult {
    RunResult {
        cells,
        ..World::headline(1).run()
    }
}

#[test]
fn ratios_are_taken_within_rounds() {
    // The machine becomes twice as slow; the ratio stays.
    let fast = cell(
        "a",
        vec![round(10.0, 1.0), round(5.0, 1.0), round(2.5, 1.0)],
    );
    let slow = cell("b", vec![round(5.0, 1.0), round(2.5, 1.0)]);
    let found = ratio(&fast, &slow, Figure::Rate).unwrap();
    assert!(near(found.middle, 2.0) && near(found.low, 2.0) && near(found.high, 2.0));
    assert_eq!(found.rounds, 2);
    assert!(near(
        ratio(&fast, &slow, Figure::ProxyCpu).unwrap().middle,
        0.5
    ));
    assert_eq!(ratio(&fast, &slow, Figure::P99), None);
    let none = cell("c", vec![round(0.0, 1.0)]);
    assert_eq!(ratio(&fast, &none, Figure::Rate), None);
}

#[test]
fn voids_are_told_with_their_reason() {
    let void = |mut change: Box<dyn FnMut(&mut Cell)>| {
        let mut cells = vec![
            cell("direct", vec![round(10.0, 1.0)]),
            cell("haproxy", vec![round(10.0, 1.0)]),
        ];
        change(&mut cells[0]);
        let run = run(cells);
        let tests = tests(&run);
        let row = tests[0].row("direct").unwrap();
        row.void
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default()
    };
    assert_eq!(void(Box::new(|_| ())), "");
    assert_eq!(
        void(Box::new(|c| c.void = Some("it died".into()))),
        "it died"
    );
    let fail = |c: &mut Cell| c.rounds[0].failures = [("reset".into(), 3)].into();
    assert_eq!(void(Box::new(fail)), "3 requests failed");
    let skew = |c: &mut Cell| c.rounds[0].pods = [(1, 850), (2, 150)].into();
    assert_eq!(void(Box::new(skew)), "Pod 2 got 0.30 of its fair share");
    let lost = |c: &mut Cell| c.rounds[0].pods = [(1, 1000)].into();
    assert_eq!(void(Box::new(lost)), "Pod 2 got 0.00 of its fair share");
    let unbalanced = |c: &mut Cell| {
        c.rounds[0].pods = [(1, 1000)].into();
        c.is_balanced = false;
    };
    assert_eq!(void(Box::new(unbalanced)), "");
    let slow = |c: &mut Cell| c.rounds[0].units = 4.0;
    assert_eq!(
        void(Box::new(slow)),
        "its rate is 0.40 of haproxy's, the best peer"
    );
    let idle = |c: &mut Cell| {
        c.rounds[0].units = 4.0;
        c.rounds[0].kib_per_connection = Some(1.0);
    };
    assert_eq!(void(Box::new(idle)), "");
    assert_eq!(void(Box::new(|c| c.rounds.clear())), "nothing was done");
    assert_eq!(
        void(Box::new(|c| c.rounds[0].units = -1.0)),
        "nothing was done"
    );
    let timeline = |c: &mut Cell| {
        c.rounds[0].pieces = vec![(1, 1, 1)];
        c.rounds[0].failures.insert("reset".into(), 3);
    };
    assert_eq!(void(Box::new(timeline)), "");
}

#[test]
fn the_reference_is_the_best_that_is_not_void() {
    let mut cells = vec![
        cell("pod", vec![round(30.0, 0.0)]),
        cell("direct", vec![round(10.0, 1.0)]),
        cell("nodeport-nftables-local", vec![round(9.0, 1.1)]),
        cell("haproxy", vec![round(8.0, 1.0)]),
        cell("nginx", vec![round(9.0, 1.5)]),
    ];
    let name = |cells: &[Cell], figure| {
        let run = run(cells.to_vec());
        let tests = tests(&run);
        tests[0]
            .reference(figure)
            .map(|row| row.subject().to_owned())
            .unwrap_or_default()
    };
    assert_eq!(name(&cells, Figure::Rate), "nginx");
    assert_eq!(name(&cells, Figure::ProxyCpu), "haproxy");
    cells[3].void = Some("x".to_owned());
    assert_eq!(name(&cells, Figure::ProxyCpu), "nginx");
    cells.truncate(3);
    assert_eq!(name(&cells, Figure::ProxyCpu), "nodeport-nftables-local");
    cells.truncate(1);
    assert_eq!(name(&cells, Figure::Rate), "pod");
    assert_eq!(name(&cells, Figure::ProxyCpu), "");
}

#[test]
fn units_are_read() {
    let check = |text: &str, count: f64, of: &str| {
        let unit = Unit::parse(text);
        assert!(near(unit.count, count) && unit.of == of, "{text}: {unit:?}");
    };
    check("100k requests", 1e5, "requests");
    check("2M datagrams sent", 2e6, "datagrams sent");
    check("10,000 calls", 1e4, "calls");
    check("GB", 1e9, "");
    check("1 gigabyte", 1e9, "");
    check("connections", 1.0, "connections");
    check("", 1.0, "units");
    check("100", 1.0, "100");
    check("0k things", 1.0, "0k things");
    check("é x", 1.0, "é x");
    check("kk", 1.0, "kk");
}

#[test]
fn skew_is_most_over_least() {
    let skew = |pods: &[(u32, u64)]| {
        let mut round = round(1.0, 1.0);
        round.pods = pods.iter().copied().collect();
        let run = run(vec![cell("direct", vec![round])]);
        tests(&run)[0].rows[0].skew()
    };
    assert_eq!(skew(&[(1, 200), (2, 100)]), Some(2.0));
    assert_eq!(skew(&[(1, 200), (2, 0)]), Some(f64::INFINITY));
    assert_eq!(skew(&[(1, 200)]), None);
    assert_eq!(skew(&[]), None);
}

#[test]
fn no_number_in_a_file_panics() {
    let mut chance = Chance(11);
    let mut run = World {
        subjects: ALL,
        tests: &["rr", "rollout"],
        ..World::headline(3)
    }
    .run();
    let odd = [0.0, -1.0, 1e308, -1e308, 1e-308, f64::MIN_POSITIVE];
    for cell in &mut run.cells {
        for round in &mut cell.rounds {
            let mut pick = || odd[usize::try_from(chance.next() % 6).unwrap()];
            round.units = pick();
            round.seconds = pick();
            round.proxy_cpu = Some(pick());
            round.machine_cpu = pick();
            round.pods = [(0, u64::MAX), (u32::MAX, u64::MAX)].into();
            round.failures = [("a".into(), u64::MAX), ("b".into(), u64::MAX)].into();
        }
    }
    for test in tests(&run) {
        for row in &test.rows {
            let _ = (
                row.skew(),
                test.ratio(row, Figure::Rate),
                test.ratio(row, Figure::Failures),
            );
        }
    }
}
