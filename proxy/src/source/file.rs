//! The configuration file as a source of state: owner `file`, its whole state at each load.
//!
//! Read again on SIGHUP and when it changes. A load that fails changes nothing: what was taken last stays. Must not
//! know what the document means.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use podline_api::{Apply, Document, Invalid, MAX_MESSAGE_BYTES, Owner, Rejected, locate, v1};
use tokio::signal::unix::Signal;
use tokio::time::MissedTickBehavior;

use crate::error::{FileError, chain};
use crate::metrics::Counts;
use crate::state::State;

const OWNER: &str = "file";
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

    /// Loads again on each `hangup` and after each change, for ever.
    pub(crate) async fn follow(mut self, mut hangup: Signal) {
        let mut clock = tokio::time::interval(LOOK_EVERY);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let action = tokio::select! {
                _ = hangup.recv() => Action::Load,
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
        }
    }

    fn look(&mut self) -> Action {
        let now = Look::at(&self.path);
        let action = decide(self.loaded, self.previous, now);
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

/// What a look at the file's directory entry shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Missing,
    There {
        device: u64,
        inode: u64,
        bytes: u64,
        modified: (i64, i64),
    },
}

impl Look {
    /// Looks through symbolic links: Kubernetes changes a mounted ConfigMap by turning one.
    fn at(path: &Path) -> Self {
        std::fs::metadata(path).map_or(Self::Missing, |found| Self::of(&found))
    }

    fn of(found: &Metadata) -> Self {
        Self::There {
            device: found.dev(),
            inode: found.ino(),
            bytes: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
        }
    }
}

/// What to do after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Nothing,
    Load,
    Gone,
}

/// Loads what differs from the last load once two looks in a row agree, so that a file is not read half-written.
fn decide(loaded: Look, previous: Look, now: Look) -> Action {
    match now {
        _ if now == loaded || now != previous => Action::Nothing,
        Look::Missing => Action::Gone,
        Look::There { .. } => Action::Load,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(inode: u64, bytes: u64, second: i64) -> Look {
        Look::There {
            device: 1,
            inode,
            bytes,
            modified: (second, 0),
        }
    }

    #[test]
    fn a_file_is_loaded_once_it_is_at_rest() {
        let (old, half, whole) = (there(1, 10, 0), there(1, 5, 1), there(1, 20, 1));
        let check = |loaded, previous, now, expected| {
            let action = decide(loaded, previous, now);
            assert_eq!(action, expected, "{loaded:?} {previous:?} {now:?}");
        };
        check(old, old, old, Action::Nothing);
        check(old, old, half, Action::Nothing);
        check(old, half, whole, Action::Nothing);
        check(old, whole, whole, Action::Load);
        // Another file at the same path, same size and time: a renamed copy.
        check(old, there(2, 10, 0), there(2, 10, 0), Action::Load);
        check(old, old, Look::Missing, Action::Nothing);
        check(old, Look::Missing, Look::Missing, Action::Gone);
        check(Look::Missing, Look::Missing, Look::Missing, Action::Nothing);
        check(Look::Missing, old, old, Action::Load);
    }

    #[test]
    fn a_look_sees_a_file_replaced_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        assert_eq!(Look::at(&path), Look::Missing);
        std::fs::write(&path, "listeners: []").unwrap();
        let first = Look::at(&path);
        assert_eq!(Look::at(&path), first);
        let other = folder.path().join("b.yaml");
        std::fs::write(&other, "listeners: []").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_ne!(Look::at(&path), first);
    }

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
