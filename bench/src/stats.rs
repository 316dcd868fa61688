//! Medians, ratios within rounds, spreads, and when a cell's figures mean nothing. Functions of values.

mod figure;
mod series;
mod student;
mod summary;

use crate::result::Cell;

pub use figure::{Figure, Kind, Unit, kind};
pub use series::{Series, series};
pub use student::quantile as student_quantile;
pub use summary::{Row, Test, Void, tests};

/// Fewer rounds than this show their whole range, for no interval within it is likely enough.
pub const ROUNDS_FOR_INTERVAL: usize = 7;

/// What the rounds of a cell say of a figure, or of a ratio of two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The median.
    pub middle: f64,
    /// The least.
    pub low: f64,
    /// The most.
    pub high: f64,
    /// Where the median of many more rounds lies in 95 of 100 cases; `None` under [`ROUNDS_FOR_INTERVAL`] rounds.
    pub likely: Option<(f64, f64)>,
    /// How many rounds said something.
    pub rounds: usize,
}

impl Spread {
    /// `None` if there are no values. Those that are no numbers are passed over.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let sorted = sorted(values);
        let (low, high) = (*sorted.first()?, *sorted.last()?);
        Some(Self {
            middle: quantile_of(&sorted, 0.5)?,
            low,
            high,
            likely: rank(sorted.len()).map(|rank| (sorted[rank], sorted[sorted.len() - 1 - rank])),
            rounds: sorted.len(),
        })
    }

    /// The interval that a claim may rest on: the likely one, or all if there are too few rounds for one.
    pub fn interval(&self) -> (f64, f64) {
        self.likely.unwrap_or((self.low, self.high))
    }

    /// Whether it differs from `value` by more than its rounds do from each other.
    pub fn excludes(&self, value: f64) -> bool {
        let (low, high) = self.interval();
        self.rounds > 1 && (value < low || value > high)
    }
}

/// The median; `None` if there are no numbers.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    quantile_of(&sorted(values), 0.5)
}

/// The value below which a share (0 to 1) of the values lies, between two values by their distance.
pub fn quantile(values: impl IntoIterator<Item = f64>, share: f64) -> Option<f64> {
    quantile_of(&sorted(values), share)
}

/// A figure of a cell over its rounds.
pub fn spread(cell: &Cell, figure: Figure) -> Option<Spread> {
    Spread::of(cell.rounds.iter().filter_map(|round| figure.of(round)))
}

/// A figure of a cell in times of the reference's: what is compared is the n-th round of one with the n-th of the other,
/// for these ran beside each other on a machine whose speed drifts.
pub fn ratio(cell: &Cell, reference: &Cell, figure: Figure) -> Option<Spread> {
    let pairs = cell.rounds.iter().zip(&reference.rounds);
    Spread::of(pairs.filter_map(|(round, other)| {
        let other = figure.of(other).filter(|other| *other > 0.0)?;
        Some(figure.of(round)? / other)
    }))
}

fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place in the list, between 0 and its length"
)]
fn quantile_of(sorted: &[f64], share: f64) -> Option<f64> {
    let place = (sorted.len().checked_sub(1)? as f64) * share.clamp(0.0, 1.0);
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    let (below, above) = (*sorted.get(below)?, *sorted.get(above)?);
    Some(below + (above - below) * place.fract())
}

/// From how far inside both ends an interval still holds the median with 95%: each value is above or below it by a coin.
fn rank(rounds: usize) -> Option<usize> {
    if rounds < ROUNDS_FOR_INTERVAL {
        return None;
    }
    let count = rounds as f64;
    let mut below = 0.0;
    // The chance that exactly so many are below; in logarithms, for many rounds.
    let mut exactly = -count * std::f64::consts::LN_2;
    for rank in 0..rounds / 2 {
        below += exactly.exp();
        if 2.0 * below > 0.05 {
            return rank.checked_sub(1);
        }
        exactly += ((count - rank as f64) / (rank as f64 + 1.0)).ln();
    }
    Some((rounds - 1) / 2)
}

#[cfg(test)]
mod tests;
