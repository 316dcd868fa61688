//! Latency curves: which share of the answers came within which time, one line for each subject. The share is drawn by its
//! nines, so that 99% and 99.9% are as far apart as 90% and 99%.

use std::fmt::Write;

use super::escape::Escaped;
use super::frame::{self, Tick};
use super::palette::Palette;
use super::scale::Log;
use crate::result::Round;
use crate::stats::{Row, Test, median, quantile};
use crate::words;

/// More nines than a run can know anything of.
const MOST_NINES: f64 = 6.0;
/// Points of a line for each nine.
const STEPS: f64 = 12.0;

/// A subject's line with its band, by nines.
struct Line {
    class: String,
    name: String,
    /// Nines, then the lower quarter, the median and the upper quarter of the rounds.
    points: Vec<(f64, [f64; 3])>,
}

/// All subjects of a test; empty if none has latencies.
pub(super) fn plot(test: &Test<'_>, palette: &Palette) -> String {
    let fit = test.rows.iter().filter(|row| row.void.is_none());
    let lines: Vec<Line> = fit.filter_map(|row| line(row, palette)).collect();
    let most = lines
        .iter()
        .filter_map(|line| Some(line.points.last()?.0))
        .fold(0.0, f64::max);
    let values = lines
        .iter()
        .flat_map(|line| line.points.iter().flat_map(|(_, quarters)| *quarters));
    let Some(scale) = Log::over(values).filter(|_| most > 0.0) else {
        return String::new();
    };
    let x = |nines: f64| nines / most * 1000.0;
    let y = |value: f64| (1.0 - scale.at(value)) * 1000.0;
    let mut marks = String::new();
    for line in &lines {
        let band: String = {
            let upper = line.points.iter().map(|(n, q)| (x(*n), y(q[2])));
            let lower = line.points.iter().rev().map(|(n, q)| (x(*n), y(q[0])));
            frame::points(upper.chain(lower))
        };
        let _ = write!(
            marks,
            "<polygon class=\"band {}\" points=\"{band}\"/>",
            line.class
        );
    }
    for line in &lines {
        let middle = frame::points(line.points.iter().map(|(n, q)| (x(*n), y(q[1]))));
        let name = Escaped(&line.name);
        let _ = write!(
            marks,
            "<polyline class=\"line {}\" points=\"{middle}\"><title>{name}</title></polyline>",
            line.class
        );
    }
    let across = ticks(most).into_iter().map(|(nines, text)| Tick {
        at: nines / most,
        text,
    });
    let up = scale.ticks().into_iter().map(|value| Tick {
        at: scale.at(value),
        text: words::trimmed(&words::time(value)),
    });
    let area = frame::area(
        &marks,
        "latency by share of the answers",
        across.collect(),
        up.collect(),
        "tall",
    );
    let legend: Vec<(&str, &str)> = lines
        .iter()
        .map(|line| (&*line.class, &*line.name))
        .collect();
    format!(
        "<figure class=\"plot\"><figcaption><b>Latency</b> <span>share of the answers that came within the time; \
         lines: median of the rounds, bands: their middle half</span></figcaption>{area}{}</figure>\n",
        frame::legend(&legend)
    )
}

/// `50%`, `90%`, `99%` and so on, as far as the curves go.
fn ticks(most: f64) -> Vec<(f64, String)> {
    let mut ticks = vec![(0.0, "0%".to_owned()), (nines(0.5), "50%".to_owned())];
    let texts = ["90%", "99%", "99.9%", "99.99%", "99.999%", "99.9999%"];
    for (n, text) in (1_u8..).zip(texts) {
        ticks.push((f64::from(n), text.to_owned()));
    }
    ticks.retain(|(nines, _)| *nines <= most + 1e-6);
    ticks
}

fn nines(share: f64) -> f64 {
    -(1.0 - share).log10()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of steps, between 0 and a hundred"
)]
fn line(row: &Row<'_>, palette: &Palette) -> Option<Line> {
    let curves: Vec<Vec<(f64, f64)>> = row.cell.rounds.iter().map(curve).collect();
    let ends = curves.iter().filter_map(|curve| Some(curve.last()?.0));
    let most = ends.fold(0.0, f64::max);
    if most <= 0.0 {
        return None;
    }
    let steps = (most * STEPS).ceil().max(1.0) as u32;
    let point = |step: u32| {
        let nines = most * f64::from(step) / f64::from(steps);
        let values: Vec<f64> = curves.iter().filter_map(|curve| at(curve, nines)).collect();
        let part = |share| quantile(values.iter().copied(), share);
        let quarters = [part(0.25)?, median(values.iter().copied())?, part(0.75)?];
        Some((nines, quarters.map(f64::exp)))
    };
    Some(Line {
        class: palette.class(row.subject()),
        name: row.subject().to_owned(),
        points: (0..=steps).filter_map(point).collect(),
    })
}

/// A round's points as nines and logarithms, rising. The slowest answer of all has no nines, so it has no place.
fn curve(round: &Round) -> Vec<(f64, f64)> {
    let known = round
        .latency
        .iter()
        .filter(|(share, _)| (0.0..1.0).contains(share));
    let mut points: Vec<(f64, f64)> = known
        .map(|(share, time)| (nines(*share), (*time).max(1) as f64))
        .collect();
    points.retain(|(nines, _)| *nines <= MOST_NINES);
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
        .into_iter()
        .map(|(nines, time)| (nines, time.ln()))
        .collect()
}

/// Between two points by their distance; `None` beyond the last.
fn at(curve: &[(f64, f64)], nines: f64) -> Option<f64> {
    let above = curve.iter().position(|(at, _)| *at >= nines - 1e-9)?;
    let (right, high) = curve[above];
    let Some((left, low)) = above.checked_sub(1).map(|below| curve[below]) else {
        return Some(high);
    };
    let width = right - left;
    let share = if width > 0.0 {
        (nines - left) / width
    } else {
        1.0
    };
    Some(low + (high - low) * share.clamp(0.0, 1.0))
}
