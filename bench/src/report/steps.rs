//! Series of tests: a figure over a number that grows by tens, one line for each subject, both axes logarithmic.

use std::fmt::Write;

use super::escape::Escaped;
use super::frame::{self, Tick};
use super::palette::Palette;
use super::scale::Log;
use crate::stats::{Figure, Series, Spread, Unit};
use crate::words;

/// A subject's line.
struct Line {
    class: String,
    name: String,
    points: Vec<(f64, Spread)>,
}

/// The plots of a series: what a unit costs the proxy and the machine, latency, and memory.
pub(super) fn plots(series: &Series<'_, '_>, palette: &Palette) -> String {
    let Some((_, first)) = series.steps.first() else {
        return String::new();
    };
    let per = words::per(&first.unit);
    let figures = [
        (Figure::ProxyCpu, format!("Proxy CPU per {per}")),
        (Figure::MachineCpu, format!("Machine CPU per {per}")),
        (Figure::P99, "Latency p99".to_owned()),
        (Figure::Memory, "Memory of the proxy".to_owned()),
    ];
    let plots = figures.map(|(figure, title)| plot(series, palette, figure, &title, &first.unit));
    format!("<div class=\"grid2\">{}</div>\n", plots.concat())
}

/// Empty if nobody has the figure.
fn plot(
    series: &Series<'_, '_>,
    palette: &Palette,
    figure: Figure,
    title: &str,
    unit: &Unit,
) -> String {
    let line = |subject: &str| {
        let points = series.points(subject, figure).into_iter();
        let points = points.map(|(count, spread)| (f64::from(count), spread));
        let points: Vec<_> = points.filter(|(_, spread)| spread.middle > 0.0).collect();
        (!points.is_empty()).then(|| Line {
            class: palette.class(subject),
            name: subject.to_owned(),
            points,
        })
    };
    let lines: Vec<Line> = series.subjects().into_iter().filter_map(line).collect();
    let points = || lines.iter().flat_map(|line| &line.points);
    // Memory is kept in KiB, and its ticks are round in MiB.
    let whole = match figure {
        Figure::Memory => 1024.0,
        _ => 1.0,
    };
    let values = points().flat_map(|(_, spread)| {
        let (low, high) = spread.interval();
        [low, spread.middle, high].map(|value| value / whole)
    });
    let counts: Vec<f64> = series.steps.iter().map(|(n, _)| f64::from(*n)).collect();
    let (Some(up), Some(along)) = (Log::over(values), Log::over(counts.iter().copied())) else {
        return String::new();
    };
    let x = |count: f64| along.at(count) * 1000.0;
    let y = |value: f64| (1.0 - up.at(value / whole)) * 1000.0;
    let mut marks = String::new();
    for line in &lines {
        let upper = line.points.iter().map(|(n, s)| (x(*n), y(s.interval().1)));
        let lower = line
            .points
            .iter()
            .rev()
            .map(|(n, s)| (x(*n), y(s.interval().0)));
        let band = frame::points(upper.chain(lower));
        let class = &line.class;
        let _ = write!(marks, "<polygon class=\"band {class}\" points=\"{band}\"/>");
    }
    for line in &lines {
        let middle = frame::points(line.points.iter().map(|(n, s)| (x(*n), y(s.middle))));
        let (class, name) = (&line.class, Escaped(&line.name));
        let _ = write!(
            marks,
            "<polyline class=\"line {class}\" points=\"{middle}\"><title>{name}</title></polyline>"
        );
        for (count, spread) in &line.points {
            let (x, y) = (x(*count), y(spread.middle));
            let value = words::figure(figure, spread.middle, unit);
            let _ = write!(
                marks,
                "<line class=\"dot {class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\">\
                 <title>{name}, {count}: {}</title></line>",
                Escaped(&value)
            );
        }
    }
    let across = counts.iter().map(|count| Tick {
        at: along.at(*count),
        text: count.to_string(),
    });
    let up = up.ticks().into_iter().map(|value| Tick {
        at: up.at(value),
        text: words::trimmed(&words::figure(figure, value * whole, unit)),
    });
    let label = format!("{title} over {}", series.of);
    let area = frame::area(&marks, &label, across.collect(), up.collect(), "");
    let legend: Vec<(&str, &str)> = lines
        .iter()
        .map(|line| (&*line.class, &*line.name))
        .collect();
    format!(
        "<figure class=\"plot\"><figcaption><b>{}</b> <span>over {}; lines: median of the rounds, bands: where it \
         lies with 95%, or all of fewer than {} rounds</span></figcaption>{area}{}</figure>\n",
        Escaped(title),
        Escaped(series.of),
        crate::stats::ROUNDS_FOR_INTERVAL,
        frame::legend(&legend)
    )
}
