//! What is claimed of direct, and when nothing is.

use super::*;
use crate::synthetic::World;

fn spread(low: f64, middle: f64, high: f64) -> Spread {
    Spread {
        middle,
        low,
        high,
        likely: Some((low, high)),
        rounds: 7,
    }
}

#[test]
fn claims_say_the_direction_and_the_spread() {
    let check = |figure, low, middle, high, text: &str| {
        assert_eq!(claim(figure, &spread(low, middle, high), "request"), text);
    };
    check(
        Figure::Rate,
        1.27,
        1.31,
        1.36,
        "31% more throughput (27 to 36%)",
    );
    check(
        Figure::P99,
        0.6,
        0.7,
        0.75,
        "30% lower p99 latency (25 to 40%)",
    );
    check(
        Figure::P99,
        1.1,
        1.2,
        1.3,
        "20% higher p99 latency (10 to 30%)",
    );
    check(
        Figure::MachineCpu,
        0.8,
        0.85,
        0.9,
        "15% less machine CPU per request (10 to 20%)",
    );
    check(
        Figure::ProxyCpu,
        0.97,
        1.0,
        1.02,
        "proxy CPU per request (-3 to +2%)",
    );
}

#[test]
fn one_round_claims_nothing() {
    let mut one = spread(2.0, 2.0, 2.0);
    (one.rounds, one.likely) = (1, None);
    assert_eq!(
        claim(Figure::Rate, &one, "GB"),
        "throughput (+100 to +100%)"
    );
}

#[test]
fn paths_are_told_by_subject() {
    let result = World::headline(3).run();
    let found = headline(&result);
    let row = |label: &str| {
        let row = found.rows.iter().find(|(l, _)| l == label);
        row.map(|(_, texts)| texts.join(", ")).unwrap_or_default()
    };
    assert_eq!(row("hops from client to Pod"), "1, 2, 2, 3, 2, 3, 2");
    let expected = "yes, no: proxy, yes, no: node, no: proxy, no: node, no: proxy";
    assert_eq!(row("client's address survived"), expected);
    assert_eq!(found.gains.len(), 3);
}

#[test]
fn a_void_cell_gains_nothing() {
    let mut result = World::headline(3).run();
    for cell in result
        .cells
        .iter_mut()
        .filter(|cell| cell.subject == "direct")
    {
        cell.void = Some("it died".to_owned());
    }
    let found = headline(&result);
    assert!(found.gains.is_empty());
    assert_eq!(found.voids.len(), 3);
    let texts = &found.rows[0].1;
    assert_eq!(texts[1], "void");
}
