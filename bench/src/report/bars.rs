//! Bars: throughput, CPU for a unit, and balance over Pods. A bar is an SVG as wide as its place, so its parts are in
//! percent; names and numbers are text beside it.

use std::fmt::Write;

use super::escape::Escaped;
use super::palette::Palette;
use crate::stats::{Figure, Row, Spread, Test};
use crate::words;

/// More Pods than this would be hairlines.
const MOST_PODS: usize = 40;

/// Throughput with its least and most.
pub(super) fn throughput(test: &Test<'_>, palette: &Palette) -> String {
    let spread = |row: &Row<'_>| row.figures.get(&Figure::Rate).copied();
    let most = most(test.rows.iter().filter_map(spread).map(|s| s.high));
    let mut rows = String::new();
    for row in &test.rows {
        let Some(spread) = spread(row) else { continue };
        let rate = |units| words::rate(units, &test.unit);
        let mut value = rate(spread.middle);
        if spread.rounds > 1 {
            value = format!("{value} ({} to {})", rate(spread.low), rate(spread.high));
        }
        let marks = bar(0.0, spread.middle / most, "") + &whisker(&spread, most);
        rows.push_str(&line(row, palette, &value, &marks));
    }
    figure("Throughput", "median; the line spans the rounds", &rows)
}

/// CPU for a unit: the proxy's part, and the rest of the machine's.
pub(super) fn cpu(test: &Test<'_>, palette: &Palette) -> String {
    let spread = |row: &Row<'_>| row.figures.get(&Figure::MachineCpu).copied();
    let most = most(test.rows.iter().filter_map(spread).map(|s| s.high));
    let mut rows = String::new();
    for row in &test.rows {
        let Some(machine) = spread(row) else { continue };
        let proxy = row
            .middle(Figure::ProxyCpu)
            .unwrap_or(0.0)
            .min(machine.middle);
        let rest = machine.middle - proxy;
        let mut value = words::cpu(machine.middle, &test.unit);
        if proxy > 0.0 {
            let (proxy, rest) = (words::cpu(proxy, &test.unit), words::cpu(rest, &test.unit));
            value = format!("{value} = proxy {proxy} + rest {rest}");
        }
        let marks = bar(0.0, proxy / most, "")
            + &bar(proxy / most, rest / most, " rest")
            + &whisker(&machine, most);
        rows.push_str(&line(row, palette, &value, &marks));
    }
    let title = format!("CPU per {}", words::per(&test.unit));
    figure(
        &title,
        "full colour: the proxy; light: the rest of the machine, clients and Pods included",
        &rows,
    )
}

/// Which share of the answers each Pod gave.
pub(super) fn balance(test: &Test<'_>, palette: &Palette) -> String {
    let mut rows = String::new();
    for row in test.rows.iter().filter(|row| row.cell.is_balanced) {
        let Some(skew) = row.skew() else { continue };
        let sum: f64 = row.pods.values().map(|count| *count as f64).sum();
        let shares = || row.pods.values().map(|count| *count as f64 / sum);
        let (least, most) = (shares().fold(1.0, f64::min), shares().fold(0.0, f64::max));
        let value = format!(
            "{} Pods, {} to {} each; most/least {}",
            row.pods.len(),
            percent(least),
            percent(most),
            words::skew(skew)
        );
        let mut marks = String::new();
        let mut at = 0.0;
        if row.pods.len() <= MOST_PODS {
            for (n, (pod, count)) in row.pods.iter().enumerate() {
                let share = *count as f64 / sum;
                let light = if n % 2 == 0 { "" } else { " rest" };
                let name = format!("<title>Pod {pod}: {}</title>", percent(share));
                let _ = write!(
                    marks,
                    "<rect class=\"fill{light}\" x=\"{:.2}%\" width=\"{:.2}%\" height=\"100%\">{name}</rect>",
                    at * 100.0,
                    share * 100.0
                );
                at += share;
            }
        }
        rows.push_str(&line(row, palette, &value, &marks));
    }
    figure(
        "Balance over Pods",
        "each Pod's share of the answers",
        &rows,
    )
}

/// With a decimal: Pods differ by less than a hundredth.
fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

fn most(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(f64::MIN_POSITIVE, f64::max)
}

/// Nothing at all if there are no rows.
fn figure(title: &str, caption: &str, rows: &str) -> String {
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "<figure class=\"bars\"><figcaption><b>{}</b> <span>{}</span></figcaption>{rows}</figure>\n",
        Escaped(title),
        Escaped(caption)
    )
}

fn line(row: &Row<'_>, palette: &Palette, value: &str, marks: &str) -> String {
    let class = palette.class(row.subject());
    let name = Escaped(row.subject());
    let void = if row.void.is_some() { " void" } else { "" };
    let note = if row.void.is_some() { "void: " } else { "" };
    format!(
        "<div class=\"row {class}{void}\"><span class=\"name\"><i class=\"swatch\"></i>{name}</span>\
         <svg class=\"bar\" role=\"img\" aria-label=\"{name}: {value}\"><title>{name}: {value}</title>{marks}</svg>\
         <span class=\"value\">{note}{value}</span></div>\n",
        value = Escaped(value)
    )
}

fn bar(from: f64, share: f64, class: &str) -> String {
    let inside = |share: f64| {
        if share.is_finite() {
            share.clamp(0.0, 1.0) * 100.0
        } else {
            0.0
        }
    };
    format!(
        "<rect class=\"fill{class}\" x=\"{:.2}%\" width=\"{:.2}%\" height=\"100%\"/>",
        inside(from),
        inside(share)
    )
}

/// From the least to the most; nothing for a single round.
fn whisker(spread: &Spread, most: f64) -> String {
    if spread.rounds < 2 {
        return String::new();
    }
    let place = |value: f64| {
        let share = value / most;
        if share.is_finite() {
            share.clamp(0.0, 1.0) * 99.5
        } else {
            0.0
        }
    };
    let (low, high) = (place(spread.low), place(spread.high));
    let mut marks = String::new();
    // Twice, so that it is seen on a bar of its own colour too.
    for class in ["halo", "whisker"] {
        for (from, to, top, bottom) in [
            (low, high, 50, 50),
            (low, low, 25, 75),
            (high, high, 25, 75),
        ] {
            let _ = write!(
                marks,
                "<line class=\"{class}\" x1=\"{from:.2}%\" x2=\"{to:.2}%\" y1=\"{top}%\" y2=\"{bottom}%\"/>"
            );
        }
    }
    marks
}
