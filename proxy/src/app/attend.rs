//! What a proxy does while it runs besides serving: it reads its files again on SIGHUP, and tells the service manager
//! whether it is ready and alive.

use std::cell::Cell;
use std::time::Duration;

use tokio::signal::unix::Signal;

use super::Running;
use crate::notify::Notifier;

/// How often readiness is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const SERVING: &str = "serving";

/// For as long as it is polled.
pub(super) async fn attend(running: &Running, hangup: Signal, notifier: &Notifier) {
    // The manager is told of a reload only once it knows that we are ready.
    let is_known_ready = Cell::new(false);
    tokio::join!(
        reload(running, hangup, notifier, &is_known_ready),
        tell_readiness(running, notifier, &is_known_ready),
        tell_life(running, notifier),
    );
}

async fn reload(running: &Running, mut hangup: Signal, notifier: &Notifier, known: &Cell<bool>) {
    while hangup.recv().await.is_some() {
        tracing::info!("SIGHUP: reading the files again");
        if known.get() {
            notifier.reloading();
        }
        running.sources.reload().await;
        if known.get() {
            notifier.ready(&status(running));
        }
    }
}

fn status(running: &Running) -> String {
    match running.state.ready() {
        Ok(()) => SERVING.to_owned(),
        Err(reason) => format!("not ready: {reason}"),
    }
}

async fn tell_readiness(running: &Running, notifier: &Notifier, known: &Cell<bool>) {
    let mut told = String::new();
    loop {
        let status = status(running);
        if !known.get() && status == SERVING {
            notifier.ready(&status);
            known.set(true);
        } else if status != told {
            notifier.status(&status);
        }
        told = status;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Nothing is said while workers are silent: then the manager restarts the process.
async fn tell_life(running: &Running, notifier: &Notifier) {
    let Some(every) = notifier.alive_every() else {
        return;
    };
    loop {
        match running.state.workers_answer().await {
            Ok(()) => notifier.alive(),
            Err(workers) => tracing::error!(?workers, "workers do not answer"),
        }
        tokio::time::sleep(every).await;
    }
}
