//! The state file: what owners other than the configuration file have put into the proxy, so that it is there again
//! after a restart, with health verdicts that are still fresh.
//!
//! `content` is what the file says, `frame` how its bytes tell that they are whole, `disk` how they get there. Must not
//! know what the state means.
//!
//! A damaged file is set aside (`PATH.bad`), and then it is not known what should be served: the proxy is not ready
//! until an owner sends its full state by API, or somebody who knows that nothing is missing removes `PATH.bad`. The
//! configuration file alone does not end that, and neither does a restart. Until then nothing is written.

mod content;
mod disk;
mod frame;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;

use crate::error::chain;
use crate::metrics::Counts;
use crate::state::State;
use frame::Damage;

/// Changes are written at most so often; a write that failed is tried again after so long.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// While there are health verdicts: they count for a minute only.
const VERDICTS_EVERY: Duration = Duration::from_secs(20);
/// How often a damaged file that was set aside is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Where the clock went back: too old for a verdict to count, too young for an override to end.
const UNKNOWN_AGE: Duration = Duration::from_mins(2);
/// How often a failure is logged.
const TOLD_EVERY: Duration = Duration::from_mins(1);
/// Why the proxy is not ready.
const DAMAGED: &str = "the state file was damaged: an owner has to send its full state, or its .bad file to be removed";

/// A state file and the state in it. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct StateFile(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    state: State,
    counts: Arc<Counts>,
    /// It is not known what should be served, and nothing is written.
    is_held: AtomicBool,
    /// Held while writing; when a failure was last told.
    writing: Mutex<Option<Instant>>,
}

/// What a file was found to hold.
enum Found {
    /// There is none: a first start.
    Nothing,
    Saved(Box<content::Saved>),
    Damaged(Damage),
}

/// Why to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Changed,
    /// Verdicts count only while they are young.
    Age,
}

impl StateFile {
    pub(crate) fn new(path: PathBuf, state: State, counts: Arc<Counts>) -> Self {
        Self(Arc::new(Inner {
            path,
            state,
            counts,
            is_held: AtomicBool::new(false),
            writing: Mutex::default(),
        }))
    }

    /// Puts what the file holds into the state. Nothing of a damaged file is taken.
    ///
    /// # Errors
    /// The file cannot be read, or cannot be set aside.
    pub(crate) async fn load(&self) -> io::Result<()> {
        let inner = Arc::clone(&self.0);
        let found = blocking(move || inner.find()).await?;
        let file = self.0.path.display();
        match found {
            Found::Nothing if self.0.is_set_aside() => {
                tracing::error!(%file, "there is no state file, but a damaged one that was set aside: not ready");
                self.hold();
            }
            Found::Nothing => tracing::info!(%file, "no state file yet"),
            Found::Saved(saved) => {
                let age = SystemTime::now().duration_since(saved.at);
                let age = age.unwrap_or(UNKNOWN_AGE);
                let (listeners, sets) = saved.figures();
                let version = saved.state.version;
                self.0.state.restore(saved.state, age);
                tracing::info!(%file, version, listeners, sets, ?age, "state restored");
            }
            Found::Damaged(damage) => {
                self.0.counts.count_damaged_state_file();
                let bad = disk::bad(&self.0.path);
                let (damage, bad) = (damage.to_string(), bad.display());
                tracing::error!(%file, damage, %bad, "the state file is damaged and set aside: not ready");
                self.hold();
            }
        }
        Ok(())
    }

    fn hold(&self) {
        self.0.is_held.store(true, Relaxed);
        self.0.state.hold(DAMAGED);
    }

    /// Keeps the file at what the state is, for ever. `full_state` is rung when an owner sent its full state by API.
    pub(crate) async fn follow(self, full_state: Arc<Notify>) {
        if self.0.is_held.load(Relaxed) {
            self.until_known(&full_state).await;
            self.0.is_held.store(false, Relaxed);
            self.0.state.release(DAMAGED);
        }
        let mut is_good = true;
        loop {
            let wait = if is_good {
                VERDICTS_EVERY
            } else {
                AT_MOST_EVERY
            };
            let why = tokio::select! {
                () = self.0.state.changed() => Why::Changed,
                () = tokio::time::sleep(wait) => if is_good { Why::Age } else { Why::Changed },
            };
            is_good = self.write_for(why).await;
            tokio::time::sleep(AT_MOST_EVERY).await;
        }
    }

    async fn until_known(&self, full_state: &Notify) {
        let removed = async {
            while self.0.is_set_aside() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            () = full_state.notified() => tracing::info!("an owner has sent its full state"),
            () = removed => tracing::info!("the damaged state file is gone"),
        }
    }

    /// Writes the state, unless it is not known what it should be.
    pub(crate) async fn write(&self) {
        self.write_for(Why::Changed).await;
    }

    /// Whether that went well.
    async fn write_for(&self, why: Why) -> bool {
        let inner = Arc::clone(&self.0);
        blocking(move || inner.write(why)).await
    }
}

impl Inner {
    fn find(&self) -> io::Result<Found> {
        let Some(bytes) = disk::read(&self.path)? else {
            return Ok(Found::Nothing);
        };
        match content::decode(&bytes) {
            Ok(saved) => Ok(Found::Saved(Box::new(saved))),
            Err(damage) => {
                disk::set_aside(&self.path)?;
                Ok(Found::Damaged(damage))
            }
        }
    }

    fn is_set_aside(&self) -> bool {
        disk::bad(&self.path).exists()
    }

    fn write(&self, why: Why) -> bool {
        // One write at a time: one that was begun goes on although nobody waits for it any more.
        let mut told = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_held.load(Relaxed) {
            return true;
        }
        let saved = self.state.saved();
        if why == Why::Age && saved.verdicts.is_empty() {
            return true;
        }
        let bytes = content::encode(&saved, SystemTime::now());
        let file = self.path.display();
        match disk::write(&self.path, &bytes) {
            Ok(()) => {
                if told.take().is_some() {
                    tracing::info!(%file, "the state file is written again");
                }
                true
            }
            Err(error) => {
                self.counts.count_state_file_failure();
                if told.is_none_or(|at| at.elapsed() >= TOLD_EVERY) {
                    *told = Some(Instant::now());
                    let error = chain(&error);
                    tracing::error!(%file, error, "cannot write the state file; serving goes on");
                }
                false
            }
        }
    }
}

/// Runs what blocks beside the control threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}
