//! The configuration file as a source of state: owner `file`, its whole state at each load.
//!
//! Read again on SIGHUP and when it changes. A load that fails changes nothing: what was taken last stays. Must not
//! know what the document means.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use podline_api::{Apply, Document, Invalid, MAX_MESSAGE_BYTES, Owner, Rejected, locate, v1};
use tokio::time::MissedTickBehavior;

use crate::error::{FileError, chain};
use crate::metrics::Counts;
use crate::source::look::{Action, Look, decide};
use crate::source::reload::Reloads;
use crate::state::State;

/// Who owns what the file says.
pub(crate) const OWNER: &str = "file";
/// A change takes effect after two looks: one that sees it, one that sees it at rest.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Reads and validates the file at `path`, without asking a proxy: its text and what it says.
pub(crate) fn read(path: &Path) -> Result<(String, Document), FileError> {
    let unreadable = |source| FileError::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let limit = MAX_MESSAGE_BYTES as u64;
    File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > limit {
        let problem = format!("longer than {limit} bytes");
        return Err(unreadable(std::io::Error::other(problem)));
    }
    let text =
        String::from_utf8(bytes).map_err(|error| unreadable(std::io::Error::other(error)))?;
    match Document::from_yaml(&text) {
        Ok(document) => Ok((text, document)),
        Err(invalid) => Err(refused(path, &text, &invalid)),
    }
}

/// The refusal of the file at `path`, which holds `text`.
pub(crate) fn refused(path: &Path, text: &str, invalid: &Invalid) -> FileError {
    FileError::Refused {
        problems: locate::explain(&path.display().to_string(), text, invalid),
    }
}

/// A configuration file and what was last seen of it.
pub(crate) struct FileSource {
    path: PathBuf,
    state: State,
    counts: Arc<Counts>,
    /// What the last load, good or bad, was of.
    loaded: Look,
    /// What the last look saw.
    previous: Look,
}

impl FileSource {
    /// A file that was not loaded yet.
    pub(crate) fn new(path: PathBuf, state: State, counts: Arc<Counts>) -> Self {
        Self {
            path,
            state,
            counts,
            loaded: Look::Missing,
            previous: Look::Missing,
        }
    }

    /// Makes the file's content the whole state of owner `file`.
    pub(crate) async fn load(&mut self) -> Result<v1::ApplyResponse, FileError> {
        // Before the reading: what changes meanwhile is seen at the next look.
        self.loaded = Look::at(&self.path);
        self.previous = self.loaded;
        let path = self.path.clone();
        let (text, document) = tokio::task::spawn_blocking(move || read(&path))
            .await
            .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
        let owner = Owner::try_from(OWNER).expect("the name is made of letters");
        let request = Apply {
            listeners: document.listeners,
            backend_sets: document.backend_sets,
            network: document.network,
            replace_owned: true,
            ..Apply::new(owner)
        };
        let answer = self.state.apply(request).await;
        self.counts.count_apply(&answer);
        answer.map_err(|rejected| self.explain(&text, rejected))
    }

    fn explain(&self, text: &str, rejected: Rejected) -> FileError {
        let invalid = match rejected {
            Rejected::Invalid(invalid) => invalid,
            Rejected::Conflict { path, problem } => Invalid::one(path, problem),
            other => Invalid::one("", other.to_string()),
        };
        refused(&self.path, text, &invalid)
    }

    /// Loads again when asked to and after each change, for ever.
    pub(crate) async fn follow(mut self, mut reloads: Reloads) {
        let mut clock = tokio::time::interval(LOOK_EVERY);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut asked = None;
            let action = tokio::select! {
                Some(request) = reloads.recv() => {
                    asked = Some(request);
                    Action::Load
                }
                _ = clock.tick() => self.look(),
            };
            match action {
                Action::Nothing => {}
                Action::Load => self.reload().await,
                Action::Gone => {
                    self.loaded = Look::Missing;
                    let file = self.path.display();
                    tracing::warn!(%file, "the configuration file is gone; the last state stays");
                }
            }
            drop(asked);
        }
    }

    fn look(&mut self) -> Action {
        let now = Look::at(&self.path);
        let action = decide(&self.loaded, &self.previous, &now);
        self.previous = now;
        action
    }

    async fn reload(&mut self) {
        let file = self.path.display().to_string();
        match self.load().await {
            Ok(answer) => {
                let (version, changes) = (answer.version, answer.changes.len());
                tracing::info!(file, version, changes, "configuration loaded");
            }
            Err(error) => {
                self.counts.count_reload_failure();
                match error {
                    FileError::Refused { problems } => {
                        for problem in problems {
                            tracing::error!("{problem}");
                        }
                    }
                    error @ FileError::Read { .. } => tracing::error!("{}", chain(&error)),
                }
                tracing::error!(file, "configuration not loaded; the last state stays");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_file_and_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        std::fs::write(&path, "listeners:\n- adress: x\n").unwrap();
        let error = read(&path).unwrap_err().to_string();
        let expected = format!("{}:2: listeners[0].adress: ", path.display());
        assert!(error.starts_with(&expected), "{error}");
        let error = chain(&read(&folder.path().join("none.yaml")).unwrap_err());
        assert!(error.contains("none.yaml: No such file"), "{error}");
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(read(&path), Err(FileError::Read { .. })));
    }
}
