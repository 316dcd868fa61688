//! The cells of a run, test by test: what they came to, which mean nothing and why, and what they are compared with.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{Figure, Kind, Spread, Unit, kind, ratio, spread};
use crate::result::{Cell, RunResult};

/// A Pod of a balanced test that gets less than this share of its fair share makes the cell void.
const LEAST_SHARE: f64 = 0.4;
/// A subject that does less than this share of the best peer's work is at another working point: costs do not compare.
const LEAST_RATE: f64 = 0.5;

/// A test of a run.
#[derive(Clone, Debug)]
pub struct Test<'a> {
    /// As `rr`.
    pub name: &'a str,
    /// What is counted.
    pub unit: Unit,
    /// Of its longest cell.
    pub rounds: usize,
    /// A row for each subject.
    pub rows: Vec<Row<'a>>,
}

/// A subject in a test.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// As it was measured.
    pub cell: &'a Cell,
    /// What its rounds come to; a figure that no round has is missing.
    pub figures: BTreeMap<Figure, Spread>,
    /// How many requests failed, in all rounds.
    pub failed: u64,
    /// Answers by Pod in all rounds, Pods that got none included.
    pub pods: BTreeMap<u32, u64>,
    /// Why its figures mean nothing.
    pub void: Option<Void>,
}

/// Why figures mean nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Void {
    /// Who measured says so.
    Recorded(String),
    /// So many failed, where nothing was to fail.
    Failures(u64),
    /// A Pod, and the share of its fair share that it got.
    Skewed(u32, f64),
    /// Its rate as a share of the best peer's, and who that is.
    Slow(f64, String),
    /// There are no rounds with work done.
    Empty,
}

impl fmt::Display for Void {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recorded(reason) => f.write_str(reason),
            Self::Failures(1) => f.write_str("1 request failed"),
            Self::Failures(count) => write!(f, "{count} requests failed"),
            Self::Skewed(pod, share) => {
                write!(f, "Pod {pod} got {share:.2} of its fair share")
            }
            Self::Slow(share, peer) => {
                write!(f, "its rate is {share:.2} of {peer}'s, the best peer")
            }
            Self::Empty => f.write_str("nothing was done"),
        }
    }
}

impl Row<'_> {
    /// Its name.
    pub fn subject(&self) -> &str {
        &self.cell.subject
    }

    /// Whether it tells things over time, failures among them.
    pub fn has_pieces(&self) -> bool {
        has_pieces(self.cell)
    }

    /// A figure's median.
    pub fn middle(&self, figure: Figure) -> Option<f64> {
        Some(self.figures.get(&figure)?.middle)
    }

    /// The most answers of a Pod in times of the least; `None` if no Pod was told from another, infinite if one got none.
    pub fn skew(&self) -> Option<f64> {
        let most = self.pods.values().max().filter(|most| **most > 0)?;
        let least = self.pods.values().min()?;
        (self.pods.len() > 1).then(|| {
            if *least == 0 {
                f64::INFINITY
            } else {
                *most as f64 / *least as f64
            }
        })
    }
}

impl<'a> Test<'a> {
    /// The row with the best median of a figure, among those that `may` be and are not void.
    pub fn best(&self, figure: Figure, may: impl Fn(Kind) -> bool) -> Option<&Row<'a>> {
        let rows = self.rows.iter();
        let fit = rows.filter(|row| row.void.is_none() && may(kind(row.subject())));
        let sign = if figure.is_more_better() { -1.0 } else { 1.0 };
        fit.filter(|row| row.middle(figure).is_some_and(|middle| middle > 0.0))
            .min_by(|a, b| {
                let key = |row: &Row<'_>| row.middle(figure).map_or(f64::MAX, |m| m * sign);
                key(a).total_cmp(&key(b))
            })
    }

    /// What a figure is compared with: the best peer, else the best NodePort variant, else the Pod alone.
    pub fn reference(&self, figure: Figure) -> Option<&Row<'a>> {
        let of = |wanted| self.best(figure, move |kind| kind == wanted);
        of(Kind::Peer)
            .or_else(|| of(Kind::Nodeport))
            .or_else(|| of(Kind::Pod))
    }

    /// A subject's row.
    pub fn row(&self, subject: &str) -> Option<&Row<'a>> {
        self.rows.iter().find(|row| row.subject() == subject)
    }

    /// A row's figure in times of the reference's.
    pub fn ratio(&self, row: &Row<'_>, figure: Figure) -> Option<Spread> {
        ratio(row.cell, self.reference(figure)?.cell, figure)
    }

    /// Whether any row has this figure.
    pub fn has(&self, figure: Figure) -> bool {
        self.rows
            .iter()
            .any(|row| row.figures.contains_key(&figure))
    }
}

/// The tests of a run, in their order.
pub fn tests(result: &RunResult) -> Vec<Test<'_>> {
    let balanced = result
        .cells
        .iter()
        .filter(|c| kind(&c.subject) != Kind::Pod);
    let pods: BTreeSet<u32> = balanced
        .flat_map(|cell| cell.rounds.iter().flat_map(|round| round.pods.keys()))
        .copied()
        .collect();
    let mut tests: Vec<Test<'_>> = Vec::new();
    for cell in &result.cells {
        let row = row(cell, &pods);
        if let Some(test) = tests.iter_mut().find(|test| test.name == cell.test) {
            test.rounds = test.rounds.max(cell.rounds.len());
            test.rows.push(row);
        } else {
            tests.push(Test {
                name: &cell.test,
                unit: Unit::parse(&cell.unit),
                rounds: cell.rounds.len(),
                rows: vec![row],
            });
        }
    }
    tests.iter_mut().for_each(void_the_slow);
    tests
}

fn row<'a>(cell: &'a Cell, all: &BTreeSet<u32>) -> Row<'a> {
    let figures = Figure::ALL
        .into_iter()
        .filter_map(|figure| Some((figure, spread(cell, figure)?)));
    let failed = cell
        .rounds
        .iter()
        .fold(0_u64, |sum, round| sum.saturating_add(round.failed()));
    let mut pods = BTreeMap::new();
    for (pod, count) in cell.rounds.iter().flat_map(|round| &round.pods) {
        let sum: &mut u64 = pods.entry(*pod).or_default();
        *sum = sum.saturating_add(*count);
    }
    if kind(&cell.subject) != Kind::Pod && !pods.is_empty() {
        for pod in all {
            pods.entry(*pod).or_default();
        }
    }
    let figures: BTreeMap<_, _> = figures.collect();
    let void = void(cell, failed, &pods, &figures);
    Row {
        cell,
        figures,
        failed,
        pods,
        void,
    }
}

fn has_pieces(cell: &Cell) -> bool {
    cell.rounds.iter().any(|round| !round.pieces.is_empty())
}

fn void(
    cell: &Cell,
    failed: u64,
    pods: &BTreeMap<u32, u64>,
    figures: &BTreeMap<Figure, Spread>,
) -> Option<Void> {
    if let Some(reason) = &cell.void {
        return Some(Void::Recorded(reason.clone()));
    }
    // Where time is told, failures are what is looked for, and Pods come and go.
    if !has_pieces(cell) {
        if failed > 0 {
            return Some(Void::Failures(failed));
        }
        if cell.is_balanced && kind(&cell.subject) != Kind::Pod {
            let sum: f64 = pods.values().map(|count| *count as f64).sum();
            let fair = sum / pods.len().max(1) as f64;
            let least = pods.iter().min_by_key(|(_, count)| **count);
            if let Some((pod, count)) = least
                && fair > 0.0
                && (*count as f64) < LEAST_SHARE * fair
            {
                return Some(Void::Skewed(*pod, *count as f64 / fair));
            }
        }
    }
    let worked = figures.get(&Figure::Rate).is_some_and(|r| r.high > 0.0);
    (!worked).then_some(Void::Empty)
}

fn void_the_slow(test: &mut Test<'_>) {
    if test.has(Figure::PerConnection) {
        return; // of connections that do nothing memory is the point
    }
    let best = test.best(Figure::Rate, |kind| kind == Kind::Peer);
    let Some((peer, best)) = best.and_then(|row| {
        let middle = row.middle(Figure::Rate)?;
        Some((row.subject().to_owned(), middle))
    }) else {
        return;
    };
    for row in &mut test.rows {
        let share = row.middle(Figure::Rate).map(|rate| rate / best);
        if let Some(share) = share
            && row.void.is_none()
            && share < LEAST_RATE
        {
            row.void = Some(Void::Slow(share, peer.clone()));
        }
    }
}
