//! `podline-bench report`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::{report, result};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A result, as `run --result` writes it
    result: PathBuf,
    /// The page [default: beside the result, as .html]
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let seen = result::read(&arguments.result).map_err(|error| super::chain(&error))?;
    let to = arguments.to.clone();
    let to = to.unwrap_or_else(|| arguments.result.with_extension("html"));
    result::put(report::html(&seen).as_bytes(), &to).map_err(|error| super::chain(&error))?;
    println!("{}", to.display());
    Ok(ExitCode::SUCCESS)
}
