//! The process `podline-control`: its command line, log, threads and signals.

use std::error::Error as _;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::app::{self, Error};
use crate::settings::{LogFormat, Settings};

/// Threads of the runtime: builds and pushes are short, and everything else waits.
const THREADS: usize = 2;

/// What connects to the API server.
const CONNECTOR: &str = "kube_client::client::builder";

/// Runs it until it is asked to end.
pub fn main() -> ExitCode {
    let settings = Settings::parse();
    let Ok(filter) = EnvFilter::try_new(&settings.log) else {
        return fail(
            &format!(
                "--log {:?} is no filter: write info, or module=level pairs",
                settings.log
            ),
            2,
        );
    };
    // It says of each attempt that something failed, and not what; we say that of each watch.
    let silent = format!("{CONNECTOR}=off");
    let filter = match silent.parse() {
        Ok(silent) if !settings.log.contains(CONNECTOR) => filter.add_directive(silent),
        _ => filter,
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match settings.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    match run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut told = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                told = format!("{told}: {error}");
                cause = error.source();
            }
            fail(&told, 1)
        }
    }
}

fn run(settings: Settings) -> Result<(), Error> {
    // It can fail only if there is one already, which does as well.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .map_err(Error::Start)?;
    let result = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(Error::Start)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Start)?;
        let asked = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("asked to end");
        };
        app::run(settings, asked).await
    });
    runtime.shutdown_background();
    result
}

fn fail(told: &str, code: u8) -> ExitCode {
    // A closed standard error is no reason to panic.
    let _ = writeln!(std::io::stderr(), "{told}");
    ExitCode::from(code)
}
