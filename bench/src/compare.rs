//! Two results: what became better, what worse, and what is noise. A function of values.
//!
//! The rounds of two runs did not run beside each other, and the machine's speed drifts between them. So each figure is
//! first put beside something of its own run that did not change (see `beside`): what is compared is how a subject
//! stands to that. A difference counts if it is more than
//!
//! - the least effect worth a word, by figure ([`least`]), and
//! - so many standard errors that chance would exceed it for any figure of the run in 5 of 100 runs (Bonferroni), and
//! - what the machine's drift within a round can have added, and
//! - if those that did not change do not agree with each other, how far they are apart.
//!
//! Exit status: 0 if nothing is worse ([`Comparison::is_worse`]), also if nothing could be compared; 1 otherwise.

mod beside;
mod decide;

use serde::Serialize;

use crate::result::{Machine, RunResult};
use crate::stats::{Figure, Kind, Row, Test, Void, kind, median, tests};

pub use decide::least;

/// What two runs say.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Comparison {
    /// When the two began.
    pub began: (String, String),
    /// Why nothing was compared: the runs are of different scenarios or machines. The lists are empty then.
    pub refused: Option<String>,
    /// What a reader should know before the figures.
    pub warnings: Vec<String>,
    /// Figures that both runs have.
    pub judged: Vec<Judged>,
    /// Cells that one run has no figures of, or none that mean something.
    pub unlike: Vec<Unlike>,
}

/// A figure of a cell in both runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judged {
    /// As `rr`.
    pub test: String,
    /// As `direct`.
    pub subject: String,
    /// What a unit of work is.
    pub unit: String,
    /// Which figure.
    pub figure: Figure,
    /// Its medians in the first run and the second, as they were measured.
    pub medians: (f64, f64),
    /// What the second has in times of the first, the machine's drift taken out; `None` if a median is 0.
    pub ratio: Option<f64>,
    /// What it means.
    pub verdict: Verdict,
    /// Why, in words.
    pub why: String,
}

/// What a difference means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The second run is worse.
    Worse,
    /// The second run is better.
    Better,
    /// No difference that chance does not explain.
    Noise,
}

/// A cell that only one of the runs can be judged by.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unlike {
    /// As `rr`.
    pub test: String,
    /// As `direct`.
    pub subject: String,
    /// What is the matter, in words.
    pub what: String,
    /// Whether the second run is worse for it: it means nothing any more, and not for a stray failure.
    pub is_worse: bool,
}

impl Comparison {
    /// Whether anything of Podline is worse in the second run; the command's exit status is 1 then. A peer's other
    /// version may be worse without it.
    pub fn is_worse(&self) -> bool {
        let worse = |judged: &Judged| judged.verdict == Verdict::Worse && is_ours(&judged.subject);
        self.judged.iter().any(worse) || self.unlike.iter().any(|unlike| unlike.is_worse)
    }
}

/// Compares a run with a later one.
pub fn compare(before: &RunResult, after: &RunResult) -> Comparison {
    let mut comparison = Comparison {
        began: (before.began.clone(), after.began.clone()),
        refused: refused(before, after),
        ..Comparison::default()
    };
    if comparison.refused.is_some() {
        return comparison;
    }
    comparison.warnings = warnings(before, after);
    let (old, new) = (tests(before), tests(after));
    let mut series = Vec::new();
    for test in &old {
        let other = new.iter().find(|other| other.name == test.name);
        for row in &test.rows {
            let found = other.and_then(|other| Some((other, other.row(row.subject())?)));
            let Some((other, again)) = found else {
                comparison
                    .unlike
                    .push(unlike(test, row, "only in the first run", false));
                continue;
            };
            comparison.judged.extend(decide::failures(test, row, again));
            if let Some(found) = void(test, row, again) {
                comparison.unlike.push(found);
                continue;
            }
            let runs = ((before, test, row), (after, other, again));
            series.extend(beside::series(runs.0, runs.1));
        }
    }
    for test in &new {
        let missing = |row: &&Row<'_>| {
            let other = old.iter().find(|other| other.name == test.name);
            other.and_then(|other| other.row(row.subject())).is_none()
        };
        let only = test.rows.iter().filter(missing);
        comparison
            .unlike
            .extend(only.map(|row| unlike(test, row, "only in the second run", false)));
    }
    comparison.judged.extend(decide::all(&series));
    let place = |judged: &Judged| old.iter().position(|test| test.name == judged.test);
    comparison
        .judged
        .sort_by_key(|judged| (place(judged), judged.subject.clone(), judged.figure));
    comparison
}

fn is_ours(subject: &str) -> bool {
    matches!(kind(subject), Kind::Direct | Kind::Nodeport)
}

/// A slow subject is still compared: that it became slow is what the comparison is to find.
fn void(test: &Test<'_>, row: &Row<'_>, again: &Row<'_>) -> Option<Unlike> {
    let is_void = |row: &Row<'_>| !matches!(row.void, None | Some(Void::Slow(..)));
    let reason = |row: &Row<'_>| {
        row.void
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default()
    };
    let (what, is_worse) = match (is_void(row), is_void(again)) {
        (false, false) => return None,
        (true, true) => (format!("void in both runs: {}", reason(again)), false),
        (true, false) => (format!("void in the first run: {}", reason(row)), false),
        (false, true) => {
            // Failures are a figure of their own, with a rule of its own.
            let is_worse = !matches!(again.void, Some(Void::Failures(_))) && is_ours(row.subject());
            (
                format!("void in the second run: {}", reason(again)),
                is_worse,
            )
        }
    };
    Some(unlike(test, row, &what, is_worse))
}

fn unlike(test: &Test<'_>, row: &Row<'_>, what: &str, is_worse: bool) -> Unlike {
    Unlike {
        test: test.name.to_owned(),
        subject: row.subject().to_owned(),
        what: what.to_owned(),
        is_worse,
    }
}

fn refused(before: &RunResult, after: &RunResult) -> Option<String> {
    if before.scenario != after.scenario {
        let (old, new) = (&before.scenario, &after.scenario);
        return Some(format!(
            "the first run is of scenario {old}, the second of {new}: nothing was compared; run the same scenario"
        ));
    }
    let name = |machine: &Machine| format!("{} with {} cores", machine.processor, machine.cores);
    let (old, new) = (name(&before.machine), name(&after.machine));
    (old != new).then(|| {
        format!(
            "the first run is of a machine with {old}, the second of one with {new}: nothing was compared; run both on one machine"
        )
    })
}

fn warnings(before: &RunResult, after: &RunResult) -> Vec<String> {
    let mut warnings = Vec::new();
    let (old, new) = (&before.machine, &after.machine);
    if old.kernel != new.kernel {
        let (old, new) = (&old.kernel, &new.kernel);
        warnings.push(format!("the kernels differ: {old}, then {new}"));
    }
    if old.memory_mib != new.memory_mib {
        let (old, new) = (old.memory_mib, new.memory_mib);
        warnings.push(format!("the memory differs: {old} MiB, then {new} MiB"));
    }
    for (subject, version) in &before.versions {
        let other = after.versions.get(subject);
        if let Some(other) = other.filter(|other| *other != version) {
            warnings.push(format!("{subject} differs: {version}, then {other}"));
        }
    }
    let runs = [("first", before), ("second", after)];
    for (which, run) in runs {
        if run.is_cut_short {
            warnings.push(format!("the {which} run was ended before its last round"));
        }
        if run.machine.stolen > 0.05 {
            let percent = run.machine.stolen * 100.0;
            warnings.push(format!(
                "somebody else had the processor for {percent:.0}% of the {which} run"
            ));
        }
        let fewest = run.cells.iter().map(|cell| cell.rounds.len()).min();
        if let Some(fewest) = fewest.filter(|fewest| *fewest < crate::stats::ROUNDS_FOR_INTERVAL) {
            warnings.push(format!(
                "the {which} run has cells of {fewest} rounds: small differences need {} or more",
                crate::stats::ROUNDS_FOR_INTERVAL
            ));
        }
    }
    let pulse = |machine: &Machine| median(machine.pulse.iter().copied()).filter(|p| *p > 0.0);
    if let (Some(old), Some(new)) = (pulse(old), pulse(new)) {
        let ratio = new / old;
        if !(0.8..1.25).contains(&ratio) {
            warnings.push(format!(
                "the machine was {ratio:.2} times as fast in the second run; the ratios take that out"
            ));
        }
    }
    warnings
}

#[cfg(test)]
mod tests;
