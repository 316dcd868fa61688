//! A series of tests as a table: figures by subject, a column for each step.

use super::columns::Columns;
use super::wrap;
use crate::stats::{Figure, Series, Test};
use crate::words;

const FIGURES: [Figure; 5] = [
    Figure::ProxyCpu,
    Figure::MachineCpu,
    Figure::P99,
    Figure::Memory,
    Figure::Rate,
];

/// Title, table, and why cells are void.
pub(super) fn table(series: &Series<'_, '_>, width: usize) -> String {
    let mut text = String::new();
    let Some((_, first)) = series.steps.first() else {
        return text;
    };
    let rounds = series.steps.iter().map(|(_, test)| test.rounds).max();
    let rounds = words::plural(rounds.unwrap_or(0), "round");
    let (name, per) = (words::clean(&series.name()), words::per(&first.unit));
    let title = format!("{name}: medians of {rounds}, CPU per {per}");
    wrap(&mut text, &title, width);
    let counts = series.steps.iter().map(|(count, _)| format!(">{count}"));
    let header: Vec<String> = ["FIGURE", "SUBJECT"]
        .map(ToOwned::to_owned)
        .into_iter()
        .chain(counts)
        .collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let mut columns = Columns::new(&header);
    for figure in FIGURES {
        let mut name = figure.name();
        for subject in series.subjects() {
            let cells: Vec<String> = cells(series, subject, figure);
            if cells.iter().all(String::is_empty) {
                continue;
            }
            columns.row(&[vec![name.to_owned(), subject.to_owned()], cells].concat());
            name = ""; // once, for all of its rows
        }
    }
    text.push_str(&columns.text());
    for (_, test) in &series.steps {
        for row in &test.rows {
            if let Some(void) = &row.void {
                let line = format!("  {} in {} is void: {void}", row.subject(), test.name);
                wrap(&mut text, &words::clean(&line), width);
            }
        }
    }
    text
}

fn cells(series: &Series<'_, '_>, subject: &str, figure: Figure) -> Vec<String> {
    let cell = |test: &Test<'_>| {
        let row = test.row(subject)?;
        let middle = row.middle(figure)?;
        Some(match row.void {
            None => words::figure(figure, middle, &test.unit),
            Some(_) => "void".to_owned(),
        })
    };
    let steps = series.steps.iter();
    steps
        .map(|(_, test)| cell(test).unwrap_or_default())
        .collect()
}
