//! The certificate files of the network API: loaded at the start, and again when they change or on SIGHUP.
//!
//! A set that cannot be used changes nothing: what was loaded last stays, and so do connections. Until a first set is
//! there, nothing is served over the network.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_rustls::rustls::ServerConfig;

use super::server::Loaded;
use crate::metrics::Counts;
use crate::settings::ApiFiles;
use crate::source::look::{Action, Look, decide};
use crate::source::reload::Reloads;

/// A change takes effect after two looks: one that sees it, one that sees it at rest.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The files and what they said when they were last good. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Certificates {
    files: ApiFiles,
    counts: Arc<Counts>,
    current: watch::Sender<Option<Arc<ServerConfig>>>,
}

impl Certificates {
    /// Files that were not loaded yet.
    pub(crate) fn new(files: ApiFiles, counts: Arc<Counts>) -> Self {
        let current = watch::Sender::new(None);
        Self {
            files,
            counts,
            current,
        }
    }

    /// What new connections are served with.
    pub(crate) fn current(&self) -> Option<Arc<ServerConfig>> {
        self.current.borrow().clone()
    }

    /// Waits until there is something to serve with.
    pub(crate) async fn wait(&self) {
        let mut current = self.current.subscribe();
        // The sender lives as long as this does.
        let _ = current.wait_for(Option::is_some).await;
    }

    /// Loads the files; if they cannot be used, says so and stays with what there is.
    pub(crate) async fn load(&self) {
        let files = self.files.clone();
        let loaded = tokio::task::spawn_blocking(move || Loaded::read(&files));
        match loaded.await {
            Ok(Ok(Loaded { config, not_after })) => {
                self.counts.set_certificate_expiry(not_after);
                self.current.send_replace(Some(config));
                let certificate = self.files.certificate.display();
                tracing::info!(%certificate, not_after, "API certificates loaded");
            }
            Ok(Err(problem)) => self.refuse(&problem),
            Err(_) => self.refuse("reading them failed inside the proxy"),
        }
    }

    fn refuse(&self, problem: &str) {
        self.counts.count_certificate_failure();
        if self.current.borrow().is_some() {
            tracing::error!("API certificates not loaded; the last ones stay: {problem}");
        } else {
            tracing::error!("the network API opens when its certificates can be used: {problem}");
        }
    }

    /// Loads again after each change and when asked to, for ever. `loaded` is what the first load was of.
    pub(crate) async fn follow(self, mut loaded: Looks, mut reloads: Reloads) {
        let mut previous = loaded;
        let mut clock = tokio::time::interval(LOOK_EVERY);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut asked = None;
            tokio::select! {
                Some(request) = reloads.recv() => asked = Some(request),
                _ = clock.tick() => {}
            }
            let now = self.look();
            let action = match asked {
                Some(_) => Action::Load,
                None => decide(&loaded, &previous, &now),
            };
            previous = now;
            match action {
                Action::Nothing => {}
                Action::Load => {
                    loaded = now;
                    self.load().await;
                }
                Action::Gone => {
                    loaded = now;
                    tracing::warn!("files of the API certificates are gone; the last ones stay");
                }
            }
            drop(asked);
        }
    }

    /// Looks at the files.
    pub(crate) fn look(&self) -> Looks {
        let ApiFiles {
            certificate,
            key,
            client_ca,
        } = &self.files;
        Looks([certificate, key, client_ca].map(|path| Look::at(path)))
    }
}

/// What a look at the files shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Looks([Look; 3]);

impl crate::source::look::Seen for Looks {
    fn is_there(&self) -> bool {
        !self.0.contains(&Look::Missing)
    }
}
