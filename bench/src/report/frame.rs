//! The frame of a plot: an area that is as wide as its place, with ticks as text around it. Lines are drawn on a square
//! of 1000 that is stretched; text is not, so it stays readable at any width.

use std::fmt::Write;

use super::escape::Escaped;

/// A tick of an axis.
pub(super) struct Tick {
    /// From 0 at the left or the bottom to 1.
    pub(super) at: f64,
    pub(super) text: String,
}

/// Ticks nearer than this to the one before are hidden where the page is narrow.
const CROWDED: f64 = 0.14;
/// Ticks nearer than this are hidden everywhere.
const TOO_CROWDED: f64 = 0.05;

/// An area with its axes. `label` is what it shows, for those who cannot see it.
pub(super) fn area(
    marks: &str,
    label: &str,
    across: Vec<Tick>,
    up: Vec<Tick>,
    class: &str,
) -> String {
    let mut grid = String::new();
    let mut left = String::new();
    let mut below = String::new();
    for tick in up {
        let from_top = (1.0 - tick.at) * 100.0;
        let _ = write!(
            grid,
            "<line class=\"grid\" x1=\"0\" x2=\"1000\" y1=\"{0:.1}\" y2=\"{0:.1}\"/>",
            from_top * 10.0
        );
        let _ = write!(
            left,
            "<span style=\"top:{from_top:.2}%\">{}</span>",
            Escaped(&tick.text)
        );
    }
    let mut last = f64::NEG_INFINITY;
    let mut wide = f64::NEG_INFINITY;
    for tick in across {
        let from_left = tick.at * 100.0;
        let _ = write!(
            grid,
            "<line class=\"grid\" y1=\"0\" y2=\"1000\" x1=\"{0:.1}\" x2=\"{0:.1}\"/>",
            from_left * 10.0
        );
        if tick.at - wide < TOO_CROWDED {
            continue;
        }
        wide = tick.at;
        let crowded = if tick.at - last < CROWDED {
            " class=\"wide\""
        } else {
            last = tick.at;
            ""
        };
        let _ = write!(
            below,
            "<span{crowded} style=\"left:{from_left:.2}%\">{}</span>",
            Escaped(&tick.text)
        );
    }
    format!(
        "<div class=\"frame {class}\"><div class=\"up\" aria-hidden=\"true\">{left}</div>\
         <div class=\"area\"><svg viewBox=\"0 0 1000 1000\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">\
         {grid}{marks}</svg></div><div class=\"across\" aria-hidden=\"true\">{below}</div></div>\n",
        Escaped(label)
    )
}

/// Coordinates of a line.
pub(super) fn points(points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut text = String::new();
    for (x, y) in points {
        let _ = write!(text, "{x:.1},{y:.1} ");
    }
    text.truncate(text.trim_end().len());
    text
}

/// Samples of lines with their names.
pub(super) fn legend(entries: &[(&str, &str)]) -> String {
    let mut list = String::new();
    for (class, name) in entries {
        let _ = write!(
            list,
            "<li><svg class=\"sample\" aria-hidden=\"true\"><line class=\"line {class}\" x1=\"0\" x2=\"100%\" y1=\"50%\" y2=\"50%\"/></svg>{}</li>",
            Escaped(name)
        );
    }
    format!("<ul class=\"legend\">{list}</ul>")
}
