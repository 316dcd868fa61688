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
use crate::source::look::{Action, Look, Seen, decide};
use crate::source::reload::Reloads;
use crate::state::State;

/// Who owns what the file says.
pub(crate) const OWNER: &str = "file";
/// Bytes of a file that the configuration file names.
const MOST_NAMED: u64 = 256 << 10;
/// A change takes effect after two looks: one that sees it, one that sees it at rest.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What was read.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) text: String,
    pub(crate) document: Document,
}

/// Reads and validates the file at `path`, and those that it names, without asking a proxy. What it names is noted in
/// `named` with a look from before the reading, whether or not it can be read.
pub(crate) fn read(path: &Path, named: &mut Vec<(PathBuf, Look)>) -> Result<Loaded, FileError> {
    let text = text_of(path, MAX_MESSAGE_BYTES as u64).map_err(|source| FileError::Read {
        path: path.to_owned(),
        source,
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let of_name = |name: &str| {
        let path = folder.join(name);
        let look = Look::at(&path);
        let text = text_of(&path, MOST_NAMED);
        let text = text.map_err(|error| format!("cannot read {}: {error}", path.display()));
        named.push((path, look));
        text
    };
    match Document::from_yaml_with(&text, of_name) {
        Ok(document) => Ok(Loaded { text, document }),
        Err(invalid) => Err(refused(path, &text, &invalid)),
    }
}

fn text_of(path: &Path, most: u64) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let problem = format!("longer than {most} bytes");
        return Err(std::io::Error::other(problem));
    }
    String::from_utf8(bytes).map_err(std::io::Error::other)
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
    /// Files that it names.
    named: Vec<PathBuf>,
    /// What the last load, good or bad, was of.
    loaded: Looks,
    /// What the last look saw.
    previous: Looks,
}

/// What a look at the file, and at those that it names, shows.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Looks {
    file: Look,
    named: Vec<Look>,
}

impl Seen for Looks {
    fn is_there(&self) -> bool {
        self.file != Look::Missing
    }
}

impl Looks {
    const NONE: Self = Self {
        file: Look::Missing,
        named: Vec::new(),
    };
}

impl FileSource {
    /// A file that was not loaded yet.
    pub(crate) fn new(path: PathBuf, state: State, counts: Arc<Counts>) -> Self {
        Self {
            path,
            state,
            counts,
            named: Vec::new(),
            loaded: Looks::NONE,
            previous: Looks::NONE,
        }
    }

    /// Makes the file's content the whole state of owner `file`.
    pub(crate) async fn load(&mut self) -> Result<v1::ApplyResponse, FileError> {
        // Before the reading: what changes meanwhile is seen at the next look.
        let file = Look::at(&self.path);
        let path = self.path.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let mut named = Vec::new();
            (read(&path, &mut named), named)
        });
        let (loaded, named) = reading
            .await
            .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let named = named.into_iter().unzip();
        (self.named, self.loaded) = (
            named.0,
            Looks {
                file,
                named: named.1,
            },
        );
        self.previous = self.loaded.clone();
        let Loaded { text, document } = loaded?;
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
                    self.loaded = Looks::NONE;
                    let file = self.path.display();
                    tracing::warn!(%file, "the configuration file is gone; the last state stays");
                }
            }
            drop(asked);
        }
    }

    fn looks(&self) -> Looks {
        Looks {
            file: Look::at(&self.path),
            named: self.named.iter().map(|path| Look::at(path)).collect(),
        }
    }

    fn look(&mut self) -> Action {
        let now = self.looks();
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
        let read = |path: &Path| read(path, &mut Vec::new());
        let error = read(&path).unwrap_err().to_string();
        let expected = format!("{}:2: listeners[0].adress: ", path.display());
        assert!(error.starts_with(&expected), "{error}");
        let error = chain(&read(&folder.path().join("none.yaml")).unwrap_err());
        assert!(error.contains("none.yaml: No such file"), "{error}");
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(read(&path), Err(FileError::Read { .. })));
    }
}
