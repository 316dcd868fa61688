//! A comparison as a table: what changed, and how much did not.

use super::columns::Columns;
use super::{NARROWEST, folded, wrap};
use crate::compare::{Comparison, Judged, Verdict};
use crate::stats::Unit;
use crate::words;

/// What became better and worse, and how much was noise.
pub fn comparison(comparison: &Comparison, width: usize) -> String {
    let width = width.max(NARROWEST);
    let mut text = String::new();
    if let Some(reason) = &comparison.refused {
        wrap(
            &mut text,
            &format!("Warning: {}", words::clean(reason)),
            width,
        );
        return text;
    }
    for warning in &comparison.warnings {
        wrap(
            &mut text,
            &format!("Warning: {}", words::clean(warning)),
            width,
        );
    }
    let mut changed: Vec<&Judged> = comparison.judged.iter().collect();
    changed.retain(|judged| judged.verdict != Verdict::Noise);
    changed.sort_by_key(|judged| judged.verdict);
    let count = |verdict| {
        comparison
            .judged
            .iter()
            .filter(|j| j.verdict == verdict)
            .count()
    };
    if !changed.is_empty() {
        // Reasons are the widest column and the first to go; then the names are folded, then the figures go.
        let ways = [
            (true, true, false),
            (false, true, false),
            (false, true, true),
            (false, false, true),
        ];
        let mut tables: Vec<Columns> = ways.iter().map(|way| changes(&changed, *way)).collect();
        let fitting = tables.iter().position(|table| table.width() <= width);
        let chosen = tables.swap_remove(fitting.unwrap_or(tables.len() - 1));
        wrap(
            &mut text,
            "Ratios are of the second run to the first, the machine's drift taken out:",
            width,
        );
        text.push_str(&chosen.text());
        text.push('\n');
    }
    for unlike in &comparison.unlike {
        let mark = if unlike.is_worse { "worse: " } else { "" };
        let line = format!("{mark}{} {}: {}", unlike.test, unlike.subject, unlike.what);
        wrap(&mut text, &words::clean(&line), width);
    }
    let sum = format!(
        "{} worse, {} better, {} noise: {} beside {}.",
        count(Verdict::Worse),
        count(Verdict::Better),
        count(Verdict::Noise),
        words::clean(&comparison.began.1),
        words::clean(&comparison.began.0),
    );
    wrap(&mut text, &sum, width);
    text
}

fn changes(
    changed: &[&Judged],
    (has_reasons, has_figures, is_folded): (bool, bool, bool),
) -> Columns {
    let header = [
        "", "TEST", "SUBJECT", "FIGURE", ">BEFORE", ">AFTER", ">RATIO", "WHY",
    ];
    let mut columns = Columns::new(&header);
    for judged in changed {
        let unit = Unit::parse(&judged.unit);
        let verdict = match judged.verdict {
            Verdict::Worse => "worse",
            Verdict::Better => "better",
            Verdict::Noise => "noise",
        };
        let when = |is_shown: bool, text: String| if is_shown { text } else { String::new() };
        let figure = |value| when(has_figures, words::figure(judged.figure, value, &unit));
        columns.row(&[
            verdict.to_owned(),
            judged.test.clone(),
            folded(&judged.subject, is_folded),
            judged.figure.name().to_owned(),
            figure(judged.medians.0),
            figure(judged.medians.1),
            judged.ratio.map_or(words::NONE.to_owned(), words::ratio),
            when(has_reasons, judged.why.clone()),
        ]);
    }
    columns
}
