//! `podline`: see the library's `cli`. Called by the name `podline-control` it is the controller: both are mostly the same
//! code, which an image then holds once.

use std::env;
use std::path::Path;
use std::process::ExitCode;

use podline_control::{cli, daemon};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let called = env::args_os().next().unwrap_or_default();
    if Path::new(&called).file_name() == Some("podline-control".as_ref()) {
        return daemon::main();
    }
    cli::main()
}
