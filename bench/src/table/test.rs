//! A test of a run as a table: rate, CPU with its ratio to the best other, latency, failures.

use super::columns::Columns;
use super::{folded, wrap};
use crate::stats::{Figure, Row, Test};
use crate::words;

/// How a test is shown; the first way that fits is taken.
#[derive(Clone, Copy)]
struct Shown {
    /// Latencies stand beside the costs, not below them.
    is_one_table: bool,
    ratios: Ratios,
    /// Names of subjects take as many lines as they have parts.
    is_folded: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Ratios {
    /// Both, with the least and the most below.
    WithRanges,
    Both,
    /// The proxy's CPU alone.
    One,
}

const LAYOUTS: [Shown; 5] = [
    shown(true, Ratios::WithRanges, false),
    shown(false, Ratios::WithRanges, false),
    shown(false, Ratios::Both, false),
    shown(false, Ratios::Both, true),
    shown(false, Ratios::One, true),
];

const fn shown(is_one_table: bool, ratios: Ratios, is_folded: bool) -> Shown {
    Shown {
        is_one_table,
        ratios,
        is_folded,
    }
}

/// Title, table or two, and why rows are void.
pub(super) fn table(test: &Test<'_>, width: usize) -> String {
    let mut lines = String::new();
    let (name, per) = (words::clean(test.name), words::per(&test.unit));
    let rounds = words::plural(test.rounds, "round");
    let mut title = format!("{name}: medians of {rounds}, CPU per {per}");
    let reference = |figure| Some(words::clean(test.reference(figure)?.subject()));
    let names = [
        ("proxy", reference(Figure::ProxyCpu)),
        ("machine", reference(Figure::MachineCpu)),
    ];
    let names: Vec<String> = names
        .into_iter()
        .filter_map(|(what, name)| Some(format!("{} ({what})", name?)))
        .collect();
    if !names.is_empty() {
        title = format!("{title}, ratios (least-most) to {}", names.join(" and "));
    }
    wrap(&mut lines, &title, width);
    let mut layouts: Vec<Vec<Columns>> = LAYOUTS.iter().map(|shown| parts(test, *shown)).collect();
    let fits = |parts: &Vec<Columns>| parts.iter().all(|part| part.width() <= width);
    let fitting = layouts.iter().position(fits);
    let chosen = layouts.swap_remove(fitting.unwrap_or(layouts.len() - 1));
    for part in chosen {
        lines.push_str(&part.text());
    }
    if test.has(Figure::PerConnection) {
        let each = test.rows.iter().map(|row| {
            let each = cell(test, row, Figure::PerConnection);
            format!("{} {each}", words::clean(row.subject()))
        });
        let each: Vec<_> = each.collect();
        let line = format!("  memory of an idle connection: {}", each.join(", "));
        wrap(&mut lines, &line, width);
    }
    for row in &test.rows {
        if let Some(void) = &row.void {
            let line = format!("  {} is void: {void}", row.subject());
            wrap(&mut lines, &words::clean(&line), width);
        }
    }
    lines
}

/// A test's table, or two of them.
fn parts(test: &Test<'_>, shown: Shown) -> Vec<Columns> {
    let costs = ["SUBJECT", ">RATE", ">PROXY", ">RATIO", ">MACHINE", ">RATIO"];
    let latencies = [">P50", ">P99", ">P99.9"];
    let subject = |row: &Row<'_>| folded(row.subject(), shown.is_folded);
    let latency =
        |row| [Figure::P50, Figure::P99, Figure::P999].map(|figure| cell(test, row, figure));
    let failed = |row: &Row<'_>| match row.failed {
        0 => String::new(),
        failed => words::count(failed as f64),
    };
    if shown.is_one_table {
        let mut columns = Columns::new(&[&costs[..], &latencies[..], &[">FAILED"]].concat());
        for row in &test.rows {
            let cells = [
                vec![subject(row)],
                cost(test, row, shown),
                latency(row).to_vec(),
            ]
            .concat();
            columns.row(&[cells, vec![failed(row)]].concat());
        }
        return vec![columns];
    }
    let mut first = Columns::new(&[&costs[..], &[">FAILED"]].concat());
    let mut second = Columns::new(&[&["SUBJECT"][..], &latencies[..]].concat());
    for row in &test.rows {
        first.row(
            &[
                vec![subject(row)],
                cost(test, row, shown),
                vec![failed(row)],
            ]
            .concat(),
        );
        second.row(&[vec![subject(row)], latency(row).to_vec()].concat());
    }
    let has_latency = test.has(Figure::P50);
    if has_latency {
        vec![first, second]
    } else {
        vec![first]
    }
}

fn cost(test: &Test<'_>, row: &Row<'_>, shown: Shown) -> Vec<String> {
    let second = match shown.ratios {
        Ratios::One => String::new(),
        ratios => ratio(test, row, Figure::MachineCpu, ratios),
    };
    vec![
        cell(test, row, Figure::Rate),
        cell(test, row, Figure::ProxyCpu),
        ratio(test, row, Figure::ProxyCpu, shown.ratios),
        cell(test, row, Figure::MachineCpu),
        second,
    ]
}

fn cell(test: &Test<'_>, row: &Row<'_>, figure: Figure) -> String {
    row.middle(figure).map_or(String::new(), |value| {
        words::figure(figure, value, &test.unit)
    })
}

fn ratio(test: &Test<'_>, row: &Row<'_>, figure: Figure, ratios: Ratios) -> String {
    let Some(ratio) = test.ratio(row, figure) else {
        return String::new();
    };
    let middle = words::ratio(ratio.middle);
    let is_itself = test
        .reference(figure)
        .is_some_and(|best| best.subject() == row.subject());
    if ratios == Ratios::WithRanges && !is_itself && ratio.rounds > 1 {
        // On a line of its own: beside each other the two leave no room for latencies.
        format!("{middle}\n{}", words::range(&ratio))
    } else {
        middle
    }
}
