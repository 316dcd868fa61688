//! `podline-bench run`: a progress bar, then a table, and the result as a file.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::Output;
use crate::load::Stop;
use crate::result::{self, RunResult};
use crate::scenario::{Progress, Run, Scenario, Test, catalogue, run as measure};
use crate::stats::tests;
use crate::subject::{Subject, Tools};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What to measure: see `podline-bench list`
    scenario: String,
    /// Who is measured, instead of the scenario's own
    #[arg(long, value_delimiter = ',', value_name = "NAME,..")]
    subjects: Vec<Subject>,
    /// Only these tests of it
    #[arg(long, value_delimiter = ',', value_name = "NAME,..")]
    tests: Vec<String>,
    /// Rounds, each of which measures everybody once
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// How long one test of one round takes
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    seconds: Option<Duration>,
    /// Threads or processes of each load balancer
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// The podline-proxy to measure [default: beside this program, else in PATH]
    #[arg(long, value_name = "FILE")]
    podline: Option<PathBuf>,
    /// A folder with envoy, traefik and others, looked into before PATH
    #[arg(long, value_name = "FOLDER", env = "PODLINE_BENCH_PEERS")]
    peers: Option<PathBuf>,
    /// Write what was seen here, as JSON
    #[arg(long, value_name = "FILE")]
    result: Option<PathBuf>,
    /// How it is shown
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let mut scenario = catalogue::find(&arguments.scenario)?;
    if !arguments.subjects.is_empty() {
        scenario.subjects.clone_from(&arguments.subjects);
    }
    for wanted in &arguments.tests {
        if scenario.tests.iter().all(|test| test.label() != *wanted) {
            let names: Vec<_> = scenario.tests.iter().map(Test::label).collect();
            let names = names.join(", ");
            return Err(format!(
                "{} has no test {wanted:?}; it has: {names}",
                scenario.name
            ));
        }
    }
    if !arguments.tests.is_empty() {
        scenario
            .tests
            .retain(|test| arguments.tests.contains(&test.label()));
    }
    scenario.rounds = arguments.rounds.unwrap_or(scenario.rounds);
    scenario.duration = arguments.seconds.unwrap_or(scenario.duration);
    if let Some(file) = &arguments.result {
        result::check(file).map_err(|error| super::chain(&error))?;
    }
    if !rustix::process::geteuid().is_root() {
        let what = "measuring makes network namespaces: run it as root";
        return Err(format!(
            "{what}; list, show, compare and report need no rights"
        ));
    }
    let binary =
        std::env::current_exe().map_err(|error| format!("this program's path: {error}"))?;
    let stop = Stop::default();
    watch_for_interrupts(&stop)?;
    let run = Run {
        scenario,
        tools: Tools::new(arguments.podline.clone(), arguments.peers.clone()),
        workers: arguments.workers,
        binary,
        stop,
    };
    let able = able(&run.scenario);
    let bar = Bar::new();
    let seen = measure(&run, &bar);
    bar.0.finish_and_clear();
    let seen = seen?;
    super::show(&seen, arguments.output);
    if let Some(file) = &arguments.result {
        result::write(&seen, file).map_err(|error| super::chain(&error))?;
    }
    Ok(if seen.is_cut_short {
        ExitCode::FAILURE
    } else if is_incomplete(&seen, &able) {
        ExitCode::from(super::INCOMPLETE)
    } else {
        ExitCode::SUCCESS
    })
}

/// What subjects can do of a scenario: the names of test and subject.
fn able(scenario: &Scenario) -> BTreeSet<(String, String)> {
    let tests = scenario.tests.iter();
    let pairs = tests.flat_map(|test| scenario.subjects.iter().map(move |subject| (test, subject)));
    let fit = pairs.filter(|(test, subject)| subject.fits(test.work, scenario.layer).is_ok());
    fit.map(|(test, subject)| (test.label(), subject.to_string()))
        .collect()
}

/// Whether a cell is void that a subject was able to fill. One that was never started, as it is not installed, has none.
fn is_incomplete(seen: &RunResult, able: &BTreeSet<(String, String)>) -> bool {
    let tests = tests(seen);
    let mut rows = tests.iter().flat_map(|test| {
        let rows = test.rows.iter();
        rows.map(|row| (test.name.to_owned(), row))
    });
    rows.any(|(test, row)| row.void.is_some() && able.contains(&(test, row.subject().to_owned())))
}

/// The first Ctrl-C ends the run, and shows what was seen; the second one ends the process, and with it its namespaces.
fn watch_for_interrupts(stop: &Stop) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| format!("signals cannot be watched: {error}"))?;
    let stop = stop.clone();
    std::thread::spawn(move || {
        runtime.block_on(async {
            for is_first in [true, false] {
                if tokio::signal::ctrl_c().await.is_err() {
                    return;
                }
                if is_first {
                    eprintln!("ending; what was measured is shown in a moment");
                    stop.stop();
                } else {
                    std::process::exit(130);
                }
            }
        });
    });
    Ok(())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| format!("{text:?} is no number of seconds"))?;
    if (0.1..=86_400.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("it must be 0.1 to 86400".to_owned())
    }
}

struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let style = ProgressStyle::with_template(
            "{bar:30} {pos}/{len}  {elapsed} of about {duration}  {msg}",
        );
        let bar = ProgressBar::new(0);
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Self(bar)
    }
}

impl Progress for Bar {
    fn at(&self, done: u64, of: u64, next: &str) {
        self.0.set_length(of);
        self.0.set_position(done);
        self.0.set_message(next.to_owned());
    }

    fn say(&self, what: &str) {
        self.0.suspend(|| eprintln!("{what}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::{ALL, World};

    #[test]
    fn a_void_cell_counts_unless_its_subject_was_not_able_to_fill_it() {
        let udp = catalogue::find("udp").unwrap();
        let able = able(&udp);
        assert_eq!(able.len(), 2 * 4, "HAProxy forwards no UDP");
        let mut seen = World {
            subjects: ALL,
            tests: &["udp"],
            disturbed: 0.0,
            noise: 0.0,
            drift: 0.0,
            ..World::headline(3)
        }
        .run();
        let void = |seen: &mut RunResult, subject: &str, why: Option<&str>| {
            for cell in seen.cells.iter_mut().filter(|cell| cell.subject == subject) {
                cell.void = why.map(ToOwned::to_owned);
            }
        };
        seen.cells
            .retain(|cell| udp.subjects.iter().any(|s| s.name() == cell.subject));
        assert!(!is_incomplete(&seen, &able), "{seen:#?}");
        void(&mut seen, "haproxy", Some("forwards no UDP"));
        assert!(!is_incomplete(&seen, &able));
        void(&mut seen, "nginx", Some("it died"));
        assert!(is_incomplete(&seen, &able));
        seen.cells.retain(|cell| cell.subject != "nginx");
        assert!(!is_incomplete(&seen, &able), "who is not here has no cells");
    }
}
