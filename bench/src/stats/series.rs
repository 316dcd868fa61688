//! Tests that differ in one number, as backends: what a figure does while it grows.

use super::{Figure, Spread, Test};
use crate::result::Step;

/// Tests of one load over growing numbers of one thing.
#[derive(Clone, Debug)]
pub struct Series<'t, 'a> {
    /// As `crr`.
    pub load: &'a str,
    /// What grows, as `backends`.
    pub of: &'a str,
    /// How many there are, and the test with so many; rising.
    pub steps: Vec<(u32, &'t Test<'a>)>,
}

/// The series of a run, in the order of their first tests. Tests of no series are passed over.
pub fn series<'t, 'a>(tests: &'t [Test<'a>]) -> Vec<Series<'t, 'a>> {
    let mut all: Vec<Series<'t, 'a>> = Vec::new();
    for test in tests {
        let Some(Step { load, of, count }) = test.step() else {
            continue;
        };
        let step = (*count, test);
        let known = all.iter_mut().find(|one| one.load == load && one.of == of);
        match known {
            Some(known) => known.steps.push(step),
            None => all.push(Series {
                load,
                of,
                steps: vec![step],
            }),
        }
    }
    for one in &mut all {
        one.steps.sort_by_key(|(count, _)| *count);
    }
    all
}

impl<'a> Test<'a> {
    /// The step that it is, if it is one of a series.
    pub fn step(&self) -> Option<&'a Step> {
        self.rows.first()?.cell.step.as_ref()
    }
}

impl<'a> Series<'_, 'a> {
    /// As `crr by backends`.
    pub fn name(&self) -> String {
        format!("{} by {}", self.load, self.of)
    }

    /// Who was measured at any step, in the order of the tests.
    pub fn subjects(&self) -> Vec<&'a str> {
        let mut subjects: Vec<&str> = Vec::new();
        for row in self.steps.iter().flat_map(|(_, test)| &test.rows) {
            if !subjects.contains(&&*row.cell.subject) {
                subjects.push(&row.cell.subject);
            }
        }
        subjects
    }

    /// A subject's figure by step, where its row is not void.
    pub fn points(&self, subject: &str, figure: Figure) -> Vec<(u32, Spread)> {
        let point = |(count, test): &(u32, &Test<'_>)| {
            let row = test.row(subject).filter(|row| row.void.is_none())?;
            Some((*count, *row.figures.get(&figure)?))
        };
        self.steps.iter().filter_map(point).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::RunResult;
    use crate::stats::tests as tests_of;
    use crate::synthetic::{World, stepped};

    #[test]
    fn steps_of_one_load_are_one_series_in_their_order() {
        let mut result = stepped();
        result.cells.reverse();
        let tests = tests_of(&result);
        let series = series(&tests);
        let names: Vec<_> = series.iter().map(Series::name).collect();
        assert_eq!(names, ["rr by backends", "crr by backends"]);
        let counts: Vec<_> = series[0].steps.iter().map(|(count, _)| *count).collect();
        assert_eq!(counts, [2, 20, 200]);
        let points = series[1].points("direct", Figure::ProxyCpu);
        assert_eq!(points.len(), 3);
        assert!(points.iter().all(|(_, spread)| spread.middle > 0.0));
        assert_eq!(series[1].points("nobody", Figure::P99), []);
    }

    #[test]
    fn void_steps_have_no_points() {
        let mut result = stepped();
        for cell in &mut result.cells {
            if cell.step.as_ref().is_some_and(|step| step.count == 20) {
                cell.void = Some("it died".to_owned());
            }
        }
        let tests = tests_of(&result);
        for one in series(&tests) {
            for subject in one.subjects() {
                let points = one.points(subject, Figure::Rate);
                let counts: Vec<_> = points.iter().map(|(count, _)| *count).collect();
                assert_eq!(counts, [2, 200], "{subject}");
            }
        }
    }

    #[test]
    fn other_tests_are_of_no_series() {
        let result: RunResult = World::headline(1).run();
        assert!(series(&tests_of(&result)).is_empty());
    }
}
