//! Figures of two runs, each put beside what did not change between them, so that the machine's drift falls out.

use crate::result::RunResult;
use crate::stats::{Figure, Kind, Row, Test, Void, kind, median};

/// So much of a round remains between a subject and its yardstick that the fit does not see.
const UNSURE_DISTANCE: f64 = 0.2;
/// A distance is believed if it leaves less than this share of the noise.
const WORTH_MOVING: f64 = 0.8;

/// A side of a comparison: the run, the test in it, and the subject's row.
pub(super) type Side<'a> = (&'a RunResult, &'a Test<'a>, &'a Row<'a>);
/// Logarithms by round; `None` where a round has none.
type Logs = Vec<Option<f64>>;

/// A figure that is to be judged.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) test: String,
    pub(super) subject: String,
    pub(super) unit: String,
    pub(super) figure: Figure,
    /// As they were measured.
    pub(super) medians: (f64, f64),
    /// Logarithms of the rounds of both runs, beside [`Series::beside`].
    pub(super) rounds: (Vec<f64>, Vec<f64>),
    /// What they were put beside.
    pub(super) beside: String,
    /// How far the drift within a round can have moved the two runs apart, as a logarithm.
    pub(super) drift: f64,
    /// How far apart the two runs are beside other yardsticks than this, as a logarithm: one that works in one of two ways
    /// by chance looks as if everything else had changed.
    pub(super) disagreement: f64,
    /// Whether it did not change, and is what others are put beside.
    pub(super) is_yardstick: bool,
}

/// Something that did not change, in both runs.
#[derive(Clone)]
struct Yardstick {
    name: String,
    logs: (Logs, Logs),
}

/// Everything of a cell but its failures.
pub(super) fn series(before: Side<'_>, after: Side<'_>) -> Vec<Series> {
    let figures = Figure::ALL.into_iter();
    figures
        .filter(|figure| *figure != Figure::Failures)
        .filter_map(|figure| one(before, after, figure))
        .collect()
}

fn one(before: Side<'_>, after: Side<'_>, figure: Figure) -> Option<Series> {
    let row = before.2;
    let medians = (row.middle(figure)?, after.2.middle(figure)?);
    let logs = (logs(row, figure), self::logs(after.2, figure));
    let mut series = Series {
        test: before.1.name.to_owned(),
        subject: row.subject().to_owned(),
        unit: row.cell.unit.clone(),
        figure,
        medians,
        rounds: (flat(&logs.0), flat(&logs.1)),
        beside: String::new(),
        drift: 0.0,
        disagreement: 0.0,
        is_yardstick: is_unchanged(before.0, after.0, row.subject()),
    };
    if matches!(figure, Figure::Memory | Figure::PerConnection) {
        return Some(series);
    }
    let pulse = pulse(before.0, after.0, figure);
    let mut yardsticks = yardsticks(before, after, figure);
    if yardsticks.is_empty() && !is_scheduled(&series) {
        yardsticks.extend(pulse.clone());
    }
    let mut fits: Vec<Fit> = yardsticks
        .iter()
        .filter_map(|yardstick| fit(&logs, yardstick, pulse.as_ref().unwrap_or(yardstick)))
        .collect();
    fits.sort_by(|a, b| a.noise.total_cmp(&b.noise));
    let mut fits = fits.into_iter();
    if let Some(best) = fits.next() {
        let apart = |other: Fit| Some((best.difference()? - other.difference()?).abs());
        series.disagreement = median(fits.filter_map(apart)).unwrap_or(0.0);
        series.rounds = best.rounds;
        series.drift = best.drift;
        series.beside = best.beside;
    }
    Some(series)
}

/// A figure beside a yardstick.
struct Fit {
    noise: f64,
    rounds: (Vec<f64>, Vec<f64>),
    drift: f64,
    beside: String,
}

impl Fit {
    fn difference(&self) -> Option<f64> {
        Some(median(self.rounds.1.iter().copied())? - median(self.rounds.0.iter().copied())?)
    }
}

/// Takes a yardstick out of a figure. Within a round the two were measured one after the other, and meanwhile the speed
/// drifted: by how much of a round they lie apart is what leaves the least noise. `drifting` tells the speed by round.
fn fit(logs: &(Logs, Logs), yardstick: &Yardstick, drifting: &Yardstick) -> Option<Fit> {
    let at = |distance: f64| {
        let side = |logs: &Logs, yardstick: &Logs, drifting: &Logs| {
            without(logs, &moved(yardstick, drifting, distance))
        };
        let rounds = (
            side(&logs.0, &yardstick.logs.0, &drifting.logs.0),
            side(&logs.1, &yardstick.logs.1, &drifting.logs.1),
        );
        let noise = variance(&rounds.0)? + variance(&rounds.1)?;
        Some((noise, rounds))
    };
    let (mut noise, mut rounds) = at(0.0)?;
    // Few rounds would fit any distance.
    if rounds.0.len().min(rounds.1.len()) >= 5 {
        let distances = (-8..=8).filter_map(|eighth| at(f64::from(eighth) / 8.0));
        let best = distances.min_by(|a, b| a.0.total_cmp(&b.0))?;
        if best.0 < noise * WORTH_MOVING {
            (noise, rounds) = best;
        }
    }
    Some(Fit {
        noise,
        rounds,
        drift: (step(&drifting.logs.0) + step(&drifting.logs.1)) * UNSURE_DISTANCE,
        beside: yardstick.name.clone(),
    })
}

/// What a yardstick would have said so much of a round later.
fn moved(yardstick: &Logs, drifting: &Logs, distance: f64) -> Logs {
    let speed = |n: usize| drifting.get(n).copied().flatten();
    let step = |n: usize| {
        let ahead = speed(n + 1).zip(speed(n)).map(|(next, here)| next - here);
        let behind = || Some(speed(n)? - speed(n.checked_sub(1)?)?);
        if distance < 0.0 {
            behind().or(ahead)
        } else {
            ahead.or_else(behind)
        }
    };
    let moved = |(n, log): (usize, &Option<f64>)| Some((*log)? + distance * step(n).unwrap_or(0.0));
    yardstick.iter().enumerate().map(moved).collect()
}

/// The rate of an open load is its schedule's, however fast the machine is.
fn is_scheduled(series: &Series) -> bool {
    let steady = |rounds: &[f64]| variance(rounds).is_some_and(|variance| variance < 1e-4);
    series.figure == Figure::Rate && steady(&series.rounds.0) && steady(&series.rounds.1)
}

/// The Pod alone, and peers of the same version.
fn is_unchanged(before: &RunResult, after: &RunResult, subject: &str) -> bool {
    match kind(subject) {
        Kind::Pod => true,
        Kind::Peer => {
            let version = before.versions.get(subject);
            version.is_some() && version == after.versions.get(subject)
        }
        Kind::Direct | Kind::Nodeport => false,
    }
}

/// Each other subject that did not change, and where there are more than two, the median of them.
fn yardsticks(before: Side<'_>, after: Side<'_>, figure: Figure) -> Vec<Yardstick> {
    let is_fit = |row: &Row<'_>| matches!(row.void, None | Some(Void::Slow(..)));
    let mut found = Vec::new();
    for row in &before.1.rows {
        let subject = row.subject();
        let is_other = subject != before.2.subject();
        if !is_other || !is_fit(row) || !is_unchanged(before.0, after.0, subject) {
            continue;
        }
        let Some(again) = after.1.row(subject).filter(|again| is_fit(again)) else {
            continue;
        };
        let figure = match (figure, kind(subject)) {
            (Figure::ProxyCpu, Kind::Pod) => Figure::MachineCpu,
            _ => figure,
        };
        found.push(Yardstick {
            name: subject.to_owned(),
            logs: (logs(row, figure), logs(again, figure)),
        });
    }
    if found.len() > 2 {
        let middle = |side: fn(&Yardstick) -> &Logs| -> Logs {
            let longest = found.iter().map(|y| side(y).len()).max().unwrap_or(0);
            (0..longest)
                .map(|n| {
                    median(
                        found
                            .iter()
                            .filter_map(|y| side(y).get(n).copied().flatten()),
                    )
                })
                .collect()
        };
        let logs = (middle(|y| &y.logs.0), middle(|y| &y.logs.1));
        let name = "the median of those that did not change".to_owned();
        found.push(Yardstick { name, logs });
    }
    found
}

/// The machine's pulse, as this figure would follow it; `None` if a run has less than three.
fn pulse(before: &RunResult, after: &RunResult, figure: Figure) -> Option<Yardstick> {
    let logs = |run: &RunResult| -> Logs {
        let sign = if figure.is_more_better() { 1.0 } else { -1.0 };
        let log = |pulse: &f64| (*pulse > 0.0).then(|| pulse.ln() * sign);
        run.machine.pulse.iter().map(log).collect()
    };
    let logs = (logs(before), logs(after));
    let enough = |logs: &Logs| logs.iter().flatten().count() >= 3;
    (enough(&logs.0) && enough(&logs.1)).then(|| Yardstick {
        name: "the machine's pulse".to_owned(),
        logs,
    })
}

fn logs(row: &Row<'_>, figure: Figure) -> Logs {
    let rounds = row.cell.rounds.iter();
    rounds
        .map(|round| figure.of(round).filter(|v| *v > 0.0).map(f64::ln))
        .collect()
}

fn flat(logs: &Logs) -> Vec<f64> {
    logs.iter().copied().flatten().collect()
}

fn without(logs: &Logs, yardstick: &Logs) -> Vec<f64> {
    let pairs = logs.iter().zip(yardstick);
    pairs
        .filter_map(|(log, other)| Some((*log)? - (*other)?))
        .collect()
}

/// `None` for less than three values.
fn variance(values: &[f64]) -> Option<f64> {
    if values.len() < 3 {
        return None;
    }
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some(squares / (count - 1.0))
}

/// How far the speed drifts from one round to the next, all in all.
fn step(logs: &Logs) -> f64 {
    let steps = logs.windows(2).filter_map(|pair| Some(pair[1]? - pair[0]?));
    median(steps).unwrap_or(0.0).abs()
}
