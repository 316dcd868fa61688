//! What happened over time in a round: answers, failures, the slowest answer, and what was done meanwhile. One plot for
//! each subject, all to the same scale.

use std::fmt::Write;

use super::escape::Escaped;
use super::frame::{self, Tick};
use super::palette::Palette;
use super::scale::{Log, steps};
use crate::result::Round;
use crate::stats::{Row, Test};
use crate::words;

/// A piece's length in seconds.
const PIECE: f64 = 0.1;
/// More columns than this would be thinner than a dot.
const MOST_COLUMNS: usize = 500;
/// More marks than this are no longer told apart.
const MOST_MARKS: usize = 20;
/// Marks nearer than this stand below each other.
const MARK_WIDTH: f64 = 0.07;

/// A column of a plot.
#[derive(Clone, Copy)]
struct Column {
    /// Answers in 100 ms.
    answered: f64,
    failed: u64,
    /// Nanoseconds.
    slowest: u64,
}

/// All subjects of a test; empty if none has pieces.
pub(super) fn plots(test: &Test<'_>, palette: &Palette) -> String {
    let shown: Vec<(&Row<'_>, usize, Vec<Column>)> = test
        .rows
        .iter()
        .filter_map(|row| {
            let worst = worst(row)?;
            Some((row, worst, columns(&row.cell.rounds[worst])))
        })
        .collect();
    let all = || shown.iter().flat_map(|(_, _, columns)| columns);
    let most = all().map(|column| column.answered).fold(1.0, f64::max);
    let slow = Log::over(all().map(|column| column.slowest as f64));
    let mut figures = String::new();
    for (row, round, columns) in &shown {
        figures.push_str(&plot(row, *round, columns, (most, slow), palette));
    }
    if figures.is_empty() {
        return figures;
    }
    format!(
        "<h3>Over time</h3><p class=\"hint\">Of each subject the round with the most failures: answers in 100 ms, the \
         slowest of them below. Red columns: something failed. Numbered lines: what was done, told below the plot.</p>\
         <div class=\"grid2\">{figures}</div>\n"
    )
}

/// The round with the most failures; of several the one with the slowest answer.
fn worst(row: &Row<'_>) -> Option<usize> {
    let rounds = row.cell.rounds.iter().enumerate();
    let told = rounds.filter(|(_, round)| !round.pieces.is_empty());
    told.max_by_key(|(n, round)| {
        let failed = round
            .pieces
            .iter()
            .fold(0_u64, |sum, piece| sum.saturating_add(piece.1));
        let slowest = round.pieces.iter().map(|piece| piece.2).max();
        (failed, slowest, std::cmp::Reverse(*n))
    })
    .map(|(n, _)| n)
}

fn columns(round: &Round) -> Vec<Column> {
    let together = round.pieces.len().div_ceil(MOST_COLUMNS).max(1);
    let pieces = round.pieces.chunks(together);
    pieces
        .map(|pieces| Column {
            answered: pieces.iter().map(|piece| piece.0 as f64).sum::<f64>() / pieces.len() as f64,
            failed: pieces
                .iter()
                .fold(0, |sum, piece| sum.saturating_add(piece.1)),
            slowest: pieces.iter().map(|piece| piece.2).max().unwrap_or(0),
        })
        .collect()
}

fn plot(
    row: &Row<'_>,
    round: usize,
    columns: &[Column],
    (most, slow): (f64, Option<Log>),
    palette: &Palette,
) -> String {
    let measured = &row.cell.rounds[round];
    let seconds = measured.pieces.len() as f64 * PIECE;
    let class = palette.class(row.subject());
    let failed = columns
        .iter()
        .fold(0_u64, |sum, column| sum.saturating_add(column.failed));
    let name = Escaped(row.subject());
    let events: Vec<&(f64, String)> = measured.marks.iter().take(MOST_MARKS).collect();
    let lines = lines(&events, seconds);
    let across = || {
        let tick = |second: f64| Tick {
            at: second / seconds,
            text: format!("{} s", words::trimmed(&words::count(second))),
        };
        steps(seconds, 5.0)
            .into_iter()
            .map(tick)
            .collect::<Vec<_>>()
    };
    let up = steps(most, 3.0).into_iter().map(|value| Tick {
        at: value / (most * 1.05),
        text: words::count(value),
    });
    let width = 1000.0 / columns.len().max(1) as f64;
    let answers = failures(columns, width) + &answers(columns, width, most * 1.05, &class) + &lines;
    let mut text = format!(
        "<figure class=\"plot\"><figcaption><b><i class=\"swatch {class}\"></i>{name}</b> <span>round {}: {} failed</span></figcaption>{}{}",
        round + 1,
        words::count(failed as f64),
        tags(&events, seconds),
        frame::area(
            &answers,
            &format!("answers of {} over time", row.subject()),
            across(),
            up.collect(),
            ""
        )
    );
    if let Some(slow) = slow {
        let bars = slowest(columns, width, slow, &class) + &lines;
        let up = slow.ticks();
        let every = up.len().div_ceil(4).max(1);
        let up = up.into_iter().step_by(every).map(|value| Tick {
            at: slow.at(value),
            text: words::trimmed(&words::time(value)),
        });
        let label = format!("slowest answers of {} over time", row.subject());
        text.push_str(&frame::area(&bars, &label, Vec::new(), up.collect(), "low"));
    }
    text.push_str(&told(&events));
    if measured.marks.len() > MOST_MARKS {
        let _ = write!(
            text,
            "<p class=\"hint\">and {} more</p>",
            measured.marks.len() - MOST_MARKS
        );
    }
    text.push_str("</figure>\n");
    text
}

fn answers(columns: &[Column], width: f64, most: f64, class: &str) -> String {
    let points = columns.iter().enumerate().flat_map(|(n, column)| {
        let y = (1.0 - column.answered / most) * 1000.0;
        [(n as f64 * width, y), ((n + 1) as f64 * width, y)]
    });
    format!(
        "<polyline class=\"line {class}\" points=\"{}\"/>",
        frame::points(points)
    )
}

fn failures(columns: &[Column], width: f64) -> String {
    let mut marks = String::new();
    for (n, column) in columns
        .iter()
        .enumerate()
        .filter(|(_, column)| column.failed > 0)
    {
        let _ = write!(
            marks,
            "<rect class=\"failed\" x=\"{:.1}\" y=\"0\" width=\"{:.1}\" height=\"1000\"><title>{} failed</title></rect>",
            n as f64 * width,
            width.max(3.0),
            column.failed
        );
    }
    marks
}

fn slowest(columns: &[Column], width: f64, scale: Log, class: &str) -> String {
    let mut marks = String::new();
    for (n, column) in columns
        .iter()
        .enumerate()
        .filter(|(_, column)| column.slowest > 0)
    {
        let height = scale.at(column.slowest as f64) * 1000.0;
        let _ = write!(
            marks,
            "<rect class=\"fill rest {class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>",
            n as f64 * width,
            1000.0 - height
        );
    }
    marks
}

fn place(second: f64, seconds: f64) -> f64 {
    let place = second / seconds;
    if place.is_finite() {
        place.clamp(0.0, 1.0)
    } else {
        0.0
    }
}

fn lines(events: &[&(f64, String)], seconds: f64) -> String {
    let mut lines = String::new();
    for (second, _) in events {
        let x = place(*second, seconds) * 1000.0;
        let _ = write!(
            lines,
            "<line class=\"mark\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"1000\"/>"
        );
    }
    lines
}

/// The marks' numbers above the plot; near ones below each other.
fn tags(events: &[&(f64, String)], seconds: f64) -> String {
    if events.is_empty() {
        return String::new();
    }
    let mut ends: Vec<f64> = Vec::new();
    let mut spans = String::new();
    for (n, (second, _)) in events.iter().enumerate() {
        let at = place(*second, seconds);
        let free = ends.iter().position(|end| at - end >= MARK_WIDTH);
        let lane = free.unwrap_or(ends.len());
        if free.is_none() {
            ends.push(at);
        } else {
            ends[lane] = at;
        }
        let _ = write!(
            spans,
            "<span style=\"left:{:.2}%;top:{:.1}em\">{}</span>",
            at * 100.0,
            lane as f64 * 1.5,
            n + 1
        );
    }
    let height = ends.len() as f64 * 1.5;
    format!("<div class=\"tags\" style=\"height:{height:.1}em\" aria-hidden=\"true\">{spans}</div>")
}

fn told(events: &[&(f64, String)]) -> String {
    if events.is_empty() {
        return String::new();
    }
    let mut list = String::new();
    for (second, what) in events {
        let _ = write!(list, "<li>{second:.2} s: {}</li>", Escaped(what));
    }
    format!("<ol class=\"events\">{list}</ol>")
}
