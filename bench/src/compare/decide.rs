//! When a difference between two runs is more than noise.

use super::beside::Series;
use super::{Judged, Verdict};
use crate::stats::{Figure, Row, Test, median, student_quantile};

/// The chance that any figure of a run is called different though nothing is. Half of what is promised (1 of 10): the
/// other half is for what the model of noise does not know.
const FALSE_ALARMS: f64 = 0.05;
/// With so many degrees of freedom the figure's noise in all cells counts beside a cell's own.
const SHARED_FREEDOM: f64 = 16.0;
/// How far the logarithm of a figure deviates from run to run with all of its rounds: by where things lie in memory, say.
/// Rounds cannot tell.
const HABIT: f64 = 0.01;
/// Fewer rounds than this decide nothing.
const FEWEST_ROUNDS: usize = 3;
/// Failures of this share of what was begun are more than a stray one.
const LEAST_FAILURES: f64 = 0.001;
/// Memory grows in pages and arenas, whatever it is for.
const LEAST_KIB: f64 = 1024.0;

/// The least change of a figure that is worth a word, as a share of it.
pub fn least(figure: Figure) -> f64 {
    match figure {
        Figure::Rate | Figure::ProxyCpu | Figure::MachineCpu => 0.05,
        Figure::P50 | Figure::Memory | Figure::PerConnection => 0.1,
        Figure::P99 => 0.25,
        Figure::P999 => 0.5,
        Figure::Failures => LEAST_FAILURES,
    }
}

/// What two runs say of a difference.
struct Difference {
    /// Of the logarithms.
    of: f64,
    /// Its variance, for rounds of variance 1.
    scale: f64,
    /// The variance of a round, resistant to a disturbed one.
    variance: f64,
    /// How well that is known.
    freedom: f64,
}

/// Judges all figures of a run together: the more there are, the more each must differ.
pub(super) fn all(series: &[Series]) -> Vec<Judged> {
    let differences: Vec<Option<Difference>> = series.iter().map(difference).collect();
    let tested = series.iter().zip(&differences);
    let tested = tested
        .filter(|(series, d)| d.is_some() && !series.is_yardstick)
        .count();
    let probability = FALSE_ALARMS / tested.max(1) as f64;
    let shared = |figure| {
        let same = series.iter().zip(&differences);
        let same = same.filter(|(series, _)| series.figure == figure);
        median(same.filter_map(|(_, d)| Some(d.as_ref()?.variance))).unwrap_or(0.0)
    };
    series
        .iter()
        .zip(&differences)
        .map(|(series, difference)| match difference {
            _ if series.is_yardstick => {
                let why = "did not change: what others are put beside".to_owned();
                judged(series, difference.as_ref(), Verdict::Noise, why)
            }
            Some(difference) => judge(series, difference, shared(series.figure), probability),
            None => {
                let why = format!("fewer than {FEWEST_ROUNDS} rounds");
                judged(series, None, Verdict::Noise, why)
            }
        })
        .collect()
}

fn judge(series: &Series, difference: &Difference, shared: f64, probability: f64) -> Judged {
    // A cell whose few rounds agree by luck is not taken to be that quiet.
    let mixed = (SHARED_FREEDOM * shared + difference.freedom * difference.variance)
        / (SHARED_FREEDOM + difference.freedom);
    let variance = difference.variance.max(mixed);
    let error = (variance * difference.scale + 2.0 * HABIT * HABIT).sqrt();
    let times = student_quantile(probability, whole(difference.freedom + SHARED_FREEDOM));
    let effect = (1.0 + least(series.figure)).ln();
    let mut bound = effect.max(times * error) + series.drift;
    if series.disagreement > bound {
        bound += series.disagreement;
    }
    let (old, new) = series.medians;
    let is_small = series.figure == Figure::Memory && (new - old).abs() < LEAST_KIB;
    let beside = if series.beside.is_empty() {
        String::new()
    } else {
        format!(", beside {}", series.beside)
    };
    // As a share, in the direction in which it went.
    let noise = (bound.exp() - 1.0) * 100.0;
    if difference.of.abs() <= bound || is_small {
        let why = format!("up to {noise:.0}% would be noise{beside}");
        return judged(series, Some(difference), Verdict::Noise, why);
    }
    let is_more = difference.of > 0.0;
    let verdict = if is_more == series.figure.is_more_better() {
        Verdict::Better
    } else {
        Verdict::Worse
    };
    let why = format!("beyond the {noise:.0}% that noise explains{beside}");
    judged(series, Some(difference), verdict, why)
}

fn judged(
    series: &Series,
    difference: Option<&Difference>,
    verdict: Verdict,
    why: String,
) -> Judged {
    Judged {
        test: series.test.clone(),
        subject: series.subject.clone(),
        unit: series.unit.clone(),
        figure: series.figure,
        medians: series.medians,
        ratio: difference.map(|difference| difference.of.exp()),
        verdict,
        why,
    }
}

fn difference(series: &Series) -> Option<Difference> {
    let (old, new) = (&series.rounds.0, &series.rounds.1);
    let (first, second) = (winsorised(old)?, winsorised(new)?);
    let freedom = first.freedom + second.freedom;
    let pooled = (first.variance * first.freedom + second.variance * second.freedom) / freedom;
    Some(Difference {
        of: second.middle - first.middle,
        scale: first.scale + second.scale,
        variance: pooled,
        freedom,
    })
}

struct Winsorised {
    variance: f64,
    freedom: f64,
    /// The variance of [`Winsorised::middle`], for rounds of variance 1.
    scale: f64,
    /// The mean of the inner values.
    middle: f64,
}

/// The mean without the outermost fifth at each end, and the variance with those moved to the next value inside (Yuen).
/// `None` if there are too few values.
fn winsorised(values: &[f64]) -> Option<Winsorised> {
    if values.len() < FEWEST_ROUNDS {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len();
    let moved = count / 5;
    let (low, high) = (sorted[moved], sorted[count - 1 - moved]);
    let inner: f64 = sorted[moved..count - moved].iter().sum();
    for value in &mut sorted {
        *value = value.clamp(low, high);
    }
    let kept = (count - 2 * moved) as f64;
    let middle = inner / kept;
    let count = count as f64;
    let mean = sorted.iter().sum::<f64>() / count;
    let squares: f64 = sorted.iter().map(|value| (value - mean).powi(2)).sum();
    Some(Winsorised {
        variance: squares / (kept - 1.0) * count / kept,
        freedom: kept - 1.0,
        scale: 1.0 / count,
        middle,
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "degrees of freedom: small, not negative, and rounded down on purpose"
)]
fn whole(freedom: f64) -> u32 {
    freedom as u32
}

/// Failures are rare and come in bursts, so they are counted, not averaged: worse is what failed in every round more than
/// in any round before, or failed at all where nothing did, and not just once in a thousand.
pub(super) fn failures(test: &Test<'_>, row: &Row<'_>, again: &Row<'_>) -> Option<Judged> {
    let shares = |row: &Row<'_>| -> Vec<f64> {
        let rounds = row.cell.rounds.iter();
        rounds
            .filter_map(|round| Figure::Failures.of(round))
            .collect()
    };
    let (old, new) = (shares(row), shares(again));
    let mean = |shares: &[f64]| {
        (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64)
    };
    let means = (mean(&old)?, mean(&new)?);
    let is_beyond = |less: &[f64], more: &[f64]| {
        let most = less.iter().copied().fold(0.0, f64::max);
        let least = more.iter().copied().fold(f64::INFINITY, f64::min);
        least > most || most <= 0.0
    };
    let verdict = if means.1 - means.0 > LEAST_FAILURES && is_beyond(&old, &new) {
        Verdict::Worse
    } else if means.0 - means.1 > LEAST_FAILURES && is_beyond(&new, &old) {
        Verdict::Better
    } else {
        Verdict::Noise
    };
    let why = match verdict {
        Verdict::Noise if means.0.max(means.1) <= 0.0 => "nothing failed",
        Verdict::Noise => "not in every round, or less than 1 of 1000",
        Verdict::Worse | Verdict::Better => "more than 1 of 1000, and in every round more",
    };
    Some(Judged {
        test: test.name.to_owned(),
        subject: row.subject().to_owned(),
        unit: row.cell.unit.clone(),
        figure: Figure::Failures,
        medians: means,
        ratio: (means.0 > 0.0).then(|| means.1 / means.0),
        verdict,
        why: why.to_owned(),
    })
}
