//! What a run comes to in one table: figures by subject, and what direct gains over NodePorts in sentences. A function of
//! values; how it is shown is told elsewhere.

use std::collections::BTreeSet;

use crate::result::{Round, RunResult};
use crate::stats::{Figure, Kind, Row, Spread, Test, kind, ratio, tests};
use crate::words;

/// What is shown of a test.
const SHOWN: [Figure; 6] = [
    Figure::Rate,
    Figure::P50,
    Figure::P99,
    Figure::P999,
    Figure::ProxyCpu,
    Figure::MachineCpu,
];
/// A difference that is smaller is not worth a word.
const LEAST: f64 = 0.005;

/// Figures of all tests by subject.
pub(crate) struct Headline {
    /// The columns.
    pub(crate) subjects: Vec<String>,
    /// A label, and a text for each subject.
    pub(crate) rows: Vec<(String, Vec<String>)>,
    /// What direct gains, a sentence for each test.
    pub(crate) gains: Vec<String>,
    /// Cells that mean nothing: test, subject, reason.
    pub(crate) voids: Vec<(String, String, String)>,
    /// Under how many rounds it rests.
    pub(crate) rounds: usize,
}

/// Whether a run has both of what a headline compares.
pub(crate) fn has_headline(result: &RunResult) -> bool {
    let has = |wanted| {
        result
            .cells
            .iter()
            .any(|cell| kind(&cell.subject) == wanted)
    };
    has(Kind::Direct) && has(Kind::Nodeport)
}

/// Sums a run up.
pub(crate) fn headline(result: &RunResult) -> Headline {
    let tests = tests(result);
    let mut subjects: Vec<String> = Vec::new();
    for cell in &result.cells {
        if !subjects.contains(&cell.subject) {
            subjects.push(cell.subject.clone());
        }
    }
    let mut rows = Vec::new();
    for test in &tests {
        rows.extend(of_test(test, &subjects));
    }
    rows.extend(of_paths(&tests, &subjects));
    let gains = tests.iter().filter_map(gain).collect();
    Headline {
        rows,
        gains,
        voids: voids(&tests),
        rounds: tests.iter().map(|test| test.rounds).max().unwrap_or(0),
        subjects,
    }
}

/// Cells that mean nothing: test, subject, reason.
pub(crate) fn voids(tests: &[Test<'_>]) -> Vec<(String, String, String)> {
    let of = |test: &Test<'_>| -> Vec<(String, String, String)> {
        let rows = test.rows.iter();
        rows.filter_map(|row| {
            let reason = row.void.as_ref()?.to_string();
            Some((test.name.to_owned(), row.subject().to_owned(), reason))
        })
        .collect()
    };
    tests.iter().flat_map(of).collect()
}

/// Throughput, latency and CPU of a test. A void cell is said to be one.
fn of_test(test: &Test<'_>, subjects: &[String]) -> Vec<(String, Vec<String>)> {
    let per = words::per(&test.unit);
    let name = words::clean(test.name);
    let label = |figure: Figure| match figure {
        Figure::Rate => format!("{name}: throughput"),
        Figure::ProxyCpu => format!("{name}: proxy CPU per {per}"),
        Figure::MachineCpu => format!("{name}: machine CPU per {per}"),
        other => format!("{name}: latency {}", other.name()),
    };
    let shown = SHOWN.into_iter().filter(|figure| test.has(*figure));
    shown
        .map(|figure| {
            let shown = |subject: &String| match test.row(subject) {
                Some(row) if row.void.is_some() => "void".to_owned(),
                Some(row) => row.middle(figure).map_or(words::NONE.to_owned(), |v| {
                    words::figure(figure, v, &test.unit)
                }),
                None => words::NONE.to_owned(),
            };
            (label(figure), subjects.iter().map(shown).collect())
        })
        .collect()
}

/// What a path does with packets, over all tests: entries, hops, balance, addresses.
fn of_paths(tests: &[Test<'_>], subjects: &[String]) -> Vec<(String, Vec<String>)> {
    let row = |label: &str, text: &dyn Fn(&[&Row<'_>]) -> Option<String>| {
        let of = |subject: &String| {
            let rows: Vec<&Row<'_>> = tests.iter().filter_map(|test| test.row(subject)).collect();
            text(&rows).unwrap_or(words::NONE.to_owned())
        };
        (
            label.to_owned(),
            subjects.iter().map(of).collect::<Vec<_>>(),
        )
    };
    let rows = [
        row("connection-tracking entries", &|rows| {
            let most = rounds(rows).filter_map(|round| round.tracked).max()?;
            Some(words::count(most as f64))
        }),
        row("hops from client to Pod", &hops),
        row("balance: most/least of a Pod", &|rows| {
            let balanced = rows
                .iter()
                .filter(|row| row.cell.is_balanced && row.void.is_none());
            let worst = balanced
                .filter_map(|row| row.skew())
                .max_by(f64::total_cmp)?;
            Some(words::skew(worst))
        }),
        row("client's address survived", &survived),
    ];
    let filled = |(_, texts): &(String, Vec<String>)| texts.iter().any(|text| text != words::NONE);
    rows.into_iter().filter(filled).collect()
}

fn rounds<'a>(rows: &'a [&Row<'_>]) -> impl Iterator<Item = &'a Round> {
    rows.iter().flat_map(|row| &row.cell.rounds)
}

fn hops(rows: &[&Row<'_>]) -> Option<String> {
    let seen: BTreeSet<u32> = rounds(rows).filter_map(|round| round.hops).collect();
    let (least, most) = (seen.first()?, seen.last()?);
    Some(if least == most {
        least.to_string()
    } else {
        format!("{least}-{most}")
    })
}

/// `yes`, or `no` with whose address the Pods saw instead.
fn survived(rows: &[&Row<'_>]) -> Option<String> {
    let seen = rounds(rows).flat_map(|round| &round.sources);
    let seen: BTreeSet<&str> = seen
        .filter(|(_, n)| **n > 0)
        .map(|(who, _)| &**who)
        .collect();
    if seen.is_empty() {
        return None;
    }
    let others: Vec<String> = seen
        .iter()
        .filter(|who| **who != "client")
        .map(|who| words::clean(who))
        .collect();
    Some(match (seen.contains("client"), others.as_slice()) {
        (true, []) => "yes".to_owned(),
        (true, others) => format!("partly: {}", others.join(", ")),
        (false, others) => format!("no: {}", others.join(", ")),
    })
}

/// What direct gains over the best NodePort variant of each figure, in one sentence.
fn gain(test: &Test<'_>) -> Option<String> {
    let direct = test.row("direct").filter(|row| row.void.is_none())?;
    let per = words::per(&test.unit);
    let (mut clear, mut unclear) = (Vec::new(), Vec::new());
    let mut last = "";
    for figure in SHOWN {
        let Some(best) = test.best(figure, |kind| kind == Kind::Nodeport) else {
            continue;
        };
        let Some(spread) = ratio(direct.cell, best.cell, figure) else {
            continue;
        };
        if spread.excludes(1.0) && (spread.middle - 1.0).abs() < LEAST {
            continue; // certain, and nothing: an open load's throughput is its schedule
        }
        let claim = claim(figure, &spread, &per);
        if !spread.excludes(1.0) {
            unclear.push(claim);
        } else if last == best.subject() {
            clear.push(claim);
        } else {
            last = best.subject();
            clear.push(format!("{claim} than {}", words::clean(last)));
        }
    }
    let name = words::clean(test.name);
    match (clear.join("; "), unclear.join(", ")) {
        (clear, unclear) if clear.is_empty() && unclear.is_empty() => None,
        (clear, unclear) if unclear.is_empty() => Some(format!("{name}: direct has {clear}.")),
        (clear, unclear) if clear.is_empty() => {
            Some(format!("{name}: no clear difference in {unclear}."))
        }
        (clear, unclear) => Some(format!(
            "{name}: direct has {clear}. No clear difference in {unclear}."
        )),
    }
}

/// `31% more throughput (27 to 36%)`, or what is not clear: `throughput (-2 to +3%)`.
fn claim(figure: Figure, spread: &Spread, per: &str) -> String {
    let what = match figure {
        Figure::Rate => "throughput".to_owned(),
        Figure::ProxyCpu => format!("proxy CPU per {per}"),
        Figure::MachineCpu => format!("machine CPU per {per}"),
        other => format!("{} latency", other.name()),
    };
    // Rounded, for -0.3 would be written as -0.
    let percent = |ratio: f64| ((ratio - 1.0) * 100.0).round() + 0.0;
    let (low, high) = spread.interval();
    if !spread.excludes(1.0) {
        let (low, high) = (percent(low), percent(high));
        return format!("{what} ({low:+.0} to {high:+.0}%)");
    }
    let change = percent(spread.middle);
    if change > 0.0 {
        let (low, high) = (percent(low), percent(high));
        let more = if figure.is_latency() {
            "higher"
        } else {
            "more"
        };
        format!("{change:.0}% {more} {what} ({low:.0} to {high:.0}%)")
    } else {
        // The lesser loss first.
        let (low, high) = (0.0 - percent(high), 0.0 - percent(low));
        let less = if figure.is_latency() { "lower" } else { "less" };
        format!("{:.0}% {less} {what} ({low:.0} to {high:.0}%)", -change)
    }
}

#[cfg(test)]
mod tests;
