//! `podline-bench compare`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::Output;
use crate::{compare, result, table};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A result, as `run --result` writes it
    before: PathBuf,
    /// A later one
    after: PathBuf,
    /// How it is shown
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Fails if something became worse.
pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let read = |file: &PathBuf| result::read(file).map_err(|error| error.to_string());
    let comparison = compare::compare(&read(&arguments.before)?, &read(&arguments.after)?);
    match arguments.output {
        Output::Json => println!("{}", super::json(&comparison)),
        Output::Table | Output::Markdown => {
            print!("{}", table::comparison(&comparison, super::width()));
        }
    }
    Ok(if comparison.is_worse() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
