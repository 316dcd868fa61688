//! The daemon `podline-proxy`: reads the command line and calls the library.

use std::process::ExitCode;

use clap::Parser;
use podline_proxy::app;
use podline_proxy::check::{self, Machine};
use podline_proxy::error::{Error, chain};
use podline_proxy::host::responder::{Responder, ResponderSettings};
use podline_proxy::host::return_path::{self, settings::ReturnPathSettings};
use podline_proxy::settings::{Command, CommandLine, Settings};
use podline_proxy::{demo, logging, shutdown};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let line = CommandLine::parse();
    let result = match line.command {
        None => run(line.settings),
        Some(Command::Check { file }) => {
            let machine = Machine::here(line.settings.worker_count());
            check::run(&file, machine)
                .map_err(Error::from)
                .map(|report| {
                    out(&report);
                    ExitCode::SUCCESS
                })
        }
        Some(Command::ReturnPath(settings)) => return_path(&line.settings, settings),
        Some(Command::Responder(settings)) => respond(&line.settings, &settings),
        Some(Command::Demo { exit_after }) => Ok(demo::run(exit_after)),
    };
    result.unwrap_or_else(|error| {
        err(&chain(&error));
        error.exit_code()
    })
}

fn run(settings: Settings) -> Result<ExitCode, Error> {
    logging::start(&settings)?;
    let control = app::control_runtime()?;
    control.block_on(async {
        let asked = shutdown::requested().map_err(Error::Control)?;
        let asked = async {
            let name = asked.await;
            tracing::info!("{name}: shutting down");
        };
        app::run(settings, asked).await
    })?;
    Ok(ExitCode::SUCCESS)
}

fn return_path(process: &Settings, settings: ReturnPathSettings) -> Result<ExitCode, Error> {
    logging::start(process)?;
    let told = small_runtime()?.block_on(async {
        let asked = shutdown::requested().map_err(Error::Control)?;
        Ok::<_, Error>(return_path::run(settings, asked).await?)
    })?;
    out(&told);
    Ok(ExitCode::SUCCESS)
}

fn respond(process: &Settings, settings: &ResponderSettings) -> Result<ExitCode, Error> {
    logging::start(process)?;
    small_runtime()?.block_on(async {
        let asked = shutdown::requested().map_err(Error::Control)?;
        let responder = Responder::bind(settings.listen).await?;
        tokio::select! {
            () = responder.run() => {}
            _ = asked => {}
        }
        Ok::<_, Error>(ExitCode::SUCCESS)
    })
}

/// One thread is enough for what is not the proxy.
fn small_runtime() -> Result<Runtime, Error> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Control)
}

/// A closed standard output is no reason to fail.
fn out(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn err(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}
