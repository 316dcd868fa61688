//! `podline-bench`: see `podline-bench --help`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use podline_bench::pod;

/// Measures paths from a client to Pods side by side
#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Serves as a Pod; the benchmark starts it
    #[command(hide = true)]
    Pod(pod::Options),
}

fn main() -> ExitCode {
    let done = match Line::parse().verb {
        Verb::Pod(options) => pod::serve(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("podline-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
