//! `podline-bench show`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::Output;
use crate::result;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A result, as `run --result` writes it
    result: PathBuf,
    /// How it is shown
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let seen = result::read(&arguments.result).map_err(|error| super::chain(&error))?;
    super::show(&seen, arguments.output);
    Ok(ExitCode::SUCCESS)
}
