//! The command line: one file a verb. It must not know how anything is measured, judged or drawn.

mod compare;
mod list;
mod report;
mod run;
mod show;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::pod;
use crate::result::RunResult;
use crate::scenario::catalogue;
use crate::table;

/// Measures paths from clients to Pods side by side: Podline straight to Pods, through NodePorts, and other load balancers.
///
/// Everything runs on this machine, in network namespaces of its own that end with this process.
#[derive(Debug, Parser)]
#[command(name = "podline-bench", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Measure a scenario and show what came of it
    ///
    /// Ends with 0 if every cell counts; 1 if nothing could be measured, or the run was ended early; 2 if the arguments are
    /// wrong; 3 if a subject died or a cell is void, except for work that a subject cannot do. Peers that are not installed
    /// are named and skipped, which is no failure.
    Run(run::Arguments),
    /// Show a result again
    Show(show::Arguments),
    /// Say what became better, worse, and what is noise, between two results
    Compare(compare::Arguments),
    /// Write a result as one HTML page with plots
    Report(report::Arguments),
    /// List scenarios and subjects, and which of them can be measured here
    List(list::Arguments),
    /// Serve as a Pod of a measurement
    #[command(hide = true)]
    Pod(pod::Options),
}

/// Columns where nobody says how many there are.
const PAGE: usize = table::WIDTH;

/// How something is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Table,
    /// For programs
    Json,
    /// For a README
    Markdown,
}

/// The status of a run whose result is there, and tells less than was asked for.
const INCOMPLETE: u8 = 3;

/// Runs what the arguments ask for. Ends with 0; 1 if something could not be done, or became worse; 2 if the arguments
/// are wrong; 3 if figures of a run mean nothing.
pub fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Run(arguments) => run::run(&arguments),
        Verb::Show(arguments) => show::run(&arguments),
        Verb::Compare(arguments) => compare::run(&arguments),
        Verb::Report(arguments) => report::run(&arguments),
        Verb::List(arguments) => list::run(&arguments),
        Verb::Pod(arguments) => pod::serve(&arguments).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        eprintln!("podline-bench: {error}");
        ExitCode::FAILURE
    })
}

/// Prints a result; the headline has a table of its own.
fn show(seen: &RunResult, output: Output) {
    match output {
        Output::Table if seen.scenario == catalogue::HEADLINE => {
            print!("{}", table::headline(seen, width()));
        }
        Output::Table => print!("{}", table::run(seen, width())),
        Output::Markdown => print!("{}", table::markdown(seen)),
        Output::Json => println!("{}", json(seen)),
    }
}

/// An error with what is behind it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// As programs read it.
fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string_pretty(value).expect("it has no maps with keys other than text")
}

/// Columns of the terminal; of what is no terminal, as many as a page has.
fn width() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stdout());
    size.map_or(PAGE, |size| usize::from(size.ws_col))
}
