//! The histogram of how long answers took, in Prometheus' text format. The recorder knows histograms only sample by sample,
//! and workers count by buckets.

use std::fmt::Write;

use podline_api::v1;

use super::{ALL, DURATION};
use crate::l7::tally::BUCKETS_MS;

/// Appends the histograms of all HTTP listeners.
pub(super) fn render(out: &mut String, listeners: &[v1::ListenerStatus]) {
    let of_http = |status: &v1::ListenerStatus| {
        let name = status.listener.as_ref()?.name.replace('\\', "\\\\");
        let name = name.replace('"', "\\\"").replace('\n', "\\n");
        Some((name, status.http.clone()?))
    };
    let all: Vec<(String, v1::HttpStatus)> = listeners.iter().filter_map(of_http).collect();
    let help = ALL.iter().find(|(name, ..)| *name == DURATION);
    if let Some((.., help)) = help
        && !all.is_empty()
    {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "# HELP {DURATION} {help}\n# TYPE {DURATION} histogram");
    }
    for (listener, status) in all {
        let _ = histogram(out, &listener, &status);
    }
}

fn histogram(out: &mut String, listener: &str, status: &v1::HttpStatus) -> std::fmt::Result {
    let ends = BUCKETS_MS.iter().map(|ms| (*ms as f64 / 1e3).to_string());
    let mut count = 0;
    for (end, more) in ends.chain(["+Inf".to_owned()]).zip(&status.durations) {
        count += more;
        writeln!(
            out,
            "{DURATION}_bucket{{listener=\"{listener}\",le=\"{end}\"}} {count}"
        )?;
    }
    let sum = status.total_milliseconds as f64 / 1e3;
    writeln!(out, "{DURATION}_sum{{listener=\"{listener}\"}} {sum}")?;
    writeln!(out, "{DURATION}_count{{listener=\"{listener}\"}} {count}")
}
