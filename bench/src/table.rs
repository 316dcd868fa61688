//! Results as tables for a terminal, and for a page of Markdown. A function of values: the width is an argument.

mod change;
mod columns;
mod steps;
mod test;

use crate::handshakes;
use crate::headline::{self, Headline};
use crate::result::RunResult;
use crate::stats::{series, tests};
use crate::words;
pub use change::comparison;
use columns::Columns;

/// How wide a table is where nobody says how wide the terminal is.
pub const WIDTH: usize = 100;
/// Narrower than this, lines are broken as they come.
const NARROWEST: usize = 40;

/// A table for each test: rate, CPU with its ratio to the reference, latency, failures, and why a cell is void. Tests that
/// differ in one number share a table, with a column for each.
pub fn run(result: &RunResult, width: usize) -> String {
    let width = width.max(NARROWEST);
    let tests = tests(result);
    let mut text = String::new();
    for test in tests.iter().filter(|test| test.step().is_none()) {
        text.push_str(&test::table(test, width));
        text.push('\n');
    }
    for series in series(&tests) {
        text.push_str(&steps::table(&series, width));
        text.push('\n');
    }
    if let Some(costs) = handshakes::costs(&tests) {
        wrap(&mut text, &format!("CPU of a handshake: {costs}"), width);
    }
    if tests.is_empty() {
        text.push_str("Nothing was measured.\n");
    }
    text.push_str(&notes(result, width));
    text
}

/// Figures by subject over all tests, and what direct gains over NodePorts.
pub fn headline(result: &RunResult, width: usize) -> String {
    let width = width.max(NARROWEST);
    let found = headline::headline(result);
    let mut text = String::new();
    for shown in pages(&found, width) {
        text.push_str(&page(&found, &shown).text());
        text.push('\n');
    }
    for line in sentences(&found) {
        wrap(&mut text, &line, width);
    }
    text.push_str(&notes(result, width));
    text
}

/// The headline for a page of Markdown, with when and where it was measured.
pub fn markdown(result: &RunResult) -> String {
    let found = headline::headline(result);
    let mut text = String::new();
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let cells = |first: &str, rest: &[String]| -> Vec<String> {
        let all = std::iter::once(first.to_owned()).chain(rest.iter().cloned());
        all.map(|cell| markdown_text(&cell)).collect()
    };
    text.push_str(&line(cells("", &found.subjects)));
    let rules = found.subjects.iter().map(|_| "---:".to_owned());
    text.push_str(&line(
        std::iter::once("---".to_owned()).chain(rules).collect(),
    ));
    for (label, values) in &found.rows {
        text.push_str(&line(cells(label, values)));
    }
    text.push('\n');
    for sentence in sentences(&found) {
        text.extend(["- ", &markdown_text(&sentence), "\n"]);
    }
    let notes = notes(result, usize::MAX);
    for note in notes.lines().filter(|note| !note.is_empty()) {
        text.extend(["- ", &markdown_text(note.trim()), "\n"]);
    }
    text
}

/// A name's parts below each other.
fn folded(name: &str, is_folded: bool) -> String {
    if is_folded {
        name.replace('-', "\n ")
    } else {
        name.to_owned()
    }
}

/// Which subjects stand beside each other, where not all fit.
fn pages(found: &Headline, width: usize) -> Vec<Vec<usize>> {
    let mut pages: Vec<Vec<usize>> = vec![Vec::new()];
    for subject in 0..found.subjects.len() {
        let Some(last) = pages.last_mut() else { break };
        last.push(subject);
        if last.len() > 1 && page(found, last).width() > width {
            last.pop();
            pages.push(vec![subject]);
        }
    }
    pages
}

fn page(found: &Headline, shown: &[usize]) -> Columns {
    // A name's parts stand below each other.
    let names: Vec<String> = shown
        .iter()
        .map(|n| format!(">{}", found.subjects[*n].replace('-', "\n")))
        .collect();
    let header: Vec<&str> = std::iter::once("")
        .chain(names.iter().map(|name| &**name))
        .collect();
    let mut columns = Columns::new(&header);
    for (label, values) in &found.rows {
        let values = shown.iter().map(|n| values[*n].replace(": ", ":\n"));
        let cells: Vec<String> = std::iter::once(label.clone()).chain(values).collect();
        columns.row(&cells);
    }
    columns
}

/// What direct gains, with what the words in brackets mean.
fn sentences(found: &Headline) -> Vec<String> {
    let mut sentences = Vec::new();
    if !found.gains.is_empty() {
        sentences.push(format!(
            "What direct gains over the best NodePort variant of each figure, as medians of ratios within {} \
             (in brackets where the median lies with 95%, or all of fewer than {} rounds):",
            words::plural(found.rounds, "round"),
            crate::stats::ROUNDS_FOR_INTERVAL
        ));
        sentences.extend(found.gains.iter().cloned());
    }
    let void = |(test, subject, reason): &(String, String, String)| {
        words::clean(&format!("Void: {subject} in {test}: {reason}."))
    };
    sentences.extend(found.voids.iter().map(void));
    sentences
}

/// What was skipped, on what it ran, and what else a reader should know.
fn notes(result: &RunResult, width: usize) -> String {
    let mut text = String::new();
    for (subject, reason) in &result.skipped {
        wrap(
            &mut text,
            &words::clean(&format!("Skipped: {subject}: {reason}")),
            width,
        );
    }
    if result.is_cut_short {
        wrap(&mut text, "The run was ended before its last round.", width);
    }
    let suites = words::suites(&result.cells);
    if !suites.is_empty() {
        let line = format!("TLS with {}", suites.join("; "));
        wrap(&mut text, &line, width);
    }
    let machine = &result.machine;
    let mut line = format!(
        "{}, {}, {} cores, {:.1} GiB, kernel {}",
        result.began,
        machine.processor,
        machine.cores,
        machine.memory_mib as f64 / 1024.0,
        machine.kernel
    );
    for version in words::versions(&result.versions) {
        line = format!("{line}; {version}");
    }
    wrap(&mut text, &words::clean(&line), width);
    text
}

/// Adds a text in lines of at most this width; what follows its first line is indented.
fn wrap(text: &mut String, line: &str, width: usize) {
    let mut used = 0;
    for word in line.split(' ') {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > width {
            text.push_str("\n  ");
            used = 2;
        } else if used > 0 {
            text.push(' ');
            used += 1;
        }
        text.push_str(word);
        used += length;
    }
    text.push('\n');
}

/// Text as Markdown shows it, whatever is in it.
fn markdown_text(text: &str) -> String {
    let mut shown = String::new();
    for c in words::clean(text).chars() {
        match c {
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' | '#' => shown.extend(['\\', c]),
            '<' => shown.push_str("&lt;"),
            '>' => shown.push_str("&gt;"),
            '&' => shown.push_str("&amp;"),
            other => shown.push(other),
        }
    }
    shown
}

#[cfg(test)]
mod tests;
