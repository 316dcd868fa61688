//! Runs a scenario: a stage, then round after round each subject with all its tests. It must not know what a test is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use podline_lab::Lab;

use super::cell::{Order, Path};
use super::{Axis, Event, Scenario, Step, Test, plan};
use crate::account::{self, Meter};
use crate::load::{Stop, Trust, Work};
use crate::result::{self, Cell, FORMAT, Round, RunResult};
use crate::stage::Stage;
use crate::subject::{Options, Subject, Tools};

/// What is run, with what.
#[derive(Clone, Debug)]
pub struct Run {
    /// What.
    pub scenario: Scenario,
    /// Where the programs are.
    pub tools: Tools,
    /// Threads of each subject.
    pub workers: u16,
    /// This program, which is the Pods too.
    pub binary: PathBuf,
    /// Ends it early; what was measured until then is kept.
    pub stop: Stop,
}

/// Told how far it is.
pub trait Progress {
    /// So many of so many tests were run; this is next.
    fn at(&self, done: u64, of: u64, next: &str);
    /// Something that a person should know at once.
    fn say(&self, what: &str);
}

/// Runs it.
///
/// # Errors
/// Nothing can be measured here: why, and what would help. Subjects that fail make void cells, not errors.
pub fn run(run: &Run, progress: &dyn Progress) -> Result<RunResult, String> {
    let (start, meter) = (Instant::now(), Meter::begin(&[]));
    let began = jiff::Timestamp::now().to_string();
    let mut result = RunResult {
        format: FORMAT,
        scenario: run.scenario.name.to_owned(),
        began,
        seconds: 0.0,
        is_cut_short: false,
        machine: account::facts(),
        versions: BTreeMap::new(),
        skipped: BTreeMap::new(),
        cells: Vec::new(),
    };
    let subjects = run.present(&mut result);
    if subjects.is_empty() {
        let why: Vec<_> = result
            .skipped
            .iter()
            .map(|(name, why)| format!("{name}: {why}"))
            .collect();
        return Err(format!("there is nothing to measure: {}", why.join("; ")));
    }
    progress.at(0, 0, "waits until no other lab runs on this machine");
    let lab = Lab::new().map_err(|error| error.chain())?;
    let stage = Stage::build(&lab, run.scenario.stage, &run.binary)?;
    let mut table = Table::new(&run.scenario, &subjects);
    let of = u64::from(run.scenario.rounds) * (subjects.len() * run.scenario.tests.len()) as u64;
    let mut done = 0;
    for round in 0..run.scenario.rounds {
        result.machine.pulse.push(account::pulse());
        for subject in plan::order(&subjects, round) {
            if run.stop.is_stopped() {
                break;
            }
            progress.at(done, of, &format!("round {}: {subject}", round + 1));
            if table.is_lost(subject) {
                done += run.scenario.tests.len() as u64;
                continue;
            }
            run.measure(&stage, subject, &mut table, progress, &mut |name| {
                done += 1;
                progress.at(done, of, &format!("round {}: {subject} {name}", round + 1));
            });
        }
        if run.stop.is_stopped() {
            result.is_cut_short = true;
            break;
        }
        table.fill(round);
    }
    result.seconds = start.elapsed().as_secs_f64();
    let all = result.seconds * f64::from(result.machine.cores.max(1));
    result.machine.stolen = meter.end().stolen / all;
    result.cells = table.cells;
    Ok(result)
}

impl Run {
    /// Subjects that can be measured here; the others are noted.
    fn present(&self, result: &mut RunResult) -> Vec<Subject> {
        let mut present = Vec::new();
        for subject in self.scenario.subjects.iter().copied() {
            let version = self
                .tools
                .version(subject)
                .map_err(|missing| missing.to_string());
            let fits = subject
                .fits_layer(self.scenario.layer)
                .map_err(ToOwned::to_owned);
            match fits.and(version) {
                Ok(version) => {
                    result.versions.insert(subject.to_string(), version);
                    present.push(subject);
                }
                Err(why) => _ = result.skipped.insert(subject.to_string(), why),
            }
        }
        present
    }

    fn measure(
        &self,
        stage: &Stage,
        subject: Subject,
        table: &mut Table,
        progress: &dyn Progress,
        did: &mut dyn FnMut(&str),
    ) {
        let failed = self.path(stage, subject, table, did).err();
        if let Some(why) = failed {
            progress.say(&format!("{subject}: {why}"));
            table.lose(subject, &why);
        }
    }

    fn path(
        &self,
        stage: &Stage,
        subject: Subject,
        table: &mut Table,
        did: &mut dyn FnMut(&str),
    ) -> Result<(), String> {
        let steps = self.scenario.tests.chunk_by(|a, b| a.step == b.step);
        for tests in steps {
            if self.stop.is_stopped() {
                return Ok(());
            }
            self.step(stage, subject, tests, table, did)?;
        }
        Ok(())
    }

    /// Starts a subject, and runs tests of one step over it.
    fn step(
        &self,
        stage: &Stage,
        subject: Subject,
        tests: &[Test],
        table: &mut Table,
        did: &mut dyn FnMut(&str),
    ) -> Result<(), String> {
        let directory = stage.directory().join(subject.name());
        std::fs::create_dir_all(&directory)
            .map_err(|error| format!("cannot create {}: {error}", directory.display()))?;
        let setup = Setup::of(tests.first().and_then(|test| test.step));
        let backends = match setup.backends {
            Some(count) => stage.many_backends(count)?,
            None => stage.backends(),
        };
        stage.forget_tracked()?;
        let rules = stage.node_ports(subject, &backends)?;
        let options = Options {
            workers: self.workers,
            layer: self.scenario.layer,
            listeners: setup.listeners,
            has_checks: self
                .scenario
                .tests
                .iter()
                .any(|test| test.event != Event::None),
        };
        let tls = self.scenario.layer.has_tls();
        let tls = tls.then(|| Trust::new(stage.certificate())).transpose()?;
        let running = subject.start(&stage.site(&directory, backends), &self.tools, &options)?;
        let mut path = Path {
            stage,
            subject,
            running,
            rules,
            tls,
        };
        let held = match setup.held {
            Some(connections) => {
                let work = Work::Idle { connections };
                path.hold(work, connections, &self.stop).map(Some)
            }
            None => Ok(None),
        };
        let mut problem = held.as_ref().err().cloned();
        for test in tests {
            if self.stop.is_stopped() {
                return Ok(());
            }
            if problem.is_some() {
                // Told below.
            } else if let Err(why) = subject.fits(test.work, self.scenario.layer) {
                table.void(subject, test, why);
            } else {
                let order = Order {
                    test,
                    duration: self.scenario.duration,
                    stop: &self.stop,
                };
                let round = path.measure(order)?;
                if !self.stop.is_stopped() {
                    table.add(subject, test, round);
                }
            }
            did(&test.label());
        }
        if let Ok(Some(held)) = held {
            problem = held.release().err();
        }
        if let Some(problem) = problem {
            path.running.check()?; // whose death is the better reason
            for test in tests {
                table.void(subject, test, &problem);
            }
        }
        path.running.end()
    }
}

/// What a step asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Setup {
    /// Addresses to forward to; `None` for one of each Pod.
    backends: Option<u32>,
    /// Ports; `None` for the usual ones.
    listeners: Option<u16>,
    /// Connections that are open meanwhile.
    held: Option<u32>,
}

impl Setup {
    fn of(step: Option<Step>) -> Self {
        let Some(Step { of, count }) = step else {
            return Self::default();
        };
        let least = Self {
            listeners: Some(1),
            ..Self::default()
        };
        match of {
            Axis::Backends => Self {
                backends: Some(count),
                ..least
            },
            Axis::Listeners => Self {
                listeners: Some(u16::try_from(count).unwrap_or(u16::MAX)),
                ..least
            },
            Axis::Connections => Self {
                held: Some(count),
                ..least
            },
        }
    }
}

/// The cells as they fill.
struct Table {
    cells: Vec<Cell>,
    lost: Vec<Subject>,
}

impl Table {
    fn new(scenario: &Scenario, subjects: &[Subject]) -> Self {
        let cells = scenario.tests.iter().flat_map(|test| {
            subjects.iter().map(|subject| Cell {
                test: test.label(),
                step: test.step.map(|step| result::Step {
                    load: test.name.to_owned(),
                    of: step.of.name().to_owned(),
                    count: step.count,
                }),
                subject: subject.to_string(),
                unit: test.unit.to_owned(),
                rounds: Vec::new(),
                is_balanced: *subject != Subject::Pod && test.is_balanced(),
                void: None,
            })
        });
        Self {
            cells: cells.collect(),
            lost: Vec::new(),
        }
    }

    fn cell(&mut self, subject: Subject, test: &str) -> Option<&mut Cell> {
        let name = subject.name();
        self.cells
            .iter_mut()
            .find(|cell| cell.test == test && cell.subject == name)
    }

    fn add(&mut self, subject: Subject, test: &Test, round: Round) {
        if let Some(cell) = self.cell(subject, &test.label()) {
            cell.rounds.push(round);
        }
    }

    fn void(&mut self, subject: Subject, test: &Test, why: &str) {
        if let Some(cell) = self.cell(subject, &test.label()) {
            cell.void.get_or_insert_with(|| why.to_owned());
        }
    }

    /// A subject that failed is not measured any more, and what was measured of it does not count.
    fn lose(&mut self, subject: Subject, why: &str) {
        self.lost.push(subject);
        let name = subject.name();
        for cell in self.cells.iter_mut().filter(|cell| cell.subject == name) {
            cell.void.get_or_insert_with(|| why.to_owned());
        }
    }

    fn is_lost(&self, subject: Subject) -> bool {
        self.lost.contains(&subject)
    }

    /// Every cell has as many rounds as there were: the n-th of one and of another ran beside each other.
    fn fill(&mut self, round: u32) {
        for cell in &mut self.cells {
            cell.rounds.resize(round as usize + 1, Round::default());
        }
    }
}
