//! `podline-bench compare`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::{compare, result, table};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A result, as `run --result` writes it
    before: PathBuf,
    /// A later one
    after: PathBuf,
    /// How it is shown
    #[arg(long, value_enum, default_value_t = Shown::Table)]
    output: Shown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shown {
    /// For people
    Table,
    /// For programs
    Json,
}

/// Fails if something became worse.
pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let read = |file: &PathBuf| result::read(file).map_err(|error| super::chain(&error));
    let comparison = compare::compare(&read(&arguments.before)?, &read(&arguments.after)?);
    match arguments.output {
        Shown::Json => println!("{}", super::json(&comparison)),
        Shown::Table => {
            print!("{}", table::comparison(&comparison, super::width()));
        }
    }
    Ok(if comparison.is_worse() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
