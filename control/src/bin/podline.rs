//! `podline`: see the library's `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    podline_control::cli::main()
}
