//! Histograms of how long answers took, in Prometheus' text format. The recorder knows histograms only sample by sample,
//! and workers count by buckets.

use std::fmt::Write;

use super::ALL;
use crate::lb::requests::BUCKETS_MS;

/// The answers that one series of a histogram is of.
pub(super) struct Durations<'a> {
    /// `listener="web"`, escaped.
    pub(super) labels: String,
    pub(super) counts: &'a [u64],
    pub(super) total_milliseconds: u64,
}

/// A label with its value, as the text format has it.
pub(super) fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\");
    let value = value.replace('"', "\\\"").replace('\n', "\\n");
    format!("{name}=\"{value}\"")
}

/// Appends the histogram `name`, of which nothing stands there if nothing is to be told.
pub(super) fn render<'a>(out: &mut String, name: &str, all: impl Iterator<Item = Durations<'a>>) {
    let mut all = all
        .filter(|durations| !durations.counts.is_empty())
        .peekable();
    let help = ALL.iter().find(|(known, ..)| *known == name);
    if let Some((.., help)) = help
        && all.peek().is_some()
    {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
    }
    for durations in all {
        let _ = histogram(out, name, &durations);
    }
}

fn histogram(out: &mut String, name: &str, durations: &Durations<'_>) -> std::fmt::Result {
    let labels = &durations.labels;
    let ends = BUCKETS_MS.iter().map(|ms| (*ms as f64 / 1e3).to_string());
    let mut count = 0;
    for (end, more) in ends.chain(["+Inf".to_owned()]).zip(durations.counts) {
        count += more;
        writeln!(out, "{name}_bucket{{{labels},le=\"{end}\"}} {count}")?;
    }
    let sum = durations.total_milliseconds as f64 / 1e3;
    writeln!(out, "{name}_sum{{{labels}}} {sum}")?;
    writeln!(out, "{name}_count{{{labels}}} {count}")
}
