//! Podline's API, called from a thread that waits. It must not know what is said.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use podline_api::client::{ClientError, ProxyClient};
use podline_api::{Apply, Override, v1};

/// Longer than any answer of a proxy that lives.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often workers are asked whether they act on a change. Each time they have a second; a busy machine may need more.
const ASKS: u32 = 10;

/// Where a proxy's API is.
#[derive(Clone, Debug)]
pub(super) struct Api {
    socket: PathBuf,
}

impl Api {
    /// The API at a Unix socket.
    pub(super) fn new(socket: &str) -> Self {
        Self {
            socket: socket.into(),
        }
    }

    /// Whether it takes connections.
    pub(super) fn is_up(&self) -> bool {
        UnixStream::connect(&self.socket).is_ok()
    }

    /// One transaction. All workers act on it when this returns.
    pub(super) fn apply(&self, apply: &Apply) -> Result<v1::ApplyResponse, String> {
        let mut silent = Vec::new();
        for _ in 0..ASKS {
            // Said again it changes nothing, and asks whether the workers act on it by now.
            let answer = self.call(async |client| client.apply(apply).await)?;
            if answer.silent_workers.is_empty() {
                return Ok(answer);
            }
            silent = answer.silent_workers;
        }
        Err(format!("workers {silent:?} did not take the change"))
    }

    /// Drains a backend or changes its weight.
    pub(super) fn override_backend(&self, request: &Override) -> Result<(), String> {
        self.call(async |client| client.override_backend(request).await)
            .map(drop)
    }

    /// Sets up what it needs to imitate clients.
    ///
    /// # Errors
    /// It cannot imitate anybody, and why.
    pub(super) fn prove(&self) -> Result<(), String> {
        let request = v1::ProveRequest::default();
        let answer = self.call(async |client| client.prove(request).await)?;
        match answer.transparency_problem.as_str() {
            "" => Ok(()),
            problem => Err(format!("cannot imitate its clients: {problem}")),
        }
    }

    /// A connection for each call: nobody would keep one alive in between.
    fn call<T>(
        &self,
        call: impl AsyncFnOnce(&ProxyClient) -> Result<T, ClientError>,
    ) -> Result<T, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start a runtime: {error}"))?;
        let target = format!("unix:{}", self.socket.display());
        let work = async {
            let client = ProxyClient::connect(&target).await?;
            call(&client).await
        };
        let limited = async { tokio::time::timeout(PATIENCE, work).await };
        match runtime.block_on(limited) {
            Ok(answer) => answer.map_err(|error| chain(&error)),
            Err(_) => Err(format!("no answer from {target} within {PATIENCE:?}")),
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}
