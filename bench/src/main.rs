//! `podline-bench`: see `podline-bench --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    podline_bench::cli::main()
}
