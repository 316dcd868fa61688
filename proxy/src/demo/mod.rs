//! `podline-proxy demo`: toy Pods on loopback, the proxy before them, and a script of changes pushed through its API.
//!
//! Knows the proxy as its users do: it starts one with [`app::start`] and talks to it over gRPC and TCP. Start with
//! `script::play`.

mod client;
mod pod;
mod screen;
mod script;
mod tally;
mod watcher;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use podline_api::client::ClientError;

use crate::app;
use crate::error::{Error, chain};
use crate::settings::{ApiAddress, Settings};
use screen::Screen;

/// Why the demo could not go on.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Start(#[from] Error),
    #[error("a toy Pod cannot run")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Api(#[from] ClientError),
    #[error("the listener does not listen: {0}")]
    Listener(String),
    #[error("the proxy was not ready within {} s", script::PATIENCE.as_secs())]
    NotReady,
}

/// Runs the demo until Ctrl-C, or until `exit_after` if that is given and the script is over. The exit code tells
/// whether a request failed.
pub fn run(exit_after: Option<Duration>) -> ExitCode {
    let screen = Screen::of_terminal();
    match try_run(exit_after, &screen) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            screen.line(&format!("demo: {}", chain(&error)));
            ExitCode::FAILURE
        }
    }
}

/// Answers how many requests failed.
fn try_run(exit_after: Option<Duration>, screen: &Screen) -> Result<u64, Failed> {
    // The proxy has its own threads, as it has when it runs by itself; Pods and clients share others.
    let control = app::control_runtime()?;
    let settings = Settings {
        api: vec![ApiAddress::Tcp(free_address(9902)?)],
        admin: free_address(9901)?,
        shutdown_timeout: Duration::from_secs(2),
        ..Settings::default()
    };
    let running = control.block_on(app::start(settings))?;
    let others = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("demo")
        .enable_all()
        .build()?;
    let result = others.block_on(async {
        let stage = script::Stage {
            api: running.api[0].to_string(),
            admin: running.admin,
            fronts: client::Fronts {
                tcp: free_address(8080)?,
                http: free_address(8081)?,
            },
            failed: AtomicU64::new(0),
        };
        tokio::select! {
            result = script::play(&stage, exit_after, screen) => result?,
            _ = tokio::signal::ctrl_c() => screen.line(""),
        }
        Ok(stage.failed.into_inner())
    });
    others.shutdown_background();
    control.block_on(running.shutdown());
    result
}

/// A loopback address that nobody has: with the preferred port if it can be, so that commands need no flags.
fn free_address(preferred: u16) -> std::io::Result<SocketAddr> {
    let bind = |port| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    bind(preferred).or_else(|_| bind(0))?.local_addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_not_chosen() {
        let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken = taken.local_addr().map(|address| (taken, address)).unwrap();
        let found = free_address(taken.1.port()).unwrap();
        assert_ne!(found, taken.1);
        assert!(found.ip().is_loopback() && found.port() != 0);
    }
}
