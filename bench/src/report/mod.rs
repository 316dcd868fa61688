//! A result as one HTML page that needs nothing else: tables and plots. A function of values. It asks the network for
//! nothing and has no scripts; whatever the file holds is shown as text.

mod bars;
mod curve;
mod escape;
mod frame;
mod palette;
mod scale;
mod steps;
mod tables;
mod timeline;

use std::fmt::Write;

use crate::handshakes;
use crate::headline::{self, has_headline};
use crate::result::RunResult;
use crate::stats::{Series, Spread, Test, series, tests};
use crate::words;
use escape::Escaped;
use palette::Palette;

const STYLE: &str = include_str!("style.css");

/// The page.
pub fn html(result: &RunResult) -> String {
    let palette = Palette::new(result.cells.iter().map(|cell| &*cell.subject));
    let tests = tests(result);
    let scenario = Escaped(&result.scenario);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n\
         <title>{scenario}: podline-bench</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <h1>{scenario}</h1>\n"
    );
    page.push_str(&facts(result, &tests));
    page.push_str(&warnings(result, &tests));
    if has_headline(result) {
        let found = headline::headline(result);
        page.push_str("<h2>Direct beside NodePorts</h2>\n");
        page.push_str(&gains(&found));
        page.push_str(&tables::headline(&found, &palette));
    }
    let series = series(&tests);
    page.push_str(&contents(&tests, &series));
    for (n, one) in series.iter().enumerate() {
        page.push_str(&grown(n, one, &palette));
    }
    for (n, test) in tests.iter().enumerate() {
        page.push_str(&section(n, test, &palette));
    }
    if tests.is_empty() {
        page.push_str("<p>Nothing was measured.</p>\n");
    }
    page.push_str(READING);
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

/// A series, whose single tests follow further down.
fn grown(number: usize, series: &Series<'_, '_>, palette: &Palette) -> String {
    let rounds = series.steps.iter().map(|(_, test)| test.rounds).max();
    format!(
        "<section id=\"series-{number}\"><h2>{}</h2>\n<p class=\"hint\">Medians of {}, both axes logarithmic. Void \
         cells are left out.</p>\n{}</section>\n",
        Escaped(&series.name()),
        words::plural(rounds.unwrap_or(0), "round"),
        steps::plots(series, palette)
    )
}

fn section(number: usize, test: &Test<'_>, palette: &Palette) -> String {
    let mut section = format!(
        "<section id=\"test-{number}\"><h2>{}</h2>\n<p class=\"hint\">Medians of {}; CPU per {}; ratios within rounds, with their least and most.</p>\n",
        Escaped(test.name),
        words::plural(test.rounds, "round"),
        Escaped(&words::per(&test.unit))
    );
    section.push_str(&tables::test(test, palette));
    let plots = [
        bars::throughput(test, palette),
        bars::cpu(test, palette),
        curve::plot(test, palette),
        bars::balance(test, palette),
    ];
    let _ = writeln!(section, "<div class=\"grid2\">{}</div>", plots.concat());
    section.push_str(&timeline::plots(test, palette));
    section.push_str("</section>\n");
    section
}

/// Where and when, and what with.
fn facts(result: &RunResult, tests: &[Test<'_>]) -> String {
    let machine = &result.machine;
    let mut list = String::new();
    let mut fact = |name: &str, what: &str| {
        if !what.is_empty() {
            let _ = write!(list, "<div><dt>{name}</dt><dd>{}</dd></div>", Escaped(what));
        }
    };
    fact("Began", &result.began);
    fact("Took", &words::duration(result.seconds));
    let memory = words::memory(machine.memory_mib as f64 * 1024.0);
    let cores = words::plural(machine.cores as usize, "core");
    fact(
        "Machine",
        &format!("{}, {cores}, {memory}", machine.processor),
    );
    fact("Kernel", &machine.kernel);
    if let Some(pulse) = Spread::of(machine.pulse.iter().copied().filter(|p| *p > 0.0)) {
        let (low, high) = (pulse.low / pulse.middle, pulse.high / pulse.middle);
        let (low, high) = (words::ratio(low), words::ratio(high));
        fact(
            "Speed meanwhile",
            &format!(
                "{low} to {high} of its median; {} stolen",
                words::share(machine.stolen)
            ),
        );
    }
    for version in words::versions(&result.versions) {
        fact("Version", &version);
    }
    for suite in words::suites(&result.cells) {
        fact("TLS", &suite);
    }
    if let Some(costs) = handshakes::costs(tests) {
        fact("CPU of a handshake", &costs);
    }
    format!("<dl class=\"facts\">{list}</dl>\n")
}

/// What was not measured, and what means nothing.
fn warnings(result: &RunResult, tests: &[Test<'_>]) -> String {
    let mut list = String::new();
    let mut warn = |text: &str| {
        let _ = write!(list, "<li>{}</li>", Escaped(text));
    };
    if result.is_cut_short {
        warn("The run was ended before its last round.");
    }
    if result.machine.stolen > 0.05 {
        warn("Somebody else had the processor for more than 5% of the time: rates are too low.");
    }
    for (subject, reason) in &result.skipped {
        warn(&format!("Skipped: {subject}: {reason}"));
    }
    for (test, subject, reason) in headline::voids(tests) {
        warn(&format!("Void: {subject} in {test}: {reason}"));
    }
    if list.is_empty() {
        return list;
    }
    format!("<ul class=\"warnings\">{list}</ul>\n")
}

fn gains(found: &headline::Headline) -> String {
    let mut list = String::new();
    for gain in &found.gains {
        let _ = write!(list, "<li>{}</li>", Escaped(gain));
    }
    if list.is_empty() {
        return "<p>Nothing can be said of what direct gains: its cells or those of NodePorts are void or missing.</p>\n".to_owned();
    }
    format!(
        "<p>Against the best NodePort variant of each figure, as medians of ratios within {}; in brackets where the \
         median lies with 95% (or all rounds, if there are fewer than {}):</p>\n<ul>{list}</ul>\n",
        words::plural(found.rounds, "round"),
        crate::stats::ROUNDS_FOR_INTERVAL
    )
}

fn contents(tests: &[Test<'_>], series: &[Series<'_, '_>]) -> String {
    if tests.len() < 2 {
        return String::new();
    }
    let mut list = String::new();
    for (n, one) in series.iter().enumerate() {
        let name = one.name();
        let name = Escaped(&name);
        let _ = write!(list, "<li><a href=\"#series-{n}\">{name}</a></li>");
    }
    for (n, test) in tests.iter().enumerate() {
        let _ = write!(
            list,
            "<li><a href=\"#test-{n}\">{}</a></li>",
            Escaped(test.name)
        );
    }
    format!("<nav aria-label=\"Tests\"><ul>{list}</ul></nav>\n")
}

const READING: &str = "<section><h2>How to read this</h2>\n<ul>\n\
<li>All subjects of a round ran one after another on one machine, whose speed drifts by up to a factor of two within \
minutes. So compare ratios, which are taken within rounds, before rates.</li>\n\
<li>The kernel charges the work of interrupts to whoever runs just then. A gain counts if the proxy's CPU and the whole \
machine's CPU both show it.</li>\n\
<li>Latency counts from when a request was to be sent, so a stall is seen by all that had to wait for it.</li>\n\
<li>A cell is void, and not compared, if requests failed in it, if a Pod got less than 0.4 of its fair share, or if its \
rate is less than half of the best peer's (that of idle connections tells nothing).</li>\n\
<li>The subject pod has no load balancer at all: it is the limit of what can be.</li>\n\
</ul></section>\n";

#[cfg(test)]
mod tests;
